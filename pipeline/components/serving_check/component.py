"""ServingCheck: compares the predictions of a model before and after it is served."""

import json
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import channel_utils, standard_artifacts

from pipeline.components.serving_check import executor
from pipeline.components.specs import make_spec

ServingCheckSpec = make_spec(
    {"push_destination": str, "tile": int, "command": str, "fingerprint": str},
    {
        "examples": standard_artifacts.Examples,
        "model": standard_artifacts.Model,
        "model_blessing": standard_artifacts.ModelBlessing,
    },
    {"blessing": standard_artifacts.InfraBlessing},
)


class ServingCheck(base_component.BaseComponent):
    """Compares the reconstructions of `model.keras`, of the SavedModel and of a server of it.

    The output is `blessing`, an InfraBlessing for a Pusher. A model that will not be pushed,
    because it is not blessed or is in service already, is not compared.

    Args:
        examples: channel of Examples with the split test.
        model: channel of the Model, which has a SavedModel and `model.keras`.
        model_blessing: channel of the Evaluator's ModelBlessing.
        push_destination: path or URI of the folder of the version folders.
        tile: side of the tiles of the SavedModel, pixels.
        command: command of a program that serves a SavedModel and compares its reconstructions. Its
            arguments are the folder of the SavedModel and "-"; its standard input is the path, as
            JSON, of an NPZ file with `images_0`, `reconstructions_0` and so on, uint8 [N, H, W, C].
            Its exit status is 0 if they agree; otherwise the last line on its standard error is the
            reason. Empty to compare in process only.
        fingerprint: digest of the executor's source.
    """

    SPEC_CLASS = ServingCheckSpec
    EXECUTOR_SPEC = ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: Any,
        model: Any,
        model_blessing: Any,
        push_destination: str,
        tile: int,
        command: Sequence[str] = (),
        fingerprint: str = "",
    ):
        spec = ServingCheckSpec(
            examples=examples,
            model=model,
            model_blessing=model_blessing,
            push_destination=push_destination,
            tile=tile,
            command=json.dumps(list(command)),
            fingerprint=fingerprint,
            blessing=channel_utils.as_channel([standard_artifacts.InfraBlessing()]),
        )
        super().__init__(spec=spec)
