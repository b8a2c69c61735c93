"""The Evaluator: quality of the test images and of slices of them, and the blessing's limits."""

import dataclasses
import hashlib
import json
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import util
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.evaluator import executor as evaluator
from tfx.types import artifact_utils
from tfx.types.standard_component_specs import BASELINE_MODEL_KEY, MODEL_KEY

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.comparison.statistics import MIN_IMAGES
from keras_ae.saved_model import comparable
from pipeline.runtime import artifacts, versions
from pipeline.runtime.settings import Settings

MEAN_PSNR: Final = "mean_psnr"
MEAN_SSIM = "mean_ssim"
GAIN: Final = "gain_over_floor"
SLICE_PSNR: Final = "slice_psnr"
IMAGES = "images"
SKIPPED_SSIM = "skipped_ssim"

MIN_SLICE_IMAGES = MIN_IMAGES
"""Number of test images that a slice must have to affect the blessing."""

MEAN, COUNT, SKIPPED = "mean", "count", "skipped"

# Values are rounded to whole numbers of these steps, in dB or SSIM. Their sums are exact, so that
# they do not depend on the order in which Beam adds.
_STEP = 2.0**-32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits(Settings):
    """Limits of the blessing, in dB of mean test PSNR.

    Attributes:
        min_gain: gain over the linear floor that the model must exceed.
        max_drop: maximum loss against the model in service.
        max_slice_drop: the same for each slice of at least `MIN_SLICE_IMAGES` images.
        replace: whether the model is not compared with the one in service.
    """

    min_gain: float = 0.0
    max_drop: float = 0.1
    max_slice_drop: float = 0.5
    replace: bool = False


def eval_config(limits: Limits, code: str) -> config_pb2.EvalConfig:
    """Metrics over all test images and over each slice, with the limits as thresholds.

    TFX ignores the limits against the model in service where there is none. `code` is a fingerprint
    of this module, so that an edit invalidates cached evaluations.
    """
    overall = [config_pb2.SlicingSpec()]
    slices = [config_pb2.SlicingSpec(feature_keys=[c.SLICE_PREFIX + name]) for name in c.SLICES]
    mean = {"statistic": MEAN, "code": code}
    psnr = {**mean, "output": c.PSNR}
    ssim = {**mean, "output": c.SSIM}
    of_slices = {**psnr, "min_images": MIN_SLICE_IMAGES}
    metrics = [
        _metric(MEAN_PSNR, psnr, _max_drop(limits.max_drop), overall),
        _metric(GAIN, {**psnr, "minus": c.FLOOR_PSNR}, _min_gain(limits.min_gain), overall),
        _metric(SLICE_PSNR, of_slices, _max_drop(limits.max_slice_drop), slices),
        _metric(MEAN_SSIM, ssim),
        _metric(IMAGES, {**psnr, "statistic": COUNT}),
        _metric(SKIPPED_SSIM, {**ssim, "statistic": SKIPPED}),
    ]
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(signature_name=c.SCORE)],
        slicing_specs=[*overall, *slices],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )


def _metric(
    name: str,
    config: dict[str, Any],
    threshold: Any = None,
    slices: Iterable[config_pb2.SlicingSpec] = (),
) -> config_pb2.MetricConfig:
    limits = []
    if threshold:
        # TFMA applies a threshold without slices to all slices.
        limits = [config_pb2.PerSliceMetricThreshold(slicing_specs=slices, threshold=threshold)]
    return config_pb2.MetricConfig(
        class_name="OutputMetric",
        module=__name__,
        config=json.dumps({"name": name, **config}),
        per_slice_thresholds=limits,
    )


def _min_gain(gain: float) -> config_pb2.MetricThreshold:
    # TFMA accepts a value that is equal to the bound.
    bound = config_pb2.GenericValueThreshold(lower_bound={"value": gain + _STEP})
    return config_pb2.MetricThreshold(value_threshold=bound)


