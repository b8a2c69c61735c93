"""Local paths and URIs of a fake bucket, which behave the same."""

import hashlib
import subprocess
import sys

import pytest

from keras_ae import storage
from keras_ae.errors import DataError, ReadError, StorageError
from tests.gcs import FORBIDDEN


@pytest.fixture(params=["path", "uri"])
def path(request, tmp_path) -> str:
    """A folder with the files a.txt and deeper/b.txt."""
    folder = str(tmp_path / "folder")
    if request.param == "uri":
        # A unique name, because TensorFlow caches for some seconds what it has listed in a bucket.
        folder = f"{request.getfixturevalue('bucket').uri}/{tmp_path.name}"
    storage.make_folder(storage.join(folder, "deeper"))
    for name in ("a.txt", "deeper/b.txt"):
        storage.write_file(storage.join(folder, name), name.encode())
    return folder


def test_files_are_listed_and_have_statuses(path):
    assert sorted(storage.list_names(path)) == ["a.txt", "deeper"]
    assert sorted(storage.walk_names(path)) == ["a.txt", "deeper/b.txt"]
    assert storage.glob(storage.join(path, "*.txt")) == [f"{path}/a.txt"]
    assert storage.is_folder(path)
    assert not storage.is_folder(f"{path}/a.txt")
    assert storage.exists(f"{path}/a.txt")
    assert not storage.exists(f"{path}/c.txt")
    assert storage.list_names(f"{path}/none") == []
    existing, missing = storage.get_statuses(path, ["deeper/b.txt", "c.txt"])
    assert (existing.size, missing) == (12, (0, 0))
    # With coarser times a fingerprint would miss a change within the same second.
    assert existing.mtime_ns % 1_000_000_000
    assert storage.sha256_of_file(f"{path}/a.txt") == hashlib.sha256(b"a.txt").digest()
    assert storage.name(path + "/") == storage.name(path) == path.rpartition("/")[2]
    assert storage.join(storage.parent(path + "/a.txt"), "a.txt") == path + "/a.txt"


def test_a_file_is_read_from_any_position_up_to_a_size_limit(path):
    with storage.open_file(f"{path}/deeper/b.txt") as file:
        file.seek(-5, 2)
        assert (file.tell(), file.read()) == (7, b"b.txt")
        assert file.seek(0) == 0
        assert file.read(6) == b"deeper"
    assert storage.read_file(f"{path}/a.txt", 5) == b"a.txt"
    with pytest.raises(DataError, match="a file of 5 bytes, more than the limit of 4"):
        storage.read_file(f"{path}/a.txt", 4)


def test_files_are_renamed_and_removed(path):
    storage.rename(f"{path}/a.txt", f"{path}/deeper/b.txt")
    assert list(storage.walk_names(path)) == ["deeper/b.txt"]
    assert storage.read_file(f"{path}/deeper/b.txt") == b"a.txt"
    storage.write_file(f"{path}/c.txt", b"")
    storage.remove(f"{path}/c.txt")
    assert not storage.exists(f"{path}/c.txt")
    storage.remove(path)
    assert not storage.exists(f"{path}/deeper/b.txt")


def test_a_file_is_copied_to_a_bucket_and_back(bucket, tmp_path):
    (tmp_path / "a").write_bytes(b"text")
    storage.copy(tmp_path / "a", f"{bucket.uri}/copied/a")
    assert bucket.read("copied/a") == b"text"
    storage.copy(f"{bucket.uri}/copied/a", tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"text"


@pytest.mark.parametrize(
    ("work", "error_class", "text"),
    [
        (storage.read_file, ReadError, "cannot read"),
        (storage.get_status, ReadError, "cannot read"),
        (lambda path: storage.write_file(path, b"x"), StorageError, "cannot write to"),
        (storage.remove, StorageError, "cannot remove"),
    ],
)
def test_a_failure_of_a_store_is_one_line(bucket, work, error_class, text):
    for uri, reason in ((f"gs://{FORBIDDEN}/a", ""), ("hdfs://host/a", "TensorFlow has no file")):
        with pytest.raises(error_class, match=f"{text} {uri}: {reason}") as caught:
            work(uri)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, DataError) is (error_class is ReadError)


def test_local_paths_need_no_tensorflow(tmp_path):
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
def test_numbers_of_bytes_have_a_suitable_unit(count, text):
    assert storage.format_bytes(count) == text
