"""The training state: model, optimizer, EMA weights and position in the training."""

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.errors import TrainingError
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training import checkpoints
from keras_ae.training.backends.position import Position
from keras_ae.types import Tensor

WARM_UP_STEPS = 50
MAX_EMA_DECAY = 0.999
ADVICE = (
    "what was saved before is kept. Lower the preset's learning rate, or look for broken images "
    "in the data"
)


@keras.saving.register_keras_serializable("keras_ae")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up over `steps` steps, then a constant rate.

    It does not depend on where the ladder ends: otherwise the model at a budget would not be that
    of an uninterrupted training of this length.
    """

    def __init__(self, rate: float, steps: int = WARM_UP_STEPS):
        self.rate, self.steps = rate, steps

    def __call__(self, step: Tensor) -> Tensor:
        return self.rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.steps)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "steps": self.steps}


def ema_decay(step: Tensor) -> Tensor:
    """EMA decay at a step: the average spans about the last tenth of the steps, 1,000 at most."""
    return ops.minimum(MAX_EMA_DECAY, (1.0 + step) / (10.0 + step))


class TrainState:
    """The state of a training run: model, optimizer, EMA weights and position.

    Attributes:
        model: a built autoencoder; trained in place.
        ema_weights: one variable for each trainable variable of the model.
        epoch, position: completed epochs, and the position in the current one.
        micro_batch_size: maximum number of tiles in a forward pass. If a batch did not fit into
            memory this is less than the batch, and gradients are accumulated.
        seconds: time in training steps since the initial state.
        losses: mean squared error on pixels 0..1 over the tiles of each epoch, float32 values.
    """

    def __init__(self, model: ConvAutoencoder, micro_batch_size: int):
        self.model, self.micro_batch_size = model, micro_batch_size
        self.epoch, self.position, self.seconds = 0, Position(), 0.0
        self.losses: list[float] = []
        self.optimizer = keras.optimizers.Adam(
            WarmUp(model.preset.learning_rate), global_clipnorm=model.preset.clipnorm
        )
        self.optimizer.build(model.trainable_variables)
        self.ema_weights = [
            keras.Variable(ops.copy(v.value), trainable=False, aggregation="only_first_replica")
            for v in model.trainable_variables
        ]
        backend = keras.backend.backend()
        self._backend = importlib.import_module(f"keras_ae.training.backends.{backend}")

    @property
    def loss(self) -> float:
        """The loss of the last epoch; NaN before the first."""
        return self.losses[-1] if self.losses else math.nan

    @contextmanager
    def ema_model(self) -> Iterator[ConvAutoencoder]:
        """Yields the model with its EMA weights, which are what is compared and served."""
        variables = self.model.trainable_variables
        raw_weights = [ops.copy(v.value) for v in variables]
        for variable, ema_weight in zip(variables, self.ema_weights):
            variable.assign(ema_weight.value)
        try:
            yield self.model
        finally:
            for variable, value in zip(variables, raw_weights):
                variable.assign(value)

    def _variables(self) -> dict[str, keras.Variable]:
        """All variables by group and index: Keras numbers names over all layers of the process."""
        groups = {
            "model": self.model.variables,
            "optimizer": self.optimizer.variables,
            "average": self.ema_weights,
        }
        return {f"{name}/{i}": v for name, group in groups.items() for i, v in enumerate(group)}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns the whole state by name: weights, optimizer, EMA weights, losses, position."""
        # `ops.copy`, because a mirrored variable of TensorFlow cannot be converted directly.
        arrays = {
            name: ops.convert_to_numpy(ops.copy(v.value)) for name, v in self._variables().items()
        }
        return arrays | {
            "epoch": np.asarray(self.epoch),
            "batches": np.asarray(self.position.batches_done),
            "total": np.asarray(self.position.loss_sum, np.float32),
            "micro_batch_size": np.asarray(self.micro_batch_size),
            "seconds": np.asarray(self.seconds),
            "losses": np.asarray(self.losses, np.float32),
        }

    def save(self, path: Path) -> None:
        """Writes the state atomically. If several processes train together, the first one writes.

        Raises:
            StorageError: if it cannot be written.
            TrainingError: if a weight is not finite; an existing file is kept.
        """
        arrays = self.to_finite_arrays()
        if self._backend.is_chief():
            checkpoints.write(path, arrays)

    def restore(self, path: Path) -> None:
        """Restores a state that `save` wrote.

        Raises:
            DamagedError: if the file's checksum is wrong.
            StorageError: if it cannot be read.
            TrainingError: if the state belongs to another model.
        """
        self.load_arrays(checkpoints.read(path), path)

    def to_finite_arrays(self) -> dict[str, np.ndarray]:
        """Like `to_arrays`, but raises TrainingError if a weight is not finite."""
        arrays = self.to_arrays()
        for name, array in arrays.items():
            # The last step can make weights infinite that no loss was computed with yet.
            if name.startswith("model/") and not np.isfinite(array).all():
                raise TrainingError(f"a weight is not finite after epoch {self.epoch}; {ADVICE}")
        return arrays

    def load_arrays(self, arrays: dict[str, np.ndarray], path: Path) -> None:
        """Sets the state to arrays read from `path`; raises TrainingError if they do not fit."""
        expected = {name: array.shape for name, array in self.to_arrays().items()}
        expected["losses"] = (int(arrays.get("epoch", 0)),)
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise TrainingError(f"the training state {path} belongs to another model")
        self.assign(arrays)

    def assign(self, arrays: dict[str, np.ndarray]) -> None:
        """Sets the state to the result of `to_arrays`."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self.epoch, self.seconds = int(arrays["epoch"]), float(arrays["seconds"])
        self.position = Position(int(arrays["batches"]), float(arrays["total"]))
        self.micro_batch_size = int(arrays["micro_batch_size"])
        self.losses = arrays["losses"].tolist()
