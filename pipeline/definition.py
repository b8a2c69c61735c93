"""The pipeline itself: what runs, on what, in which order. Knows no runner and no path."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import components
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec, ExecutorClassSpec
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import standard_artifacts

from keras_ae import budgets as ladder
from keras_ae import contract as c
from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.saved_model.tiling import SERVING_TILE
from keras_ae.scores import BASELINE
from keras_ae.tuning.search_space import SearchSpace
from pipeline import evaluation
from pipeline.components.budget_comparison import keys
from pipeline.components.budget_comparison.component import BudgetComparison
from pipeline.components.image_example_gen.component import ImageExampleGen
from pipeline.components.pusher import executor as pusher_executor
from pipeline.components.report.component import Report
from pipeline.components.serving_check.component import ServingCheck
from pipeline.components.stage_trainer.component import StageTrainer
from pipeline.evaluation import Limits, eval_config
from pipeline.runtime.fingerprint import source_fingerprint


def create_pipeline(
    *,
    pipeline_name: str,
    pipeline_root: str,
    data: Any,
    data_fingerprint: Any,
    push_destination: str,
    checkpoints: str,
    budgets: tuple[int, ...] = ladder.DEFAULT,
    preset: Any = presets.DEFAULT,
    channels: int = 3,
    seed: Any = 0,
    seeds: int = 1,
    with_baseline: bool = False,
    batch_size: int = 32,
    tile: int = SERVING_TILE,
    memory_limit: int | None = None,
    max_bad_share: float = 0.1,
    tolerance: float = 0.1,
    min_gain: float = 0.0,
    max_drop: float = 0.1,
    max_slice_drop: float = 0.5,
    tune: int = 0,
    tune_epochs: int = 10,
    tune_parameters: int = 0,
    in_service: str | None = None,
    check_command: Sequence[str] = (),
    command: str = "",
    mlflow: Mapping[str, str] | None = None,
    metadata_connection_config: Any = None,
    beam_pipeline_args: list[str] | None = None,
) -> Pipeline:
    """Builds the pipeline from images to a pushed SavedModel.

    Args:
        pipeline_name: name under which results are cached; also the lineage of what is pushed.
        pipeline_root: where artifacts go.
        data: what `keras_ae.datasets.sources.open.open_source` takes, or a runtime parameter.
        data_fingerprint: digest of the data's content, so that a change of it is noticed, or a
            runtime parameter.
        push_destination: folder of the version folders.
        checkpoints: folder for the state of unfinished stages.
        budgets: increasing numbers of epochs; one Trainer each.
        preset: a name in `keras_ae.presets.PRESETS`, or a runtime parameter if nothing is tuned.
        channels: 1 (grey) or 3 (RGB).
        seed: of initial weights, crops, flips and order, or a runtime parameter if it is the only
            one and nothing is tuned.
        seeds: how many ladders, of this seed and the following ones, are trained and compared.
        with_baseline: whether the plain network is trained and compared beside, with the first
            seed and as it is, not tuned.
        batch_size: largest number of tiles in a training step.
        tile: most pixels of a side that go through the served model at once.
        memory_limit: bytes of decoded training images above which they are decoded anew in each
            epoch; None for half of the memory of the machine that trains.
        max_bad_share: share of unreadable images, 0 to 1, above which the run stops.
        tolerance: dB of mean val PSNR that count as equal when a budget is chosen.
        min_gain: dB over the linear floor that mean test PSNR must exceed.
        max_drop: dB of mean test PSNR that may be lost against the model in service.
        max_slice_drop: dB that a slice of at least 8 test images may lose against it.
        tune: trials of a search for a better preset before the ladder, or 0 for none.
        tune_epochs: of each trial.
        tune_parameters: most trainable numbers of a trial's model, or 0 for those of the preset.
        in_service: SavedModel that a new one is measured against, if there is one.
        check_command: what serves a model and compares its answers before a push, see
            `ServingCheck`; empty to compare in process only.
        command: the command line that reproduces the run, for the report.
        mlflow: `uri` of a tracking server and name of the `experiment` to log to, or None.
        metadata_connection_config: of ML Metadata, for runners that need it.
        beam_pipeline_args: for the components that run on Beam.

    Raises:
        ConfigurationError: for a preset that cannot be tuned, a budget that is too small, or a
            baseline beside itself.
    """
    if with_baseline and preset == presets.BASELINE:
        raise ConfigurationError(
            f"{presets.BASELINE} cannot be compared with itself: take another preset"
        )
    images = ImageExampleGen(
        data=data,
        channels=channels,
        fingerprint=data_fingerprint,
        max_bad_share=max_bad_share,
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
            "channels": channels,
            "stride": presets.STRIDE,
            "fingerprint": source_fingerprint("pipeline.preprocessing"),
        },
    )
    settings = {
        "channels": channels,
        "stride": presets.STRIDE,
        "latent_channels": presets.LATENT_CHANNELS,
        "batch_size": batch_size,
        "tile": tile,
        "memory_limit": memory_limit,
        "checkpoints": checkpoints,
    }
    graph = transform.outputs["transform_graph"]
    tuner, tuning = None, None
    if tune:
        space = SearchSpace(presets.get(preset), batch_size, tune_parameters, channels)
        tuning = {"trials": tune, "epochs": tune_epochs, "parameters": space.parameters}
        trial = {name: value for name, value in settings.items() if name != "tile"}
        tuner = _tuner({**trial, **tuning, "preset": preset, "seed": seed}, examples, graph)
    ladder_of = functools.partial(
        _trainers, budgets, examples=examples, transform_graph=graph, settings=settings
    )
    trainers = ladder_of(preset=preset, seed=seed, tuner=tuner)
    for i in range(1, seeds):
        trainers |= ladder_of(preset=preset, seed=seed + i, tuner=tuner, other_seed=seed + i)
    if with_baseline:
        trainers |= ladder_of(preset=presets.BASELINE, seed=seed, name=BASELINE)
    models = {key: trainer.outputs["model"] for key, trainer in trainers.items()}
    comparison = BudgetComparison(
        examples=examples,
        models=models,
        tuner_results=tuner.outputs["tuner_results"] if tuner else None,
        tuning={**tuning, "preset": preset, "batch_size": batch_size} if tuning else None,
        tolerance=tolerance,
        fingerprint=source_fingerprint("pipeline.components.budget_comparison.executor"),
    )
    baseline = _importer(in_service)
    limits = Limits(min_gain, max_drop, max_slice_drop)
    evaluator = Evaluator(
        examples=examples,
        model=comparison.outputs["model"],
        baseline_model=baseline.outputs["result"] if baseline else None,
        eval_config=eval_config(limits, source_fingerprint("pipeline.evaluation")),
        example_splits=[c.TEST],
    )
    check = ServingCheck(
        examples=examples,
        model=comparison.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=push_destination,
        tile=tile,
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
        in_service=baseline.outputs["result"] if baseline else None,
        limits=limits._asdict(),
        command=command,
        data_fingerprint=data_fingerprint,
        mlflow=mlflow,
        fingerprint=source_fingerprint("pipeline.components.report.executor"),
    )
    pusher = components.Pusher(
        model=comparison.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=check.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=push_destination)
        ),
        custom_config={"lineage": pipeline_name},
        custom_executor_spec=ExecutorClassSpec(pusher_executor.Executor),
    )
    nodes = [images, statistics, schema, validator, transform, *([tuner] if tuner else [])]
    nodes += [*trainers.values(), comparison]
    return Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[*nodes, *([baseline] if baseline else []), evaluator, check, report, pusher],
        enable_cache=True,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=beam_pipeline_args,
    )


class Evaluator(components.Evaluator):
    """TFX's, with the executor of `pipeline.evaluation`."""

    EXECUTOR_SPEC = BeamExecutorSpec(evaluation.Executor)


