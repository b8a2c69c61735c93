"""Paths of this machine and a bucket on it, which answer alike."""

import hashlib
import subprocess
import sys

import pytest

from keras_ae import storage
from keras_ae.errors import DataError, ReadError, StorageError
from tests.gcs import FORBIDDEN


@pytest.fixture(params=["path", "uri"])
def place(request, tmp_path) -> str:
    """A folder with the files a.txt and deeper/b.txt."""
    folder = str(tmp_path / "folder")
    if request.param == "uri":
        # A name of its own: TensorFlow remembers for some seconds what it has seen of a bucket.
        folder = f"{request.getfixturevalue('bucket').uri}/{tmp_path.name}"
    storage.make_folder(storage.join(folder, "deeper"))
    for name in ("a.txt", "deeper/b.txt"):
        storage.write_file(storage.join(folder, name), name.encode())
    return folder


def test_files_are_found_read_and_measured(place):
    assert sorted(storage.names(place)) == ["a.txt", "deeper"]
    assert sorted(storage.names_below(place)) == ["a.txt", "deeper/b.txt"]
    assert storage.glob(storage.join(place, "*.txt")) == [f"{place}/a.txt"]
    assert storage.is_folder(place)
    assert not storage.is_folder(f"{place}/a.txt")
    assert storage.exists(f"{place}/a.txt")
    assert not storage.exists(f"{place}/c.txt")
    assert storage.names(f"{place}/none") == []
    there, missing = storage.statuses(place, ["deeper/b.txt", "c.txt"])
    assert (there.size, missing) == (12, (0, 0))
    # To the nanosecond, or a fingerprint misses a change within a second.
    assert there.changed % 1_000_000_000
    assert storage.sha256_of_file(f"{place}/a.txt") == hashlib.sha256(b"a.txt").digest()
    assert storage.name(place + "/") == storage.name(place) == place.rpartition("/")[2]
    assert storage.join(storage.parent(place + "/a.txt"), "a.txt") == place + "/a.txt"


def test_a_file_is_read_from_any_position_and_not_above_a_limit(place):
    with storage.open_file(f"{place}/deeper/b.txt") as file:
        file.seek(-5, 2)
        assert (file.tell(), file.read()) == (7, b"b.txt")
        assert file.seek(0) == 0
        assert file.read(6) == b"deeper"
    assert storage.read_file(f"{place}/a.txt", 5) == b"a.txt"
    with pytest.raises(DataError, match="a file of 5 bytes, more than the limit of 4"):
        storage.read_file(f"{place}/a.txt", 4)


def test_files_are_renamed_and_removed(place):
    storage.rename(f"{place}/a.txt", f"{place}/deeper/b.txt")
    assert list(storage.names_below(place)) == ["deeper/b.txt"]
    assert storage.read_file(f"{place}/deeper/b.txt") == b"a.txt"
    storage.write_file(f"{place}/c.txt", b"")
    storage.remove(f"{place}/c.txt")
    assert not storage.exists(f"{place}/c.txt")
    storage.remove(place)
    assert not storage.exists(f"{place}/deeper/b.txt")


def test_a_file_is_copied_to_a_bucket_and_back(bucket, tmp_path):
    (tmp_path / "a").write_bytes(b"text")
    storage.copy(tmp_path / "a", f"{bucket.uri}/copied/a")
    assert bucket.read("copied/a") == b"text"
    storage.copy(f"{bucket.uri}/copied/a", tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"text"


@pytest.mark.parametrize(
    ("work", "kind", "text"),
    [
        (storage.read_file, ReadError, "cannot read"),
        (storage.status, ReadError, "cannot read"),
        (lambda place: storage.write_file(place, b"x"), StorageError, "cannot write to"),
        (storage.remove, StorageError, "cannot remove"),
    ],
)
def test_what_a_store_refuses_is_one_line(bucket, work, kind, text):
    for place, why in ((f"gs://{FORBIDDEN}/a", ""), ("hdfs://host/a", "TensorFlow has no file")):
        with pytest.raises(kind, match=f"{text} {place}: {why}") as caught:
            work(place)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, DataError) is (kind is ReadError)


def test_paths_need_no_tensorflow(tmp_path):
    program = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "from keras_ae import storage\n"
        "from keras_ae.datasets.sources.open import open_source\n"
        "storage.write_file(sys.argv[1] + '/a.png', b'image')\n"
        "print(len(open_source(sys.argv[1]).fingerprint()))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "64\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (36_200_000, "36.2 MB"),
        (999_600_000, "1 GB"),
        (12_340_000_000, "12.3 GB"),
    ],
)
def test_bytes_have_a_unit_that_fits(count, text):
    assert storage.format_bytes(count) == text
