"""Reads the verdict of an evaluation: each requirement with its value, and each slice."""

from collections import Counter
from typing import Any, NamedTuple

import tensorflow_model_analysis as tfma

from keras_ae import contract as c
from keras_ae.comparison.records import Check, CheckName, SliceVerdict, Verdict
from keras_ae.scores import finite_or_none
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

    @property
    def images(self) -> int:
        return int(self.values[IMAGES])

    def size(self) -> str:
        return f"{self.images} image{'' if self.images == 1 else 's'}"


def read_verdict(
    evaluation_uri: str, limits: Limits, *, uncompared: str = NO_OTHER, refusal: str = ""
) -> Verdict:
    """Reads the Evaluator's ModelEvaluation: the requirements on the model, its values, and whether
    it is blessed, by the limits that the evaluation used; not the result of serving the model.

    Args:
        evaluation_uri: folder of the ModelEvaluation.
        limits: limits that the evaluation used.
        uncompared: why there was no comparison with the model in service, if there was none.
        refusal: why the model is not blessed although it meets all requirements that were checked;
            may be empty.
    """
    result = tfma.load_validation_result(evaluation_uri)
    slices = _slices(evaluation_uri, result)
    overall = slices.pop(_OVERALL)
    # A slice of all images repeats the overall values; it is kept if the model fails in it.
    values = Counter(by for by, _ in slices)
    slices = {key: s for key, s in slices.items() if values[key[0]] > 1 or s.failed}
    judged = {key: s for key, s in slices.items() if s.images >= MIN_SLICE_IMAGES}
    checks = [_gain(overall, limits), _change(overall, limits, uncompared, refusal)]
    if overall.changes:
        checks += [_slice_change(key, s, limits) for key, s in judged.items()]
    else:
        text = f"no slice was compared, because {UNLIKE if refusal else uncompared}"
        checks.append(_check(SLICE_PSNR, overall, None, -limits.max_slice_drop, text))
    return Verdict(
        blessed=result.validation_ok and not refusal,
        checks=tuple(checks),
        not_judged=tuple(
            f"{_name(k)}: not judged, because it has {s.size()} and {MIN_SLICE_IMAGES} are needed"
            for k, s in slices.items()
            if s.changes and k not in judged
        ),
        slices=tuple(_row(key, s) for key, s in slices.items()),
        skipped_ssim=int(overall.values[SKIPPED_SSIM]),
    )


def reasons(verdict: Verdict) -> list[str]:
    """A sentence for each requirement that is not met; for a blessed model, for those that are. Of
    slices, at most three are listed: those with the lowest values."""
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
        key = _key(record.slice_key)
        metrics: dict[bool, dict[str, float]] = {False: {}, True: {}}
        for metric in record.metric_keys_and_values:
            if metric.key.model_name != tfma.BASELINE_KEY:
                metrics[metric.key.is_diff][metric.key.name] = metric.value.double_value.value
        slices[key] = _Slice(metrics[False], metrics[True], failed.get(key, set()))
    order = ("", *c.SLICES)
    return dict(sorted(slices.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


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
    value, limit = overall.changes.get(MEAN_PSNR), -limits.max_drop
    if refusal:
        check = _check(MEAN_PSNR, overall, None, limit, refusal)
        return check.model_copy(update={"ok": False})
    if value is None:
        text = f"its mean test PSNR was compared with the floor only, because {uncompared}"
        return _check(MEAN_PSNR, overall, None, limit, text)
    text = f"its mean test PSNR is {_relative(value, limit)}"
    return _check(MEAN_PSNR, overall, value, limit, text)


def _slice_change(key: tuple[str, str], metrics: _Slice, limits: Limits) -> Check:
    value, limit = metrics.changes[SLICE_PSNR], -limits.max_slice_drop
    text = f"its PSNR on {_name(key)} ({metrics.size()}) is {_relative(value, limit)}"
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
        images=metrics.images,
        value=value,
        limit=limit,
        ok=None if value is None else name not in metrics.failed,
        text=text,
    )


def _relative(value: float, limit: float) -> str:
    allowed = f"allowed: a drop of at most {abs(limit):g} dB"
    return f"{_db(value, limit)} relative to the model in service ({allowed})"


def _db(value: float, limit: float) -> str:
    """Formats a difference with enough digits to show on which side of the limit it is."""
    digit_counts = (n for n in range(2, 10) if round(value, n) != round(limit, n) or value == limit)
    return f"{value:+.{next(digit_counts, 10)}f} dB"


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}: {key[1]}"


def _row(key: tuple[str, str], metrics: _Slice) -> SliceVerdict:
    return SliceVerdict(
        by=key[0],
        value=key[1],
        images=metrics.images,
        psnr=finite_or_none(metrics.values[MEAN_PSNR]),
        ssim=finite_or_none(metrics.values[MEAN_SSIM]),
        gain=finite_or_none(metrics.values[GAIN]),
        change=finite_or_none(metrics.changes.get(MEAN_PSNR)),
    )
