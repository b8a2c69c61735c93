"""What comes with more epochs: cost, the gap to training, and what a longer ladder might gain."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.records import (
    BudgetGap,
    Cost,
    Estimate,
    Extrapolation,
    ForetoldStep,
    Gap,
    Growth,
    Pays,
    StepCost,
    Within,
)
from keras_ae.comparison.split import Split, Terms
from keras_ae.contract import TRAIN, VAL
from keras_ae.scores import MODEL

WITHIN = (0.05, 0.1, 0.25, 0.5, 1.0)
"""dB from the best for which the cheapest budget is named."""
_EXPONENTS = np.concatenate([[1e-3], np.linspace(0.05, 2.0, 40)])
_TAIL = 4


def cost(split: Split, seconds: Sequence[float]) -> Cost:
    """Gains of val PSNR for each doubling of the epochs and for each second of training.

    Args:
        split: the val images.
        seconds: of training from the initial state to each budget.
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
    return Cost(steps=tuple(steps), within=_within(split, seconds))


def _within(split: Split, seconds: Sequence[float]) -> tuple[Within, ...]:
    psnr = [split.mean((MODEL, "psnr", budget)) or 0.0 for budget in split.layout.budgets]
    rows = []
    for tolerance in WITHIN:
        at = next(i for i, value in enumerate(psnr) if value >= max(psnr) - tolerance - 1e-9)
        epochs = split.layout.budgets[at]
        rows.append(Within(tolerance=tolerance, epochs=epochs, seconds=seconds[at]))
    return tuple(rows)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    if not math.isfinite(factor):
        return Estimate(mean=None, interval=None)
    ends = estimate.interval
    return Estimate(
        mean=estimate.value * factor,
        interval=None if ends is None else (ends[0] * factor, ends[1] * factor),
    )


def gap(splits: Mapping[str, Split], tolerance: float) -> Gap:
    """How much more training images gain over the floor than val images do, by budget.

    The floor takes out that some images are harder than others. The images of the two splits are
    drawn apart, so the interval is that of two independent means.

    Args:
        splits: with train and val.
        tolerance: dB; a growth of no more is not named.
    """
    train, val = splits[TRAIN], splits[VAL]
    budgets = val.layout.budgets
    rows = tuple(BudgetGap(epochs=b, gap=_apart(train, val, _gain(b))) for b in budgets)
    if len(budgets) == 1:
        text = "One budget: how the gap grows is not known."
        return Gap(budgets=rows, growth=None, overfitting=False, text=text)
    first, last = budgets[0], budgets[-1]
    terms = {(MODEL, "psnr", last): 1.0, (MODEL, "psnr", first): -1.0}
    growth = _apart(train, val, terms)
    named = growth.value > tolerance and (not growth.interval or growth.interval[0] > 0)
    return Gap(
        budgets=rows,
        growth=Growth(from_=first, to=last, mean=growth.mean, interval=growth.interval),
        overfitting=named,
        text=_gap_text(growth, first, last, named),
    )


def _gain(budget: int) -> Terms:
    return {(MODEL, "psnr", budget): 1.0, ("patch_pca", "psnr", 0): -1.0}


def _apart(train: Split, val: Split, terms: Terms) -> Estimate:
    """A combination on train minus the same on val."""
    means = [split.estimate(terms).value for split in (train, val)]
    replicates = [split.replicates(terms) for split in (train, val)]
    interval = None
    if replicates[0] is not None and replicates[1] is not None:
        # Of splits of other sizes there are not as many resamples.
        count = min(map(len, (r for r in replicates if r is not None)))
        interval = statistics.percentile(replicates[0][:count] - replicates[1][:count])
    return Estimate(mean=means[0] - means[1], interval=interval)


def _gap_text(growth: Estimate, first: int, last: int, named: bool) -> str:
    ends = growth.interval
    shown = f" ({ends[0]:+.2f} to {ends[1]:+.2f})" if ends else ""
    grown = f"{growth.mean:+.2f} dB{shown} from {first:,} to {last:,} epochs"
    if named:
        sure = "overfitting" if ends else "overfitting, as far as so few images can tell"
        return (
            f"The gap to training grows by {grown}: {sure}. What more epochs add is learned from "
            "the training images more than it holds for others; more images help"
        )
    return f"The gap to training changes by {grown}"


def extrapolate(split: Split, tolerance: float) -> Extrapolation:
    """What a ladder of twice the length would add to mean val PSNR, if the curve goes on.

    The curve a - k * epochs^-p is fitted by least squares to the means of the last four budgets,
    and again in each resample of the images. As a check the last step is foretold from the budgets
    before it, and the interval is widened by what that was off: resamples know nothing of a curve
    that does not keep its shape.

    Args:
        split: the val images.
        tolerance: dB that a longer ladder has to add to pay.
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
            text=f"Whether more than {last:,} epochs would pay needs three budgets to say",
        )
    psnr = [{(MODEL, "psnr", budget): 1.0} for budget in budgets]
    means = np.array([split.estimate(terms).value for terms in psnr])
    gain = float(foretell(budgets, means[None], 2 * last)[0])
    check, interval = None, None
    if len(budgets) > 3:
        before = float(foretell(budgets[:-1], means[None, :-1], last)[0])
        actual = float(means[-1] - means[-2])
        check = ForetoldStep(from_=budgets[-2], to=last, foretold=before, actual=actual)
    replicates = [r for r in map(split.replicates, psnr) if r is not None]
    if replicates and check:
        gains = foretell(budgets, np.stack(replicates, 1), 2 * last)
        low, high = statistics.percentile(gains)
        off = abs(check.foretold - check.actual)
        interval = (low - off, high + off)
    # A ladder that has passed its best has to come back there first.
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


def foretell(epochs: Sequence[int], means: np.ndarray, target: int) -> np.ndarray:
    """The gain from the last budget to a larger one on the curve a - k * epochs^-p.

    Args:
        epochs: T budgets; the last four are used.
        means: float [R, T], R curves.
        target: epochs.

    Returns:
        float64 [R]: with the p that fits each curve best; p near 0 is a straight line over the
        logarithm of the epochs.
    """
    epochs, means = epochs[-_TAIL:], means[:, -_TAIL:]
    centred = means - means.mean(1, keepdims=True)
    best = np.full(len(means), np.inf)
    gains = np.zeros(len(means))
    for exponent in _EXPONENTS:
        # Divided by the last one: no power underflows.
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
    check: ForetoldStep | None,
) -> str:
    verdict = {
        "yes": "a longer ladder would pay",
        "no": "a longer ladder would not pay",
        "unclear": "whether a longer ladder would pay is not clear",
    }
    ends = f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "no interval"
    text = (
        f"Extrapolated, not measured: {target:,} epochs would change val PSNR by "
        f"{gain:+.2f} dB ({ends}), if the curve goes on as it did: {verdict[pays]}"
    )
    if check is None:
        return text
    return (
        f"{text}. The same from the budgets before foretold {check.foretold:+.2f} dB from "
        f"{check.from_:,} to {check.to:,} epochs; it was {check.actual:+.2f}"
    )