def _max_drop(drop: float) -> config_pb2.MetricThreshold:
    bound = config_pb2.GenericChangeThreshold(
        direction=config_pb2.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -drop}
    )
    return config_pb2.MetricThreshold(change_threshold=bound)


class Executor(evaluator.Executor):
    """TFX's Evaluator, which scores the model in service by its own SavedModel.

    A model that is in service already is not compared with itself, but with the floor only, so that
    the local runner finds its earlier evaluation in the cache. A model that cannot be compared with
    the one in service is not blessed.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates a model, and compares it with the model in service if that is another one."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        compared, refusal = _examine(input_dict, examples)
        if not compared or refusal:
            input_dict = {k: v for k, v in input_dict.items() if k != BASELINE_MODEL_KEY}
        loader = f"{__name__}.{eval_shared_model.__name__}"
        properties = {**exec_properties, "custom_eval_shared_model": loader}
        super().Do(input_dict, output_dict, properties)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        blessing.set_string_custom_property(versions.COMPARED, compared)
        facts = versions.data_facts(examples)
        blessing.set_string_custom_property(versions.DATA, json.dumps(facts))
        if refusal:
            _refuse(blessing, refusal)


def eval_shared_model(eval_saved_model_path: str, **arguments: Any) -> Any:
    """Loads a SavedModel for TFMA, also that of a version folder, which is not a Model artifact."""
    artifact = storage.parent(eval_saved_model_path)
    path = str(versions.saved_model(artifact))
    return tfma.default_eval_shared_model(eval_saved_model_path=path, **arguments)


def _examine(
    input_dict: dict[str, list[types.Artifact]], examples: types.Artifact
) -> tuple[str, str]:
    """The digest of the model in service, and why a model cannot be compared with it.

    Both are empty if there is none, or if it is the model itself.
    """
    if BASELINE_MODEL_KEY not in input_dict:
        return "", ""
    model = artifact_utils.get_single_uri(input_dict[MODEL_KEY])
    in_service = artifact_utils.get_single_uri(input_dict[BASELINE_MODEL_KEY])
    digest = versions.digest(in_service)
    if digest == versions.digest(model):
        return "", ""
    split = artifact_utils.get_split_uri([examples], c.TEST)
    if fault := _fault(model, in_service, split):
        return digest, versions.refusal(in_service, fault)
    return digest, ""


def _fault(model: str, in_service: str, split: str) -> str:
    """What the model in service is or lacks, so that a model cannot be compared with it."""
    with (
        artifacts.fetched(versions.saved_model(model)) as own,
        artifacts.fetched(versions.saved_model(in_service)) as other,
    ):
        return (
            versions.fault(other, comparable.read_channels(own))
            or comparable.level_fault(other, own)
            or comparable.score_fault(other, storage.glob(f"{split}/*.gz"))
        )


def _refuse(blessing: types.Artifact, reason: str) -> None:
    """Marks a model as not blessed, as TFX does."""
    blessed = storage.join(blessing.uri, constants.BLESSED_FILE_NAME)
    if storage.exists(blessed):
        storage.remove(blessed)
        storage.write_file(storage.join(blessing.uri, constants.NOT_BLESSED_FILE_NAME), b"")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, 0)
    blessing.set_string_custom_property(versions.REFUSAL, reason)


class OutputMetric(tfma.metrics.Metric):
    """Mean over the images of an output of `score`, or of the difference of two; or a count.

    A picture with several files counts once, as in the comparison of budgets.

    Images whose output is not a number are skipped. TFMA's own MeanPrediction gives 0 for a model
    without labels.

    Args:
        name: name of the metric.
        output: name of the output.
        statistic: `MEAN`, `COUNT` of the images that are not skipped, or `SKIPPED`, the count of
            those that are.
        options: `minus`, the name of the output that is subtracted; `min_images`, the number of
            images below which the mean is 0 for every model, so that it does not change (TFMA would
            reject a model if the metric was missing or not a number); `code`, a fingerprint.
    """

    def __init__(self, name: str, output: str, statistic: str, **options: Any):
        super().__init__(_computations, name=name, output=output, statistic=statistic, **options)


def _computations(
    name: str,
    model_names: Iterable[str] | None = None,
    eval_config: Any = None,
    *,
    code: str = "",
    **options: Any,
) -> list[tfma.metrics.MetricComputation]:
    # Predictions are keyed by model only if there are several models.
    keyed = bool(eval_config) and len(eval_config.model_specs) > 1

    def computation(model: str) -> tfma.metrics.MetricComputation:
        key = metric_types.MetricKey(name=name, model_name=model)
        combiner = _Combiner(key, model if keyed else "", **options)
        return metric_types.MetricComputation([key], [_inputs()], combiner)

    return list(map(computation, model_names or [""]))


def _inputs() -> metric_types.StandardMetricInputsPreprocessor:
    # The image is for its digest, if it is a copy.
    names = (c.IMAGE_PICTURE, c.IMAGE_HEIGHT, c.IMAGE_WIDTH, c.IMAGE_SOURCE, c.IMAGE_ENCODED)
    return metric_types.FeaturePreprocessor(feature_keys=names)


class _Sum(NamedTuple):
    steps: int = 0
    images: int = 0
    skipped: int = 0

    def __add__(self, other: tuple[Any, ...]) -> "_Sum":
        return _Sum(*map(operator.add, self, other))


_Sums = tuple[_Sum, dict[str, tuple[tuple[int, str, str], _Sum]]]
"""The sum over images without copies; and of the largest file of each other picture, with its rank,
as in `keras_ae.scores.LargestCopies`."""


def _picture(features: Mapping[str, np.ndarray]) -> tuple[str, tuple[int, str, str]]:
    """The picture of an image, empty if it has no copies, and its rank among the files of it."""
    picture = np.ravel(features.get(c.IMAGE_PICTURE, ()))
    if not picture.size:
        return "", (0, "", "")
    height, width, source, encoded = (
        np.ravel(features[name])[0]
        for name in (c.IMAGE_HEIGHT, c.IMAGE_WIDTH, c.IMAGE_SOURCE, c.IMAGE_ENCODED)
    )
    digest = hashlib.sha256(encoded).hexdigest()
    return picture[0].decode(), (-int(height) * int(width), digest, source.decode())


@dataclasses.dataclass(eq=False)
class _Combiner(beam.CombineFn):
    key: metric_types.MetricKey
    model: str
    output: str
    statistic: str
    minus: str = ""
    min_images: int = 0

    def create_accumulator(self) -> _Sums:
        return _Sum(), {}

    def add_input(self, accumulator: _Sums, element: Any) -> _Sums:
        predictions = element.predictions
        if self.model:
            predictions = util.get_by_keys(predictions, [self.model])
        value = float(np.ravel(predictions[self.output])[0])
        if self.minus:
            value -= float(np.ravel(predictions[self.minus])[0])
        new = _Sum(skipped=1) if np.isnan(value) else _Sum(round(value / _STEP), 1)
        picture, rank = _picture(element.features)
        added = (_Sum(), {picture: (rank, new)}) if picture else (new, {})
        return self.merge_accumulators([accumulator, added])

    def merge_accumulators(self, accumulators: Iterable[_Sums]) -> _Sums:
        total, largest = self.create_accumulator()
        for sums, copies in accumulators:
            total += sums
            for picture, ranked in copies.items():
                largest[picture] = min(ranked, largest.get(picture, ranked))
        return total, largest

    def extract_output(self, accumulator: _Sums) -> dict[Any, float]:
        total, largest = accumulator
        return {self.key: self._value(sum((sums for _, sums in largest.values()), total))}

    def _value(self, sums: _Sum) -> float:
        if self.statistic != MEAN:
            return float(sums.images if self.statistic == COUNT else sums.skipped)
        if sums.images < self.min_images:
            return 0.0
        return sums.steps / sums.images * _STEP if sums.images else float("nan")
