"""Training and comparing below gs:// give the same results as in a local folder."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.types import standard_artifacts

from keras_ae import contract as c
from keras_ae import presets
from keras_ae.datasets.sources.base import Record
from keras_ae.scores import MODEL
from keras_ae.training import ladder as training
from pipeline import trainer
from pipeline.components.budget_comparison import executor, keys
from pipeline.components.budget_comparison.component import Comparison
from pipeline.components.budget_comparison.keys import ModelKey
from pipeline.components.image_example_gen.writing import to_example
from pipeline.runners.beam import engines
from pipeline.runtime import ladder_cache
from pipeline.runtime.artifacts import STATE
from tests.keras_ae.tuning.test_tuner import FakeEvaluator, make_tuner, values_of
from tests.pipeline.test_trainer import CONFIG
from tests.tiny import TINY

SAVED_MODEL = "Format-Serving"


@pytest.fixture(scope="module")
def root(tmp_path_factory, photographs, encode) -> Path:
    """A folder with examples of nine images in three splits."""
    folder = tmp_path_factory.mktemp("root")
    for split, count in zip(c.SPLITS, (4, 2, 3)):
        (folder / "examples" / f"Split-{split}").mkdir(parents=True)
        path = str(folder / "examples" / f"Split-{split}" / "data.gz")
        with tf.io.TFRecordWriter(path, options="GZIP") as writer:
            for i in range(count):
                image = photographs[i % 3][10 * i : 10 * i + 64, :72]
                writer.write(to_example(Record(f"{split}/{i}.png", encode(image, "PNG")), 3))
    return folder


@pytest.fixture
def train(monkeypatch):
    """Trains a stage: train(root, start, stop), into `ROOT/START-STOP`."""
    monkeypatch.setattr(trainer, "read_moments", lambda graph: np.eye(193))
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)

    def run(root: Path | str, start: int, stop: int) -> None:
        settings = {"start": start, "stop": stop, "preset": "tiny"}
        trainer.run_fn(
            FnArgs(
                custom_config={**vars(CONFIG), **settings, "checkpoints": f"{root}/checkpoints"},
                train_files=[f"{root}/examples/Split-train/*"],
                eval_files=[f"{root}/examples/Split-val/*"],
                transform_graph_path="",
                base_model=f"{root}/0-{start}/{SAVED_MODEL}",
                model_run_dir=f"{root}/{start}-{stop}/logs",
                serving_model_dir=f"{root}/{start}-{stop}/{SAVED_MODEL}",
            )
        )

    yield run
    ladder_cache.clear()


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a training state, without the time that training took."""
    with np.load(folder / STATE) as state:
        return {name: state[name] for name in state.files if name != "seconds"}


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], name)


def stop_in_the_third_epoch(ladder) -> None:
    if ladder.epoch == 3:
        raise KeyboardInterrupt


def test_a_stage_resumes_from_the_checkpoint_in_the_bucket(
    root, train, bucket, tmp_path, monkeypatch
):
    uri = bucket.put(root, "training")
    monkeypatch.setattr(trainer.Exporter, "write", lambda self, path, val_mse: path.mkdir())
    train(root, 0, 1)
    train(root, 1, 4)
    train(uri, 0, 1)
    assert bucket.names("training/checkpoints") == []
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(trainer, "_log_epoch", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        train(uri, 1, 4)
    assert len(bucket.names("training/checkpoints")) == 1
    assert bucket.names("training/1-4/training_state") == []
    ladder_cache.clear()
    epochs = []
    monkeypatch.setattr(trainer, "_log_epoch", lambda ladder: epochs.append(ladder.epoch))
    train(uri, 1, 4)
    assert epochs == [3, 4]
    assert bucket.names("training/checkpoints") == []
    for stage in ("0-1", "1-4"):
        copy = bucket.get(f"training/{stage}", tmp_path / stage)
        assert_equal(arrays(copy), arrays(root / stage))
    assert any("tfevents" in name for name in bucket.names("training/0-1/logs"))


def compare(root: Path | str, tmp_path: Path) -> None:
    """Compares the budgets 1 and 2 of `root`, into `ROOT/comparison` and `ROOT/chosen`."""

    def artifact(kind, name: str):
        new = kind()
        new.uri = f"{root}/{name}"
        return [new]

    consumed = {
        "examples": artifact(standard_artifacts.Examples, "examples"),
        "model_1": artifact(standard_artifacts.Model, "0-1"),
        "model_2": artifact(standard_artifacts.Model, "1-2"),
    }
    consumed["examples"][0].split_names = '["train", "val", "test"]'
    outputs = {
        "comparison": artifact(Comparison, "comparison"),
        "model": artifact(standard_artifacts.Model, "chosen"),
    }
    context = executor.Executor.Context(
        beam_pipeline_args=engines.beam_arguments(engines.DIRECT, 1, []),
        tmp_dir=str(tmp_path),
        unique_id="1",
    )
    models = keys.to_json([ModelKey(MODEL, budget) for budget in (1, 2)])
    parameters = {"tolerance": 0.1, "models": models}
    executor.Executor(context).Do(consumed, outputs, parameters)


def test_a_comparison_in_the_bucket_is_the_same_to_the_byte(root, train, bucket, tmp_path):
    train(root, 0, 1)
    train(root, 1, 2)
    uri = bucket.put(root, "comparing")
    compare(root, tmp_path)
    compare(uri, tmp_path)
    for folder in ("comparison", "chosen"):
        copy = bucket.get(f"comparing/{folder}", tmp_path / folder)
        files, expected = (
            {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()}
            for place in (copy, root / folder)
        )
        assert len(files) > 4
        assert files == expected


def test_a_search_resumes_from_the_bucket(bucket, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_tuner(f"{bucket.uri}/search", FakeEvaluator(interrupt_after=2), trials=3).search()
    rest = FakeEvaluator()
    tuner = make_tuner(f"{bucket.uri}/search", rest, trials=3)
    tuner.search()
    assert len(rest.presets) == 1
    local = make_tuner(tmp_path, FakeEvaluator(), trials=3)
    local.search()
    assert values_of(tuner) == values_of(local)
