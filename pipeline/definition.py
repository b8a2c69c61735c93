"""The definition of the pipeline: its components and their inputs, for every runner."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import components
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec, ExecutorClassSpec
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import standard_artifacts

from keras_ae import contract as c
from keras_ae import presets
from keras_ae.budgets import stages
from keras_ae.scores import BASELINE, MODEL
from pipeline import evaluation
from pipeline.components.budget_comparison.component import BudgetComparison
from pipeline.components.budget_comparison.keys import ModelKey
from pipeline.components.image_example_gen.component import ImageExampleGen
from pipeline.components.pusher import executor as pusher_executor
from pipeline.components.report.component import Report
from pipeline.components.report.mlflow_log import MlflowSettings
from pipeline.components.serving_check.component import ServingCheck
from pipeline.components.stage_trainer.component import StageTrainer
from pipeline.evaluation import Limits, eval_config
from pipeline.runtime.fingerprint import source_fingerprint
from pipeline.runtime.run_config import RunConfig
from pipeline.runtime.search import Search, TunerConfig
from pipeline.runtime.settings import StageSettings

UNCACHED = ("ServingCheck", "Report", "Pusher")
"""Nodes that run every time: the model in service may have changed since a push was cached, and a
report describes its run."""


def create_pipeline(
    config: RunConfig,
    *,
    pipeline_name: str,
    pipeline_root: str,
    data_fingerprint: Any,
    push_destination: str,
    checkpoints: str,
    in_service: str | None = None,
    check_command: Sequence[str] = (),
    command: str = "",
    leave_out: Iterable[str] = (),
    metadata_connection_config: Any = None,
    beam_pipeline_args: list[str] | None = None,
) -> Pipeline:
    """Builds the pipeline from images to a pushed SavedModel.

    Args:
        config: settings of the run.
        pipeline_name: name under which results are cached.
        pipeline_root: path or URI of the folder of the artifacts.
        data_fingerprint: digest of the data's content, for the cache keys, or a runtime parameter.
        push_destination: path or URI of the folder of the version folders.
        checkpoints: path or URI of the folder for the state of unfinished stages.
        in_service: path or URI of the model in service, if there is one: a version folder, or a
            Model artifact. A new model is compared with it, and replaces no other.
        check_command: command that serves a model and compares its predictions before a push, see
            `ServingCheck`; empty to compare in process only.
        command: the command line that reproduces the run, for the report.
        leave_out: paths below the data of folders that are not read, because the run writes them.
    """
    preset, seed = config.preset, config.seed
    images = ImageExampleGen(
        data=config.data,
        channels=config.channels,
        fingerprint=data_fingerprint,
        stride=config.stride,
        max_bad_share=config.max_bad_share,
        copies=config.copies,
        white=config.white or 0.0,
        **config.source_options,
        leave_out=list(leave_out),
        code=source_fingerprint("pipeline.components.image_example_gen.executor"),
    )
    examples = images.outputs["examples"]
    statistics = components.StatisticsGen(examples=examples, stats_options=_stats_options())
    schema = components.SchemaGen(statistics=statistics.outputs["statistics"])
    validator = components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    transform = components.Transform(
        examples=examples,
        schema=schema.outputs["schema"],
        preprocessing_fn="pipeline.preprocessing.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=[c.TRAIN]),
        materialize=False,
        disable_statistics=True,
        custom_config={
            "channels": config.channels,
            "stride": config.stride,
            "fingerprint": source_fingerprint("pipeline.preprocessing"),
        },
    )
    graph = transform.outputs["transform_graph"]
    tuner = search = tuned = None
    if config.tune:
        trials, epochs, space = config.tune, config.tune_epochs, config.search_space
        search = Search.of(config, trials=trials, epochs=epochs, parameters=space.parameters)
        code = source_fingerprint("pipeline.tuner")
        tuner = components.Tuner(
            tuner_fn="pipeline.tuner.tuner_fn",
            examples=examples,
            transform_graph=graph,
            train_args=trainer_pb2.TrainArgs(splits=[c.TRAIN]),
            eval_args=trainer_pb2.EvalArgs(splits=[c.VAL]),
            custom_config=dataclasses.asdict(
                TunerConfig.of(config, search, checkpoints=checkpoints, fingerprint=code)
            ),
        )
        tuned = tuner.outputs["best_hyperparameters"]
    code = source_fingerprint("pipeline.components.stage_trainer.executor")
    settings = functools.partial(
        StageSettings.of, config, checkpoints=checkpoints, fingerprint=code
    )
    trainers_of = functools.partial(
        _trainers, config.budgets, examples=examples, transform_graph=graph, settings=settings
    )
    trainers = trainers_of(preset=preset, seed=seed, tuned=tuned)
    for i in range(1, config.seeds):
        trainers |= trainers_of(preset=preset, seed=seed + i, tuned=tuned, other_seed=seed + i)
    if config.with_baseline:
        trainers |= trainers_of(preset=presets.BASELINE, seed=seed, ladder=BASELINE)
    models = {key: trainer.outputs["model"] for key, trainer in trainers.items()}
    comparison = BudgetComparison(
        examples=examples,
        models=models,
        tuner_results=tuner.outputs["tuner_results"] if tuner else None,
        tuning=search,
        tolerance=config.tolerance,
        fingerprint=source_fingerprint("pipeline.components.budget_comparison.executor"),
    )
    importer = model_in_service = None
    if in_service is not None:
        importer = Importer(source_uri=in_service, artifact_type=standard_artifacts.Model)
        model_in_service = importer.with_id("ModelInService").outputs["result"]
    limits = Limits.of(config)
    evaluator = Evaluator(
        examples=examples,
        model=comparison.outputs["model"],
        baseline_model=None if config.replace else model_in_service,
        eval_config=eval_config(limits, source_fingerprint("pipeline.evaluation")),
        example_splits=[c.TEST],
    )
    check = ServingCheck(
        examples=examples,
        model=comparison.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=push_destination,
        tile=config.tile,
        command=check_command,
        fingerprint=source_fingerprint("pipeline.components.serving_check.executor"),
    )
    report = Report(
        inputs={
            "examples": examples,
            "schema": schema.outputs["schema"],
            "transform_graph": graph,
            "comparison": comparison.outputs["comparison"],
            "evaluation": evaluator.outputs["evaluation"],
            "model_blessing": evaluator.outputs["blessing"],
            "infra_blessing": check.outputs["blessing"],
        },
        models=models,
        in_service=model_in_service,
        limits=limits,
        command=command,
        data_fingerprint=data_fingerprint,
        mlflow=MlflowSettings.of(config),
        fingerprint=source_fingerprint("pipeline.components.report.executor"),
    )
    pusher = components.Pusher(
        model=comparison.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=check.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=push_destination)
        ),
        custom_config={pusher_executor.IN_SERVICE: in_service or ""},
        custom_executor_spec=ExecutorClassSpec(pusher_executor.Executor),
    )
    nodes = [images, statistics, schema, validator, transform, tuner, *trainers.values()]
    nodes += [comparison, importer, evaluator, check, report, pusher]
    return Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[node for node in nodes if node is not None],
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=beam_pipeline_args,
    )


class Evaluator(components.Evaluator):
    """TFX's Evaluator with the executor of `pipeline.evaluation`."""

    EXECUTOR_SPEC = BeamExecutorSpec(evaluation.Executor)


