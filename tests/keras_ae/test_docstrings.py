"""The examples in docstrings: what users call has one, and each is true."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "keras_ae").rglob("*.py")
    if ">>> " in path.read_text()
)
FACES = ("keras_ae", "keras_ae.datasets.sources", "keras_ae.training")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_module_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted
    assert not tried.failed


def test_every_public_name_has_an_example():
    for face in map(importlib.import_module, FACES):
        for name in face.__all__:
            public = getattr(face, name)
            if inspect.isclass(public) or inspect.isfunction(public):
                assert ">>> " in (public.__doc__ or ""), f"{face.__name__}.{name}"
