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
from keras_ae.comparison.split import Split, Terms
from keras_ae.contract import TRAIN, VAL
from keras_ae.scores import MODEL

TOLERANCES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""dB below the best for which the cheapest budget is listed."""
_EXPONENTS = np.concatenate([[1e-3], np.linspace(0.05, 2.0, 40)])
_FITTED_BUDGETS = 4


def training_cost(split: Split, seconds: Sequence[float]) -> Cost:
    """The gain in val PSNR per doubling of the epochs and per second of training.

    Args:
        split: the val images.
        seconds: seconds of training from the initial state to each budget.
    """
    budgets = split.layout.budgets
    steps = []
    for i, (before, after) in enumerate(zip(budgets, budgets[1:])):
        doublings, time = math.log2(after / before), seconds[i + 1] - seconds[i]
        terms = {(MODEL, "psnr", after): 1.0, (MODEL, "psnr", before): -1.0}
        gain = split.estimate(terms)
        steps.append(
            StepCost(
                from_=before,
                to=after,
                seconds=time,
                doublings=doublings,
                gain=gain,
                per_doubling=_scaled(gain, 1 / doublings),
                per_second=_scaled(gain, 1 / time if time > 0 else math.nan),
            )
        )
    return Cost(steps=tuple(steps), within=_cheapest_budgets(split, seconds))


def _cheapest_budgets(split: Split, seconds: Sequence[float]) -> tuple[CheapestBudget, ...]:
    psnr = [split.mean((MODEL, "psnr", budget)) or 0.0 for budget in split.layout.budgets]
    rows = []
    for tolerance in TOLERANCES:
        index = next(i for i, value in enumerate(psnr) if value >= max(psnr) - tolerance - 1e-9)
        epochs = split.layout.budgets[index]
        rows.append(CheapestBudget(tolerance=tolerance, epochs=epochs, seconds=seconds[index]))
    return tuple(rows)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    if not math.isfinite(factor):
        return Estimate(mean=None, interval=None)
    ends = estimate.interval
    return Estimate(
        mean=estimate.value * factor,
        interval=None if ends is None else (ends[0] * factor, ends[1] * factor),
    )


def generalization_gap(splits: Mapping[str, Split], tolerance: float) -> Gap:
    """The gain over the floor on train minus that on val, by budget.

    Gains over the floor are compared because one split may have harder images than the other. The
    images of the splits are independent samples, so the interval is that of two independent means.

    Args:
        splits: images by split, with train and val.
        tolerance: dB by which the gap has to grow to count as overfitting.
    """
    train, val = splits[TRAIN], splits[VAL]
    budgets = val.layout.budgets
    rows = tuple(BudgetGap(epochs=b, gap=_train_minus_val(train, val, _gain(b))) for b in budgets)
    if len(budgets) == 1:
        text = "With one budget, the growth of the generalization gap is unknown"
        return Gap(budgets=rows, growth=None, overfitting=False, text=text)
    first, last = budgets[0], budgets[-1]
    terms = {(MODEL, "psnr", last): 1.0, (MODEL, "psnr", first): -1.0}
    growth = _train_minus_val(train, val, terms)
    overfitting = growth.value > tolerance and (not growth.interval or growth.interval[0] > 0)
    return Gap(
        budgets=rows,
        growth=GapGrowth(from_=first, to=last, mean=growth.mean, interval=growth.interval),
        overfitting=overfitting,
        text=_gap_text(growth, first, last, overfitting),
    )


def _gain(budget: int) -> Terms:
    return {(MODEL, "psnr", budget): 1.0, ("patch_pca", "psnr", 0): -1.0}


def _train_minus_val(train: Split, val: Split, terms: Terms) -> Estimate:
    """The mean of a combination on train minus that on val."""
    means = [split.estimate(terms).value for split in (train, val)]
    replicates = [split.replicates(terms) for split in (train, val)]
    interval = None
    if replicates[0] is not None and replicates[1] is not None:
        # The number of resamples depends on the size of the split.
        count = min(map(len, (r for r in replicates if r is not None)))
        interval = statistics.percentile_interval(replicates[0][:count] - replicates[1][:count])
    return Estimate(mean=means[0] - means[1], interval=interval)


def _gap_text(growth: Estimate, first: int, last: int, overfitting: bool) -> str:
    ends, sign = growth.interval, "" if overfitting else "+"
    interval = f" ({ends[0]:{sign}.2f} to {ends[1]:{sign}.2f})" if ends else ""
    change = f"{growth.value:{sign}.2f} dB{interval} from {first:,} to {last:,} epochs"
    if not overfitting:
        return f"The generalization gap (train minus val) changes by {change}"
    caveat = "" if ends else ", although there are too few images to be certain"
    return (
        f"The generalization gap (train minus val) grows by {change}: overfitting{caveat}. "
        "More training images would help"
    )


def extrapolate(split: Split, tolerance: float) -> Extrapolation:
    """Extrapolates mean val PSNR to a ladder of twice the length.

    The curve a - k * epochs^-p is fitted by least squares to the means of the last four budgets,
    and again in each resample of the images. As a check, the last step is predicted from the
    budgets before it. The interval is widened by the error of this prediction, because resampling
    images does not cover the error of a curve that changes its shape.

    Args:
        split: the val images.
        tolerance: dB that a longer ladder has to gain to be worth training.
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
    best = np.full(len(means), np.inf)
    gains = np.zeros(len(means))
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
