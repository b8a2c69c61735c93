"""Executor of StageTrainer: TFX's Trainer, with preset and seed among its settings."""

from typing import Any

from tfx import types
from tfx.components.trainer.executor import GenericExecutor
from tfx.types.standard_component_specs import CUSTOM_CONFIG_KEY

from pipeline import trainer
from pipeline.runtime.settings import StageConfig, StageSettings

RUN_FN = f"{trainer.__name__}.{trainer.run_fn.__name__}"


class Executor(GenericExecutor):
    """Adds `preset` and `seed` to the settings that `run_fn` gets."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Trains one stage of a ladder."""
        config = StageConfig.of(
            StageSettings.from_json(exec_properties[CUSTOM_CONFIG_KEY]),
            preset=exec_properties["preset"],
            seed=exec_properties["seed"],
        )
        properties = {**exec_properties, CUSTOM_CONFIG_KEY: config.to_json()}
        super().Do(input_dict, output_dict, properties)
