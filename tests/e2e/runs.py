"""The whole job, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.listening import watching

ROOT = Path(__file__).parents[2]


class Run:
    """What a run printed, what each node took ("cached" or seconds), and where it listened."""

    def __init__(self, place: Path, *flags: str, root: str = "root"):
        command = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *flags]
        with (
            subprocess.Popen(
                [*command, "--data", str(place / "images"), "--root", str(place / root)],
                cwd=place,
                env={**os.environ, "KERAS_BACKEND": "jax"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
            watching(process.pid) as self.listened,
        ):
            try:
                self.out, self.errors = process.communicate(timeout=1800)
            finally:
                process.kill()
        self.status = process.returncode
        pattern = r"^  (\w+) +(cached|[\d.]+ s)$"
        self.nodes = dict(re.findall(pattern, self.out, re.MULTILINE))

    def cached(self, node: str) -> bool:
        return self.nodes[node] == "cached"
