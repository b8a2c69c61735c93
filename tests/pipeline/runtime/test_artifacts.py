import socket

import pytest

from keras_ae import storage
from keras_ae.errors import StorageError
from pipeline.runners import preflight
from pipeline.runtime import artifacts
from tests.gcs import FORBIDDEN


def test_a_local_folder_is_used_as_it_is(tmp_path):
    with artifacts.written(tmp_path / "new" / "one") as folder:
        assert folder == tmp_path / "new" / "one"
        (folder / "file").write_text("text")
    with artifacts.fetched(str(folder)) as fetched:
        assert fetched == folder
    with artifacts.checkpoint_file(folder / "file") as (file, save):
        save()
    assert file.read_text() == "text"


def test_what_is_written_can_be_fetched(bucket):
    uri = f"{bucket.uri}/whole"
    with artifacts.written(uri) as folder:
        (folder / "deeper").mkdir()
        for name in ("saved_model.pb", "a.txt", "deeper/z.bin", "deeper/saved_model.pb"):
            (folder / name).write_text(name)
        assert bucket.names("whole") == []
    names = ["a.txt", "deeper/saved_model.pb", "deeper/z.bin", "saved_model.pb"]
    assert bucket.names("whole") == [f"whole/{name}" for name in names]
    first, last = bucket.written("whole")[:2], bucket.written("whole")[2:]
    assert {name.rpartition("/")[2] for name in last} == {"saved_model.pb"}
    assert len(first) == len(last) == 2
    with artifacts.fetched(uri) as folder:
        assert {name: (folder / name).read_text() for name in names} == {n: n for n in names}
    with artifacts.fetched(f"{uri}/deeper/z.bin") as file:
        assert file.read_text() == "deeper/z.bin"
    assert not file.exists()
    assert not folder.exists()
    assert storage.read_file(f"{uri}/a.txt") == bucket.read("whole/a.txt")


def test_a_block_that_fails_uploads_nothing(bucket):
    def fail() -> None:
        with artifacts.written(f"{bucket.uri}/half") as folder:
            (folder / "file").write_text("text")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert bucket.names("half") == []


def test_a_checkpoint_is_kept_until_its_block_succeeds(bucket):
    uri = f"{bucket.uri}/checkpoints/state.npz"

    def fail() -> None:
        with artifacts.checkpoint_file(uri) as (file, save):
            file.write_text("first")
            save()
            file.write_text("second")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert bucket.read("checkpoints/state.npz") == b"first"
    with artifacts.checkpoint_file(uri) as (file, _):
        assert file.read_text() == "first"
    assert bucket.names("checkpoints") == []


def test_a_missing_artifact_is_named(bucket):
    with (
        pytest.raises(StorageError, match=f"cannot read {bucket.uri}/nothing: "),
        artifacts.fetched(f"{bucket.uri}/nothing"),
    ):
        pass


def test_a_root_that_can_be_written_is_reachable(bucket, tmp_path):
    preflight.check_reachable(f"{bucket.uri}/a/root")
    preflight.check_reachable(tmp_path / "new")
    preflight.check_reachable((tmp_path / "new").as_uri())
    assert bucket.names("a/") == []
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("gs://no-such-bucket/root", "there is no bucket no-such-bucket"),
        (f"gs://{FORBIDDEN}/root", "these credentials may not use the bucket"),
        ("minio://mlpipeline/v2", "TensorFlow has no filesystem for minio:// here"),
        ("s3://bucket/root", "TensorFlow has no filesystem for s3:// here"),
        ("/proc/nothing/root", "cannot write to /proc/nothing/root: "),
    ],
)
def test_a_root_that_cannot_be_written_is_one_clear_line(bucket, uri, text):
    with pytest.raises(StorageError) as caught:
        preflight.check_reachable(uri)
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"cannot write to {uri}: ")
    assert "\n" not in str(caught.value)


def test_a_host_that_does_not_answer_is_an_error_within_seconds(bucket, monkeypatch):
    monkeypatch.setattr(preflight, "ANSWER_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        with pytest.raises(StorageError, match="Google Cloud Storage does not answer"):
            preflight.check_reachable(bucket.uri)


def test_without_a_network_the_error_is_not_about_credentials(bucket, monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(StorageError, match="Google Cloud Storage does not answer"):
        preflight.check_reachable(bucket.uri)


def test_without_credentials_the_error_says_which_are_needed(bucket, monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(StorageError, match="no valid credentials of Google Cloud; set"):
        preflight.check_reachable(bucket.uri)
