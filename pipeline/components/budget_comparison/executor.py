"""Executor of BudgetComparison: scores models on Beam, chooses one, and writes pictures."""

import dataclasses
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from keras_ae import contract as c
from keras_ae import presets, storage
from keras_ae.comparison.answer import add_data_notes
from keras_ae.comparison.codecs import summarize as summarize_codecs
from keras_ae.comparison.compare import compare
from keras_ae.comparison.records import Chosen, Comparison, Tuning
from keras_ae.comparison.trials import read_trials
from keras_ae.models import linear
from keras_ae.scores import COMPARISON, IMAGES, MODEL, PICTURES, Layout, Table
from keras_ae.scoring.codecs import KINDS, score_codecs
from keras_ae.scoring.floors import Floors, fit_global
from keras_ae.scoring.models import load, unload_all
from keras_ae.scoring.pictures import write_pictures
from keras_ae.stages import StageSummary
from keras_ae.tuning.search_space import SearchSpace
from pipeline.components.budget_comparison import keys
from pipeline.components.budget_comparison.scoring import graph_of, score
from pipeline.components.serving_check import server
from pipeline.runtime import artifacts, ingested
from pipeline.runtime.artifacts import FLOOR
from pipeline.runtime.search import Search
from pipeline.runtime.stages import read_summary


class Executor(base_beam_executor.BaseBeamExecutor):
    """Scores every SavedModel on whole images, in one pass over them."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the comparison, the scores of each image and pictures; copies the chosen model."""
        run = _Run(input_dict, exec_properties["models"])
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
        seed_index, budget_index = run.index(comparison.chosen)
        artifacts.copy_folder(run.uris[MODEL][seed_index][budget_index], model.uri)
        if not storage.is_uri(model.uri):
            server.start(Path(path_utils.serving_model_path(model.uri)))
        for artifact in (compared, model):
            artifact.set_int_custom_property("epochs", comparison.chosen.epochs)
            artifact.set_int_custom_property("seed", comparison.chosen.seed)

    def _compare(self, run: "_Run", tolerance: float, folder: Path, parts: str) -> Comparison:
        stage = run.first
        global_pca, no_global_pca = fit_global(
            run.patterns[c.TRAIN], stage.stride, stage.latent_channels, stage.channels
        )
        with artifacts.fetched(storage.join(run.uris[MODEL][0][0], FLOOR)) as floor:
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
        chosen = run.index(comparison.chosen)
        path = run.paths[MODEL][chosen[0]][chosen[1]]
        scored = score_codecs(run.patterns, path, floors, stage.channels, graph_of)
        quality = {kind: scored[kind] for kind in KINDS}
        codecs = summarize_codecs(quality, scored["bytes"], scored["pixels"])
        _write_pictures(run, chosen, scores[c.TEST].table, floors, folder / PICTURES)
        answer = add_data_notes(comparison.answer, run.notes)
        return comparison.model_copy(update={"codecs": codecs, "answer": answer})


class _Run:
    """The models that are compared, by ladder, seed and budget, and the files of each split."""

    def __init__(self, input_dict: dict[str, list[types.Artifact]], models: str):
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        self.patterns = {
            split: storage.join(artifact_utils.get_split_uri([examples], split), "*.gz")
            for split in c.SPLITS
        }
        by_ladder = keys.ladders(models)
        budgets = tuple(by_ladder[MODEL][0])
        self.layout = Layout(budgets, {ladder: len(seeds) for ladder, seeds in by_ladder.items()})
        self.uris = {
            ladder: [
                [artifact_utils.get_single_uri(input_dict[key.input]) for key in by_budget.values()]
                for by_budget in seeds
            ]
            for ladder, seeds in by_ladder.items()
        }
        self.paths = self._map(path_utils.serving_model_path)
        self.stages = self._map(read_summary)
        self.first: StageSummary = self.stages[MODEL][0][0]
        self.notes = ingested.read(examples.uri).notes
        self.in_train = {
            split: examples.get_int_custom_property(f"{split}_in_train")
            for split in (c.VAL, c.TEST)
        }

    def _map(self, function: Callable[[str], Any]) -> dict[str, list[list[Any]]]:
        return {
            ladder: [[function(uri) for uri in by_budget] for by_budget in seeds]
            for ladder, seeds in self.uris.items()
        }

    def index(self, chosen: Chosen) -> tuple[int, int]:
        """The indices of the chosen seed and budget of the ladder `MODEL`."""
        seeds = [stages[0].seed for stages in self.stages[MODEL]]
        return seeds.index(chosen.seed), self.layout.budgets.index(chosen.epochs)


def _write_pictures(
    run: _Run, chosen: tuple[int, int], table: Table, floors: Floors, folder: Path
) -> None:
    models = load(run.paths[MODEL][chosen[0]], run.first.channels, graph_of)

    def reconstruct(images: np.ndarray) -> dict[str, np.ndarray]:
        floor = linear.reconstruct_rounded(images, floors.patch, floors.stride)
        pixels = {str(b): model.reconstruct(images) for b, model in zip(run.layout.budgets, models)}
        return {name: np.asarray(each) for name, each in {**pixels, "floor": floor}.items()}

    write_pictures(
        run.patterns[c.TEST], table, run.layout, chosen, reconstruct, run.first.channels, folder
    )


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
    trials = read_trials(space, json.loads(storage.read_file(results)))
    # TFX lists only trials that trained.
    failed = search.trials - len(trials)
    return {
        "tuning": Tuning(**dataclasses.asdict(search), failed=failed),
        "trials": trials,
    }
