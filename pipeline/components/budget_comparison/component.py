"""BudgetComparison: scores the models of all budgets on all images, and chooses one of them."""

from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import artifact, channel_utils, component_spec, standard_artifacts

from pipeline.components.budget_comparison import executor, keys
from pipeline.components.budget_comparison.keys import ModelKey
from pipeline.components.specs import make_spec
from pipeline.runtime.search import Search


class Comparison(artifact.Artifact):
    """`comparison.json`, `images.jsonl` and `pictures/`, for Report."""

    TYPE_NAME = "pipeline.Comparison"


class BudgetComparison(base_beam_component.BaseBeamComponent):
    """Scores the models of all budgets on all splits, and chooses one by its scores on val.

    The outputs are `comparison` and `model`.

    Args:
        examples: channel of Examples with the splits train, val and test.
        models: channel of the Model of each budget, seed and ladder.
        tuner_results, tuning: channel of the TunerResults and settings of the search, if the models
            were tuned.
        tolerance: dB of val PSNR within which a smaller budget counts as equal.
        fingerprint: digest of the executor's source.
    """

    SPEC_CLASS = component_spec.ComponentSpec
    EXECUTOR_SPEC = BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: Any,
        models: Mapping[ModelKey, Any],
        tuner_results: Any = None,
        tuning: Search | None = None,
        tolerance: float = 0.1,
        fingerprint: str = "",
    ):
        # A union of channels does not compile for Kubeflow: one input key per model.
        inputs = {key.input: channel for key, channel in models.items()}
        spec_class = make_spec(
            {"models": str, "tolerance": float, "fingerprint": str, "tuning": str},
            {
                "examples": standard_artifacts.Examples,
                **dict.fromkeys(inputs, standard_artifacts.Model),
                "tuner_results": standard_artifacts.TunerResults,
            },
            {"comparison": Comparison, "model": standard_artifacts.Model},
            optional=["tuner_results", "tuning"],
        )
        search = {"tuner_results": tuner_results, "tuning": tuning.to_json()} if tuning else {}
        spec = spec_class(
            examples=examples,
            **inputs,
            **search,
            models=keys.to_json(models),
            tolerance=tolerance,
            fingerprint=fingerprint,
            comparison=channel_utils.as_channel([Comparison()]),
            model=channel_utils.as_channel([standard_artifacts.Model()]),
        )
        super().__init__(spec=spec)
