import numpy as np
import pytest
from scipy import stats

from keras_ae.comparison import statistics
from keras_ae.comparison.statistics import Bootstrap, variance_components


@pytest.mark.parametrize(("images", "skew"), [(8, 0.5), (40, 1.0), (400, 0.8)])
def test_the_interval_is_that_of_scipy(images, skew):
    values = np.random.default_rng(images).lognormal(0, skew, images)
    low, high = Bootstrap(values[:, None]).interval([1.0])
    reference = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1)
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert low == pytest.approx(reference.confidence_interval.low, abs=0.04 * width)
    assert high == pytest.approx(reference.confidence_interval.high, abs=0.04 * width)


def test_a_combination_of_columns_is_that_of_the_differences():
    rng = np.random.default_rng(0)
    values = rng.normal(30, 3, (50, 1)) + rng.normal(0, 0.1, (50, 2))
    both = Bootstrap(values).interval([1.0, -1.0])
    alone = Bootstrap(values[:, :1] - values[:, 1:]).interval([1.0])
    assert both == pytest.approx(alone, abs=1e-4)


def test_nan_is_ignored():
    values = np.random.default_rng(0).normal(0, 1, (30, 1))
    gaps = np.concatenate([values, np.full((20, 1), np.nan)])
    assert Bootstrap(gaps).means == pytest.approx(values.mean())
    low, high = Bootstrap(gaps).interval([1.0])
    reference = Bootstrap(values).interval([1.0])
    assert (low, high) == pytest.approx(reference, abs=0.05)


def test_eight_images_give_an_interval_and_a_test_and_seven_do_not():
    values = np.random.default_rng(0).normal(1, 1, 8)
    assert Bootstrap(values[:, None]).interval([1.0]) is not None
    assert statistics.wilcoxon_p_value(values) is not None
    values[3] = np.nan
    assert Bootstrap(values[:, None]).interval([1.0]) is None
    assert statistics.wilcoxon_p_value(values) is None
    assert statistics.decrease_p_value(values - 9) == 1.0


def test_equal_values_have_an_interval_of_zero_width():
    assert Bootstrap(np.full((9, 1), 100.0)).interval([1.0]) == (100.0, 100.0)
    assert statistics.wilcoxon_p_value(np.zeros(9)) == 1.0
    assert statistics.decrease_p_value(np.zeros(9)) == 1.0
    assert statistics.decrease_p_value(np.full(9, -0.1)) == 0.0


def test_the_same_images_give_the_same_interval():
    values = np.random.default_rng(0).normal(0, 1, (100, 1))
    assert Bootstrap(values).interval([1.0]) == Bootstrap(values.copy()).interval([1.0])


def test_a_wider_level_gives_a_wider_interval():
    bootstrap = Bootstrap(np.random.default_rng(0).normal(0, 1, (100, 1)))
    low, high = bootstrap.interval([1.0], 0.99)
    inner = bootstrap.interval([1.0], 0.9)
    assert low < inner[0] < inner[1] < high


def test_p_values_are_adjusted_as_by_holm():
    assert statistics.holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm_adjusted([]) == []


def test_variance_components_recover_known_deviations():
    rng = np.random.default_rng(0)
    scores = (
        rng.normal(0, 2, (500, 1)) + rng.normal(0, 0.5, (1, 40)) + rng.normal(0, 0.1, (500, 40))
    )
    parts = variance_components(scores)
    assert parts.image_sd == pytest.approx(2, rel=0.1)
    assert parts.seed_sd == pytest.approx(0.5, rel=0.3)
    assert parts.rest_sd == pytest.approx(0.1, rel=0.05)


def test_components_need_two_seeds_and_two_images_and_an_interval_eight():
    for shape in ((9, 1), (1, 3)):
        alone = variance_components(np.zeros(shape)).model_dump()
        assert alone == {**dict.fromkeys(alone), "mean": 0.0}
    few = variance_components(np.random.default_rng(0).normal(0, 1, (7, 3)))
    assert few.interval is None
    assert few.image_sd >= 0
    same = variance_components(np.full((9, 3), 30.0))
    assert same.interval == (30.0, 30.0)
