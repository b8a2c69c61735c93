"""An hour of runs, pushes and requests: does anything leak, fail or get lost?

    python -m tests.endurance.soak --minutes 60 --place FOLDER

Runs the whole pipeline again and again, as a user would: each time on other images and with another
seed, so that every step works and a new model is pushed. Beside it live the local server, which
looks each second for what was pushed, and a client that asks it several times a second. Each second
the memory of the three is read.

It passes if none of them grows by more than 5 % after the first tenth of the time (its median over
the last third of what is left against the first third; of the runs, the medians of their peaks), no
request and no run fails, each pushed version has answered requests, and a run leaves no temporary
file. Ends with status 1 otherwise.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks.servers import free_port
from serving.client.blocking import ReconstructionClient

GROWTH = 0.05
WARM_UP = 0.1
PATIENCE = 600
"""Seconds that a run may take, and the server to load what it pushed."""
ANSWERED = 5
"""Seconds after the server has loaded the last version until the client stops."""
FLAGS = ("--budgets=1,2", "--preset=small", "--max-drop=100", "--max-slice-drop=100")
PHOTOGRAPHS = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg")
PIPELINE, SERVER, CLIENT = "pipeline", "server", "client"


def main() -> None:
    """Soaks, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--place", type=Path, required=True, help="folder of all that is made")
    arguments = parser.parse_args()
    place = arguments.place.absolute()
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    seen, told, ran = soak(place, arguments.minutes * 60)
    sys.exit(not report(place, arguments.minutes, seen, told, ran))


def write_images(folder: Path, number: int) -> None:
    """Twelve parts of photographs, which are others for each number."""
    from keras_ae.datasets.sources.sample_photos import path_of

    folder.mkdir(exist_ok=True)
    for i, name in enumerate(PHOTOGRAPHS):
        photograph = Image.open(path_of(name)).convert("RGB")
        for j in range(4):
            left, top = 60 * j + number % 50, 20 * i + number % 70
            photograph.crop((left, top, left + 160, top + 120)).save(folder / f"{i}-{j}.png")


