"""Which budget is worth it: quality per budget and split, paired differences, and the choice."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from keras_ae.comparison import answer, seeds, slices, trends
from keras_ae.comparison.records import (
    VERSION,
    AgainstChosen,
    Answer,
    Baseline,
    Budget,
    Change,
    Chosen,
    Comparison,
    Counts,
    Differences,
    Floor,
    FloorMean,
    FloorMeans,
    Floors,
    Images,
    Losses,
    Reasons,
    Summaries,
)
from keras_ae.comparison.split import Split, number
from keras_ae.comparison.statistics import LEAST, LEVEL
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.errors import DataError
from keras_ae.scores import BASELINE, IMAGES, MODEL, Layout, Sums, Table

POINTS = 500


class Stage(Protocol):
    """What is read of the training of a stage."""

    @property
    def stop(self) -> int:
        """Epochs of the ladder at its end."""

    @property
    def seconds(self) -> float:
        """Of training."""

    @property
    def seed(self) -> int:
        """Of the ladder."""

    @property
    def preset(self) -> str:
        """Name of the preset."""

    @property
    def parameters(self) -> int:
        """Of the model."""

    @property
    def losses(self) -> Sequence[float]:
        """Mean loss of each epoch; empty if it is not known."""


Stages = Mapping[str, Sequence[Sequence[Stage]]]
"""By ladder, seed and budget."""


def compare(
    scores: Mapping[str, tuple[Sums, Table]],
    layout: Layout,
    stages: Stages,
    *,
    tolerance: float = 0.1,
    no_global_floor: str | None = None,
) -> Comparison:
    """Sums up the scores of all budgets and chooses one.

    The unit of every statistic is the source image. The choice is made on val alone: the smallest
    budget whose mean PSNR is within `tolerance` of the best. It is claimed on test.

    Args:
        scores: by split, the sums over all images and the table of those that were kept.
        layout: of their columns.
        stages: by ladder, seed and budget, what its training left.
        tolerance: dB, at least 0.
        no_global_floor: why the scores have no PSNR of the global floor, where they have none.

    Returns:
        The comparison without `codecs`, `tuning`, `run`, `verdict` and `trials`: those are added
        by who knows them.

    Raises:
        DataError: if a split has no scores.
    """
    for name in SPLITS:
        if name not in scores or not scores[name][0].images():
            raise DataError(f"no scores on {name}; each split needs an image")
    splits = {name: Split(*scores[name], layout, seed) for seed, name in enumerate(SPLITS)}
    model = stages[MODEL]
    numbers = [ladder[0].seed for ladder in model]
    entries = _budgets(splits, MODEL, model, numbers)
    epochs, reason = answer.choose(splits[VAL], tolerance)
    at = layout.budgets.index(epochs)
    unanswered = Comparison(
        version=VERSION,
        answer=Answer(sentence="", notes=()),
        level=LEVEL,
        tolerance=tolerance,
        chosen=Chosen(
            epochs=epochs,
            reason=reason,
            seed=seeds.best_seed(splits[VAL], numbers, at),
            test=entries[at].splits.test,
        ),
        budgets=entries,
        floors=Floors(
            patch_pca=_floor(splits, "patch_pca", no_global_floor),
            global_pca=_floor(splits, "global_pca", no_global_floor),
        ),
        differences=tuple(
            Change(from_=before, to=after, splits=_differences(splits, before, after))
            for before, after in zip(layout.budgets, layout.budgets[1:])
        ),
        against_chosen=tuple(
            AgainstChosen(epochs=other, splits=_differences(splits, other, epochs))
            for other in layout.budgets
            if other != epochs
        ),
        gap=trends.gap(splits, tolerance),
        cost=trends.cost(splits[VAL], [entry.total_seconds for entry in entries]),
        extrapolation=trends.extrapolate(splits[VAL], tolerance),
        slices=slices.break_down(splits[TEST], TEST, epochs),
        intervals=Reasons(**{name: _why_no_interval(s.images) for name, s in splits.items()}),
        baseline=_baseline(splits, stages, epochs),
        seeds=seeds.separate(splits, numbers, epochs),
        losses=_losses(stages),
        images=Images(
            file=IMAGES,
            kept=Counts(**{name: len(split.table) for name, split in splits.items()}),
            of=Counts(**{name: split.images for name, split in splits.items()}),
        ),
        codecs=None,
        tuning=None,
        run=None,
        verdict=None,
        trials=(),
    )
    return unanswered.model_copy(update={"answer": answer.answer(unanswered)})


def _budgets(
    splits: Mapping[str, Split],
    ladder: str,
    stages: Sequence[Sequence[Stage]],
    numbers: Sequence[int],
) -> tuple[Budget, ...]:
    per_stage = np.array([[float(stage.seconds) for stage in seed] for seed in stages]).mean(0)
    return tuple(
        Budget(
            epochs=budget,
            stage_seconds=float(per_stage[i]),
            total_seconds=float(per_stage[: i + 1].sum()),
            splits=Summaries(**{name: s.summary(ladder, budget) for name, s in splits.items()}),
            seeds=seeds.by_seed(splits, numbers, i) if ladder == MODEL else (),
        )
        for i, budget in enumerate(splits[TEST].layout.budgets)
    )


def _differences(splits: Mapping[str, Split], before: int, after: int) -> Differences:
    models = (MODEL, before), (MODEL, after)
    return Differences(**{name: split.difference(*models) for name, split in splits.items()})


def _floor(splits: Mapping[str, Split], name: str, no_global_floor: str | None) -> Floor:
    column = (name, "psnr", 0)
    if all(split.mean(column) is None for split in splits.values()):
        return Floor(splits=None, reason=no_global_floor or "no image has its size")
    entries = {}
    for split_name, split in splits.items():
        # On the images that have both.
        gains = split.each({column: 1.0}) - split.each({("patch_pca", "psnr", 0): 1.0})
        known = gains[np.isfinite(gains)]
        skipped = split.skipped(column)
        entries[split_name] = FloorMean(
            mean=split.mean(column),
            gain_over_floor=number(known.mean()) if len(known) else None,
            images=split.images - skipped,
            skipped=skipped,
        )
    return Floor(splits=FloorMeans(**entries), reason=None)


def _baseline(splits: Mapping[str, Split], stages: Stages, epochs: int) -> Baseline | None:
    if BASELINE not in stages:
        return None
    first = stages[BASELINE][0][0]
    return Baseline(
        preset=first.preset,
        parameters=first.parameters,
        budgets=_budgets(splits, BASELINE, stages[BASELINE], []),
        difference=splits[TEST].difference((BASELINE, epochs), (MODEL, epochs)),
    )


def _losses(stages: Stages) -> tuple[Losses, ...]:
    found = []
    for ladder, of_seeds in stages.items():
        for of_budgets in of_seeds:
            losses = [loss for stage in of_budgets for loss in stage.losses]
            if not losses:
                continue
            start = of_budgets[0].stop - len(of_budgets[0].losses)
            places = _spread(len(losses))
            found.append(
                Losses(
                    ladder=ladder,
                    seed=of_budgets[0].seed,
                    epochs=tuple(start + place + 1 for place in places),
                    loss=tuple(losses[place] for place in places),
                )
            )
    return tuple(found)


def _spread(count: int) -> list[int]:
    """At most `POINTS` places, evenly over their logarithm, the first and the last too."""
    places = np.geomspace(1, count, min(count, POINTS)).round().astype(int)
    return sorted({int(place) - 1 for place in places})


def _why_no_interval(images: int) -> str | None:
    return None if images >= LEAST else f"{images} source images; an interval needs {LEAST}"
