import functools
import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts

from keras_ae import presets
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import StoppedError
from keras_ae.saved_model.export import Exporter
from keras_ae.training import ladder
from keras_ae.training.backends.position import Position
from pipeline import definition, training_data
from pipeline.components.image_example_gen.writing import to_example
from pipeline.runners.local import caching, runner
from pipeline.runners.local.checksums import Checksums
from pipeline.runtime import ladder_cache, plan, signals
from pipeline.runtime.settings import StageSettings
from tests.tiny import TINY

SETTINGS = {
    "channels": 3,
    "stride": 8,
    "latent_channels": 8,
    "batch_size": 32,
    "memory_limit_bytes": None,
    "tile": 256,
    "fingerprint": "code",
}


class Runs:
    """Runs only the Trainers, in one root, with a clock by which each epoch takes a second."""

    def __init__(self, folder, monkeypatch):
        self.trained, self.stop_at = [], None
        self._folder = folder
        self._connection = sqlite_metadata_connection_config(str(folder / "metadata.sqlite"))
        clock = functools.partial(next, itertools.count(0.0))
        fake = SimpleNamespace(perf_counter=clock, monotonic=time.monotonic)
        monkeypatch.setattr(ladder, "time", fake)
        monkeypatch.setitem(presets.PRESETS, TINY.name, TINY)
        monkeypatch.setattr(training_data, "read_moments", lambda graph: np.eye(193))
        monkeypatch.setattr(Exporter, "write", lambda self, folder, val_mse: folder.mkdir())
        monkeypatch.setattr(signals, "requested", lambda: self.stop_at in self.trained)
        during = plan.Forecast.during

        def watched(forecast, ladder):
            self.trained.append((forecast._stage.seed, ladder.epoch))
            return during(forecast, ladder)

        monkeypatch.setattr(plan.Forecast, "during", watched)

    def __call__(self, *budgets: int, seeds: int = 1, baseline: tuple[int, ...] = ()) -> None:
        """Trains ladders; then `trained` has the seed and the number of each epoch."""
        self.trained.clear()
        images = Importer(
            source_uri=str(self._folder / "examples"),
            artifact_type=standard_artifacts.Examples,
            properties={"split_names": '["train", "val"]'},
        ).with_id("Images")
        transform = Importer(
            source_uri=str(self._folder / "graph"), artifact_type=standard_artifacts.TransformGraph
        ).with_id("Transform")
        examples, graph = images.outputs["result"], transform.outputs["result"]
        settings = functools.partial(
            StageSettings, **SETTINGS, checkpoints=str(self._folder / "checkpoints")
        )
        trainers_of = functools.partial(
            definition._trainers, examples=examples, transform_graph=graph, settings=settings
        )
        trainers = trainers_of(budgets, preset=TINY.name, seed=0)
        for seed in range(1, seeds):
            trainers |= trainers_of(budgets, preset=TINY.name, seed=seed, other_seed=seed)
        if baseline:
            trainers |= trainers_of(baseline, preset=presets.BASELINE, seed=0, ladder="baseline")
        pipeline = Pipeline(
            pipeline_name="line",
            pipeline_root=str(self._folder / "artifacts"),
            components=[images, transform, *trainers.values()],
            enable_cache=True,
            metadata_connection_config=self._connection,
        )
        compiled = compiler.Compiler().compile(pipeline)
        nodes = runner.depth_first(compiled.nodes)
        del compiled.nodes[:]
        compiled.nodes.extend(nodes)
        checksums = Checksums(self._folder / "checksums")
        nodes = plan.trainers(nodes)
        hits = functools.partial(caching.predicted_hits, self._connection, "line", checksums, nodes)
        ladder_cache.clear()
        with (
            caching.by_content(checksums),
            plan.in_use(plan.TrainingPlan(plan.stages(nodes), hits)),
        ):
            LocalDagRunner().run_with_ir(compiled)
        ladder_cache.clear()


@pytest.fixture
def run(tmp_path, photographs, encode, monkeypatch) -> Runs:
    for split in ("train", "val"):
        folder = tmp_path / "examples" / f"Split-{split}"
        folder.mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "part.gz"), options="GZIP") as writer:
            for i, photograph in enumerate(photographs):
                png = encode(photograph[:64, :64], "PNG")
                writer.write(to_example(Record(f"{i}.png", png), 3))
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "saved_model.pb").write_bytes(b"graph")
    return Runs(tmp_path, monkeypatch)


def epochs(start: int, stop: int, seed: int = 0) -> list[tuple[int, int]]:
    return [(seed, epoch) for epoch in range(start + 1, stop + 1)]


def forecasts(text: str) -> list[str]:
    return [line for line in text.splitlines() if "training left" in line or "an hour" in line]


def test_after_a_stop_the_budgets_that_were_reached_are_not_trained_again(run):
    run.stop_at = (0, 5)
    with pytest.raises(StoppedError):
        run(2, 4, 8)
    run.stop_at = None
    run(2, 4)
    assert run.trained == []
    run(2, 4, 8)
    # The run was stopped at the end of the epoch after that.
    assert run.trained == epochs(6, 8)


def test_the_forecast_comes_early_and_after_each_budget(run, capsys):
    run(6, 10, 20)
    per_epoch = "epochs of 3 tiles at 3 tiles/s"
    assert forecasts(capsys.readouterr().out) == [
        f"    about 15 s of training left on this machine: 16 {per_epoch}",
        f"    about 15 s of training left on this machine: 14 {per_epoch}",
        f"    about 10 s of training left on this machine: 10 {per_epoch}",
    ]
    run(6, 10, 20)
    assert forecasts(capsys.readouterr().out) == []


def test_the_forecast_counts_all_ladders_but_not_what_is_cached(run, capsys):
    run(2, 4, seeds=2)
    capsys.readouterr()
    run.stop_at = (0, 8)
    with pytest.raises(StoppedError):
        run(2, 4, 14, seeds=2)
    assert run.trained == epochs(4, 8)
    (line,) = forecasts(capsys.readouterr().out)
    assert line.startswith("    about 15 s of training left on this machine: 16 epochs of 3 tiles")


def test_the_baseline_is_left_out_until_it_is_timed(run, capsys):
    run.stop_at = (0, 4)
    with pytest.raises(StoppedError):
        run(9, baseline=(1, 7))
    (line,) = forecasts(capsys.readouterr().out)
    assert line.endswith(" at 3 tiles/s; in addition the baseline's 7 epochs, not timed yet")


def test_without_a_plan_there_is_no_forecast():
    forecast = plan.forecast(TINY.name, 0, 100)
    tiles = Tiles([np.zeros((64, 64, 3), np.uint8)] * 4, stride=8)
    for epoch in range(9):
        at = {
            "epoch": epoch,
            "seconds": 100.0 * epoch,
            "position": Position(),
            "micro_batch_size": 4,
        }
        ladder = SimpleNamespace(**at, tiles=tiles)
        assert forecast.during(ladder) == []
    assert forecast.at_end(ladder) == []
