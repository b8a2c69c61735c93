"""Compares the budgets of a ladder: quality, paired differences, and the choice of a budget."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae.comparison import answer, seeds, slices, trends
from keras_ae.comparison.records import (
    VERSION,
    AgainstChosen,
    Answer,
    Baseline,
    Budget,
    BySplit,
    Change,
    Chosen,
    Comparison,
    Counts,
    Difference,
    Floor,
    FloorMean,
    Floors,
    Images,
    InTrain,
    Losses,
    Reasons,
    Summary,
)
from keras_ae.comparison.split import Split
from keras_ae.comparison.statistics import CONFIDENCE_LEVEL, MIN_IMAGES
from keras_ae.contract import SPLITS, TEST, VAL
from keras_ae.errors import DataError
from keras_ae.scores import BASELINE, IMAGES, MODEL, Layout, Sums, Table, finite_or_none
from keras_ae.stages import StageSummary

MAX_LOSS_POINTS = 500
"""Epochs of a ladder whose losses are kept, evenly spaced over their logarithm."""


Stages = Mapping[str, Sequence[Sequence[StageSummary]]]
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
    copies, which are no independent evidence. The budget is chosen on val: the smallest one whose
    mean PSNR is within `tolerance` of the best. Its quality is reported on test.

    Args:
        scores: by split, the sums over all images, and the table of all images or of a sample.
        layout: layout of the columns of both.
        stages: trained stages.
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
        intervals=Reasons(**{name: _reason(s.image_count) for name, s in splits.items()}),
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
    stages: Sequence[Sequence[StageSummary]],
    ladder_seeds: Sequence[int],
) -> tuple[Budget, ...]:
    stage_seconds = np.array([[float(stage.seconds) for stage in seed] for seed in stages]).mean(0)
    return tuple(
        Budget(
            epochs=budget,
            stage_seconds=float(stage_seconds[i]),
            total_seconds=float(stage_seconds[: i + 1].sum()),
            splits=BySplit[Summary](**{n: s.summary(ladder, budget) for n, s in splits.items()}),
            seeds=seeds.seed_means(splits, ladder_seeds, i) if ladder == MODEL else (),
        )
        for i, budget in enumerate(splits[TEST].layout.budgets)
    )


def _differences(splits: Mapping[str, Split], before: int, after: int) -> BySplit[Difference]:
    models = (MODEL, before), (MODEL, after)
    return BySplit[Difference](**{name: s.difference(*models) for name, s in splits.items()})


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
    return Floor(splits=BySplit[FloorMean](**entries), reason=None)


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
    for ladder, by_budget in ((name, row) for name, rows in stages.items() for row in rows):
        first, losses = by_budget[0], [loss for stage in by_budget for loss in stage.losses]
        if losses:
            count, start = len(losses), first.stop - len(first.losses)
            spaced = np.geomspace(1, count, min(count, MAX_LOSS_POINTS)).round().astype(int)
            epochs = sorted({int(epoch) for epoch in spaced})
            curves.append(
                Losses(
                    ladder=ladder,
                    seed=first.seed,
                    epochs=tuple(start + epoch for epoch in epochs),
                    loss=tuple(losses[epoch - 1] for epoch in epochs),
                )
            )
    return tuple(curves)


def _reason(images: int) -> str | None:
    """Why there are no intervals, if there are none."""
    few = f"{images} source images; an interval needs {MIN_IMAGES}"
    return few if images < MIN_IMAGES else None
