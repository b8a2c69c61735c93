"""Executor of Report: writes what is known of a run as a page, as JSON and for tracking tools."""

import shutil
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from keras_ae.comparison import records
from keras_ae.comparison.records import Run, ServingResult, Verdict
from keras_ae.presets import describe_latent
from keras_ae.report.page import write_report
from keras_ae.saved_model.metadata import read_metadata
from keras_ae.scores import COMPARISON, IMAGES, MODEL, PICTURES
from pipeline.components.budget_comparison import keys
from pipeline.components.report import mlflow_log, tensorboard
from pipeline.components.report.facts import describe_run, lineage
from pipeline.components.report.mlflow_log import MlflowSettings
from pipeline.components.report.verdict import NO_OTHER, REPLACED, read_verdict
from pipeline.components.serving_check.executor import REASON
from pipeline.evaluation import Limits
from pipeline.runtime import versions
from pipeline.runtime.artifacts import fetched, written
from pipeline.runtime.stages import read_summary

REPORT = "report.html"
TENSORBOARD = "tensorboard"
SERVED = "its served predictions match the trained model, in process and over gRPC and REST"
MLFLOW_RUN, MLFLOW_FAILURE = "mlflow_run", "mlflow_failure"


class Executor(base_executor.BaseExecutor):
    """Writes the report from the artifacts of the run, without scoring images again."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the report's files, and logs to MLflow if there is an address."""
        report = artifact_utils.get_single_instance(output_dict["report"])
        compared = artifact_utils.get_single_uri(input_dict["comparison"])
        facts = _run(input_dict, exec_properties, report.uri.rsplit("/", 3)[0])
        limits = Limits.from_json(exec_properties["limits"])
        parts = {"run": facts, "verdict": _verdict(input_dict, limits, facts)}
        mlflow = MlflowSettings.from_json(exec_properties["mlflow"])
        with fetched(compared) as source, written(report.uri) as folder:
            comparison = records.read(source / COMPARISON).model_copy(update=parts)
            (folder / COMPARISON).write_text(comparison.to_json())
            shutil.copyfile(source / IMAGES, folder / IMAGES)
            write_report(comparison, source / PICTURES, folder / REPORT)
            tensorboard.write(comparison, source / PICTURES, folder / TENSORBOARD)
            if uri := mlflow.mlflow_uri:
                files = [folder / REPORT, folder / COMPARISON]
                run, failure = mlflow_log.log(uri, mlflow.mlflow_experiment, comparison, files)
                report.set_string_custom_property(MLFLOW_RUN, run)
                report.set_string_custom_property(MLFLOW_FAILURE, failure)


def _run(
    input_dict: Mapping[str, list[types.Artifact]],
    exec_properties: Mapping[str, Any],
    pipeline_root: str,
) -> Run:
    by_ladder = keys.ladders(exec_properties["models"])
    last = [list(by_budget.values())[-1].input for by_budget in by_ladder[MODEL]]
    models = [by_budget.values() for seeds in by_ladder.values() for by_budget in seeds]
    names = dict.fromkeys([last[0], *(key.input for row in models for key in row)])
    stages = {name: read_summary(artifact_utils.get_single_uri(input_dict[name])) for name in names}
    return describe_run(
        artifact_utils.get_single_instance(input_dict["examples"]),
        stages,
        seeds=[stages[name].seed for name in last],
        command=exec_properties["command"],
        data_fingerprint=exec_properties["data_fingerprint"],
        lineage=lineage(input_dict, pipeline_root),
    )


def _verdict(input_dict: Mapping[str, list[types.Artifact]], limits: Limits, run: Run) -> Verdict:
    """The Evaluator's verdict, with the result of ServingCheck for a blessed model."""
    blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
    evaluation = artifact_utils.get_single_uri(input_dict["evaluation"])
    replaced = bool(input_dict.get("in_service")) and limits.replace
    refusal = blessing.get_string_custom_property(versions.REFUSAL)
    evaluated = read_verdict(
        evaluation, limits, uncompared=REPLACED if replaced else NO_OTHER, refusal=refusal
    )
    if blessing.get_string_custom_property(versions.COMPARED) and not refusal:
        notes = (*_size_notes(input_dict, run), *_data_notes(input_dict))
        evaluated = evaluated.model_copy(update={"notes": notes})
    if not model_utils.is_model_blessed(blessing):
        return evaluated
    served = artifact_utils.get_single_instance(input_dict["infra_blessing"])
    reason = served.get_string_custom_property(REASON)
    ok = bool(served.get_int_custom_property("blessed"))
    return evaluated.model_copy(update={"served": ServingResult(ok=ok, text=reason or SERVED)})


def _size_notes(input_dict: Mapping[str, list[types.Artifact]], run: Run) -> tuple[str, ...]:
    """The sizes of the latents, unless the model in service has the same as this run."""
    in_service = versions.saved_model(artifact_utils.get_single_uri(input_dict["in_service"]))
    facts = read_metadata(str(in_service))
    latent = describe_latent(facts.latent_channels, facts.stride, run.channels or 3)
    if latent == run.latent:
        return ()
    return (
        "the models are compared by their PSNR, although their latents differ in size: the model "
        f"in service has {latent}; this model has {run.latent}",
    )


def _data_notes(input_dict: Mapping[str, list[types.Artifact]]) -> tuple[str, ...]:
    """A caution, unless the model in service comes from the same splits as this run."""
    examples = artifact_utils.get_single_instance(input_dict["examples"])
    in_service = artifact_utils.get_single_uri(input_dict["in_service"])
    recorded = versions.provenance(in_service).get("data")
    if recorded == versions.data_facts(examples):
        return ()
    why = "its data or splits were others" if recorded else "its data are not recorded"
    return (
        f"the model in service may have been trained on some of these test images, because {why}; "
        "the comparison with it then favours it",
    )
