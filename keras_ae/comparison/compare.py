"""Which budget is worth it: quality per budget and split, paired differences, and the choice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae.comparison import answer, seeds, slices, trends
from keras_ae.comparison.split import Split, number
from keras_ae.comparison.statistics import LEAST, LEVEL
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.errors import DataError
from keras_ae.scores import BASELINE, FLOORS, IMAGES, MODEL, VERSION, Layout, Sums, Table

POINTS = 500

Stages = Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]


def compare(
    scores: Mapping[str, tuple[Sums, Table]],
    layout: Layout,
    stages: Stages,
    *,
    tolerance: float = 0.1,
    no_global_floor: str | None = None,
) -> dict[str, Any]:
    """Sums up the scores of all budgets and chooses one.

    The unit of every statistic is the source image. The choice is made on val alone: the smallest
    budget whose mean PSNR is within `tolerance` of the best. It is claimed on test.

    Args:
        scores: by split, the sums over all images and the table of those that were kept.
        layout: of their columns.
        stages: by ladder, seed and budget, what its training left: `stop` (epochs), `seconds`,
            `seed`, and if they are known `losses` (of each epoch), `preset` and `parameters`.
        tolerance: dB, at least 0.
        no_global_floor: why the scores have no PSNR of the global floor, where they have none.

    Returns:
        What `keras_ae/comparison/comparison.schema.json` describes (no NaN: null), with `codecs`,
        `tuning`, `run` and `verdict` null and no `trials`: those are added by who knows them.

    Raises:
        DataError: if a split has no scores.
    """
    for name in SPLITS:
        if name not in scores or not scores[name][0].images():
            raise DataError(f"no scores on {name}; each split needs an image")
    splits = {name: Split(*scores[name], layout, seed) for seed, name in enumerate(SPLITS)}
    model = stages[MODEL]
    numbers = [int(ladder[0].get("seed", 0)) for ladder in model]
    entries = _budgets(splits, MODEL, model, numbers)
    chosen = answer.choose(splits[VAL], tolerance)
    epochs = chosen["epochs"]
    at = layout.budgets.index(epochs)
    chosen["seed"] = seeds.best_seed(splits[VAL], numbers, at)
    chosen["test"] = entries[at]["splits"][TEST]
    seconds = [entry["total_seconds"] for entry in entries]
    comparison: dict[str, Any] = {
        "level": LEVEL,
        "tolerance": tolerance,
        "chosen": chosen,
        "budgets": entries,
        "floors": {name: _floor(splits, name, no_global_floor) for name in FLOORS},
        "differences": [
            {"from": before, "to": after, "splits": _differences(splits, before, after)}
            for before, after in zip(layout.budgets, layout.budgets[1:])
        ],
        "against_chosen": [
            {"epochs": other, "splits": _differences(splits, other, epochs)}
            for other in layout.budgets
            if other != epochs
        ],
        "gap": trends.gap(splits, tolerance),
        "cost": trends.cost(splits[VAL], seconds),
        "extrapolation": trends.extrapolate(splits[VAL], tolerance),
        "slices": slices.break_down(splits[TEST], TEST, epochs),
        "intervals": {name: _why_no_interval(split.images) for name, split in splits.items()},
        "baseline": _baseline(splits, stages, epochs),
        "seeds": seeds.separate(splits, numbers, epochs),
        "losses": _losses(stages),
        "images": {
            "file": IMAGES,
            "kept": {name: len(split.table) for name, split in splits.items()},
            "of": {name: split.images for name, split in splits.items()},
        },
        **dict.fromkeys(("codecs", "tuning", "run", "verdict")),
        "trials": [],
    }
    said = {"sentence": answer.sentence(comparison), "notes": answer.notes(comparison)}
    return {"version": VERSION, "answer": said, **comparison}


def _budgets(
    splits: Mapping[str, Split],
    ladder: str,
    stages: Sequence[Sequence[Mapping[str, Any]]],
    numbers: Sequence[int],
) -> list[dict[str, Any]]:
    seconds = np.array([[float(stage["seconds"]) for stage in stages_] for stages_ in stages])
    per_stage = seconds.mean(0)
    return [
        {
            "epochs": budget,
            "stage_seconds": float(per_stage[i]),
            "total_seconds": float(per_stage[: i + 1].sum()),
            "splits": {name: split.summary(ladder, budget) for name, split in splits.items()},
            "seeds": seeds.by_seed(splits, numbers, i) if ladder == MODEL else [],
        }
        for i, budget in enumerate(splits[TEST].layout.budgets)
    ]


def _differences(splits: Mapping[str, Split], before: int, after: int) -> dict[str, Any]:
    return {name: split.difference(MODEL, before, after) for name, split in splits.items()}


def _floor(splits: Mapping[str, Split], name: str, no_global_floor: str | None) -> dict[str, Any]:
    column = (name, "psnr", 0)
    if all(split.mean(column) is None for split in splits.values()):
        return {"splits": None, "reason": no_global_floor or "no image has its size"}
    entries = {}
    for split_name, split in splits.items():
        # On the images that have both.
        gains = split.each({column: 1.0}) - split.each({("patch_pca", "psnr", 0): 1.0})
        known = gains[np.isfinite(gains)]
        skipped = split.skipped(column)
        entries[split_name] = {
            "mean": split.mean(column),
            "gain_over_floor": number(known.mean()) if len(known) else None,
            "images": split.images - skipped,
            "skipped": skipped,
        }
    return {"splits": entries, "reason": None}


def _baseline(splits: Mapping[str, Split], stages: Stages, epochs: int) -> dict[str, Any] | None:
    if BASELINE not in stages:
        return None
    first = stages[BASELINE][0][0]
    return {
        "preset": first["preset"],
        "parameters": first["parameters"],
        "budgets": _budgets(splits, BASELINE, stages[BASELINE], []),
        "difference": {
            metric: splits[TEST].paired(
                {(MODEL, metric, epochs): 1.0, (BASELINE, metric, epochs): -1.0}
            )
            for metric in ("psnr", "ssim")
        },
    }


def _losses(stages: Stages) -> list[dict[str, Any]]:
    found = []
    for ladder, of_seeds in stages.items():
        for of_budgets in of_seeds:
            losses = [loss for stage in of_budgets for loss in stage.get("losses", ())]
            if not losses:
                continue
            first = int(of_budgets[0]["stop"]) - len(of_budgets[0]["losses"])
            epochs = _spread(len(losses))
            found.append(
                {
                    "ladder": ladder,
                    "seed": int(of_budgets[0].get("seed", 0)),
                    "epochs": [first + place + 1 for place in epochs],
                    "loss": [losses[place] for place in epochs],
                }
            )
    return found


def _spread(count: int) -> list[int]:
    """At most `POINTS` places, evenly over their logarithm, the first and the last too."""
    places = np.geomspace(1, count, min(count, POINTS)).round().astype(int)
    return sorted({int(place) - 1 for place in places})


def _why_no_interval(images: int) -> str | None:
    return None if images >= LEAST else f"{images} source images; an interval needs {LEAST}"