def soak(
    place: Path, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """Runs for a time, which begins when the client does, and to the end of the run under way.

    Returns:
        A row of memory for each second and process, what the client tells, and the runs.
    """
    environment = {**os.environ, "TMPDIR": str(place / "tmp"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    push = place / "root" / "serving" / "keras_ae"
    port = free_port()
    serve = ["serving.server", f"--port={port}", "--model_name=keras_ae"]
    serve += [f"--model_base_path={push}", "--file_system_poll_wait_seconds=1"]
    ask = ["tests.endurance.soak_client", f"127.0.0.1:{port}"]
    samples: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    watched: dict[str, subprocess.Popen[str]] = {}

    def run() -> None:
        number, began = len(runs), time.time()
        write_images(place / "images", number)
        flags = [f"--seed={number}", f"--data={place / 'images'}", f"--root={place / 'root'}"]
        run_local = ["pipeline.run_local", *FLAGS, *flags]
        with started(run_local, place / "pipeline.log", environment) as process:
            everything = {**watched, PIPELINE: process}
            _watch(place, samples, everything, lambda: process.poll() is not None, PATIENCE)
        status = process.returncode
        ended = time.time()
        _watch(place, samples, watched, lambda: False, 2)
        runs.append({"number": number, "began": began, "ended": ended, "status": status})

    run()
    if runs[0]["status"]:
        raise SystemExit(f"the first run ended with {runs[0]['status']}: see {place}")
    with started(serve, place / "server.log", environment) as server:
        watched[SERVER] = server
        with started(ask, place / "client.log", environment) as client:
            watched[CLIENT] = client
            end = time.time() + seconds
            while time.time() < end:
                run()
            last = max(pushed(push))
            _watch(place, samples, watched, lambda: serves(port, last), PATIENCE)
            _watch(place, samples, watched, lambda: False, ANSWERED)
            told, _ = client.communicate("stop\n", timeout=PATIENCE)
        server.terminate()
        server.wait(PATIENCE)
    with (place / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, samples[0])
        writer.writeheader()
        writer.writerows(samples)
    (place / "runs.json").write_text(json.dumps(runs, indent=1))
    return samples, json.loads(told), runs


@contextmanager
def started(
    module: Sequence[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """A module of this repository as a program, which ends with the block."""
    with (
        log.open("a") as lines,
        subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if module[0].endswith("client") else lines,
            stderr=lines,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def pushed(folder: Path) -> list[int]:
    """The versions that lie in a folder."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def serves(port: int, version: int) -> bool:
    """Whether a version answers."""
    with ReconstructionClient(f"127.0.0.1:{port}") as client:
        return (version, "AVAILABLE") in [each[:2] for each in client.status()]


def _watch(
    place: Path,
    samples: list[dict[str, Any]],
    watched: dict[str, subprocess.Popen[str]],
    reached: Any,
    seconds: float,
) -> None:
    """Reads the memory each second until something is reached; a process that ends, ends it all."""
    deadline = time.time() + seconds
    places = place / "tmp", place / "root" / "temporary"
    while not reached() and time.time() < deadline:
        now = time.time()
        files = sum(len(names) for folder in places for _, _, names in os.walk(folder))
        for name, process in watched.items():
            if process.poll() is not None and not reached():
                raise SystemExit(f"the {name} ended with {process.returncode}: see {place}")
            try:
                held = psutil.Process(process.pid).memory_full_info()
            except psutil.Error:
                continue
            samples.append(
                {"time": now, "process": name, "rss": held.rss, "pss": held.pss, "uss": held.uss}
                | {"temporary_files": files}
            )
        time.sleep(1)


def report(
    place: Path,
    minutes: float,
    samples: Sequence[dict[str, Any]],
    told: dict[str, Any],
    runs: Sequence[dict[str, Any]],
) -> bool:
    """Prints what came of it; returns whether it passed."""
    complaints = [f"run {run['number']} failed" for run in runs if run["status"]]
    print(f"{minutes:g} minutes, {len(runs)} runs of the pipeline\n")
    heads = "first third", "last third", "growth", "resident"
    print(f"{'MB, private':<14} {heads[0]:>12} {heads[1]:>12} {heads[2]:>8} {heads[3]:>10}")
    for name in (PIPELINE, SERVER, CLIENT):
        own = [sample for sample in samples if sample["process"] == name]
        first, last, resident = thirds(own, runs if name == PIPELINE else None)
        growth = last / first - 1
        print(
            f"{name:<14} {first / 1e6:>12,.1f} {last / 1e6:>12,.1f} {growth:>+8.1%} "
            f"{resident / 1e6:>10,.1f}"
        )
        if growth > GROWTH:
            complaints.append(f"the {name} grew by {growth:.1%}")
    versions = pushed(place / "root" / "serving" / "keras_ae")
    lost = [version for version in versions if str(version) not in told["versions"]]
    print(
        f"\n{told['requests']:,} requests, {len(told['failures'])} failed; "
        f"{len(versions)} versions pushed, {len(told['versions'])} answered"
    )
    if told["failures"]:
        complaints.append(f"requests failed, such as: {told['failures'][0]}")
    if lost:
        complaints.append(f"pushed, and never answered: {lost}")
    # A model that is no better than the floor is not blessed.
    pushes = (place / "pipeline.log").read_text().count("\npushed: ")
    if len(versions) != pushes:
        complaints.append(f"{pushes} runs pushed, and {len(versions)} versions are there")
    left = list(_files_between(samples, runs))
    print(f"temporary files when a run had ended: {max(left)} at the most")
    if any(left):
        complaints.append("temporary files are left")
    print("\n".join(complaints) or "passed: nothing leaks, fails or is lost")
    return not complaints


def thirds(
    samples: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]] | None
) -> tuple[float, float, float]:
    """Medians of private bytes over the first and last third after the warm-up, and the peak RSS.

    Args:
        samples: of one process.
        runs: whose peaks count in place of the samples.
    """
    start, end = samples[0]["time"], samples[-1]["time"]
    start += WARM_UP * (end - start)
    if runs is None:
        values = [sample["uss"] for sample in samples if sample["time"] >= start]
    else:
        values = [
            max(s["uss"] for s in samples if run["began"] <= s["time"] <= run["ended"])
            for run in runs
            if run["began"] >= start
        ]
    third = max(1, len(values) // 3)
    medians = (statistics.median(part) for part in (values[:third], values[-third:]))
    return (*medians, max(sample["rss"] for sample in samples))


def _files_between(
    samples: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]
) -> Iterator[int]:
    """How many temporary files there were when each run had ended."""
    for run in runs:
        after = [sample for sample in samples if sample["time"] >= run["ended"]]
        yield (after or samples[-1:])[0]["temporary_files"]


if __name__ == "__main__":
    main()
