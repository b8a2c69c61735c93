import pytest

from keras_ae.training.forecast import (
    RemainingStage,
    SteadyRate,
    format_duration,
    format_forecast,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (9.4, "9 s"),
        (42, "40 s"),
        (57.4, "55 s"),
        (59, "1 min"),
        (89, "1 min"),
        (35 * 60, "35 min"),
        (59.8 * 60, "1 h"),
        (1.5 * 3600, "1.5 h"),
        (2.9 * 3600, "3 h"),
        (23.4 * 3600, "23 h"),
        (23.9 * 3600, "1 day"),
        (36 * 3600, "1.5 days"),
        (400 * 24 * 3600, "400 days"),
    ],
)
def test_a_duration_is_rounded_to_the_precision_of_an_estimate(seconds, text):
    assert format_duration(seconds) == text


LADDER = [
    RemainingStage(budget, epochs)
    for budget, epochs in ((10, 0), (100, 60), (500, 400), (1000, 500), (2000, 1000))
]


def test_a_forecast_of_minutes_is_one_line_for_all_ladders():
    assert format_forecast(LADDER, epochs_per_second=10, tiles=80) == [
        "about 3 min of training left on this machine: 1960 epochs of 80 tiles at 800 tiles/s"
    ]
    (twice,) = format_forecast(LADDER * 2, epochs_per_second=10, tiles=80)
    assert twice.startswith("about 7 min of training left on this machine: 3920 epochs of 80")


@pytest.mark.parametrize(
    ("stages", "line"),
    [
        (
            [RemainingStage(10, 0.5)],
            "about 5 s of training left on this machine: 1 epoch of 1 tile at 0.1",
        ),
        (
            [RemainingStage(10, 1.2)],
            "about 10 s of training left on this machine: 2 epochs of 1 tile at 0.1",
        ),
    ],
)
def test_a_started_epoch_counts_as_one(stages, line):
    assert format_forecast(stages, epochs_per_second=0.1, tiles=1) == [f"{line} tiles/s"]


@pytest.mark.parametrize("stages", [[], [RemainingStage(10, 0)], [RemainingStage(10, 29)]])
def test_a_few_seconds_are_not_forecast(stages):
    assert format_forecast(stages, epochs_per_second=10, tiles=80) == []


def test_untimed_training_is_named():
    (line,) = format_forecast(LADDER, 10, 80, untimed="the baseline's 2000 epochs")
    assert line.endswith(" at 800 tiles/s; in addition the baseline's 2000 epochs, not timed yet")


def test_above_an_hour_a_second_line_names_the_budgets_that_fit_into_one():
    first, second = format_forecast(LADDER, epochs_per_second=0.2, tiles=20_000)
    assert first == (
        "about 2.5 h of training left on this machine: 1960 epochs of 20000 tiles at 4,000 tiles/s"
    )
    assert second == (
        "an hour is enough for budgets 10, 100, 500; to train only these, stop the run (Ctrl-C) "
        "and start it again with --budgets 10,100,500 (epochs that are already trained are kept)"
    )
    (_, second) = format_forecast(LADDER, 0.1, 20_000, untimed="the baseline's 2000 epochs")
    assert second.startswith(
        "an hour is enough for budgets 10, 100 (without the baseline's 2000 epochs); to train"
    )
    (_, second) = format_forecast(LADDER, 0.001, 20_000)
    assert "enough for budget 10; to train only" in second
    assert "--budgets 10 (epochs" in second


def test_all_ladders_together_must_fit_into_the_hour():
    (_, second) = format_forecast(LADDER * 3, epochs_per_second=0.2, tiles=80)
    assert "enough for budgets 10, 100; " in second


def test_if_no_budget_fits_into_an_hour_the_epochs_that_do_are_named():
    stages = [RemainingStage(100, 100), RemainingStage(200, 100)]
    (_, second) = format_forecast(stages, epochs_per_second=0.01, tiles=10**6)
    assert second == ("none of the budgets fits into an hour, which is enough for about 36 epochs")
    (_, second) = format_forecast(stages, epochs_per_second=1 / 7200, tiles=10**6)
    assert second == "none of the budgets fits into an hour; an epoch takes about 2 h"


def measure(*updates) -> SteadyRate:
    rate = SteadyRate()
    for epochs, seconds, micro_batch_size in updates:
        rate.update(epochs, seconds, micro_batch_size)
    return rate


def test_the_epoch_in_which_steps_are_compiled_is_not_measured():
    cold = [(0.3, 20, 32), (0.6, 40, 32), (1, 40.1, 32)]
    assert measure().epochs_per_second == 0
    assert measure(*cold).epochs_per_second == 0
    warm = [*cold, (2, 40.5, 32), (4, 41.5, 32)]
    assert measure(*warm).epochs_per_second == 2
    assert not measure(*warm).is_reliable
    assert measure(*warm, (6, 42.5, 32)).is_reliable


def test_a_long_first_epoch_is_measured_from_its_first_call():
    long = measure((0.01, 20, 32), (0.02, 50, 32))
    assert (long.is_reliable, long.epochs_per_second) == (False, 0)
    long.update(0.04, 80, 32)
    assert long.is_reliable
    assert long.epochs_per_second == pytest.approx(0.03 / 60)


def test_after_another_micro_batch_size_the_measurement_starts_again():
    rate = measure((1, 20, 32), (2, 21, 32), (10, 29, 32))
    assert rate.epochs_per_second == 1
    rate.update(11, 50, 16)
    assert rate.epochs_per_second == 0
    rate.update(12, 52, 16)
    rate.update(14, 56, 16)
    assert rate.epochs_per_second == 0.5
