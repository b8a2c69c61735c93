"""A soak test: an hour of runs, pushes and requests without leaks, failures or lost versions.

    python -m tests.endurance.soak --minutes 60 --folder FOLDER

Runs the whole pipeline repeatedly, as a user would: each time on other images and with another
seed, so that no step is cached and a new model is pushed. At the same time there are the local
server, which looks for pushed versions every second, and a client that sends about five requests a
second. The memory of the three is read every second.

The test passes if none of them grows by more than 5 % after a warm-up of a tenth of the time (the
median of the last third of the rest is compared with that of the first third; for the pipeline, the
medians of the runs' peaks), no request and no run fails, each pushed version has answered requests,
and no run leaves a temporary file. The exit status is 1 otherwise.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks.servers import free_port
from serving.client.blocking import ReconstructionClient

MAX_GROWTH = 0.05
WARM_UP_SHARE = 0.1
TIMEOUT_SECONDS = 600
"""Time for a run, and for the server to load the pushed version."""
LAST_REQUESTS_SECONDS = 5
"""Time for requests to the last version after the server has loaded it."""
FLAGS = ("--budgets=1,2", "--preset=small", "--max-drop=100", "--max-slice-drop=100")
PHOTOGRAPHS = ("skimage/chelsea.png", "skimage/coffee.png", "sklearn/china.jpg")
PIPELINE, SERVER, CLIENT = "pipeline", "server", "client"


def main() -> None:
    """Parses the command line, runs the test, and prints its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--folder", type=Path, required=True, help="for all files; its contents are removed first"
    )
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    samples, client, runs = soak(folder, arguments.minutes * 60)
    sys.exit(not report(folder, arguments.minutes, samples, client, runs))


def write_images(folder: Path, number: int) -> None:
    """Writes twelve crops of photographs, which differ for each number."""
    from keras_ae.datasets.sources.sample_photos import path_of

    folder.mkdir(exist_ok=True)
    for i, name in enumerate(PHOTOGRAPHS):
        photograph = Image.open(path_of(name)).convert("RGB")
        for j in range(4):
            left, top = 60 * j + number % 50, 20 * i + number % 70
            photograph.crop((left, top, left + 160, top + 120)).save(folder / f"{i}-{j}.png")


def soak(
    folder: Path, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """Runs server and client, and the pipeline repeatedly until the time has passed.

    Args:
        folder: folder for all files.
        seconds: time after the start of the client; a run that has begun is finished.

    Returns:
        Memory of each process in each second, the result of the client, and the runs.
    """
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    base_path = folder / "root" / "serving" / "keras_ae"
    port = free_port()
    server_command = ["serving.server", f"--port={port}", "--model_name=keras_ae"]
    server_command += [f"--model_base_path={base_path}", "--file_system_poll_wait_seconds=1"]
    client_command = ["tests.endurance.soak_client", f"127.0.0.1:{port}"]
    samples: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    services: dict[str, subprocess.Popen[str]] = {}

    def run_pipeline() -> None:
        number, start = len(runs), time.time()
        write_images(folder / "images", number)
        flags = [f"--seed={number}", f"--data={folder / 'images'}", f"--root={folder / 'root'}"]
        run_local = ["pipeline.run_local", *FLAGS, *flags]
        with started(run_local, folder / "pipeline.log", environment) as process:
            processes = {**services, PIPELINE: process}
            _sample_memory(
                folder, samples, processes, TIMEOUT_SECONDS, lambda: process.poll() is not None
            )
        end = time.time()
        _sample_memory(folder, samples, services, 2)
        runs.append({"number": number, "start": start, "end": end, "status": process.returncode})

    run_pipeline()
    if runs[0]["status"]:
        raise SystemExit(f"the first run ended with {runs[0]['status']}: see {folder}")
    with started(server_command, folder / "server.log", environment) as server:
        services[SERVER] = server
        with started(client_command, folder / "client.log", environment) as client:
            services[CLIENT] = client
            deadline = time.time() + seconds
            while time.time() < deadline:
                run_pipeline()
            last = max(pushed_versions(base_path))
            _sample_memory(
                folder, samples, services, TIMEOUT_SECONDS, lambda: is_available(port, last)
            )
            _sample_memory(folder, samples, services, LAST_REQUESTS_SECONDS)
            result, _ = client.communicate("stop\n", timeout=TIMEOUT_SECONDS)
        server.terminate()
        server.wait(TIMEOUT_SECONDS)
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, samples[0])
        writer.writeheader()
        writer.writerows(samples)
    (folder / "runs.json").write_text(json.dumps(runs, indent=1))
    return samples, json.loads(result), runs


