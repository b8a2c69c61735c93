"""Report: writes the comparison with a description of the run, for people and tools."""

from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import artifact, channel_utils, component_spec, standard_artifacts

from pipeline.components.budget_comparison import keys
from pipeline.components.budget_comparison.component import Comparison
from pipeline.components.budget_comparison.keys import ModelKey
from pipeline.components.report import executor
from pipeline.components.report.mlflow_log import MlflowSettings
from pipeline.components.specs import make_spec
from pipeline.evaluation import Limits

_PARAMETERS = ("models", "limits", "command", "data_fingerprint", "mlflow", "fingerprint")
_INPUTS = {
    "examples": standard_artifacts.Examples,
    "schema": standard_artifacts.Schema,
    "transform_graph": standard_artifacts.TransformGraph,
    "comparison": Comparison,
    "evaluation": standard_artifacts.ModelEvaluation,
    "model_blessing": standard_artifacts.ModelBlessing,
    "infra_blessing": standard_artifacts.InfraBlessing,
    "in_service": standard_artifacts.Model,
}


class ReportArtifact(artifact.Artifact):
    """`report.html`, `comparison.json`, `images.jsonl` and `tensorboard/`."""

    TYPE_NAME = "pipeline.ReportArtifact"


class Report(base_component.BaseComponent):
    """Writes the page, and logs the comparison for TensorBoard and, if wanted, to MLflow.

    The output is `report`.

    Args:
        inputs: channels of the artifacts of a run, by the names of `_INPUTS`; the report lists them
            as its lineage.
        models: channel of the Model of each budget, seed and ladder.
        limits: limits of the blessing.
        mlflow: settings of logging to MLflow.
        in_service: channel of the Model that the new one was compared with, if there was one.
        command: the command line that reproduces the run.
        data_fingerprint: digest of the data's content.
        fingerprint: digest of the executor's source.
    """

    SPEC_CLASS = component_spec.ComponentSpec
    EXECUTOR_SPEC = ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        inputs: Mapping[str, Any],
        models: Mapping[ModelKey, Any],
        limits: Limits,
        mlflow: MlflowSettings,
        in_service: Any = None,
        command: str = "",
        data_fingerprint: Any = "",
        fingerprint: str = "",
    ):
        model_inputs = {key.input: channel for key, channel in models.items()}
        spec_class = make_spec(
            dict.fromkeys(_PARAMETERS, str),
            _INPUTS | dict.fromkeys(model_inputs, standard_artifacts.Model),
            {"report": ReportArtifact},
            optional=["in_service"],
        )
        spec = spec_class(
            **inputs,
            **model_inputs,
            models=keys.to_json(models),
            **({"in_service": in_service} if in_service else {}),
            limits=limits.to_json(),
            command=command,
            data_fingerprint=data_fingerprint,
            mlflow=mlflow.to_json(),
            fingerprint=fingerprint,
            report=channel_utils.as_channel([ReportArtifact()]),
        )
        super().__init__(spec=spec)
