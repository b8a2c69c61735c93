from pathlib import Path

import pytest

from keras_ae.errors import ConfigurationError
from pipeline.runtime.paths import expand, inside


def test_a_tilde_becomes_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/x") == str(tmp_path / "x")
    for text in ("gs://bucket/~/x", "./~/x", "tfds:mnist", "~no-such-user/x"):
        assert expand(text) == text


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_path_is_an_error(text):
    with pytest.raises(ConfigurationError, match="expected a path; got an empty text"):
        expand(text)


def test_folders_inside_the_data_are_found_through_links(tmp_path):
    (tmp_path / "data" / "runs" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    data, root = str(tmp_path / "data"), tmp_path / "link" / "runs" / "a"
    folders = {"root": root, "push folder": root / "serving"}
    assert inside(data, folders) == {"runs/a": "root"}
    assert inside(data, {"root": tmp_path, "push folder": Path(data, "b")}) == {"b": "push folder"}
    assert inside(data, {"root": "gs://bucket/data"}) == {}


def test_folders_inside_a_bucket_are_found():
    folders = {"root": "gs://bucket/data/root/", "push folder": "gs://bucket/database"}
    assert inside("gs://bucket/data/", folders) == {"root": "root"}


def test_data_and_root_must_be_different_folders(tmp_path):
    with pytest.raises(ConfigurationError, match=f"the root is the folder of --data, {tmp_path}"):
        inside(str(tmp_path), {"root": tmp_path / "."})
