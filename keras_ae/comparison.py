"""Which budget is worth it: quality per budget and split, paired differences, and the choice."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.errors import DataError

MIN_SOURCES = 8
METRICS = ("mse", "psnr", "ssim", "ms_ssim")
_WORST_IS_HIGH = ("mse",)


class Score(NamedTuple):
    """Quality of one image at one budget; NaN where a metric is not defined."""

    source: str
    split: str
    budget: int
    mse: float
    psnr: float
    ssim: float
    ms_ssim: float
    floor_psnr: float
    global_floor_psnr: float = math.nan


def compare(
    scores: Sequence[Score],
    stages: Sequence[dict[str, Any]],
    tolerance: float = 0.1,
    no_global_floor: str | None = None,
) -> dict[str, Any]:
    """Sums up the scores of all budgets and chooses one.

    The unit of every statistic is the source image. The choice is made on val alone: the smallest
    budget whose mean PSNR is within `tolerance` of the best. It is reported on test.

    Args:
        scores: of each image at each budget.
        stages: of each budget, in order: `stop` (epochs) and `seconds` (of its training).
        tolerance: dB, at least 0.
        no_global_floor: why the scores have no `global_floor_psnr`, where they have none.

    Returns:
        What can be written as JSON (no NaN: null):

        - `budgets`: a list of `epochs`, `stage_seconds`, `total_seconds` and `splits`; of each
          split `images` and, of each metric, `mean`, `median`, `worst_decile` (the mean over the
          worst tenth of the images, at least one) and `skipped` (images where it is not defined);
          `psnr` also has `interval`; and `gain_over_floor`, dB.
        - `floor`: mean PSNR of the linear floor, PCA of patches, by split.
        - `global_floor`: of PCA of whole images, by split `mean` PSNR, `gain_over_floor` (dB, of
          the same images) and `skipped` (images of another size), or null.
        - `no_global_floor`: why there is none, or null where there is one.
        - `differences`: between consecutive budgets, `from`, `to`, and by split the `mean` and
          `interval` of the images' gain in PSNR.
        - `intervals`: by split, why there is none, or null where there is one.
        - `chosen`: `epochs`, `reason`, `test` (its statistics there) and `warning`, or null.
        - `tolerance`.

    Raises:
        DataError: if a budget has no scores on val or test.
    """
    budgets = [int(stage["stop"]) for stage in stages]
    table = {
        (budget, split): sorted(s for s in scores if s.budget == budget and s.split == split)
        for budget in budgets
        for split in SPLITS
    }
    for (budget, split), rows in table.items():
        if not rows:
            raise DataError(f"no scores at {budget} epochs on {split}; each split needs an image")
    seconds = np.cumsum([float(stage["seconds"]) for stage in stages])
    entries = [
        {
            "epochs": budget,
            "stage_seconds": float(stage["seconds"]),
            "total_seconds": float(total),
            "splits": {split: _summary(table[budget, split]) for split in SPLITS},
        }
        for budget, stage, total in zip(budgets, stages, seconds)
    ]
    return {
        "budgets": entries,
        "floor": {
            split: _mean([s.floor_psnr for s in table[budgets[0], split]]) for split in SPLITS
        },
        "global_floor": None if no_global_floor else _global_floor(table, budgets[0]),
        "no_global_floor": no_global_floor,
        "differences": [
            {
                "from": before,
                "to": after,
                "splits": {
                    split: _difference(table[before, split], table[after, split])
                    for split in SPLITS
                },
            }
            for before, after in zip(budgets, budgets[1:])
        ],
        "intervals": {split: _why_no_interval(table[budgets[0], split]) for split in SPLITS},
        "chosen": _choose(entries, tolerance),
        "tolerance": tolerance,
    }


def bootstrap_interval(values: Sequence[float]) -> list[float] | None:
    """95 % percentile bootstrap interval of the mean (Efron 1979).

    From 10,000 resamples, fewer from 2,000 values on, but at least 1,000.

    Args:
        values: one per source image; NaN is skipped.

    Returns:
        Its two ends, or None for fewer than 8 values.
    """
    kept = _finite(values)
    if len(kept) < MIN_SOURCES:
        return None
    rng = np.random.default_rng(0)
    resamples = min(10_000, max(1_000, 20_000_000 // len(kept)))
    means = [kept[rng.integers(0, len(kept), len(kept))].mean() for _ in range(resamples)]
    return [float(end) for end in np.percentile(means, (2.5, 97.5))]


def _summary(rows: Sequence[Score]) -> dict[str, Any]:
    summary: dict[str, Any] = {"images": len(rows)}
    for metric in METRICS:
        values = [getattr(row, metric) for row in rows]
        kept = np.sort(_finite(values))
        worst = kept[::-1] if metric in _WORST_IS_HIGH else kept
        summary[metric] = {
            "mean": _mean(values),
            "median": float(np.median(kept)) if len(kept) else None,
            "worst_decile": _mean(worst[: -(-len(kept) // 10)]),
            "skipped": len(values) - len(kept),
        }
    summary["psnr"]["interval"] = bootstrap_interval([row.psnr for row in rows])
    summary["gain_over_floor"] = _mean([row.psnr - row.floor_psnr for row in rows])
    return summary


def _global_floor(
    table: dict[tuple[int, str], list[Score]], budget: int
) -> dict[str, dict[str, Any]] | None:
    floor = {}
    for split in SPLITS:
        values = [row.global_floor_psnr for row in table[budget, split]]
        floor[split] = {
            "mean": _mean(values),
            "gain_over_floor": _mean(
                [row.global_floor_psnr - row.floor_psnr for row in table[budget, split]]
            ),
            "skipped": len(values) - len(_finite(values)),
        }
    return floor if any(entry["mean"] is not None for entry in floor.values()) else None


def _difference(before: Sequence[Score], after: Sequence[Score]) -> dict[str, Any]:
    earlier = {row.source: row.psnr for row in before}
    gains = [row.psnr - earlier[row.source] for row in after]
    return {"mean": _mean(gains), "interval": bootstrap_interval(gains)}


def _choose(entries: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    psnr = {entry["epochs"]: entry["splits"][VAL]["psnr"]["mean"] for entry in entries}
    best = max(psnr, key=lambda budget: (psnr[budget], -budget))
    chosen = next(budget for budget in psnr if psnr[budget] >= psnr[best] - tolerance)
    if chosen == best:
        reason = f"{chosen} epochs have the highest val PSNR, {psnr[chosen]:.2f} dB"
    else:
        reason = (
            f"{chosen} epochs have {psnr[chosen]:.2f} dB of val PSNR, "
            f"within {tolerance:g} dB of the best, {psnr[best]:.2f} dB at {best}"
        )
    if chosen == best and len(psnr) > 1:
        reason += f"; no smaller budget comes within {tolerance:g} dB"
    last = max(psnr)
    warning = None
    if chosen == last and len(psnr) > 1:
        warning = f"val PSNR is still rising at {last} epochs: a longer ladder may gain more"
    elif psnr[last] < psnr[best] - tolerance:
        loss = psnr[best] - psnr[last]
        warning = (
            f"val PSNR falls by {loss:.2f} dB from {best} to {last} epochs: more training hurts"
        )
    test = next(entry for entry in entries if entry["epochs"] == chosen)["splits"][TEST]
    return {"epochs": chosen, "reason": reason, "warning": warning, "test": test}


def _why_no_interval(rows: Sequence[Score]) -> str | None:
    if len(rows) >= MIN_SOURCES:
        return None
    return f"{len(rows)} source images; an interval needs {MIN_SOURCES}"


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]


def _mean(values: Sequence[float] | np.ndarray) -> float | None:
    kept = _finite(values)
    return float(kept.mean()) if len(kept) else None


def format_table(comparison: dict[str, Any]) -> str:
    """The comparison as a table for the terminal, at most 100 columns wide."""
    head = (
        f"{'epochs':>10} {'seconds':>8} {'PSNR train':>11} {'val':>7} {'test':>7} "
        f"{'over floor':>11} {'SSIM test':>10} {'MS-SSIM test':>13}"
    )
    floor = comparison["floor"]
    lines = [head, _row("floor", "", [floor[split] for split in SPLITS], 0.0, None, None)]
    whole = comparison["global_floor"]
    if whole:
        means = [whole[split]["mean"] for split in SPLITS]
        lines.append(_row("global PCA", "", means, whole[TEST]["gain_over_floor"], None, None))
    for entry in comparison["budgets"]:
        splits = entry["splits"]
        test = splits[TEST]
        line = _row(
            str(entry["epochs"]),
            f"{entry['total_seconds']:.0f}",
            [splits[split]["psnr"]["mean"] for split in SPLITS],
            test["gain_over_floor"],
            test["ssim"]["mean"],
            test["ms_ssim"]["mean"],
        )
        chosen = entry["epochs"] == comparison["chosen"]["epochs"]
        lines.append(line + ("  <- chosen" if chosen else ""))
    return "\n".join(lines)


def _row(
    name: str,
    seconds: str,
    psnr: Sequence[float | None],
    gain: float | None,
    ssim: float | None,
    ms_ssim: float | None,
) -> str:
    def number(value: float | None, width: int, digits: int, sign: str = "") -> str:
        return f"{'' if value is None else format(value, f'{sign}.{digits}f'):>{width}}"

    train, val, test = psnr
    return (
        f"{name:>10} {seconds:>8} {number(train, 11, 2)} {number(val, 7, 2)} {number(test, 7, 2)} "
        f"{number(gain, 11, 2, '+')} {number(ssim, 10, 4)} {number(ms_ssim, 13, 4)}"
    ).rstrip()