def _trainers(
    budgets: tuple[int, ...],
    *,
    examples: Any,
    transform_graph: Any,
    settings: Callable[..., StageSettings],
    preset: Any,
    seed: Any,
    tuned: Any = None,
    ladder: str = MODEL,
    other_seed: int | None = None,
) -> dict[ModelKey, Any]:
    """The Trainers of a ladder, each of which continues the one before it, by their model's key.

    Those of the first seed have the same names and settings in a run with this seed only, so that
    each of the two runs uses the cached results of the other.
    """
    trainers: dict[ModelKey, Any] = {}
    model = None
    for stage in stages(budgets):
        key = ModelKey(ladder, stage.stop, other_seed)
        trainers[key] = StageTrainer(
            examples=examples,
            transform_graph=transform_graph,
            preset=preset,
            seed=seed,
            settings=settings(start=stage.start, stop=stage.stop),
            base_model=model,
            hyperparameters=tuned,
        ).with_id(key.node)
        model = trainers[key].outputs["model"]
    return trainers


def _stats_options() -> Any:
    """Options for statistics of the images' bytes without their values, which need much memory."""
    # It can be imported only after tfx, which adds modules that it needs to tfx_bsl.
    import tensorflow_data_validation as tfdv

    feature = schema_pb2.Feature(
        name=c.IMAGE_ENCODED, type=schema_pb2.BYTES, image_domain=schema_pb2.ImageDomain()
    )
    return tfdv.StatsOptions(schema=schema_pb2.Schema(feature=[feature]))
