"""The worker process of Beam: what happens when its log cannot be written."""

import errno
import io
import queue
import sys

import pytest
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.sdk_worker import SdkHarness

from pipeline.runners.beam.worker_main import IgnoreWriteErrors


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def fail():
    raise ValueError("no image")


@pytest.fixture
def harness() -> SdkHarness:
    """The harness in which Beam's worker executes instructions, without a connection."""
    harness = object.__new__(SdkHarness)
    harness._responses = queue.Queue()
    return harness


def test_beam_sends_no_error_that_it_cannot_print(harness, monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullDisk())
    with pytest.raises(OSError, match="No space left"):
        harness._execute(fail, beam_fn_api_pb2.InstructionRequest(instruction_id="1"))
    assert harness._responses.empty()


def test_the_worker_sends_an_error_that_it_cannot_print(harness, monkeypatch):
    monkeypatch.setattr(sys, "stderr", IgnoreWriteErrors(FullDisk()))
    harness._execute(fail, beam_fn_api_pb2.InstructionRequest(instruction_id="1"))
    response = harness._responses.get_nowait()
    assert response.instruction_id == "1"
    assert "ValueError: no image" in response.error
