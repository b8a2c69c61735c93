"""Report: the comparison with all that is known of the run, for people, programs and tools."""

import json
from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import artifact, channel_utils, component_spec, standard_artifacts

from pipeline.components.budget_comparison.component import Comparison
from pipeline.components.report import executor

_INPUTS = {
    "examples": standard_artifacts.Examples,
    "schema": standard_artifacts.Schema,
    "transform_graph": standard_artifacts.TransformGraph,
    "comparison": Comparison,
    "evaluation": standard_artifacts.ModelEvaluation,
    "model_blessing": standard_artifacts.ModelBlessing,
    "infra_blessing": standard_artifacts.InfraBlessing,
}


class ReportArtifact(artifact.Artifact):
    """`report.html`, `comparison.json`, `images.jsonl` and `tensorboard/`."""

    TYPE_NAME = "pipeline.ReportArtifact"


class Report(base_component.BaseComponent):
    """Writes the page, and logs the comparison for TensorBoard and, if asked, MLflow.

    The output is `report`.

    Args:
        inputs: channels of what a run made, all of which the report lists as its lineage:
            `examples`, `schema`, `transform_graph`, `comparison`, `evaluation`, `model_blessing`
            and `infra_blessing`.
        models: channel of the Model of each budget, seed and ladder, by its key: see
            `pipeline.components.budget_comparison.keys`.
        in_service: channel of the Model that the new one was measured against, if there was one.
        limits: what a model must reach to be blessed.
        command: the command line that reproduces the run.
        data_fingerprint: digest of the data's content.
        mlflow: `uri` and `experiment` to log to, or empty.
        fingerprint: of the executor's source.
    """

    SPEC_CLASS = component_spec.ComponentSpec
    EXECUTOR_SPEC = ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        inputs: Mapping[str, Any],
        models: Mapping[str, Any],
        in_service: Any = None,
        limits: Mapping[str, float] | None = None,
        command: str = "",
        data_fingerprint: Any = "",
        mlflow: Mapping[str, str] | None = None,
        fingerprint: str = "",
    ):
        spec_class = _spec_for(tuple(models))
        spec = spec_class(
            **inputs,
            **models,
            **({"in_service": in_service} if in_service else {}),
            limits=json.dumps(dict(limits or {})),
            command=command,
            data_fingerprint=data_fingerprint,
            mlflow=json.dumps(dict(mlflow or {})),
            fingerprint=fingerprint,
            report=channel_utils.as_channel([ReportArtifact()]),
        )
        super().__init__(spec=spec)


def _spec_for(model_keys: tuple[str, ...]) -> type[component_spec.ComponentSpec]:
    class ReportSpec(component_spec.ComponentSpec):
        PARAMETERS = {  # noqa: RUF012
            name: component_spec.ExecutionParameter(type=str)
            for name in ("limits", "command", "data_fingerprint", "mlflow", "fingerprint")
        }
        INPUTS = {  # noqa: RUF012
            **{name: component_spec.ChannelParameter(type=kind) for name, kind in _INPUTS.items()},
            **{
                key: component_spec.ChannelParameter(type=standard_artifacts.Model)
                for key in model_keys
            },
            "in_service": component_spec.ChannelParameter(
                type=standard_artifacts.Model, optional=True
            ),
        }
        OUTPUTS = {  # noqa: RUF012
            "report": component_spec.ChannelParameter(type=ReportArtifact),
        }

    return ReportSpec
