"""Trends over budgets: cost, the generalization gap, and an extrapolation to a longer ladder."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import (
    BudgetGap,
    CheapestBudget,
    Cost,
    Estimate,
    Extrapolation,
    Gap,
    GapGrowth,
    Pays,
    StepCost,
    StepPrediction,
)
from keras_ae.comparison.split import Split, Terms, over_floor, psnr_gain
from keras_ae.contract import TRAIN, VAL
from keras_ae.scores import MODEL

TOLERANCES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""dB below the best for which the cheapest budget is listed."""
_EXPONENTS = np.concatenate([[1e-3], np.linspace(0.05, 2.0, 40)])
_FITTED_BUDGETS = 4


def training_cost(split: Split, seconds: Sequence[float]) -> Cost:
    """The gain in PSNR of val images per doubling of the epochs and per second of training, where
    `seconds` are those of training from the initial state to each budget."""
    seconds_of = dict(zip(split.layout.budgets, seconds))
    undefined = Estimate(mean=None, interval=None)
    steps, within = [], []
    for before, after in zip(split.layout.budgets, split.layout.budgets[1:]):
        doublings, time = math.log2(after / before), seconds_of[after] - seconds_of[before]
        change = split.estimate(psnr_gain(after, before))
        steps.append(
            StepCost(
                from_=before,
                to=after,
                seconds=time,
                doublings=doublings,
                gain=change,
                per_doubling=change.scaled(1 / doublings),
                per_second=change.scaled(1 / time) if time > 0 else undefined,
            )
        )
    for tolerance in TOLERANCES:
        epochs = split.cheapest_budget(tolerance)
        within.append(
            CheapestBudget(tolerance=tolerance, epochs=epochs, seconds=seconds_of[epochs])
        )
    return Cost(steps=tuple(steps), within=tuple(within))


def generalization_gap(splits: Mapping[str, Split], tolerance: float) -> Gap:
    """The gain over the floor on train minus that on val, by budget.

    Gains over the floor are compared because one split may have harder images than the other. The
    images of the splits are independent samples, so the interval is that of two independent means.
    A gap that grows by more than `tolerance` dB counts as overfitting.
    """
    train, val = splits[TRAIN], splits[VAL]
    budgets = val.layout.budgets
    gaps = {b: _train_minus_val(train, val, over_floor(MODEL, b)) for b in budgets}
    rows = tuple(BudgetGap(epochs=budget, gap=gap) for budget, gap in gaps.items())
    if len(budgets) == 1:
        text = "With one budget, the growth of the generalization gap is unknown"
        return Gap(budgets=rows, growth=None, overfitting=False, text=text)
    first, last = budgets[0], budgets[-1]
    growth = _train_minus_val(train, val, psnr_gain(last, first))
    overfitting = growth.value > tolerance and (not growth.interval or growth.interval[0] > 0)
    return Gap(
        budgets=rows,
        growth=GapGrowth(from_=first, to=last, mean=growth.mean, interval=growth.interval),
        overfitting=overfitting,
        text=_gap_text(growth, first, last, overfitting),
    )


def _train_minus_val(train: Split, val: Split, terms: Terms) -> Estimate:
    """The mean of a combination on train minus that on val."""
    means = [split.estimate(terms).value for split in (train, val)]
    replicates = [r for r in (split.replicates(terms) for split in (train, val)) if r is not None]
    interval = None
    if len(replicates) == 2:
        # The number of resamples depends on the size of the split.
        count = min(map(len, replicates))
        interval = statistics.percentile_interval(replicates[0][:count] - replicates[1][:count])
    return Estimate(mean=means[0] - means[1], interval=interval)


def _gap_text(growth: Estimate, first: int, last: int, overfitting: bool) -> str:
    gap, steps = "The generalization gap (train minus val)", f"from {first:,} to {last:,} epochs"
    if not overfitting:
        return f"{gap} changes by {growth.format('+')} {steps}"
    caveat = "" if growth.interval else ", although there are too few images to be certain"
    return (
        f"{gap} grows by {growth.format()} {steps}: overfitting{caveat}. "
        "More training images would help"
    )


