"""Beam's worker processes as forks of the run that needs them, which has imported what they import.

A worker imports TensorFlow and TFX for ten seconds, and each Beam step starts its own.
"""

import os
import shlex
import socket
import sys
from collections.abc import Mapping
from types import SimpleNamespace

from apache_beam.runners.portability import local_job_service

from tests import forks
from tests.e2e.runs import check_in_process

FORKED_WORKERS = "tests.e2e.workers:fork_workers"


def fork_workers() -> None:
    """Starts a fork server in a run without threads, and patches Beam to start workers by it."""
    check_in_process()
    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        forks.serve(theirs)
        sys.exit()
    theirs.close()
    server = forks.ForkServer(ours)

    def start(line: str, *, shell: bool, env: Mapping[str, str]) -> forks.ForkedProcess:
        words = shlex.split(line)
        command = [sys.executable, *words[words.index("-m") :]]
        stdout, stderr = (SimpleNamespace(fileno=lambda i=i: i) for i in (1, 2))
        return server.start(command, stdout=stdout, stderr=stderr, env=env)

    local_job_service.subprocess = SimpleNamespace(Popen=start)
