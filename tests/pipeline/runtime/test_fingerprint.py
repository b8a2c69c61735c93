import shutil

import pytest

from pipeline.runtime import fingerprint
from pipeline.runtime.fingerprint import source_fingerprint


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the sources that can be edited."""
    for package in fingerprint.PACKAGES:
        shutil.copytree(fingerprint.ROOT / package, tmp_path / package)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "edited", "noticed"),
    [
        ("pipeline.trainer", "pipeline/trainer.py", True),
        ("pipeline.trainer", "keras_ae/training/ladder.py", True),
        ("pipeline.trainer", "keras_ae/models/layers.py", True),
        ("pipeline.trainer", "keras_ae/training/backends/tensorflow.py", True),
        ("pipeline.trainer", "keras_ae/stages.py", True),
        ("pipeline.trainer", "keras_ae/comparison/records.py", False),
        ("pipeline.trainer", "keras_ae/report/page.py", False),
        ("pipeline.trainer", "keras_ae/__init__.pyi", False),
        ("pipeline.trainer", "pipeline/evaluation.py", False),
        ("pipeline.trainer", "keras_ae/tuning/search_space.py", True),
        ("pipeline.trainer", "keras_ae/tuning/tuner.py", False),
        ("pipeline.tuner", "keras_ae/tuning/tuner.py", True),
        ("pipeline.tuner", "keras_ae/training/ladder.py", True),
        ("pipeline.tuner", "keras_ae/saved_model/export.py", False),
        ("pipeline.preprocessing", "keras_ae/datasets/images/decoding.py", True),
        ("pipeline.preprocessing", "keras_ae/training/ladder.py", False),
        ("pipeline.components.report.executor", "keras_ae/report/page.html", True),
        ("pipeline.components.budget_comparison.executor", "keras_ae/report/page.html", False),
        (
            "pipeline.components.image_example_gen.executor",
            "keras_ae/datasets/images/normalize.py",
            True,
        ),
        ("pipeline.components.image_example_gen.executor", "keras_ae/datasets/tiles.py", False),
    ],
)
def test_an_edit_is_noticed_where_it_matters(copy, module, edited, noticed):
    before = source_fingerprint(module)
    path = copy / edited
    path.write_text(path.read_text() + "\n")
    assert (source_fingerprint(module) != before) == noticed


def test_another_release_of_a_library_is_noticed(copy, monkeypatch):
    before = source_fingerprint("pipeline.trainer")
    monkeypatch.setattr(fingerprint.metadata, "version", lambda name: "99")
    assert source_fingerprint("pipeline.trainer") != before
