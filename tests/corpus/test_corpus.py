import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from tests.corpus import IMAGES, OUTSIDE, archives, files, write
from tests.corpus.entries import ARRIVES, SKIPPED
from tests.corpus.pictures import encoded, picture

ROOT = Path(__file__).parents[2]
MOST_BYTES = 500_000_000
NOBODY = 65534


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("corpus")
    write(place)
    return place


@pytest.fixture(scope="module")
def measured(place) -> dict[str, dict]:
    """What becomes of each file and what it costs, found in a process with limits."""
    before = _tree(place)
    program = (sys.executable, "-m", "tests.corpus.measure", str(place))
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-300:]} {done.stderr[-3000:]}"
    assert _tree(place) == before, "files were written"
    return {line["file"]: line for line in map(json.loads, done.stdout.splitlines())}


def _tree(place: Path) -> set[tuple[str, int, int]]:
    """Names, sizes and times of what lies beside the archives and the images."""
    paths = [place, *place.iterdir(), *(place / OUTSIDE).iterdir(), place / IMAGES / "pipe.png"]
    status = {path: path.lstat() for path in paths}
    return {(str(path), found.st_size, found.st_mtime_ns) for path, found in status.items()}


def differences(expected: dict[str, str], found: dict[str, str]) -> dict[str, tuple]:
    """Keys whose outcome is another one than expected, or that are not expected."""
    looked_at = {key: why for key, why in expected.items() if why != SKIPPED}
    wrong = {key: (looked_at.get(key), found.get(key)) for key in looked_at.keys() ^ found.keys()}
    for key in looked_at.keys() & found.keys():
        why = "" if looked_at[key] == ARRIVES else looked_at[key]
        if why not in found[key] or bool(why) != bool(found[key]):
            wrong[key] = (why, found[key])
    return wrong


def test_each_file_is_set_aside_with_its_reason_or_skipped_and_the_good_ones_arrive(measured):
    expected = {file.key: file.expected for file in files()}
    assert len(expected) == len(files())
    assert sum(why not in (ARRIVES, SKIPPED) for why in expected.values()) >= 60
    found = {}
    for name, line in measured.items():
        if name.rstrip("/") in expected:
            found |= line["found"]
    assert not differences(expected, found)


@pytest.mark.parametrize("archive", archives(), ids=lambda archive: archive.name)
def test_each_member_of_an_archive_is_too_or_the_archive_is_refused(measured, archive):
    expected = {"": archive.refused} if archive.refused else dict(archive.members)
    assert not differences(expected, measured[archive.name]["found"])


def test_none_takes_more_than_500_mb(measured):
    worst = max(measured.values(), key=lambda line: line["bytes"])
    assert worst["bytes"] < MOST_BYTES, worst


def test_what_the_user_may_not_read_is_set_aside():
    """Root may read all, and is another user meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "folder").mkdir()
        for path in ("good.png", "bad.png", "folder/inside.png"):
            (place / path).write_bytes(encoded(picture(), "PNG"))
        (place / "bad.png").chmod(0)
        (place / "folder").chmod(0)
        user = os.geteuid()
        os.seteuid(user or NOBODY)
        try:
            source = open_source(str(place))
            source.fingerprint()
            (shard,) = source.shards()
            faults = {record.key: record.fault for record in source.read(shard)}
            assert faults == {
                "good.png": "",
                "bad.png": "cannot be read: Permission denied",
                "folder": "cannot be read: Permission denied",
            }
        finally:
            os.seteuid(user)
            (place / "folder").chmod(0o755)


def test_a_folder_that_may_not_be_read_is_told():
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0)
        user = os.geteuid()
        os.seteuid(user or NOBODY)
        try:
            with pytest.raises(DataError, match=f"cannot read {name}: Permission denied"):
                open_source(name)
        finally:
            os.seteuid(user)
            place.chmod(0o755)
