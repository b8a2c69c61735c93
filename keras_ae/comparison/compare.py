"""Compares the budgets of a ladder: quality, paired differences, and the choice of a budget."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

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
    InTrain,
    Losses,
    Reasons,
    Summaries,
)
from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import CONFIDENCE_LEVEL, MIN_IMAGES
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.errors import DataError
from keras_ae.scores import BASELINE, IMAGES, MODEL, Layout, Sums, Table, finite_or_none

MAX_LOSS_POINTS = 500
"""Epochs of a ladder whose losses are kept, evenly spaced over their logarithm."""


class Stage(Protocol):
    """What a comparison needs to know about the training of a stage."""

    @property
    def stop(self) -> int:
        """Epochs of the ladder at the end of the stage."""

    @property
    def seconds(self) -> float:
        """Seconds of training."""

    @property
    def seed(self) -> int:
        """Seed of the ladder."""

    @property
    def preset(self) -> str:
        """Name of the preset."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""

    @property
    def losses(self) -> Sequence[float]:
        """Mean loss of each epoch; empty if unknown."""


Stages = Mapping[str, Sequence[Sequence[Stage]]]
"""Stages by ladder, seed and budget."""


def compare(
    scores: Mapping[str, tuple[Sums, Table]],
    layout: Layout,
    stages: Stages,
    *,
    tolerance: float = 0.1,
    no_global_floor_reason: str | None = None,
    files: Mapping[str, int] | None = None,
    in_train: Mapping[str, int] | None = None,
) -> Comparison:
    """Compares all budgets and chooses one.

    The unit of every statistic is the picture: a source image, or the largest file of several
    copies, which are no independent evidence. The budget is chosen on val: the smallest one
    whose mean PSNR is within `tolerance` of the best. Its quality is reported on test.

    Args:
        scores: by split, the sums over all images, and the table of all images or of a sample.
        layout: layout of the columns of both.
        stages: trained stages by ladder, seed and budget.
        tolerance: dB, at least 0.
        no_global_floor_reason: why the scores have no PSNR of the global floor, if they have none.
        files: number of files by split, if there are more than pictures.
        in_train: number of pictures of val and test that train has too.

    Returns:
        The comparison without `codecs`, `tuning`, `run`, `verdict` and `trials`, which later steps
        fill in.

    Raises:
        DataError: if a split has no scores.
    """
    for name in SPLITS:
        if name not in scores or not scores[name][0].images():
            raise DataError(f"split {name} has no scores; each split needs at least one image")
    splits = {name: Split(*scores[name], layout, seed) for seed, name in enumerate(SPLITS)}
    ladder_seeds = [ladder[0].seed for ladder in stages[MODEL]]
    entries = _budgets(splits, MODEL, stages[MODEL], ladder_seeds)
    epochs, reason = answer.choose_budget(splits[VAL], tolerance)
    index = layout.budgets.index(epochs)
    unanswered = Comparison(
        version=VERSION,
        answer=Answer(sentence="", notes=()),
        level=CONFIDENCE_LEVEL,
        tolerance=tolerance,
        chosen=Chosen(
            epochs=epochs,
            reason=reason,
            seed=seeds.best_seed(splits[VAL], ladder_seeds, index),
            test=entries[index].splits.test,
        ),
        budgets=entries,
        floors=Floors(
            patch_pca=_floor(splits, "patch_pca", None),
            global_pca=_floor(splits, "global_pca", no_global_floor_reason),
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
        gap=trends.generalization_gap(splits, tolerance),
        cost=trends.training_cost(splits[VAL], [entry.total_seconds for entry in entries]),
        extrapolation=trends.extrapolate(splits[VAL], tolerance),
        slices=slices.break_down(splits[TEST], TEST, epochs),
        intervals=Reasons(**{name: _why_no_interval(s.image_count) for name, s in splits.items()}),
        baseline=_baseline(splits, stages, epochs),
        seeds=seeds.compare_seeds(splits, ladder_seeds, epochs),
        losses=_losses(stages),
        images=Images(
            file=IMAGES,
            kept=Counts(**{name: len(split.table) for name, split in splits.items()}),
            of=Counts(**{name: split.image_count for name, split in splits.items()}),
            **_copies(splits, files or {}, in_train or {}),
        ),
        codecs=None,
        tuning=None,
        run=None,
        verdict=None,
        trials=(),
    )
    return unanswered.model_copy(update={"answer": answer.compose_answer(unanswered)})


def _copies(
    splits: Mapping[str, Split], files: Mapping[str, int], in_train: Mapping[str, int]
) -> dict[str, Any]:
    """The fields of `Images` that are set only if there are copies."""
    fields: dict[str, Any] = {}
    if any(files.get(name, 0) > split.image_count for name, split in splits.items()):
        fields["files"] = Counts(**{name: files[name] for name in splits})
    if any(in_train.values()):
        fields["in_train"] = InTrain(**in_train)
    return fields


def _budgets(
    splits: Mapping[str, Split],
    ladder: str,
    stages: Sequence[Sequence[Stage]],
    ladder_seeds: Sequence[int],
) -> tuple[Budget, ...]:
    stage_seconds = np.array([[float(stage.seconds) for stage in seed] for seed in stages]).mean(0)
    return tuple(
        Budget(
            epochs=budget,
            stage_seconds=float(stage_seconds[i]),
            total_seconds=float(stage_seconds[: i + 1].sum()),
            splits=Summaries(**{name: s.summary(ladder, budget) for name, s in splits.items()}),
            seeds=seeds.seed_means(splits, ladder_seeds, i) if ladder == MODEL else (),
        )
        for i, budget in enumerate(splits[TEST].layout.budgets)
    )


def _differences(splits: Mapping[str, Split], before: int, after: int) -> Differences:
    models = (MODEL, before), (MODEL, after)
    return Differences(**{name: split.difference(*models) for name, split in splits.items()})


def _floor(splits: Mapping[str, Split], name: str, missing_reason: str | None) -> Floor:
    column = (name, "psnr", 0)
    if all(split.mean(column) is None for split in splits.values()):
        return Floor(
            splits=None, reason=missing_reason or "no image has the size of the training images"
        )
    entries = {}
    for split_name, split in splits.items():
        # The gain is over the images that have both values.
        gains = split.per_image({column: 1.0}) - split.per_image({("patch_pca", "psnr", 0): 1.0})
        finite = gains[np.isfinite(gains)]
        skipped = split.skipped(column)
        entries[split_name] = FloorMean(
            mean=split.mean(column),
            gain_over_floor=finite_or_none(finite.mean()) if len(finite) else None,
            images=split.image_count - skipped,
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
    curves = []
    for ladder, by_seed in stages.items():
        for by_budget in by_seed:
            losses = [loss for stage in by_budget for loss in stage.losses]
            if not losses:
                continue
            start = by_budget[0].stop - len(by_budget[0].losses)
            indices = _log_spaced(len(losses))
            curves.append(
                Losses(
                    ladder=ladder,
                    seed=by_budget[0].seed,
                    epochs=tuple(start + i + 1 for i in indices),
                    loss=tuple(losses[i] for i in indices),
                )
            )
    return tuple(curves)


def _log_spaced(count: int) -> list[int]:
    """At most `MAX_LOSS_POINTS` indices below `count`, with the first and the last."""
    positions = np.geomspace(1, count, min(count, MAX_LOSS_POINTS)).round().astype(int)
    return sorted({int(position) - 1 for position in positions})


def _why_no_interval(images: int) -> str | None:
    return (
        None if images >= MIN_IMAGES else f"{images} source images; an interval needs {MIN_IMAGES}"
    )
