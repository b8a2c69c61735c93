"""The local server in a process of its own."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.client.blocking import ReconstructionClient


@dataclasses.dataclass(frozen=True)
class Server:
    """A server: its gRPC target and REST URL, its process, and its folder with version 1."""

    target: str
    url: str
    pid: int
    base: Path


@contextmanager
def local_server(
    model: Path, flags: Sequence[str] = (), code: Path | None = None
) -> Iterator[Server]:
    """Serves a SavedModel as version 1 of `keras_ae` on free ports until the block ends.

    The server's code is this checkout's, or that of the checkout in the folder `code`.
    """
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "keras_ae"
        shutil.copytree(model, base / "1")
        port, rest_port = free_port(), free_port()
        command = [
            *(sys.executable, "-m", "serving.server", "--model_name=keras_ae"),
            *(f"--port={port}", f"--rest_api_port={rest_port}", f"--model_base_path={base}"),
        ]
        with subprocess.Popen([*command, *flags], stderr=subprocess.DEVNULL, cwd=code) as process:
            try:
                target = f"127.0.0.1:{port}"
                with ReconstructionClient(target) as client:
                    client.wait_until_ready()
                yield Server(target, f"http://127.0.0.1:{rest_port}", process.pid, base)
            finally:
                process.terminate()


def free_port() -> int:
    """A TCP port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
