"""Whether training gives the same bits again, and how far apart machines are that give others.

    python -m benchmarks.reproducibility --budgets 10,100

Trains the sample photographs up a ladder, each time in processes of its own, with TensorFlow and
with JAX on the CPU: twice at a stretch, and with a process for each stage. Their weights must be
the same bit for bit. Then it trains on what stands in for other machines: one core, and a processor
without AVX-512 and AMX (by what oneDNN and XLA are told to leave alone). Their PSNR on test may
differ by 0.05 dB. So may it from the one in `benchmarks/results/reproducibility.txt`, which this
compares with as well: run it with the same budgets on another machine. Ends with status 1 where
that does not hold.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOLERANCE = 0.05
"""dB between machines."""
REFERENCE = Path(__file__).with_name("results") / "reproducibility.txt"
BACKENDS = ("tensorflow", "jax")
STRAIGHT, AGAIN, STAGES = "straight", "again", "in stages"
OLDER = {"ONEDNN_MAX_CPU_ISA": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}
OTHERS: dict[str, tuple[Mapping[str, str], int | None]] = {
    "one core": ({}, 1),
    "AVX2 only": (OLDER, None),
}
_ROW = re.compile(r"^(\w+) +(.+?) +([\d.]+) +([\d.]+) +[0-9a-f]{16}\b", re.MULTILINE)


def main() -> None:
    """Trains, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", default="10,100")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--stage", nargs=3, metavar=("BUDGET", "BEFORE", "AFTER"), help="internal")
    parser.add_argument("--cores", type=int, help="internal")
    arguments = parser.parse_args()
    if arguments.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    if arguments.stage:
        budget, before, after = arguments.stage
        print(json.dumps(train(arguments.preset, int(budget), before, Path(after))))
        return
    budgets = [int(budget) for budget in arguments.budgets.split(",")]
    if not compare(arguments.preset, budgets):
        sys.exit(1)


def compare(preset: str, budgets: Sequence[int]) -> bool:
    """Prints a row for each way of training; returns whether all is as it must be."""
    top = budgets[-1:]
    known = reference(preset, budgets) if REFERENCE.is_file() else {}
    print(
        f"{preset}, {budgets[-1]} epochs; stages end at {', '.join(map(str, budgets))}\n"
        f"{'':<11} {'':<10} {'val':>9} {'test':>9} {'weights, SHA-256':<16} {'test differs':>12}"
    )
    complaints: list[str] = []
    machine, first_test = "", {}
    for backend in BACKENDS:
        rows: dict[str, dict[str, Any]] = {}
        for name, stops in ((STRAIGHT, top), (AGAIN, top), (STAGES, budgets)):
            rows[name] = train_to(preset, stops, backend)
            _print(backend, name, rows)
        for name in (AGAIN, STAGES):
            if rows[name]["digest"] != rows[STRAIGHT]["digest"]:
                complaints.append(f"{backend}: {name} gives other bits")
        for name, (environment, cores) in OTHERS.items():
            rows[name] = train_to(preset, top, backend, environment, cores)
            _print(backend, name, rows)
        machine, first_test[backend] = rows[STRAIGHT]["machine"], rows[STRAIGHT]["test"]
        for name in OTHERS:
            if abs(rows[name]["test"] - first_test[backend]) > TOLERANCE:
                complaints.append(f"{backend}: {name} is further away than {TOLERANCE} dB")
        if backend in known:
            difference = first_test[backend] - known[backend]
            print(f"{backend:<11} from the reference: {difference:+.4f} dB on test")
            if abs(difference) > TOLERANCE:
                complaints.append(f"{backend}: further from the reference than {TOLERANCE} dB")
    print(f"from tensorflow to jax: {first_test['jax'] - first_test['tensorflow']:+.4f} dB on test")
    print(machine)
    print("\n".join(complaints) or "the same bits again and in stages; others within 0.05 dB")
    return not complaints


def _print(backend: str, name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    row = rows[name]
    difference = row["test"] - rows[STRAIGHT]["test"]
    print(
        f"{backend:<11} {name:<10} {row['val']:>9.4f} {row['test']:>9.4f} "
        f"{row['digest'][:16]} {difference:>+12.4f}",
        flush=True,
    )


def reference(preset: str, budgets: Sequence[int]) -> dict[str, float]:
    """PSNR on test by backend, of the results that lie in the repository; empty for other runs."""
    text = REFERENCE.read_text()
    if f"{preset}, {budgets[-1]} epochs" not in text:
        return {}
    return {
        backend: float(test)
        for backend, name, _, test in _ROW.findall(text)
        if name == STRAIGHT and backend in BACKENDS
    }


def train_to(
    preset: str,
    stops: Sequence[int],
    backend: str,
    environment: Mapping[str, str] | None = None,
    cores: int | None = None,
) -> dict[str, Any]:
    """Trains to each stop in a process of its own, and returns what the last one told."""
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        before = ""
        for stop in stops:
            after = Path(folder) / f"{stop}.npz"
            command = [sys.executable, "-m", "benchmarks.reproducibility", f"--preset={preset}"]
            if cores:
                command.append(f"--cores={cores}")
            done = subprocess.run(
                [*command, "--stage", str(stop), before, str(after)],
                env={
                    **os.environ,
                    "KERAS_BACKEND": backend,
                    "JAX_PLATFORMS": "cpu",
                    "CUDA_VISIBLE_DEVICES": "-1",
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    **(environment or {}),
                },
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            told, before = json.loads(done.stdout.splitlines()[-1]), str(after)
    return told


def train(preset: str, budget: int, before: str, after: Path) -> dict[str, Any]:
    """One stage: goes on from a state, or from the start, and leaves the state.

    Returns:
        `digest` (SHA-256 of all weights, of the optimizer and of the average), PSNR in dB on `val`
        and `test`, and the `machine` in a line.
    """
    from benchmarks import data
    from benchmarks.machine import machine
    from keras_ae import presets
    from keras_ae.datasets.tiles import Tiles
    from keras_ae.models import linear
    from keras_ae.training.ladder import begin
    from keras_ae.training.validation import mean_psnr

    images = data.load("sample")
    moments = linear.patch_moments(images["train"], presets.STRIDE)
    floor = linear.fit(moments, presets.LATENT_CHANNELS)
    ladder = begin(preset, Tiles(images["train"], stride=presets.STRIDE), floor)
    if before:
        ladder.restore(Path(before))
    ladder.train(budget)
    ladder.save(after)
    digest = hashlib.sha256()
    for name, array in sorted(ladder.arrays().items()):
        if name != "seconds":
            digest.update(name.encode() + array.tobytes())
    with ladder.averaged() as model:
        quality = {split: mean_psnr(model, images[split]) for split in ("val", "test")}
    return {"digest": digest.hexdigest(), "machine": machine(), **quality}


if __name__ == "__main__":
    main()