@contextmanager
def started(
    module: Sequence[str], log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Starts a module of this repository as a program, which is killed at the end of the block.

    Args:
        module: name of the module and arguments.
        log: file for its output; standard output of the client is a pipe instead.
        environment: environment variables.
    """
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


def pushed_versions(base_path: Path) -> list[int]:
    """The versions in a push folder, in ascending order."""
    names = [path.name for path in base_path.iterdir()] if base_path.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def is_available(port: int, version: int) -> bool:
    """Whether the server serves a version."""
    with ReconstructionClient(f"127.0.0.1:{port}") as client:
        return (version, "AVAILABLE") in [status[:2] for status in client.status()]


def _sample_memory(
    folder: Path,
    samples: list[dict[str, Any]],
    processes: dict[str, subprocess.Popen[str]],
    seconds: float,
    condition: Callable[[], bool] = lambda: False,
) -> None:
    """Reads the memory of processes every second, for a time or until a condition is true.

    Raises:
        SystemExit: if a process ends before.
    """
    deadline = time.time() + seconds
    temporary = folder / "tmp", folder / "root" / "temporary"
    while not condition() and time.time() < deadline:
        now = time.time()
        files = sum(len(names) for parent in temporary for _, _, names in os.walk(parent))
        for name, process in processes.items():
            if process.poll() is not None and not condition():
                raise SystemExit(f"the {name} ended with {process.returncode}: see {folder}")
            try:
                memory = psutil.Process(process.pid).memory_full_info()
            except psutil.Error:
                continue
            samples.append(
                {
                    "time": now,
                    "process": name,
                    "rss": memory.rss,
                    "pss": memory.pss,
                    "uss": memory.uss,
                    "temporary_files": files,
                }
            )
        time.sleep(1)


def report(
    folder: Path,
    minutes: float,
    samples: Sequence[dict[str, Any]],
    client: dict[str, Any],
    runs: Sequence[dict[str, Any]],
) -> bool:
    """Prints the results; returns whether the test has passed."""
    failures = [f"run {run['number']} failed" for run in runs if run["status"]]
    print(f"{minutes:g} minutes, {len(runs)} runs of the pipeline\n")
    print(
        f"{'private MB':<14} {'first third':>12} {'last third':>12} {'growth':>8} {'peak RSS':>10}"
    )
    for name in (PIPELINE, SERVER, CLIENT):
        process_samples = [sample for sample in samples if sample["process"] == name]
        first, last, peak_rss = thirds(process_samples, runs if name == PIPELINE else None)
        growth = last / first - 1
        print(
            f"{name:<14} {first / 1e6:>12,.1f} {last / 1e6:>12,.1f} {growth:>+8.1%} "
            f"{peak_rss / 1e6:>10,.1f}"
        )
        if growth > MAX_GROWTH:
            failures.append(f"the memory of the {name} grew by {growth:.1%}")
    versions = pushed_versions(folder / "root" / "serving" / "keras_ae")
    lost = [version for version in versions if str(version) not in client["versions"]]
    print(
        f"\n{client['requests']:,} requests, {len(client['failures'])} failed; "
        f"{len(versions)} versions pushed, {len(client['versions'])} answered requests"
    )
    if client["failures"]:
        failures.append(f"requests failed, such as: {client['failures'][0]}")
    if lost:
        failures.append(f"pushed versions that never answered a request: {lost}")
    # A run pushes nothing if its model is no better than the floor.
    pushes = (folder / "pipeline.log").read_text().count("\npushed: ")
    if len(versions) != pushes:
        failures.append(f"expected {pushes} pushed versions; got {len(versions)}")
    temporary_files = list(_temporary_files(samples, runs))
    print(f"temporary files after a run: at most {max(temporary_files)}")
    if any(temporary_files):
        failures.append("runs left temporary files")
    print("\n".join(failures) or "passed: no leaks, no failures, no lost versions")
    return not failures


def thirds(
    samples: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]] | None
) -> tuple[float, float, float]:
    """Medians of private bytes over the first and last third after the warm-up, and the peak RSS.

    Args:
        samples: samples of one process.
        runs: runs of the pipeline, whose peaks are used instead of the samples.
    """
    start, end = samples[0]["time"], samples[-1]["time"]
    start += WARM_UP_SHARE * (end - start)
    if runs is None:
        values = [sample["uss"] for sample in samples if sample["time"] >= start]
    else:
        values = [
            max(s["uss"] for s in samples if run["start"] <= s["time"] <= run["end"])
            for run in runs
            if run["start"] >= start
        ]
    third = max(1, len(values) // 3)
    medians = (statistics.median(part) for part in (values[:third], values[-third:]))
    return (*medians, max(sample["rss"] for sample in samples))


def _temporary_files(
    samples: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]
) -> Iterator[int]:
    """The number of temporary files after each run."""
    for run in runs:
        after = [sample for sample in samples if sample["time"] >= run["end"]]
        yield (after or samples[-1:])[0]["temporary_files"]


if __name__ == "__main__":
    main()
