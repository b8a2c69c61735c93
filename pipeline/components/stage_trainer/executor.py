"""The work of StageTrainer: TFX's Trainer, told preset and seed beside its other settings."""

import dataclasses
from typing import Any

from tfx import types
from tfx.components.trainer.executor import GenericExecutor
from tfx.types.standard_component_specs import CUSTOM_CONFIG_KEY

from pipeline import trainer
from pipeline.runtime.settings import StageConfig, StageSettings

RUN_FN = f"{trainer.__name__}.{trainer.run_fn.__name__}"


class Executor(GenericExecutor):
    """Puts `preset` and `seed` where `run_fn` finds its settings."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains one stage of a ladder."""
        settings = StageSettings.from_json(exec_properties[CUSTOM_CONFIG_KEY])
        config = StageConfig(
            **dataclasses.asdict(settings),
            preset=exec_properties["preset"],
            seed=exec_properties["seed"],
        )
        properties = {**exec_properties, CUSTOM_CONFIG_KEY: config.to_json()}
        super().Do(input_dict, output_dict, properties)
