import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from tests.corpus import IMAGES, OUTSIDE, files, sources, write
from tests.corpus.entries import ACCEPTED, SKIPPED
from tests.corpus.pictures import encoded, picture

ROOT = Path(__file__).parents[2]
MAX_BYTES = 500_000_000
NOBODY = 65534


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    corpus = tmp_path_factory.mktemp("corpus")
    write(corpus)
    return corpus


@pytest.fixture(scope="module")
def results(corpus) -> dict[str, dict]:
    """The outcome and the costs of each file, measured in a process with limits."""
    before = _tree(corpus)
    program = (sys.executable, "-m", "tests.corpus.measure", str(corpus))
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-300:]} {done.stderr[-3000:]}"
    assert _tree(corpus) == before, "files were written"
    return {line["file"]: line for line in map(json.loads, done.stdout.splitlines())}


def _tree(corpus: Path) -> set[tuple[str, int, int]]:
    """Names, sizes and times of what a program that follows a name or a link might write."""
    outside, pipe = corpus / OUTSIDE, corpus / IMAGES / "pipe.png"
    stats = {path: path.lstat() for path in (corpus, *corpus.iterdir(), *outside.iterdir(), pipe)}
    return {(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}


def differences(expected: dict[str, str], faults: dict[str, str]) -> dict[str, tuple]:
    """Expected and actual fault of each key for which they differ."""
    expected = {key: outcome for key, outcome in expected.items() if outcome != SKIPPED}
    wrong = {key: (expected.get(key), faults.get(key)) for key in expected.keys() ^ faults.keys()}
    for key in expected.keys() & faults.keys():
        reason = "" if expected[key] == ACCEPTED else expected[key]
        if reason not in faults[key] or bool(reason) != bool(faults[key]):
            wrong[key] = (reason, faults[key])
    return wrong


def test_each_file_is_accepted_skipped_or_quarantined_with_its_reason(results):
    expected = {file.key: file.expected for file in files()}
    assert len(expected) == len(files())
    assert sum(outcome not in (ACCEPTED, SKIPPED) for outcome in expected.values()) >= 60
    faults = {}
    for name, result in results.items():
        if name.rstrip("/") in expected:
            faults |= result["faults"]
    assert not differences(expected, faults)


@pytest.mark.parametrize("archive", sources(), ids=lambda archive: archive.name)
def test_each_member_of_an_archive_has_its_outcome_or_the_archive_is_refused(results, archive):
    expected = {"": archive.refused} if archive.refused else dict(archive.members)
    assert not differences(expected, results[archive.name]["faults"])


def test_no_file_takes_more_than_500_mb(results):
    worst = max(results.values(), key=lambda result: result["bytes"])
    assert worst["bytes"] < MAX_BYTES, worst


def test_files_without_read_permission_are_quarantined():
    """Root can read everything, so it becomes a different user during this test."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "folder").mkdir()
        for path in ("good.png", "bad.png", "folder/inside.png"):
            (folder / path).write_bytes(encoded(picture(), "PNG"))
        (folder / "bad.png").chmod(0)
        (folder / "folder").chmod(0)
        user = os.geteuid()
        os.seteuid(user or NOBODY)
        try:
            source = open_source(str(folder))
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
            (folder / "folder").chmod(0o755)


def test_a_folder_without_read_permission_is_reported():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0)
        user = os.geteuid()
        os.seteuid(user or NOBODY)
        try:
            with pytest.raises(DataError, match=f"cannot read {name}: Permission denied"):
                open_source(name)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)
