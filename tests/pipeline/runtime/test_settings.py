import pytest
from pydantic import ValidationError

from pipeline.evaluation import Limits
from pipeline.runtime.run_config import RunConfig
from pipeline.runtime.search import Search, TunerConfig
from pipeline.runtime.settings import StageConfig

OTHERS = {"stride": 8, "latent_channels": 8, "checkpoints": "gs://bucket/checkpoints"}


def test_settings_are_taken_from_the_run_configuration_by_their_names():
    config = RunConfig(channels=1, batch_size=16, tile=256, memory_limit=2, seed=3)
    stage = StageConfig.of(config, **OTHERS, start=10, stop=100, fingerprint="0123")
    assert (stage.channels, stage.batch_size, stage.tile, stage.seed) == (1, 16, 256, 3)
    assert (stage.memory_limit_bytes, stage.preset) == (2 * 10**9, config.preset)
    assert Limits.of(RunConfig(min_gain=0.5)) == Limits(min_gain=0.5)
    with pytest.raises(TypeError, match="fingerprint"):
        StageConfig.of(config, **OTHERS, start=10, stop=100)


def test_settings_travel_as_json():
    search = Search.of(RunConfig(batch_size=16), trials=2, epochs=3, parameters=50_000)
    config = TunerConfig.of(RunConfig(), search, **OTHERS, fingerprint="0123")
    assert config.batch_size == 16
    assert TunerConfig.from_json(config.to_json()) == config
    with pytest.raises(ValidationError, match="trials"):
        TunerConfig.from_json(config.to_json().replace('"trials": 2', '"trials": "two"'))


def test_settings_that_a_function_gets_are_checked():
    values = {"min_gain": 1.0, "max_drop": 0.5}
    assert Limits.from_dict(values) == Limits(min_gain=1.0, max_drop=0.5)
    with pytest.raises(ValidationError, match=r"max_drop\n.*valid number"):
        Limits.from_dict({**values, "max_drop": "much"})
    with pytest.raises(ValidationError, match=r"max_dorp\n"):
        Limits.from_dict({**values, "max_dorp": 0.5})
