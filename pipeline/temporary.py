"""A run's own folder for temporary files, which the next run clears if it was killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = "temporary"


@contextmanager
def folder(root: Path, *, alone: bool) -> Iterator[None]:
    """Makes a folder below a root the one for temporary files, of child processes and libraries
    as well, while the block runs.

    Args:
        root: of the run.
        alone: whether no other run uses the root, so that what is found there is of dead ones.
    """
    place = root / TEMPORARY
    if alone:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(exist_ok=True)
    own = tempfile.mkdtemp(dir=place)
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = own
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):
            place.rmdir()
