"""The training ladder: trains a model from one epoch budget to the next, reproducibly."""

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from keras_ae import presets
from keras_ae.datasets.tiles import TileSource
from keras_ae.errors import ConfigurationError, StoppedError, TrainingError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.presets import Preset
from keras_ae.training import checkpoints
from keras_ae.training.backends.position import Position
from keras_ae.training.progress import ProgressBar
from keras_ae.training.state import ADVICE, TrainState, ema_decay

CHECKPOINT_SECONDS = 10.0
PAUSE_SECONDS = 1.0
"""Minimum time between two points at which an epoch can be interrupted."""
_ALLOCATION_ERROR = re.compile(r"(OOM|[Oo]ut of memory|can't allocate).*")


@dataclass(frozen=True)
class TrainingResult:
    """Result of training a stage from epoch `start` to `stop`.

    Attributes:
        seconds: time in training steps, including those before an interruption.
        loss: mean squared error on pixels 0..1 over the tiles of the last epoch.
    """

    start: int
    stop: int
    seconds: float
    tiles_per_second: float
    loss: float


class Ladder(TrainState):
    """Trains a model from budget to budget; holds the model, its optimizer and its EMA weights.

    The result of an epoch depends only on the state before it and on (seed, epoch). However the
    epochs are split into stages, the weights are therefore the same on one machine's CPU and one
    backend.

    Args:
        model: a built autoencoder; trained in place.
        tiles: the training tiles: `keras_ae.datasets.tiles.Tiles`, or another `TileSource`.

    Attributes:
        placement: where the training images are: "on the device", "in memory" or "streamed".

    Example:

    >>> import numpy as np
    >>> from keras_ae import ConvAutoencoder, Ladder, Tiles
    >>> images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    >>> model = ConvAutoencoder({"name": "tiny", "architecture": "plain", "widths": [4]})
    >>> ladder = Ladder(model, Tiles(images, stride=8))
    >>> summary = ladder.train(2)
    >>> ladder.save(Path("state.npz"))
    >>> ladder.train(3).start, ladder.epoch, len(ladder.losses)
    (2, 3, 3)
    >>> ladder.restore(Path("state.npz"))
    >>> ladder.epoch
    2
    >>> with ladder.ema_model() as ema_model:
    ...     ema_model.save("model.keras")
    """

    def __init__(self, model: ConvAutoencoder, tiles: TileSource):
        super().__init__(model, max(tiles.batch_sizes))
        self.tiles = tiles
        self._train_epoch, self.placement = self._backend.compile_train_epoch(
            model, self.optimizer, self.ema_weights, ema_decay, tiles
        )

    def train(
        self,
        until_epoch: int,
        *,
        checkpoint: Path | None = None,
        on_checkpoint: Callable[[], None] = lambda: None,
        on_epoch: Callable[["Ladder"], None] = lambda ladder: None,
        status_lines: Callable[["Ladder"], Iterable[str]] = lambda ladder: (),
        should_stop: Callable[[], bool] = lambda: False,
        progress: TextIO | None = None,
        say: Callable[[str], None] = print,
    ) -> TrainingResult:
        """Trains until `until_epoch` epochs are done.

        Args:
            until_epoch: the epoch to end at, not before the current one.
            checkpoint: file to which the state is saved every ten seconds, also within an epoch.
                If it exists, training resumes from it. The previous checkpoint is kept next to it,
                in case the last one is damaged.
            on_checkpoint, on_epoch: called after each checkpoint, and after each epoch.
            status_lines, should_stop: called about every second and after each epoch; return lines
                to print, and whether to save the state and stop.
            progress: stream for a progress bar, or None for no bar.
            say: prints one line: the status lines, and notes about a damaged checkpoint or a
                batch that does not fit into memory.

        Raises:
            ConfigurationError: if `until_epoch` is before the current epoch.
            TrainingError: if the loss is not finite, in which case the last checkpoint is kept; or
                if not even one tile fits into memory.
            StoppedError: if `should_stop` returned true; the checkpoint has the current state.
        """
        start, seconds_before = self.epoch, self.seconds
        if checkpoint is not None and (arrays := checkpoints.read_checkpoint(checkpoint, say)):
            self.load_arrays(arrays, checkpoint)
        if until_epoch < self.epoch:
            raise ConfigurationError(
                f"cannot train to epoch {until_epoch}: already at {self.epoch}"
            )
        self._restore_point, saved_at = self.to_arrays(), time.monotonic()
        with ProgressBar(start, self.epoch, until_epoch, progress) as bar:
            for _ in self._train_epochs(until_epoch, should_stop, say):
                if not self.position.batches_done:
                    on_epoch(self)
                stopped = should_stop()
                if stopped or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                    self._checkpoint(checkpoint, on_checkpoint)
                    saved_at = time.monotonic()
                if stopped:
                    raise StoppedError(f"stopped in epoch {self.epoch + 1} as requested")
                batches_done, loss_sum = self.position
                tiles_done = sum(self.tiles.batch_sizes[:batches_done])
                all_tiles_done = len(self.tiles) * (self.epoch - start) + tiles_done
                bar.update(
                    self.epoch + batches_done / len(self.tiles.batch_sizes),
                    loss_sum / tiles_done if tiles_done else self.loss,
                    all_tiles_done / (self.seconds - seconds_before),
                )
                for line in status_lines(self):
                    bar.clear()
                    say(line)
        seconds = self.seconds - seconds_before
        rate = len(self.tiles) * (until_epoch - start) / seconds if seconds else 0.0
        return TrainingResult(start, until_epoch, seconds, rate, self.loss)

    def _train_epochs(
        self, until_epoch: int, should_stop: Callable[[], bool], say: Callable[[str], None]
    ) -> Iterator[None]:
        """Trains; yields after each epoch, and within an epoch that is long or must stop."""

        def should_yield() -> bool:
            return time.perf_counter() - step_start > PAUSE_SECONDS or should_stop()

        while self.epoch < until_epoch:
            step_start = time.perf_counter()
            try:
                for position in self._train_epoch(
                    self.epoch, self.position, self.micro_batch_size, should_yield
                ):
                    self.seconds += time.perf_counter() - step_start
                    self._record_progress(position)
                    yield
                    step_start = time.perf_counter()
            except Exception as error:
                if not self._backend.is_out_of_memory(error):
                    raise
                self._halve_micro_batch(error, say)

    def _record_progress(self, position: Position) -> None:
        if not math.isfinite(position.loss_sum):
            raise TrainingError(
                f"the loss became {position.loss_sum} in epoch {self.epoch + 1}; {ADVICE}"
            )
        self.position = position
        if position.batches_done == len(self.tiles.batch_sizes):
            self.losses.append(float(np.float32(position.loss_sum / len(self.tiles))))
            self.epoch, self.position = self.epoch + 1, Position()

    def _halve_micro_batch(self, error: Exception, say: Callable[[str], None]) -> None:
        """Halves the micro-batches, and goes back to the last restore point.

        A step that ran out of memory may have updated some variables and not others.
        """
        failed_size, tile = self.micro_batch_size, self.tiles.size
        if failed_size == 1:
            allocation = _ALLOCATION_ERROR.search(str(error))
            raise TrainingError(
                f"out of memory with a single tile of {tile}x{tile}: "
                f"{allocation[0][:200] if allocation else error}; use a smaller preset, or stop "
                "other programs that use the device"
            ) from error
        self.assign(self._restore_point)
        self.micro_batch_size = -(-failed_size // 2)
        count = -(-max(self.tiles.batch_sizes) // self.micro_batch_size)
        say(
            f"out of memory with {failed_size} tiles at a time; continuing with {count} x "
            f"{self.micro_batch_size}, same batch size"
        )

    def _checkpoint(self, checkpoint: Path | None, on_checkpoint: Callable[[], None]) -> None:
        self._restore_point = self.to_finite_arrays()
        if checkpoint is None:
            return
        if self._backend.is_chief():
            checkpoints.write(checkpoint, self._restore_point, keep_previous=True)
        on_checkpoint()


def create_ladder(
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
    """Creates a ladder in its initial state, which depends on the arguments alone.

    They are those of `ConvAutoencoder`, the training tiles, and the principal components of the
    training images' patches, to which a linear path is set.

    >>> import numpy as np
    >>> from keras_ae import Tiles
    >>> images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    >>> floor = linear.fit(linear.patch_moments(images, stride=8), latent_channels=8)
    >>> create_ladder("small", Tiles(images, stride=8), floor).epoch
    0
    """
    model = ConvAutoencoder(preset, channels, stride, latent_channels, precision, seed)
    if model.preset.architecture == "linear-residual":
        linear.set_linear_path(model, floor)
    return Ladder(model, tiles)
