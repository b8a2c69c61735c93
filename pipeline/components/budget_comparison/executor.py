"""Executor of BudgetComparison: scores models on Beam, chooses one, and writes pictures."""

import dataclasses
import json
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from keras_ae import contract as c
from keras_ae import presets, storage
from keras_ae.comparison.codecs import summarize as summarize_codecs
from keras_ae.comparison.compare import compare
from keras_ae.comparison.records import Comparison, Trial, Tuning
from keras_ae.models import linear
from keras_ae.scores import COMPARISON, IMAGES, MODEL, PICTURES, Layout, Table
from keras_ae.scoring.codecs import KINDS, score_codecs
from keras_ae.scoring.floors import Floors, fit_global
from keras_ae.scoring.models import load, unload_all
from keras_ae.scoring.pictures import write_pictures
from keras_ae.tuning import search_space
from keras_ae.tuning.search_space import SearchSpace
from pipeline.components.budget_comparison import keys
from pipeline.components.budget_comparison.keys import ModelKey
from pipeline.components.budget_comparison.scoring import graph_of, score
from pipeline.components.serving_check import server
from pipeline.runtime import artifacts
from pipeline.runtime.artifacts import FLOOR
from pipeline.runtime.search import Search
from pipeline.runtime.stages import StageSummary, read_summary


class Executor(base_beam_executor.BaseBeamExecutor):
    """Scores every SavedModel on whole images, in one pass over them."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the comparison, the scores of each image and pictures; copies the chosen model."""
        run = _Run.of(input_dict, keys.ladders(exec_properties["models"]))
        compared = artifact_utils.get_single_instance(output_dict["comparison"])
        # Below the artifact's URI, because Beam's workers may run on other machines.
        parts = storage.join(compared.uri, f".parts-{uuid.uuid4().hex}")
        with artifacts.written(compared.uri) as folder:
            try:
                comparison = self._compare(run, exec_properties["tolerance"], folder, parts)
            finally:
                unload_all()
            tuning = _tuning(input_dict, exec_properties, run.first)
            (folder / COMPARISON).write_text(comparison.model_copy(update=tuning).to_json())
        model = artifact_utils.get_single_instance(output_dict["model"])
        seed, epochs = comparison.chosen.seed, comparison.chosen.epochs
        artifacts.copy_folder(run.artifact(seed, epochs).uri, model.uri)
        if not storage.is_uri(model.uri):
            server.start(Path(path_utils.serving_model_path(model.uri)))
        for artifact in (compared, model):
            artifact.set_int_custom_property("epochs", epochs)
            artifact.set_int_custom_property("seed", seed)

    def _compare(self, run: "_Run", tolerance: float, folder: Path, parts: str) -> Comparison:
        stage = run.first
        global_pca, no_global_pca = fit_global(
            run.patterns[c.TRAIN], stage.stride, stage.latent_channels, stage.channels
        )
        model = run.ladders[MODEL][0][run.layout.budgets[0]]
        with artifacts.fetched(storage.join(model.uri, FLOOR)) as floor:
            patch_pca = linear.load(floor)
        floors = Floors(patch_pca, stage.stride, global_pca)
        scores = score(
            self._make_beam_pipeline,
            run.patterns,
            run.paths,
            run.layout,
            floors,
            stage.channels,
            folder / IMAGES,
            parts,
        )
        comparison = compare(
            {split: (each.sums, each.table) for split, each in scores.items()},
            run.layout,
            run.stages,
            tolerance=tolerance,
            no_global_floor_reason=no_global_pca,
            files={split: each.files for split, each in scores.items()},
            in_train=run.in_train,
        )
        seed, epochs = comparison.chosen.seed, comparison.chosen.epochs
        path = path_utils.serving_model_path(run.artifact(seed, epochs).uri)
        scored = score_codecs(run.patterns, path, floors, stage.channels, graph_of)
        quality = {kind: scored[kind] for kind in KINDS}
        codecs = summarize_codecs(quality, scored["bytes"], scored["pixels"])
        _write_pictures(run, seed, epochs, scores[c.TEST].table, floors, folder / PICTURES)
        return comparison.model_copy(update={"codecs": codecs})


