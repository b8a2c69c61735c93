"""StageTrainer: a Trainer whose preset and seed can be runtime parameters."""

from typing import Any

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import trainer_pb2
from tfx.types import channel_utils, component_spec, standard_artifacts, standard_component_specs

from keras_ae import contract as c
from pipeline.components.stage_trainer import executor
from pipeline.runtime.settings import StageSettings


class StageTrainerSpec(standard_component_specs.TrainerSpec):
    """Inputs, outputs and parameters of a Trainer, and preset and seed as parameters of their own,
    because no part of the text `custom_config` can be a runtime parameter."""

    PARAMETERS = {  # noqa: RUF012
        **standard_component_specs.TrainerSpec.PARAMETERS,
        "preset": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
    }


class StageTrainer(base_component.BaseComponent):
    """Trains one stage of a ladder with `pipeline.trainer.run_fn`.

    The outputs are those of a Trainer, `model` and `model_run`.

    Args:
        examples, transform_graph: channels; Examples have the splits train and val.
        preset: name of a preset, or a runtime parameter.
        seed: seed of weights and tiles, or a runtime parameter.
        settings: the other settings.
        base_model: channel of the Model of the previous stage, if there is one.
        hyperparameters: channel of the best HyperParameters of a Tuner, if there is one.
    """

    SPEC_CLASS = StageTrainerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: Any,
        transform_graph: Any,
        preset: Any,
        seed: Any,
        settings: StageSettings,
        base_model: Any = None,
        hyperparameters: Any = None,
    ):
        spec = StageTrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            base_model=base_model,
            hyperparameters=hyperparameters,
            run_fn=executor.RUN_FN,
            train_args=trainer_pb2.TrainArgs(splits=[c.TRAIN]),
            eval_args=trainer_pb2.EvalArgs(splits=[c.VAL]),
            custom_config=settings.to_json(),
            preset=preset,
            seed=seed,
            model=channel_utils.as_channel([standard_artifacts.Model()]),
            model_run=channel_utils.as_channel([standard_artifacts.ModelRun()]),
        )
        super().__init__(spec=spec)
