"""The work of Report: all that is known of a run, as a page, as JSON and for tracking tools."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from keras_ae.comparison import records
from keras_ae.comparison.records import Run, ServingResult, Verdict
from keras_ae.report.page import write_report
from keras_ae.scores import COMPARISON, IMAGES, MODEL, PICTURES
from pipeline.components.budget_comparison import keys
from pipeline.components.report import mlflow_log, tensorboard
from pipeline.components.report.facts import facts, lineage
from pipeline.components.report.mlflow_log import MlflowSettings
from pipeline.components.report.verdict import verdict
from pipeline.components.serving_check.executor import REASON
from pipeline.evaluation import Limits
from pipeline.runtime.artifacts import fetched, written
from pipeline.runtime.stages import read_summary

REPORT = "report.html"
TENSORBOARD = "tensorboard"
SERVED = "its served predictions match the trained model, in process and over gRPC and REST"
MLFLOW_RUN, MLFLOW_FAILURE = "mlflow_run", "mlflow_failure"


class Executor(base_executor.BaseExecutor):
    """Reads what the run made and writes files only: no image is scored again."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the report's files, and logs to MLflow where that is asked for."""
        report = artifact_utils.get_single_instance(output_dict["report"])
        compared = artifact_utils.get_single_uri(input_dict["comparison"])
        with fetched(compared) as source, written(report.uri) as place:
            self._write(input_dict, exec_properties, report, source, place)

    def _write(
        self,
        input_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
        report: types.Artifact,
        compared: Path,
        place: Path,
    ) -> None:
        root = report.uri.rsplit("/", 3)[0]
        comparison = records.read(compared / COMPARISON).model_copy(
            update={
                "run": _run(input_dict, exec_properties, root),
                "verdict": _verdict(input_dict, Limits.from_json(exec_properties["limits"])),
            }
        )
        (place / COMPARISON).write_text(comparison.to_json())
        shutil.copyfile(compared / IMAGES, place / IMAGES)
        write_report(comparison, compared / PICTURES, place / REPORT)
        tensorboard.write(comparison, compared / PICTURES, place / TENSORBOARD)
        mlflow = MlflowSettings.from_json(exec_properties["mlflow"])
        if mlflow.mlflow_uri:
            files = [place / REPORT, place / COMPARISON]
            run, failure = mlflow_log.log(
                mlflow.mlflow_uri, mlflow.mlflow_experiment, comparison, files
            )
            report.set_string_custom_property(MLFLOW_RUN, run)
            report.set_string_custom_property(MLFLOW_FAILURE, failure)


def _run(
    input_dict: Mapping[str, list[types.Artifact]],
    exec_properties: Mapping[str, Any],
    pipeline_root: str,
) -> Run:
    ladders = keys.ladders(exec_properties["models"])
    last = [list(of_seed.values())[-1].input for of_seed in ladders[MODEL]]
    all_keys = [
        key for ladder in ladders.values() for of_seed in ladder for key in of_seed.values()
    ]
    stages = {
        name: read_summary(artifact_utils.get_single_uri(list(input_dict[name])))
        for name in dict.fromkeys([last[0], *(key.input for key in all_keys)])
    }
    return facts(
        artifact_utils.get_single_instance(input_dict["examples"]),
        stages,
        seeds=[stages[name].seed for name in last],
        command=exec_properties["command"],
        data_fingerprint=exec_properties["data_fingerprint"],
        lineage=lineage(input_dict, pipeline_root),
    )


def _verdict(input_dict: Mapping[str, list[types.Artifact]], limits: Limits) -> Verdict:
    """What the Evaluator says, and of a blessed model what ServingCheck says."""
    blessing = artifact_utils.get_single_instance(list(input_dict["model_blessing"]))
    evaluation = artifact_utils.get_single_uri(list(input_dict["evaluation"]))
    told = verdict(evaluation, limits)
    if not model_utils.is_model_blessed(blessing):
        return told
    served = artifact_utils.get_single_instance(list(input_dict["infra_blessing"]))
    reason = served.get_string_custom_property(REASON)
    ok = bool(served.get_int_custom_property("blessed"))
    return told.model_copy(update={"served": ServingResult(ok=ok, text=reason or SERVED)})