def _tuner(settings, examples, transform_graph) -> Any:
    return components.Tuner(
        tuner_fn="pipeline.tuner.tuner_fn",
        examples=examples,
        transform_graph=transform_graph,
        train_args=trainer_pb2.TrainArgs(splits=[c.TRAIN]),
        eval_args=trainer_pb2.EvalArgs(splits=[c.VAL]),
        custom_config={**settings, "fingerprint": source_fingerprint("pipeline.tuner")},
    )


def _trainers(
    budgets: tuple[int, ...],
    *,
    examples: Any,
    transform_graph: Any,
    settings: Mapping[str, Any],
    preset: Any,
    seed: Any,
    tuner: Any = None,
    name: str = keys.MODEL,
    other_seed: int | None = None,
) -> dict[str, Any]:
    """The chain of Trainers of one ladder, by the key of their models in the comparison.

    The first seed's have the names and settings of a run without other seeds, whose results serve.
    """
    code = source_fingerprint("pipeline.components.stage_trainer.executor")
    trainers: dict[str, Any] = {}
    model = None
    for stage in ladder.stages(budgets):
        key = keys.model_key(stage.stop, other_seed, name)
        trainer = StageTrainer(
            examples=examples,
            transform_graph=transform_graph,
            preset=preset,
            seed=seed,
            settings={**settings, "start": stage.start, "stop": stage.stop, "fingerprint": code},
            base_model=model,
            hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        ).with_id(f"Trainer_{key.removeprefix(f'{keys.MODEL}_')}")
        trainers[key] = trainer
        model = trainer.outputs["model"]
    return trainers


def _importer(in_service: str | None) -> Any:
    if in_service is None:
        return None
    return Importer(source_uri=in_service, artifact_type=standard_artifacts.Model).with_id(
        "ModelInService"
    )


def _stats_options() -> Any:
    """Statistics of the images' bytes by their length only: their values do not fit in memory."""
    # Importable only after tfx, which adds to tfx_bsl what it needs.
    import tensorflow_data_validation as tfdv

    feature = schema_pb2.Feature(
        name=c.IMAGE_ENCODED, type=schema_pb2.BYTES, image_domain=schema_pb2.ImageDomain()
    )
    return tfdv.StatsOptions(schema=schema_pb2.Schema(feature=[feature]))
