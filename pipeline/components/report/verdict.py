"""Reads the verdict of an evaluation: each requirement with its value, and each slice."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow_model_analysis as tfma

from keras_ae import contract as c
from keras_ae.comparison.records import Check, CheckName, SliceVerdict, Verdict
from pipeline.evaluation import (
    GAIN,
    IMAGES,
    MEAN_PSNR,
    MEAN_SSIM,
    MIN_SLICE_IMAGES,
    SKIPPED_SSIM,
    SLICE_PSNR,
    Limits,
)

_OVERALL = ("", "")
NO_OTHER = "no other model is in service"
REPLACED = "--replace skips the comparison with the model in service"
UNLIKE = "the models cannot be compared"


class _Slice(NamedTuple):
    """Metrics of the model on a slice, and their differences from the model in service."""

    values: dict[str, float]
    changes: dict[str, float]
    failed: set[str]


def verdict(
    evaluation_uri: str, limits: Limits, *, uncompared: str = NO_OTHER, refusal: str = ""
) -> Verdict:
    """Reads an evaluation: the requirements on the model, its values, and whether it is blessed.

    Args:
        evaluation_uri: folder of the Evaluator's ModelEvaluation.
        limits: limits that the evaluation used.
        uncompared: why there was no comparison with the model in service, if there was none.
        refusal: why the model is not blessed although it meets all requirements that were checked;
            may be empty.

    Returns:
        The verdict, without the result of serving the model.
    """
    result = tfma.load_validation_result(evaluation_uri)
    slices = _slices(evaluation_uri, result)
    overall = slices.pop(_OVERALL)
    # A slice of all images repeats the overall values; it is kept if the model fails in it.
    values = Counter(by for by, _ in slices)
    slices = {key: s for key, s in slices.items() if values[key[0]] > 1 or s.failed}
    checks = [_gain(overall, limits), _change(overall, limits, uncompared, refusal)]
    if overall.changes:
        checks += [_slice_change(key, s, limits) for key, s in slices.items() if _judged(s)]
    else:
        text = f"no slice was compared, because {UNLIKE if refusal else uncompared}"
        checks.append(_check(SLICE_PSNR, overall, None, -limits.max_slice_drop, text))
    return Verdict(
        blessed=result.validation_ok and not refusal,
        checks=tuple(checks),
        not_judged=tuple(
            f"{_name(key)}: not judged, because it has {_images(s)} and {MIN_SLICE_IMAGES} are "
            "needed"
            for key, s in slices.items()
            if s.changes and not _judged(s)
        ),
        slices=tuple(_row(key, s) for key, s in slices.items()),
        skipped_ssim=int(overall.values[SKIPPED_SSIM]),
    )


def reasons(verdict: Verdict) -> list[str]:
    """Why a model was blessed or not, with at most three slices: those with the lowest values.

    Returns:
        A sentence for each requirement that is not met; for a blessed model, for those that are.
    """
    checks = [check for check in verdict.checks if check.ok is verdict.blessed]
    sentences = [check.text for check in checks if not check.slice]
    slices = sorted((check for check in checks if check.slice), key=lambda c: c.value or 0.0)
    if verdict.blessed:
        return sentences + [f"{c.text} (the worst of {len(slices)} slices)" for c in slices[:1]]
    sentences += [check.text for check in slices[:3]]
    if len(slices) > 3:
        sentences.append(f"and {len(slices) - 3} more slices below the limit")
    return sentences


def _slices(evaluation_uri: str, result: Any) -> dict[tuple[str, str], _Slice]:
    """Metrics by name and value of the slice, in the contract's order; all images come first."""
    failed = {
        _key(failure.slice_key): {metric.metric_key.name for metric in failure.failures}
        for failure in result.metric_validations_per_slice
    }
    slices = {}
    for record in tfma.load_metrics(evaluation_uri):
        values, changes = dict(_metrics(record, False)), dict(_metrics(record, True))
        key = _key(record.slice_key)
        slices[key] = _Slice(values, changes, failed.get(key, set()))
    order = ("", *c.SLICES)
    return dict(sorted(slices.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def _metrics(record: Any, is_diff: bool) -> Iterator[tuple[str, float]]:
    for metric in record.metric_keys_and_values:
        key = metric.key
        if key.is_diff == is_diff and key.model_name != tfma.BASELINE_KEY:
            yield key.name, metric.value.double_value.value


def _key(slice_key: Any) -> tuple[str, str]:
    for key in slice_key.single_slice_keys:
        return key.column.removeprefix(c.SLICE_PREFIX), key.bytes_value.decode()
    return _OVERALL


def _gain(overall: _Slice, limits: Limits) -> Check:
    value, limit = overall.values[GAIN], limits.min_gain
    text = (
        f"its mean test PSNR is {_db(value, limit)} relative to the linear floor "
        f"(required: more than {limit:g} dB)"
    )
    return _check(GAIN, overall, value, limit, text)


def _change(overall: _Slice, limits: Limits, uncompared: str, refusal: str) -> Check:
    limit = -limits.max_drop
    if refusal:
        check = _check(MEAN_PSNR, overall, None, limit, refusal)
        return check.model_copy(update={"ok": False})
    if not overall.changes:
        text = f"its mean test PSNR was compared with the floor only, because {uncompared}"
        return _check(MEAN_PSNR, overall, None, limit, text)
    value = overall.changes[MEAN_PSNR]
    text = f"its mean test PSNR is {_relative(value, limit)}"
    return _check(MEAN_PSNR, overall, value, limit, text)


def _slice_change(key: tuple[str, str], metrics: _Slice, limits: Limits) -> Check:
    value, limit = metrics.changes[SLICE_PSNR], -limits.max_slice_drop
    text = f"its PSNR on {_name(key)} ({_images(metrics)}) is {_relative(value, limit)}"
    return _check(SLICE_PSNR, metrics, value, limit, text, _name(key))


def _check(
    name: CheckName,
    metrics: _Slice,
    value: float | None,
    limit: float,
    text: str,
    slice_name: str | None = None,
) -> Check:
    return Check(
        name=name,
        slice=slice_name,
        images=int(metrics.values[IMAGES]),
        value=value,
        limit=limit,
        ok=None if value is None else name not in metrics.failed,
        text=text,
    )


def _relative(value: float, limit: float) -> str:
    return (
        f"{_db(value, limit)} relative to the model in service (allowed: a drop of at most "
        f"{abs(limit):g} dB)"
    )


def _db(value: float, limit: float) -> str:
    """Formats a difference with enough digits to show on which side of the limit it is."""
    digit_counts = (n for n in range(2, 10) if round(value, n) != round(limit, n) or value == limit)
    digits = next(digit_counts, 10)
    return f"{value:+.{digits}f} dB"


def _judged(metrics: _Slice) -> bool:
    return metrics.values[IMAGES] >= MIN_SLICE_IMAGES


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}: {key[1]}"


def _images(metrics: _Slice) -> str:
    count = int(metrics.values[IMAGES])
    return f"{count} image{'' if count == 1 else 's'}"


def _row(key: tuple[str, str], metrics: _Slice) -> SliceVerdict:
    return SliceVerdict(
        by=key[0],
        value=key[1],
        images=int(metrics.values[IMAGES]),
        psnr=_number(metrics.values[MEAN_PSNR]),
        ssim=_number(metrics.values[MEAN_SSIM]),
        gain=_number(metrics.values[GAIN]),
        change=_number(metrics.changes.get(MEAN_PSNR, math.nan)),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
