import doctest

import pytest

from keras_ae.training import forecast
from keras_ae.training.forecast import SteadyRate, Work, duration, lines


def test_the_examples_are_true():
    assert doctest.testmod(forecast).failed == 0


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
def test_a_time_is_rounded_to_what_an_estimate_is_good_for(seconds, text):
    assert duration(seconds) == text


LADDER = [Work(10, 0), Work(100, 60), Work(500, 400), Work(1000, 500), Work(2000, 1000)]


def test_minutes_are_one_line_about_all_that_is_ahead():
    assert lines(LADDER, epochs_per_second=10, tiles=80) == [
        "about 3 min of training left on this machine: 1960 epochs of 80 tiles at 800 tiles/s"
    ]
    (twice,) = lines(LADDER * 2, epochs_per_second=10, tiles=80)
    assert twice.startswith("about 7 min of training left on this machine: 3920 epochs of 80")


@pytest.mark.parametrize(
    ("ahead", "line"),
    [
        ([Work(10, 0.5)], "about 5 s of training left on this machine: 1 epoch of 1 tile at 0.1"),
        ([Work(10, 1.2)], "about 10 s of training left on this machine: 2 epochs of 1 tile at 0.1"),
    ],
)
def test_an_epoch_that_has_begun_counts_as_one(ahead, line):
    assert lines(ahead, epochs_per_second=0.1, tiles=1) == [f"{line} tiles/s"]


@pytest.mark.parametrize("ahead", [[], [Work(10, 0)], [Work(10, 29)]])
def test_nothing_is_said_of_nothing_or_of_a_moment(ahead):
    assert lines(ahead, epochs_per_second=10, tiles=80) == []


def test_what_was_not_timed_is_left_out_by_name():
    (line,) = lines(LADDER, 10, 80, untimed="the baseline's 2000 epochs")
    assert line.endswith(" at 800 tiles/s; the baseline's 2000 epochs come on top, not timed yet")


def test_above_an_hour_a_second_line_says_which_budgets_fit_into_one():
    first, second = lines(LADDER, epochs_per_second=0.2, tiles=20_000)
    assert first == (
        "about 2.5 h of training left on this machine: 1960 epochs of 20000 tiles at 4,000 tiles/s"
    )
    assert second == (
        "an hour is enough for budgets 10, 100, 500: to have no more, stop the run (Ctrl-C) and "
        "start it again with --budgets 10,100,500; what is trained of them is kept"
    )
    (_, second) = lines(LADDER, 0.1, 20_000, untimed="the baseline's 2000 epochs")
    assert second.startswith(
        "an hour is enough for budgets 10, 100 (what is not timed yet left out): to"
    )
    (_, second) = lines(LADDER, 0.001, 20_000)
    assert "enough for budget 10: to have no more" in second
    assert "--budgets 10;" in second


def test_every_ladder_must_fit_into_the_hour():
    (_, second) = lines(LADDER * 3, epochs_per_second=0.2, tiles=80)
    assert "enough for budgets 10, 100: " in second


def test_where_no_budget_fits_into_an_hour_it_says_what_does():
    ahead = [Work(100, 100), Work(200, 100)]
    (_, second) = lines(ahead, epochs_per_second=0.01, tiles=10**6)
    assert second == (
        "none of the budgets fits into an hour, in which about 36 epochs can be trained"
    )
    (_, second) = lines(ahead, epochs_per_second=1 / 7200, tiles=10**6)
    assert second == "none of the budgets fits into an hour, an epoch takes about 2 h"


def measured(*updates) -> SteadyRate:
    rate = SteadyRate()
    for epochs, seconds, micro_batch_size in updates:
        rate.update(epochs, seconds, micro_batch_size)
    return rate


def test_the_epoch_in_which_steps_are_compiled_does_not_count():
    cold = [(0.3, 20, 32), (0.6, 40, 32), (1, 40.1, 32)]
    assert measured().epochs_per_second == 0
    assert measured(*cold).epochs_per_second == 0
    warm = [*cold, (2, 40.5, 32), (4, 41.5, 32)]
    assert measured(*warm).epochs_per_second == 2
    assert not measured(*warm).settled
    assert measured(*warm, (6, 42.5, 32)).settled


def test_a_long_first_epoch_is_timed_from_its_first_call_on():
    long = measured((0.01, 20, 32), (0.02, 50, 32))
    assert (long.settled, long.epochs_per_second) == (False, 0)
    long.update(0.04, 80, 32)
    assert long.settled
    assert long.epochs_per_second == pytest.approx(0.03 / 60)


def test_smaller_parts_are_compiled_and_timed_anew():
    rate = measured((1, 20, 32), (2, 21, 32), (10, 29, 32))
    assert rate.epochs_per_second == 1
    rate.update(11, 50, 16)
    assert rate.epochs_per_second == 0
    rate.update(12, 52, 16)
    rate.update(14, 56, 16)
    assert rate.epochs_per_second == 0.5
