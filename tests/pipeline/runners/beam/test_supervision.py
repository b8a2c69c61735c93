import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
import psutil
import pytest

from keras_ae.errors import DataError, KerasAEError, StorageError
from pipeline.runners.beam import engines, operator, supervision
from pipeline.runtime.fingerprint import ROOT
from tests.pipeline.runners.beam import work
from tests.processes import await_end

TWO = engines.beam_arguments(engines.DIRECT, 2, [])
# Workers that do not import TFX.
LIGHT = [argument for argument in TWO if argument != engines.PLUGIN]
TEXT = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
{error} [while running 'Check']

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "work.py", line 2128, in <lambda>
{error} [while running 'Check']
"""


def _run(function, arguments: list[str]) -> None:
    with operator.engine(arguments), beam.Pipeline(argv=arguments) as pipeline:
        _ = pipeline | beam.Create(range(4)) | beam.Reshuffle() | beam.Map(function)


@contextmanager
def full_disk_at_stderr() -> Iterator[None]:
    """Puts the standard error, also that of children, on a full disk."""
    stderr, full = os.dup(2), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(full)


@pytest.fixture(scope="module")
def error_in_a_worker(tmp_path_factory) -> KerasAEError | None:
    """What `work.refuse` raises in a working folder without the project, as a user may have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        with full_disk_at_stderr(), pytest.raises(RuntimeError) as caught:
            _run(work.refuse, TWO)
    return supervision.cause(caught.value)


def test_an_error_in_a_worker_is_the_project_s_own(error_in_a_worker):
    assert type(error_in_a_worker) is DataError


def test_worker_processes_find_the_project_and_import_tfx_first(error_in_a_worker):
    process, place = str(error_in_a_worker).split()
    assert int(process) != os.getpid()
    assert Path(place) == ROOT / "pipeline"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_dies_ends_the_run():
    with pytest.raises(KerasAEError, match="usually out of memory; reduce --workers"):
        _run(work.die, LIGHT)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        ("keras_ae.errors.DataError: no image", DataError, "no image"),
        ("RuntimeError: DataError: no image", DataError, "no image"),
        (
            "RuntimeError: OSError: [Errno 28] No space left on device: '/x'",
            StorageError,
            "cannot write: No space left on device: '/x'; what earlier runs made is kept",
        ),
        (
            "google.api_core.exceptions.ForbiddenError: no bucket",
            KerasAEError,
            "a worker failed: ForbiddenError: no bucket; the details are in the log",
        ),
    ],
)
def test_a_traceback_of_a_worker_is_reported_in_one_line(error, kind, text):
    known = supervision.cause(RuntimeError(TEXT.format(error=error)))
    assert type(known) is kind
    assert str(known) == text


def test_other_errors_are_not_converted():
    assert supervision.cause(RuntimeError("OSError: [Errno 28] No space left on device")) is None


PROGRAM = """
import ctypes, os, sys
from pathlib import Path
import apache_beam as beam
from pipeline.runners.beam import operator

def work(number, place):
    Path(place, str(os.getpid())).touch()
    # In C and with the lock of the interpreter, so that no thread notices anything.
    ctypes.PyDLL(None).sleep(600)

place, *arguments = sys.argv[1:]
with operator.engine(arguments), beam.Pipeline(argv=arguments) as pipeline:
    pipeline | beam.Create(range(4)) | beam.Reshuffle() | beam.Map(work, place)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_workers_end_with_a_run_that_is_killed(tmp_path):
    (tmp_path / "places").mkdir()
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path / "places", *LIGHT], stdout=log, stderr=log
        )
    parent, workers = psutil.Process(run.pid), []
    while len(workers) < 2 or not any((tmp_path / "places").iterdir()):
        assert run.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.1)
        workers = parent.children(recursive=True)
    run.kill()
    run.wait()
    try:
        for worker in workers:
            await_end(worker)
    finally:
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