def extrapolate(split: Split, tolerance: float) -> Extrapolation:
    """Extrapolates mean val PSNR to a ladder of twice the length.

    The curve a - k * epochs^-p is fitted by least squares to the means of the last four budgets,
    and again in each resample of the images. As a check, the last step is predicted from the
    budgets before it. The interval is widened by the error of this prediction, because resampling
    images does not cover the error of a curve that changes its shape. A longer ladder is worth
    training if it gains more than `tolerance` dB.
    """
    budgets = split.layout.budgets
    last = budgets[-1]
    if len(budgets) < 3:
        return Extrapolation(
            from_=last,
            to=2 * last,
            gain=None,
            interval=None,
            pays=None,
            check=None,
            text=f"An extrapolation beyond {last:,} epochs needs at least three budgets",
        )
    psnr = [{(MODEL, "psnr", budget): 1.0} for budget in budgets]
    means = np.array([split.estimate(terms).value for terms in psnr])
    gain = float(predict_gain(budgets, means[None], 2 * last)[0])
    check, interval = None, None
    if len(budgets) > 3:
        predicted = float(predict_gain(budgets[:-1], means[None, :-1], last)[0])
        actual = float(means[-1] - means[-2])
        check = StepPrediction(from_=budgets[-2], to=last, foretold=predicted, actual=actual)
    replicates = [r for r in map(split.replicates, psnr) if r is not None]
    if replicates and check:
        gains = predict_gain(budgets, np.stack(replicates, 1), 2 * last)
        low, high = statistics.percentile_interval(gains)
        error = abs(check.foretold - check.actual)
        interval = (low - error, high + error)
    # A curve that is past its best has to regain that loss first.
    pays = _pays(interval, tolerance + float(means.max() - means[-1]))
    return Extrapolation(
        from_=last,
        to=2 * last,
        gain=gain,
        interval=interval,
        pays=pays,
        check=check,
        text=_extrapolation_text(2 * last, gain, interval, pays, check),
    )


def predict_gain(epochs: Sequence[int], means: np.ndarray, target: int) -> np.ndarray:
    """Fits curves a - k * epochs^-p and predicts the gain from the last budget to a larger one.

    Args:
        epochs: T budgets; the last four are used.
        means: float [R, T], R curves.
        target: epochs of the larger budget.

    Returns:
        float64 [R], with the p that fits each curve best; p near 0 is a straight line over the
        logarithm of the epochs.
    """
    epochs, means = epochs[-_FITTED_BUDGETS:], means[:, -_FITTED_BUDGETS:]
    centred = means - means.mean(1, keepdims=True)
    best, gains = np.full(len(means), np.inf), np.zeros(len(means))
    for exponent in _EXPONENTS:
        # Epochs are divided by the last budget so that no power underflows.
        x = (np.asarray(epochs, np.float64) / epochs[-1]) ** -exponent
        deviations = x - x.mean()
        slope = centred @ deviations / (deviations @ deviations)
        error = np.square(centred - slope[:, None] * deviations).sum(1)
        gain = slope * ((target / epochs[-1]) ** -exponent - 1.0)
        better = error < best
        best, gains = np.where(better, error, best), np.where(better, gain, gains)
    return gains


def _pays(interval: Sequence[float] | None, tolerance: float) -> Pays:
    if interval is None:
        return "unclear"
    if interval[0] > tolerance:
        return "yes"
    return "no" if interval[1] < tolerance else "unclear"


def _extrapolation_text(
    target: int,
    gain: float,
    interval: Sequence[float] | None,
    pays: Pays,
    check: StepPrediction | None,
) -> str:
    conclusion = {
        "yes": "A longer ladder is worth training",
        "no": "A longer ladder is not worth training",
        "unclear": "It is unclear whether a longer ladder is worth training",
    }
    ends = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    text = (
        f"Extrapolated, not measured: {target:,} epochs would change val PSNR by "
        f"{gain:+.2f} dB ({ends}) if the curve keeps its shape. {conclusion[pays]}"
    )
    if check is None:
        return text
    return (
        f"{text}. As a check, the step from {check.from_:,} to {check.to:,} epochs was predicted "
        f"from the budgets before it: {check.foretold:+.2f} dB; measured: {check.actual:+.2f} dB"
    )