@dataclasses.dataclass(frozen=True)
class _Run:
    """The models and images that are compared.

    Attributes:
        patterns: pattern of the files of each split.
        ladders: Model artifacts by ladder, seed and budget.
        stages: summaries of the same models.
        in_train: numbers of pictures of val and test that train has too.
    """

    patterns: dict[str, str]
    ladders: dict[str, list[dict[int, types.Artifact]]]
    stages: dict[str, list[list[StageSummary]]]
    in_train: dict[str, int]

    @classmethod
    def of(
        cls,
        input_dict: dict[str, list[types.Artifact]],
        models: dict[str, list[dict[int, ModelKey]]],
    ) -> "_Run":
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        ladders = {
            ladder: [
                {
                    budget: artifact_utils.get_single_instance(input_dict[key.input])
                    for budget, key in keys_by_budget.items()
                }
                for keys_by_budget in seeds
            ]
            for ladder, seeds in models.items()
        }
        stages = {
            ladder: [[read_summary(model.uri) for model in models.values()] for models in seeds]
            for ladder, seeds in ladders.items()
        }
        patterns = {split: _pattern(examples, split) for split in c.SPLITS}
        in_train = {s: examples.get_int_custom_property(f"{s}_in_train") for s in (c.VAL, c.TEST)}
        return cls(patterns, ladders, stages, in_train)

    @cached_property
    def layout(self) -> Layout:
        budgets = tuple(self.ladders[MODEL][0])
        return Layout(budgets, {ladder: len(models) for ladder, models in self.ladders.items()})

    @property
    def first(self) -> StageSummary:
        return self.stages[MODEL][0][0]

    @property
    def paths(self) -> dict[str, list[list[str]]]:
        return {
            ladder: [
                [path_utils.serving_model_path(model.uri) for model in models.values()]
                for models in seeds
            ]
            for ladder, seeds in self.ladders.items()
        }

    def index(self, seed: int) -> int:
        """The index of a seed among those of the ladder `MODEL`."""
        return [stages[0].seed for stages in self.stages[MODEL]].index(seed)

    def artifact(self, seed: int, epochs: int) -> types.Artifact:
        return self.ladders[MODEL][self.index(seed)][epochs]


def _write_pictures(
    run: _Run, seed: int, epochs: int, table: Table, floors: Floors, folder: Path
) -> None:
    index = run.index(seed)
    models = load(run.paths[MODEL][index], run.first.channels, graph_of)

    def reconstruct(images: np.ndarray) -> dict[str, np.ndarray]:
        floor = linear.reconstruct_rounded(images, floors.patch, floors.stride)
        pixels = {str(b): model.reconstruct(images) for b, model in zip(run.layout.budgets, models)}
        return {name: np.asarray(each) for name, each in {**pixels, "floor": floor}.items()}

    chosen = index, run.layout.budgets.index(epochs)
    write_pictures(
        run.patterns[c.TEST], table, run.layout, chosen, reconstruct, run.first.channels, folder
    )


def _pattern(examples: types.Artifact, split: str) -> str:
    return storage.join(artifact_utils.get_split_uri([examples], split), "*.gz")


def _tuning(
    input_dict: dict[str, list[types.Artifact]],
    exec_properties: dict[str, Any],
    stage: StageSummary,
) -> dict[str, Any]:
    """The fields `tuning` and `trials` of the comparison; empty if nothing was tuned."""
    if not input_dict.get("tuner_results"):
        return {}
    search = Search.from_json(exec_properties["tuning"])
    folder = artifact_utils.get_single_uri(input_dict["tuner_results"])
    (results,) = storage.glob(storage.join(folder, "*.json"))
    space = SearchSpace(
        presets.get(search.preset),
        search.batch_size,
        search.parameters,
        stage.channels,
        stage.stride,
        stage.latent_channels,
    )
    trials = search_space.read_trials(space, json.loads(storage.read_file(results)))
    # TFX lists only trials that trained.
    failed = search.trials - len(trials)
    return {
        "tuning": Tuning(**dataclasses.asdict(search), failed=failed),
        "trials": tuple(Trial(**dataclasses.asdict(trial)) for trial in trials),
    }
