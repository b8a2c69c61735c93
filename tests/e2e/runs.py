"""The whole job, as a user runs it, with a model that is trained in a moment."""

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

from tests.listening import watching

ROOT = Path(__file__).parents[2]
START = Path(__file__).parent / "start"
ENVIRONMENT = {
    "PYTHONPATH": str(START),
    # The pipeline trains on TensorFlow, whatever the library is set to elsewhere.
    "KERAS_BACKEND": "jax",
    # The tests' own, by worker; a run tells it, and is compared with others.
    "JAX_COMPILATION_CACHE_DIR": "",
}
"""Of each run."""
MODEL = ("--preset", "tiny", "--seed", "1", "--tile", "64")
LONG = 120
"""Epochs of the stage that is long enough to be hit again and again."""
FLAGS = (*MODEL, "--budgets", f"1,{LONG}")
IN_PROCESS = "tests.e2e.runs:check_in_process"


def check_in_process() -> None:
    """Lets ServingCheck start no server: it compares with the SavedModel only."""
    from pipeline.runners.local import runner

    run = runner.run

    def checked_in_process(arguments: argparse.Namespace) -> None:
        arguments.check_command = []
        run(arguments)

    runner.run = checked_in_process


class Run:
    """What a run printed, what each node took ("cached" or seconds), and where it listened.

    Args:
        place: folder that it starts in, with its images.
        flags: of the command, without data and root.
        root: name of its root in the folder.
        start: what starts a process, as `subprocess.Popen` does.
        until: words that it prints, upon which it is asked to stop.
    """

    def __init__(
        self,
        place: Path,
        *flags: str,
        root: str = "root",
        start: Callable[..., Any] = subprocess.Popen,
        until: str = "",
    ):
        words = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *flags]
        words += ["--data", str(place / "images"), "--root", str(place / root)]
        out, errors = place / "out.txt", place / "errors.txt"
        environment = {**os.environ, **ENVIRONMENT}
        with out.open("wb") as stdout, errors.open("wb") as stderr:
            process = start(words, cwd=place, env=environment, stdout=stdout, stderr=stderr)
            with watching(process.pid) as self.listened:
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

    def cached(self, node: str) -> bool:
        return self.nodes.get(node) == "cached"


def timeless(comparison: dict) -> dict:
    """Without what differs from run to run: seconds, the run itself, and what was in service."""

    def kept(value):
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if "second" not in k}
        return [kept(each) for each in value] if isinstance(value, list) else value

    return kept({k: v for k, v in comparison.items() if k not in ("run", "verdict")})
