"""The trials of a hyperparameter search, for reports."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_ae.comparison.records import Trial, Tuning
from keras_ae.tuning.search_space import SearchSpace, format_point, point_of


def read_trials(space: SearchSpace, results: Iterable[Mapping[str, Any]]) -> tuple[Trial, ...]:
    """Lists trials, the best first.

    Args:
        space: what was searched.
        results: the best first, of each trial `trial_id`, `score` (val PSNR, dB) and its values, as
            TFX's Tuner writes them.
    """
    return tuple(
        Trial(
            trial=int(result["trial_id"]) + 1,
            val_psnr=float(result["score"]),
            taken=rank == 0,
            **dataclasses.asdict(point_of(space, result)),
        )
        for rank, result in enumerate(results)
    )


def format_summary(tuning: Tuning, trials: Sequence[Trial]) -> str:
    """The values that were taken and what they gained, in a sentence."""
    best = trials[0]
    text = (
        f"{format_point(best)} ({best.parameters:,} parameters), the best of "
        f"{len(trials) + tuning.failed} trials of {tuning.epochs} epochs with "
        f"{best.val_psnr:.2f} dB on val"
    )
    untuned = next((trial for trial in trials if trial.untuned), None)
    if untuned is best:
        text += f"; this is the preset {tuning.preset} unchanged"
    elif untuned is not None:
        text += f"; {tuning.preset} without tuning has {untuned.val_psnr:.2f} dB"
    if tuning.failed:
        text += f"; {tuning.failed} trial{'s' if tuning.failed > 1 else ''} failed"
    return text
