import pytest
from pydantic import ValidationError

from pipeline.evaluation import Limits
from pipeline.runtime.run_config import RunConfig
from pipeline.runtime.search import TunerConfig
from pipeline.runtime.settings import StageConfig

OTHERS = {"stride": 8, "latent_channels": 8, "checkpoints": "gs://bucket/kept"}


def test_settings_are_taken_from_the_run_configuration_by_their_names():
    config = RunConfig(channels=1, batch_size=16, tile=256, memory_limit=2, seed=3)
    stage = StageConfig.of(config, **OTHERS, start=10, stop=100, fingerprint="0123")
    assert (stage.channels, stage.batch_size, stage.tile, stage.seed) == (1, 16, 256, 3)
    assert (stage.memory_limit_bytes, stage.preset) == (2 * 10**9, config.preset)
    assert Limits.of(RunConfig(min_gain=0.5)) == Limits(min_gain=0.5)
    with pytest.raises(TypeError, match="fingerprint"):
        StageConfig.of(config, **OTHERS, start=10, stop=100)


def test_settings_travel_as_json():
    search = {"trials": 2, "epochs": 3, "parameters": 50_000}
    config = TunerConfig.of(RunConfig(), **OTHERS, **search, fingerprint="0123")
    assert TunerConfig.from_json(config.to_json()) == config
    with pytest.raises(ValidationError, match="trials"):
        TunerConfig.from_json(config.to_json().replace('"trials": 2', '"trials": "two"'))
