"""Whether training is reproducible bit for bit, and how much results differ between machines.

    python -m benchmarks.reproducibility --budgets 10,100

Trains on the sample photographs up a ladder, each time in new processes, with TensorFlow and with
JAX on the CPU: twice without interruption, and with a process for each stage. The weights must be
the same bit for bit. Then it trains under conditions that stand in for other machines: on one core,
and without AVX-512 and AMX, which oneDNN and XLA are configured not to use. The PSNR on test may
differ by 0.05 dB. It may differ by as much from the result in
`benchmarks/results/reproducibility.txt`, so that another machine can be compared by running the
program with the same budgets there. The exit status is 1 if one of these conditions is violated.
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

TOLERANCE_DB = 0.05
"""Between machines."""
REFERENCE = Path(__file__).with_name("results") / "reproducibility.txt"
BACKENDS = ("tensorflow", "jax")
STRAIGHT, AGAIN, STAGES = "straight", "again", "in stages"
AVX2_ONLY = {"ONEDNN_MAX_CPU_ISA": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}
OTHER_MACHINES: dict[str, tuple[Mapping[str, str], int | None]] = {
    "one core": ({}, 1),
    "AVX2 only": (AVX2_ONLY, None),
}
"""Environment variables and number of cores (None for all) by the name of the row."""
_ROW = re.compile(r"^(\w+) +(.+?) +([\d.]+) +([\d.]+) +[0-9a-f]{16}\b", re.MULTILINE)


def main() -> None:
    """Parses the command line, trains, compares and prints."""
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
    """Prints a row for each training; returns whether all results are as expected."""
    last = budgets[-1:]
    reference = read_reference(preset, budgets) if REFERENCE.is_file() else {}
    print(
        f"{preset}, {budgets[-1]} epochs; stages end at {', '.join(map(str, budgets))}\n"
        f"{'':<11} {'':<10} {'val':>9} {'test':>9} {'weights, SHA-256':<16} {'test differs':>12}"
    )
    failures: list[str] = []
    machine, psnr = "", {}
    for backend in BACKENDS:
        rows: dict[str, dict[str, Any]] = {}
        for name, stage_budgets in ((STRAIGHT, last), (AGAIN, last), (STAGES, budgets)):
            rows[name] = train_stages(preset, stage_budgets, backend)
            _print_row(backend, name, rows)
        for name in (AGAIN, STAGES):
            if rows[name]["digest"] != rows[STRAIGHT]["digest"]:
                failures.append(f"{backend}: the weights of {name!r} differ from {STRAIGHT!r}")
        for name, (environment, cores) in OTHER_MACHINES.items():
            rows[name] = train_stages(preset, last, backend, environment, cores)
            _print_row(backend, name, rows)
        machine, psnr[backend] = rows[STRAIGHT]["machine"], rows[STRAIGHT]["test"]
        for name in OTHER_MACHINES:
            if abs(rows[name]["test"] - psnr[backend]) > TOLERANCE_DB:
                failures.append(f"{backend}: {name!r} differs by more than {TOLERANCE_DB} dB")
        if backend in reference:
            difference = psnr[backend] - reference[backend]
            print(f"{backend:<11} difference from the reference: {difference:+.4f} dB on test")
            if abs(difference) > TOLERANCE_DB:
                failures.append(
                    f"{backend}: differs from the reference by more than {TOLERANCE_DB} dB"
                )
    difference = psnr["jax"] - psnr["tensorflow"]
    print(f"difference of jax from tensorflow: {difference:+.4f} dB on test")
    print(machine)
    print(
        "\n".join(failures)
        or f"passed: repeats and stages are bit-identical, others within {TOLERANCE_DB} dB"
    )
    return not failures


def _print_row(backend: str, name: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    row = rows[name]
    difference = row["test"] - rows[STRAIGHT]["test"]
    print(
        f"{backend:<11} {name:<10} {row['val']:>9.4f} {row['test']:>9.4f} "
        f"{row['digest'][:16]} {difference:>+12.4f}",
        flush=True,
    )


def read_reference(preset: str, budgets: Sequence[int]) -> dict[str, float]:
    """PSNR on test by backend in the repository's results; empty if they are of other arguments."""
    text = REFERENCE.read_text()
    if f"{preset}, {budgets[-1]} epochs" not in text:
        return {}
    return {
        backend: float(test)
        for backend, name, _, test in _ROW.findall(text)
        if name == STRAIGHT and backend in BACKENDS
    }


def train_stages(
    preset: str,
    budgets: Sequence[int],
    backend: str,
    environment: Mapping[str, str] | None = None,
    cores: int | None = None,
) -> dict[str, Any]:
    """Trains to each budget in a process of its own; returns the result of `train` of the last."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        before = ""
        for budget in budgets:
            after = Path(folder) / f"{budget}.npz"
            command = [sys.executable, "-m", "benchmarks.reproducibility", f"--preset={preset}"]
            if cores:
                command.append(f"--cores={cores}")
            completed = subprocess.run(
                [*command, "--stage", str(budget), before, str(after)],
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
            result, before = json.loads(completed.stdout.splitlines()[-1]), str(after)
    return result


def train(preset: str, budget: int, before: str, after: Path) -> dict[str, Any]:
    """Trains one stage.

    Args:
        preset: name of the preset.
        budget: epochs at the end of the stage.
        before: file of the state to continue from; "" for the initial state.
        after: file to which the state is saved.

    Returns:
        `digest` (SHA-256 of all weights, of the optimizer's state and of the EMA weights), PSNR in
        dB on `val` and `test`, and a line that describes the `machine`.
    """
    from benchmarks import data
    from benchmarks.machine import machine
    from benchmarks.models import fit_pca
    from benchmarks.quality import held_out_psnr
    from keras_ae import presets
    from keras_ae.datasets.tiles import Tiles
    from keras_ae.training.ladder import create_ladder

    images = data.load("sample")
    tiles = Tiles(images["train"], stride=presets.STRIDE)
    ladder = create_ladder(preset, tiles, fit_pca(images["train"]))
    if before:
        ladder.restore(Path(before))
    ladder.train(budget)
    ladder.save(after)
    digest = hashlib.sha256()
    for name, array in sorted(ladder.to_arrays().items()):
        if name != "seconds":
            digest.update(name.encode() + array.tobytes())
    psnr = held_out_psnr(ladder, images, ema=True)
    return {"digest": digest.hexdigest(), "machine": machine(), **psnr}


if __name__ == "__main__":
    main()
