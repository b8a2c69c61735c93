"""The whole job, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Run:
    """What a run printed, and what each node took: "cached" or seconds."""

    def __init__(self, place: Path, *flags: str, root: str = "root"):
        command = [sys.executable, str(ROOT / "pipeline" / "run_local.py"), *flags]
        done = subprocess.run(
            [*command, "--data", str(place / "images"), "--root", str(place / root)],
            cwd=place,
            env={**os.environ, "KERAS_BACKEND": "jax"},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        self.status, self.out, self.errors = done.returncode, done.stdout, done.stderr
        pattern = r"^  (\w+) +(cached|[\d.]+ s)$"
        self.nodes = dict(re.findall(pattern, done.stdout, re.MULTILINE))

    def cached(self, node: str) -> bool:
        return self.nodes[node] == "cached"
