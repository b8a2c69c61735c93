"""Runs of the whole pipeline by its command line, with a model that is trained quickly."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.endurance.kill_outcome import without_run_details
from tests.listening import collect_listening_addresses

ROOT = Path(__file__).parents[2]
START = Path(__file__).parent / "start"
ENVIRONMENT = {
    "PYTHONPATH": str(START),
    # The pipeline must train on TensorFlow although another backend is set.
    "KERAS_BACKEND": "jax",
    # The session's folder must not appear in the results, which are compared with those of others.
    "JAX_COMPILATION_CACHE_DIR": "",
}
"""Environment variables of each run."""
MODEL = ("--preset", "tiny", "--seed", "1", "--tile", "64")
LONG = 120
"""Epochs of the long stage, which can be interrupted repeatedly."""
FLAGS = (*MODEL, "--budgets", f"1,{LONG}")
CHECK_IN_PROCESS = "tests.e2e.runs:check_in_process"


def check_in_process() -> None:
    """Patches the runner so that ServingCheck starts no server and loads the SavedModel instead."""
    from pipeline.runners.local import runner

    run = runner.run

    def run_without_server(arguments: argparse.Namespace) -> None:
        arguments.check_command = []
        run(arguments)

    runner.run = run_without_server


class Run:
    """A run of the pipeline that has ended.

    Args:
        folder: its working directory, with the folder `images`.
        flags: flags of the command, without data and root.
        root: name of its root in the folder.
        start: function that starts a process, with the arguments of `subprocess.Popen`.
        until: text in its output after which SIGTERM is sent; by default it runs to the end.

    Attributes:
        status: exit status.
        out, errors: text on standard output and standard error.
        nodes: "cached" or the duration by node, in the order of their ends.
        listened: addresses and ports that its processes listened on.
    """

    def __init__(
        self,
        folder: Path,
        *flags: str,
        root: str = "root",
        start: Callable[..., Any] = subprocess.Popen,
        until: str = "",
    ):
        command = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *flags]
        command += ["--data", str(folder / "images"), "--root", str(folder / root)]
        out, errors = folder / "out.txt", folder / "errors.txt"
        environment = {**os.environ, **ENVIRONMENT}
        with out.open("wb") as stdout, errors.open("wb") as stderr:
            process = start(command, cwd=folder, env=environment, stdout=stdout, stderr=stderr)
            with collect_listening_addresses(process.pid) as self.listened:
                try:
                    while until and until not in out.read_text():
                        assert process.poll() is None, errors.read_text()
                        time.sleep(0.02)
                    if until:
                        process.send_signal(signal.SIGTERM)
                    self.status = process.wait(1800)
                finally:
                    process.kill()
                    process.wait()
        self.out, self.errors = out.read_text(), errors.read_text()
        pattern = r"^  (\w+) +(cached|[\d.]+ s)$"
        self.nodes = dict(re.findall(pattern, self.out, re.MULTILINE))

    def is_cached(self, node: str) -> bool:
        return self.nodes.get(node) == "cached"


def comparison_results(comparison: dict) -> dict:
    """A comparison without times, the description of the run, and the model in service."""
    results = {key: value for key, value in comparison.items() if key not in ("run", "verdict")}
    return without_run_details(results)
