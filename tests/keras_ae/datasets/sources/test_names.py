import argparse

import pytest

from keras_ae.datasets.sources.names import expand, path_argument
from keras_ae.errors import ConfigurationError


def test_a_tilde_becomes_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/x") == str(tmp_path / "x")
    for text in ("gs://bucket/~/x", "./~/x", "tfds:mnist", "~no-such-user/x"):
        assert expand(text) == text


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_path_is_an_error(text):
    with pytest.raises(ConfigurationError, match="expected a path; got an empty string"):
        expand(text)
    with pytest.raises(argparse.ArgumentTypeError, match="got an empty string"):
        path_argument(text)
