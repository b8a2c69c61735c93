import dataclasses

import keras_tuner
import pytest

from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.presets import Preset
from keras_ae.tuning import search_space
from keras_ae.tuning.search_space import Point, SearchSpace

TINY = Preset("tiny", "linear-residual", (20,), (1, 2), learning_rate=2e-3, clipnorm=1.0)


def hyperparameters_of(space: SearchSpace) -> keras_tuner.HyperParameters:
    hyperparameters = keras_tuner.HyperParameters()
    space.define(hyperparameters)
    return hyperparameters


def random_points(space: SearchSpace, count: int, seed: int = 0) -> list[dict]:
    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("val_psnr", "max"),
        count,
        seed=seed,
        hyperparameters=hyperparameters_of(space),
    )
    return [oracle.populate_space(str(i))["values"] for i in range(count)]


@pytest.mark.parametrize(
    ("preset", "channels", "stride", "latent_channels"),
    [
        (TINY, 3, 8, 8),
        (dataclasses.replace(TINY, blocks=(0, 0)), 1, 4, 2),
        (dataclasses.replace(TINY, blocks=(3, 0), widths=(7,)), 3, 16, 24),
        (presets.get(presets.DEFAULT), 3, 8, 8),
    ],
)
def test_parameters_are_counted_as_keras_counts_them(preset, channels, stride, latent_channels):
    model = ConvAutoencoder(preset, channels, stride, latent_channels)
    counted = search_space.count_parameters(preset, channels, stride, latent_channels)
    assert counted == model.count_params()


@pytest.mark.parametrize("parameters", [0, 20_000, 150_000])
@pytest.mark.parametrize("preset", [TINY, presets.get(presets.DEFAULT)])
def test_each_point_is_within_the_budget(preset, parameters):
    space = SearchSpace(preset, 32, parameters)
    points = random_points(space, 200)
    variants = [search_space.apply_values(preset, values) for values in points]
    counts = [space.parameters_of(variant) for variant, _ in variants]
    assert max(counts) <= space.parameters == (parameters or space.parameters_of(preset))
    # Some use most of the budget.
    assert max(counts) > 0.7 * space.parameters
    assert len({sum(variant.blocks) for variant, _ in variants}) > 2
    assert {batch_size for _, batch_size in variants} == {16, 32, 64}
    for tuned, _ in variants:
        assert preset.learning_rate / 4 <= tuned.learning_rate <= preset.learning_rate * 4
        assert tuned.clipnorm == preset.clipnorm
        assert tuned.name == f"{preset.name} tuned"


def test_the_defaults_are_the_values_of_the_preset():
    space = SearchSpace(TINY, batch_size=5)
    assert search_space.point_of(space, hyperparameters_of(space).values) == Point(
        width=20,
        blocks=(1, 2),
        learning_rate=2e-3,
        batch_size=5,
        parameters=space.parameters,
        untuned=True,
    )


def test_the_largest_width_is_the_largest_that_fits():
    space = SearchSpace(TINY, parameters=50_000)
    for depth, widths in space.widths.items():
        blocks = (depth // 3, depth - depth // 3)
        wider = dataclasses.replace(TINY, blocks=blocks, widths=(widths[-1] + 8,))
        assert space.parameters_of(wider) > 50_000


def test_a_depth_without_a_model_within_the_budget_is_left_out():
    space = SearchSpace(presets.get(presets.DEFAULT), parameters=8_000)
    assert space.widths == {2: [8]}
    assert not search_space.point_of(space, hyperparameters_of(space).values).untuned


def test_a_preset_that_cannot_be_tuned_is_refused():
    with pytest.raises(ConfigurationError, match=r"residual blocks, such as .*; got baseline"):
        SearchSpace(presets.get("baseline"))
    with pytest.raises(ConfigurationError, match=r"at least [\d,]+ parameters, .* got 1,000"):
        SearchSpace(TINY, parameters=1000)
