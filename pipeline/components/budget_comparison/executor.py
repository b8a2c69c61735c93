"""The work of BudgetComparison, on Beam: score and choose."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from keras_ae import contract as c
from keras_ae import presets, search_space
from keras_ae.comparison import Score, compare
from keras_ae.errors import DataError
from keras_ae.search_space import SearchSpace
from keras_ae.signatures import BATCH_PIXELS
from pipeline.components.budget_comparison.floors import score_global_floor

COMPARISON = "comparison.json"
IMAGES = "images.jsonl"
REPORT = "report.html"
SUMMARY = Path("training_state") / "summary.json"

_PREFIX = "model_"
_loaded: dict[str, Any] = {}
_loading = threading.Lock()


def model_key(budget: int) -> str:
    """The input that holds the model of a budget."""
    return f"{_PREFIX}{budget}"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs each budget's SavedModel over whole images, once."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes comparison and scores of each image, and copies the chosen model."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        models = {
            int(key.removeprefix(_PREFIX)): artifact_utils.get_single_instance(value)
            for key, value in input_dict.items()
            if key.startswith(_PREFIX)
        }
        models = dict(sorted(models.items()))
        stages = [json.loads((Path(m.uri) / SUMMARY).read_text()) for m in models.values()]
        comparison_artifact = artifact_utils.get_single_instance(output_dict["comparison"])
        place = Path(comparison_artifact.uri)
        place.mkdir(parents=True, exist_ok=True)

        paths = {budget: path_utils.serving_model_path(m.uri) for budget, m in models.items()}
        scores = self._score(examples, paths, place / "scores")
        scores, no_global_floor = _with_global_floor(scores, examples, stages[-1])
        _write_scores(scores, place / IMAGES)
        comparison = compare(scores, stages, exec_properties["tolerance"], no_global_floor)
        comparison |= _tuning(input_dict, exec_properties, stages[-1])
        (place / COMPARISON).write_text(json.dumps(comparison, indent=1, allow_nan=False))

        chosen = comparison["chosen"]
        comparison_artifact.set_int_custom_property("epochs", chosen["epochs"])
        model = artifact_utils.get_single_instance(output_dict["model"])
        shutil.copytree(models[chosen["epochs"]].uri, model.uri, dirs_exist_ok=True)
        model.set_int_custom_property("epochs", chosen["epochs"])
        _loaded.clear()

    def _score(self, examples: types.Artifact, models: dict[int, str], place: Path) -> list[Score]:
        with self._make_beam_pipeline() as pipeline:
            rows = []
            for split in c.SPLITS:
                rows.append(
                    pipeline
                    | f"Read {split}" >> beam.io.ReadFromTFRecord(_pattern(examples, split))
                    | f"Batch {split}"
                    >> beam.BatchElements(BATCH_PIXELS, BATCH_PIXELS, element_size_fn=_pixels)
                    | f"Score {split}" >> beam.FlatMap(_score_batch, models, split)
                )
            _ = (
                rows
                | "All" >> beam.Flatten()
                | "Encode" >> beam.Map(json.dumps)
                | "Collect" >> beam.io.WriteToText(str(place))
            )
        files = sorted(place.parent.glob(f"{place.name}-*"))
        lines = [line for file in files for line in file.read_text().splitlines()]
        scores = [Score(*json.loads(line)) for line in lines]
        for file in files:
            file.unlink()
        return sorted(scores, key=lambda s: (c.SPLITS.index(s.split), s.source, s.budget))


def _score_batch(
    batch: list[bytes], models: dict[int, str], split: str
) -> Iterator[tuple[Any, ...]]:
    sources = [_features(record)[c.IMAGE_SOURCE].bytes_list.value[0].decode() for record in batch]
    for budget, answers in _answers(models, c.SCORE, tf.constant(batch)).items():
        for i, source in enumerate(sources):
            if answers[c.STATUS][i]:
                raise DataError(f"{source}: {answers[c.STATUS][i].decode()}")
            names = (c.MSE, c.PSNR, c.SSIM, c.MS_SSIM, c.FLOOR_PSNR)
            yield Score(source, split, budget, *(float(answers[name][i]) for name in names))


def _with_global_floor(
    scores: list[Score], examples: types.Artifact, stage: dict[str, Any]
) -> tuple[list[Score], str | None]:
    """The scores with PSNR of the global floor where it is defined; and why it is nowhere."""
    patterns = {split: _pattern(examples, split) for split in c.SPLITS}
    sizes = (stage[name] for name in ("stride", "latent_channels", "channels"))
    psnr, reason = score_global_floor(patterns, *sizes)
    nan = float("nan")
    scored = [s._replace(global_floor_psnr=psnr.get((s.split, s.source), nan)) for s in scores]
    return scored, reason


def _answers(models: dict[int, str], signature: str, value: Any) -> dict[int, dict[str, Any]]:
    """What a signature of each model makes of its one input, as arrays by name.

    Two at a time: the first call of a signature uses one core for a second or two.
    """

    def answer(path: str) -> dict[str, Any]:
        return {name: v.numpy() for name, v in _signature(path, signature)(value).items()}

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(models, pool.map(answer, models.values())))


def _signature(path: str, name: str) -> Any:
    """A signature of a SavedModel that each process loads once, called with its one input."""
    with _loading:
        if path not in _loaded:
            _loaded[path] = tf.saved_model.load(path)
    function = _loaded[path].signatures[name]
    (argument,) = function.structured_input_signature[1]
    return lambda value: function(**{argument: value})


def _features(record: bytes) -> Any:
    return tf.train.Example.FromString(record).features.feature


def _pixels(record: bytes) -> int:
    features = _features(record)
    return int(
        features[c.IMAGE_HEIGHT].int64_list.value[0] * features[c.IMAGE_WIDTH].int64_list.value[0]
    )


def _pattern(examples: types.Artifact, split: str) -> str:
    return str(Path(artifact_utils.get_split_uri([examples], split)) / "*.gz")


def _tuning(
    input_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
    stage: dict[str, Any],
) -> dict[str, Any]:
    """How the models were tuned, and the trials, for the comparison."""
    if not input_dict.get("tuner_results"):
        return {"tuning": None, "trials": []}
    tuning = json.loads(exec_properties["tuning"])
    (results,) = Path(artifact_utils.get_single_uri(input_dict["tuner_results"])).glob("*.json")
    space = SearchSpace(
        presets.get(tuning["preset"]),
        tuning["batch_size"],
        tuning["parameters"],
        *(stage[name] for name in ("channels", "stride", "latent_channels")),
    )
    trials = search_space.trials(space, json.loads(results.read_text()))
    # TFX lists only those that trained.
    tuning["failed"] = tuning["trials"] - len(trials)
    return {"tuning": tuning, "trials": trials}


def _write_scores(scores: list[Score], path: Path) -> None:
    def strict(value: Any) -> Any:
        return None if isinstance(value, float) and value != value else value

    lines = [json.dumps({k: strict(v) for k, v in s._asdict().items()}) + "\n" for s in scores]
    path.write_text("".join(lines))
