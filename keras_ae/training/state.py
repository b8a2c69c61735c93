"""The training state: a model, its optimizer, its EMA weights, and how far they are."""

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
MAX_DECAY = 0.999
ADVICE = (
    "what was saved before is kept. Lower the learning rate of the preset, or look for broken "
    "images in the data"
)


@keras.saving.register_keras_serializable("keras_ae")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `rate` over `steps` steps and stays there, wherever the ladder ends."""

    def __init__(self, rate: float, steps: int = WARM_UP_STEPS):
        self.rate, self.steps = rate, steps

    def __call__(self, step: Tensor) -> Tensor:
        return self.rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.steps)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "steps": self.steps}


def average_decay(step: Tensor) -> Tensor:
    """Decay of the moving average: it spans the last tenth of the steps, 1,000 at most."""
    return ops.minimum(MAX_DECAY, (1.0 + step) / (10.0 + step))


class TrainState:
    """The state of a training run: model, optimizer, EMA weights, and how far it is.

    Args:
        model: a built autoencoder; trained in place.
        micro_batch_size: most tiles in a forward pass.

    Attributes:
        optimizer: of the model.
        average: the EMA weights: variables like the trainable ones of the model.
        epoch, position: whole epochs that are done, and where in the next one it is.
        micro_batch_size: most tiles in a forward pass; less than a batch where the memory did not
            do for it, and its gradients are accumulated.
        seconds: time in training steps since the initial state.
        losses: mean squared error on pixels 0..1 over the tiles of each epoch since the initial
            state, float32 values.
    """

    def __init__(self, model: ConvAutoencoder, micro_batch_size: int):
        self.model, self.micro_batch_size = model, micro_batch_size
        self.epoch, self.position, self.seconds = 0, Position(), 0.0
        self.losses: list[float] = []
        self.optimizer = keras.optimizers.Adam(
            WarmUp(model.preset.learning_rate), global_clipnorm=model.preset.clipnorm
        )
        self.optimizer.build(model.trainable_variables)
        self.average = [
            keras.Variable(
                ops.copy(v.value),
                trainable=False,
                name=f"average_{i}",
                aggregation="only_first_replica",
            )
            for i, v in enumerate(model.trainable_variables)
        ]
        backend = keras.backend.backend()
        self._backend = importlib.import_module(f"keras_ae.training.backends.{backend}")

    @property
    def loss(self) -> float:
        """The loss of the last epoch; NaN before the first."""
        return self.losses[-1] if self.losses else math.nan

    @contextmanager
    def averaged(self) -> Iterator[ConvAutoencoder]:
        """The model with its averaged weights, which is what is compared and served."""
        variables = self.model.trainable_variables
        raw_weights = [ops.copy(v.value) for v in variables]
        for variable, mean in zip(variables, self.average):
            variable.assign(mean.value)
        try:
            yield self.model
        finally:
            for variable, value in zip(variables, raw_weights):
                variable.assign(value)

    def _variables(self) -> dict[str, keras.Variable]:
        """By position: Keras numbers the names of layers by what the process made before."""
        groups = {
            "model": self.model.variables,
            "optimizer": self.optimizer.variables,
            "average": self.average,
        }
        return {f"{name}/{i}": v for name, group in groups.items() for i, v in enumerate(group)}

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state: weights, optimizer, average, losses and how far it is, by name."""
        # A copy: a mirrored variable of TensorFlow has no array of its own.
        arrays = {
            name: ops.convert_to_numpy(ops.copy(v.value)) for name, v in self._variables().items()
        }
        return arrays | {
            "epoch": np.asarray(self.epoch),
            "batches": np.asarray(self.position.batches),
            "total": np.asarray(self.position.total, np.float32),
            "micro_batch_size": np.asarray(self.micro_batch_size),
            "seconds": np.asarray(self.seconds),
            "losses": np.asarray(self.losses, np.float32),
        }

    def save(self, path: Path) -> None:
        """Writes the state; the file is the old one or the new one at any moment.

        Of several processes that train together the first one writes.

        Raises:
            StorageError: if it cannot be written.
            TrainingError: if a weight is not finite; what was written before is kept.
        """
        arrays = self.finite_arrays()
        if self._backend.is_chief():
            checkpoints.write(path, arrays)

    def restore(self, path: Path) -> None:
        """Reads what `save` wrote.

        Raises:
            DamagedError: if it is not what was written.
            StorageError: if it cannot be read.
            TrainingError: if the state is of another model.
        """
        self.take(checkpoints.read(path), path)

    def finite_arrays(self) -> dict[str, np.ndarray]:
        """As `arrays`.

        Raises:
            TrainingError: if a weight is not finite.
        """
        arrays = self.arrays()
        for name, array in arrays.items():
            # The last step may break what no loss shows yet.
            if name.startswith("model/") and not np.isfinite(array).all():
                raise TrainingError(f"a weight is not finite after epoch {self.epoch}; {ADVICE}")
        return arrays

    def take(self, arrays: dict[str, np.ndarray], path: Path) -> None:
        """Goes on from arrays that were read from `path`.

        Raises:
            TrainingError: if they are of another model.
        """
        expected = {name: array.shape for name, array in self.arrays().items()}
        expected["losses"] = (int(arrays.get("epoch", 0)),)
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise TrainingError(f"the training state {path} is of another model")
        self.assign(arrays)

    def assign(self, arrays: dict[str, np.ndarray]) -> None:
        """Goes back to what `arrays` gave."""
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self.epoch, self.seconds = int(arrays["epoch"]), float(arrays["seconds"])
        self.position = Position(int(arrays["batches"]), float(arrays["total"]))
        self.micro_batch_size = int(arrays["micro_batch_size"])
        self.losses = arrays["losses"].tolist()
