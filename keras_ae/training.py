"""One stage of the ladder: the state after `start` epochs in, the state after `stop` epochs out."""

import importlib
import io
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from keras_ae import linear, presets
from keras_ae.errors import ConfigurationError, StorageError, TrainingError
from keras_ae.models import ConvAutoencoder
from keras_ae.presets import Preset
from keras_ae.tiles import TileSource

WARM_UP_STEPS = 50
MAX_DECAY = 0.999
CHECKPOINT_SECONDS = 10.0
_ADVICE = (
    "what was saved before is kept. Lower the learning rate of the preset, or look for broken "
    "images in the data"
)


@keras.saving.register_keras_serializable("keras_ae")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `rate` over `steps` steps and stays there, wherever the ladder ends."""

    def __init__(self, rate: float, steps: int = WARM_UP_STEPS):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        return self.rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.steps)

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps}


def average_decay(step):
    """Decay of the moving average: it spans the last tenth of the steps, 1,000 at most."""
    return ops.minimum(MAX_DECAY, (1.0 + step) / (10.0 + step))


@dataclass(frozen=True)
class StageSummary:
    """What a stage did.

    Attributes:
        start, stop: epochs before and after.
        seconds: time in training steps, including those before an interruption.
        tiles_per_second: tiles trained on in a second.
        loss: mean squared error on pixels 0..1 over the tiles of the last epoch.
    """

    start: int
    stop: int
    seconds: float
    tiles_per_second: float
    loss: float


class Ladder:
    """A model, its optimizer and its moving average on their way up the budgets.

    What an epoch does follows from the state before it and (seed, epoch) alone, so that any way of
    cutting the epochs into stages gives the same weights on one machine's CPU and one backend.

    Args:
        model: a built autoencoder; trained in place.
        tiles: the training tiles: `keras_ae.tiles.Tiles`, or what streams the like.

    Attributes:
        placement: where the training images are: "on the device", "in memory" or "streamed".
        losses: mean squared error on pixels 0..1 over the tiles of each epoch since the foot of the
            ladder, float32 values.
    """

    def __init__(self, model: ConvAutoencoder, tiles: TileSource):
        preset = model.preset
        self.model, self.tiles = model, tiles
        self.epoch, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.optimizer = keras.optimizers.Adam(
            WarmUp(preset.learning_rate), global_clipnorm=preset.clipnorm
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
        backend = importlib.import_module(f"keras_ae.backends.{keras.backend.backend()}")
        self._is_chief = backend.is_chief()
        self._run_epoch, self.placement = backend.compile_epochs(
            model, self.optimizer, self.average, average_decay, tiles
        )

    @property
    def loss(self) -> float:
        """The loss of the last epoch; NaN at the foot."""
        return self.losses[-1] if self.losses else math.nan

    def climb(
        self,
        stop: int,
        *,
        checkpoint: Path | None = None,
        on_checkpoint: Callable[[], None] | None = None,
        on_epoch: Callable[["Ladder"], None] | None = None,
        progress: TextIO | None = None,
    ) -> StageSummary:
        """Trains up to `stop` epochs.

        Args:
            stop: epoch to end at, at least the present one.
            checkpoint: file that keeps the state every ten seconds; if it is there already, the
                stage goes on from it.
            on_checkpoint: called after each time that the state was saved.
            on_epoch: called after each epoch.
            progress: where to show a progress bar, or None.

        Raises:
            ConfigurationError: if `stop` lies behind the present epoch.
            TrainingError: if the loss is not finite; the checkpoint is of an epoch before.
        """
        start, before = self.epoch, self.seconds
        if checkpoint is not None and checkpoint.exists():
            self.restore(checkpoint)
        if stop < self.epoch:
            raise ConfigurationError(f"cannot train to epoch {stop}: already at {self.epoch}")
        saved = time.monotonic()
        with _bar(start, self.epoch, stop, progress) as bar:
            while self.epoch < stop:
                self._train_one()
                if on_epoch is not None:
                    on_epoch(self)
                rate = len(self.tiles) * (self.epoch - start) / (self.seconds - before)
                bar.set_postfix_str(f"loss {self.loss:.5f}, {rate:,.0f} tiles/s", refresh=False)
                bar.update()
                if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self.save(checkpoint)
                    if on_checkpoint is not None:
                        on_checkpoint()
                    saved = time.monotonic()
        seconds = self.seconds - before
        rate = len(self.tiles) * (stop - start) / seconds if seconds else 0.0
        return StageSummary(start, stop, seconds, rate, self.loss)

    def _train_one(self) -> None:
        began = time.perf_counter()
        loss = self._run_epoch(self.epoch)
        if not math.isfinite(loss):
            raise TrainingError(f"the loss became {loss} in epoch {self.epoch + 1}; {_ADVICE}")
        self.seconds += time.perf_counter() - began
        self.epoch += 1
        self.losses.append(float(np.float32(loss)))

    @contextmanager
    def averaged(self) -> Iterator[ConvAutoencoder]:
        """The model with its averaged weights, which is what is compared and served."""
        variables = self.model.trainable_variables
        trunk = [ops.copy(v.value) for v in variables]
        for variable, mean in zip(variables, self.average):
            variable.assign(mean.value)
        try:
            yield self.model
        finally:
            for variable, value in zip(variables, trunk):
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
        """The whole state: weights, optimizer, average, epoch and losses, by name."""
        # A copy: a mirrored variable of TensorFlow has no array of its own.
        arrays = {
            name: ops.convert_to_numpy(ops.copy(v.value)) for name, v in self._variables().items()
        }
        scalars = {"epoch": self.epoch, "seconds": self.seconds}
        arrays |= {name: np.asarray(value) for name, value in scalars.items()}
        return {**arrays, "losses": np.asarray(self.losses, np.float32)}

    def save(self, path: Path) -> None:
        """Writes the state; the file is the old one or the new one at any moment.

        Of several processes that train together the first one writes.

        Raises:
            StorageError: if it cannot be written.
            TrainingError: if a weight is not finite; what was written before is kept.
        """
        arrays: dict[str, Any] = self.arrays()
        for name, array in arrays.items():
            # The last step of an epoch may break what its loss does not show yet.
            if name.startswith("model/") and not np.isfinite(array).all():
                raise TrainingError(f"a weight is not finite after epoch {self.epoch}; {_ADVICE}")
        if not self._is_chief:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        partial = path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise StorageError(
                f"cannot write the training state {path}: {error.strerror}"
            ) from error

    def restore(self, path: Path) -> None:
        """Reads what `save` wrote.

        Raises:
            TrainingError: if the state is of another model.
        """
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        expected = {name: array.shape for name, array in self.arrays().items()}
        expected["losses"] = (int(arrays.get("epoch", 0)),)
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise TrainingError(f"the training state {path} is of another model")
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        self.epoch, self.seconds = int(arrays["epoch"]), float(arrays["seconds"])
        self.losses = arrays["losses"].tolist()


def begin(
    preset: str | Preset,
    tiles: TileSource,
    floor: linear.PatchPCA,
    *,
    channels: int = 3,
    stride: int = presets.STRIDE,
    latent_channels: int = presets.LATENT_CHANNELS,
    precision: str = "float32",
    seed: int = 0,
) -> Ladder:
    """A ladder at its foot, which follows from the arguments alone.

    Args:
        preset, channels, stride, latent_channels, precision: of the model.
        tiles: the training tiles.
        floor: principal components of the training images' patches, where a linear path starts.
        seed: of the initial weights.
    """
    keras.utils.set_random_seed(seed)
    model = ConvAutoencoder(preset, channels, stride, latent_channels, precision)
    if model.preset.architecture == "linear-residual":
        linear.set_linear_path(model, floor)
    return Ladder(model, tiles)


class _Lines:
    """Gives each state of a progress bar a line of its own, where none can be overwritten."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        if text.strip():
            self._stream.write("    " + text.strip() + "\n")

    def flush(self) -> None:
        self._stream.flush()


def _bar(start: int, at: int, stop: int, stream: TextIO | None) -> tqdm:
    span: dict[str, Any] = {"total": stop - start, "initial": at - start, "unit": "epoch"}
    if stream is None or stream.isatty():
        name = f"    epochs {start} to {stop}"
        return tqdm(desc=name, **span, file=stream, disable=stream is None, dynamic_ncols=True)
    line = "{desc}: {percentage:.0f} %, {elapsed} gone, {remaining} left{postfix}"
    name = f"epochs {start} to {stop}"
    return tqdm(
        desc=name, **span, file=_Lines(stream), bar_format=line, mininterval=20.0, miniters=1
    )
