"""Evaluator: mean quality of the test images, against the linear floor and the model in service."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.utils import util

from keras_ae import contract as c

MEAN_PSNR = "mean_psnr"
GAIN = "gain_over_floor"


def eval_config(tolerance: float, code: str) -> tfma.EvalConfig:
    """What the chosen model must reach to be blessed.

    Args:
        tolerance: dB of mean test PSNR that a model may lose against the one in service.
        code: fingerprint of this module, so that a cached verdict does not outlive an edit.
    """
    above_floor = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": 0.0})
    )
    not_below = tfma.MetricThreshold(
        change_threshold=tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -tolerance}
        )
    )
    metrics = [
        tfma.MetricConfig(
            class_name="MeanOutput",
            module=__name__,
            config=json.dumps({"name": name, "output": c.PSNR, "minus": minus, "code": code}),
            threshold=limit,
        )
        for name, minus, limit in (
            (MEAN_PSNR, "", not_below),
            (GAIN, c.FLOOR_PSNR, above_floor),
        )
    ]
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name=c.SCORE)],
        slicing_specs=[tfma.SlicingSpec()],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )


def why_not_blessed(evaluation: str, tolerance: float) -> list[str]:
    """Reads from an evaluation which demands the model did not meet, a sentence each."""
    result = tfma.load_validation_result(str(Path(evaluation)))
    reasons = []
    for failure in result.metric_validations_per_slice:
        for metric in failure.failures:
            value = metric.metric_value.double_value.value
            if metric.metric_key.name == GAIN:
                reasons.append(
                    f"its mean test PSNR is {value:+.2f} dB from the linear floor "
                    "and must lie above it"
                )
            else:
                reasons.append(
                    f"its mean test PSNR changed by {value:+.2f} dB against the model in service, "
                    f"and may fall by {tolerance:g} dB at most"
                )
    return reasons or [f"see {evaluation}"]


class MeanOutput(tfma.metrics.Metric):
    """Mean over the images of an output of `score`, or of the difference of two.

    TFMA's own MeanPrediction gives 0 for a model without labels.

    Args:
        name: of the metric.
        output: name of the output.
        minus: name of the output that is subtracted, or empty.
        code: fingerprint of this module.
    """

    def __init__(self, name: str, output: str, minus: str = "", code: str = ""):
        super().__init__(_computations, name=name, output=output, minus=minus, code=code)


def _computations(
    name: str,
    output: str,
    minus: str,
    model_names: Iterable[str] = ("",),
    eval_config: Any = None,
    **_: Any,
) -> list[tfma.metrics.MetricComputation]:
    computations = []
    for model_name in model_names:
        key = metric_types.MetricKey(name=name, model_name=model_name)
        combiner = _MeanCombiner(key, eval_config, model_name, output, minus)
        computations.append(
            metric_types.MetricComputation(keys=[key], preprocessors=None, combiner=combiner)
        )
    return computations


class _Sum(NamedTuple):
    total: float = 0.0
    images: int = 0


class _MeanCombiner(beam.CombineFn):
    def __init__(self, key: Any, eval_config: Any, model_name: str, output: str, minus: str):
        self._key, self._model_name = key, model_name
        self._several = bool(eval_config) and len(eval_config.model_specs) > 1
        self._output, self._minus = output, minus

    def create_accumulator(self) -> _Sum:
        return _Sum()

    def add_input(self, accumulator: _Sum, element: Any) -> _Sum:
        predictions = element.predictions
        if self._several:
            predictions = util.get_by_keys(predictions, [self._model_name])
        value = float(np.ravel(predictions[self._output])[0])
        if self._minus:
            value -= float(np.ravel(predictions[self._minus])[0])
        if np.isnan(value):
            return accumulator
        return _Sum(accumulator.total + value, accumulator.images + 1)

    def merge_accumulators(self, accumulators: Iterable[_Sum]) -> _Sum:
        kept = list(accumulators)
        return _Sum(sum(a.total for a in kept), sum(a.images for a in kept))

    def extract_output(self, accumulator: _Sum) -> dict[Any, float]:
        mean = accumulator.total / accumulator.images if accumulator.images else float("nan")
        return {self._key: mean}
