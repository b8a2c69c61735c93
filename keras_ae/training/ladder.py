"""One stage of the ladder: the state after `start` epochs in, the state after `stop` epochs out."""

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
from keras_ae.training.progress import Bar
from keras_ae.training.state import ADVICE, TrainState, average_decay

CHECKPOINT_SECONDS = 10.0
PAUSE_SECONDS = 1.0
"""Between two moments at which an epoch can be left, if its calls are shorter than that."""
_ASKED = re.compile(r"(OOM|[Oo]ut of memory|can't allocate).*")


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


class Ladder(TrainState):
    """A model, its optimizer and its moving average on their way up the budgets.

    What an epoch does follows from the state before it and (seed, epoch) alone, so that any way of
    cutting the epochs into stages gives the same weights on one machine's CPU and one backend.

    Args:
        model: a built autoencoder; trained in place.
        tiles: the training tiles: `keras_ae.datasets.tiles.Tiles`, or what streams the like.

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
    >>> with ladder.averaged() as averaged:
    ...     averaged.save("model.keras")
    """

    def __init__(self, model: ConvAutoencoder, tiles: TileSource):
        super().__init__(model, max(tiles.batch_sizes))
        self.tiles = tiles
        self._run, self.placement = self._backend.compile_epochs(
            model, self.optimizer, self.average, average_decay, tiles
        )

    def train(
        self,
        until_epoch: int,
        *,
        checkpoint: Path | None = None,
        on_checkpoint: Callable[[], None] = lambda: None,
        on_epoch: Callable[["Ladder"], None] = lambda ladder: None,
        remarks: Callable[["Ladder"], Iterable[str]] = lambda ladder: (),
        stopping: Callable[[], bool] = lambda: False,
        progress: TextIO | None = None,
        say: Callable[[str], None] = print,
    ) -> StageSummary:
        """Trains up to `until_epoch` epochs.

        Args:
            until_epoch: epoch to end at, at least the present one.
            checkpoint: file that keeps the state every ten seconds, also amid an epoch; if it is
                there already, the stage goes on from it. The one before it is kept beside it, for
                the case that the last one is damaged.
            on_checkpoint: called after each time that the state was saved.
            on_epoch: called after each epoch.
            remarks: called every second or so, and after each epoch; gives lines to say.
            stopping: asked every second or so, and after each epoch, whether to save and stop.
            progress: where to show a progress bar, or None.
            say: takes a line if a checkpoint is damaged, or a batch too large for the memory; and
                the remarks.

        Raises:
            ConfigurationError: if `until_epoch` lies behind the present epoch.
            TrainingError: if the loss is not finite, the checkpoint is of before; or if the memory
                does not do for one tile.
            StoppedError: if `stopping` said so; the checkpoint is of that moment.
        """
        start, before = self.epoch, self.seconds
        if checkpoint is not None and (arrays := checkpoints.read_checkpoint(checkpoint, say)):
            self.take(arrays, checkpoint)
        if until_epoch < self.epoch:
            raise ConfigurationError(
                f"cannot train to epoch {until_epoch}: already at {self.epoch}"
            )
        self._safe, saved = self.arrays(), time.monotonic()
        with Bar(start, self.epoch, until_epoch, progress) as shown:
            for _ in self._epochs(until_epoch, stopping, say):
                if not self.position.batches:
                    on_epoch(self)
                stopped = stopping()
                if stopped or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._checkpoint(checkpoint, on_checkpoint)
                    saved = time.monotonic()
                if stopped:
                    raise StoppedError(f"stopped in epoch {self.epoch + 1}, as it was asked to")
                batches, total = self.position
                some = sum(self.tiles.batch_sizes[:batches])
                shown.update(
                    self.epoch + batches / len(self.tiles.batch_sizes),
                    total / some if some else self.loss,
                    (len(self.tiles) * (self.epoch - start) + some) / (self.seconds - before),
                )
                for line in remarks(self):
                    shown.clear()
                    say(line)
        seconds = self.seconds - before
        rate = len(self.tiles) * (until_epoch - start) / seconds if seconds else 0.0
        return StageSummary(start, until_epoch, seconds, rate, self.loss)

    def _epochs(
        self, until_epoch: int, stopping: Callable[[], bool], say: Callable[[str], None]
    ) -> Iterator[None]:
        """Trains; yields after each epoch, and amid one that is long or is to be left."""
        began = 0.0

        def pause() -> bool:
            return time.perf_counter() - began > PAUSE_SECONDS or stopping()

        while self.epoch < until_epoch:
            try:
                began = time.perf_counter()
                for position in self._run(self.epoch, self.position, self.micro_batch_size, pause):
                    self.seconds += time.perf_counter() - began
                    self._record_progress(position)
                    yield
                    began = time.perf_counter()
            except Exception as error:
                if not self._backend.is_out_of_memory(error):
                    raise
                self._halve_micro_batch(error, say)

    def _record_progress(self, position: Position) -> None:
        if not math.isfinite(position.total):
            raise TrainingError(
                f"the loss became {position.total} in epoch {self.epoch + 1}; {ADVICE}"
            )
        self.position = position
        if position.batches == len(self.tiles.batch_sizes):
            self.losses.append(float(np.float32(position.total / len(self.tiles))))
            self.epoch, self.position = self.epoch + 1, Position()

    def _halve_micro_batch(self, error: Exception, say: Callable[[str], None]) -> None:
        """Goes back to a state that no failed step has touched, to go on with smaller parts."""
        tried, size = self.micro_batch_size, self.tiles.size
        if tried == 1:
            asked = _ASKED.search(str(error))
            raise TrainingError(
                f"one tile of {size}x{size} at a time is too much for the memory: "
                f"{asked[0][:200] if asked else error}; a smaller preset needs less, or free the "
                "device of other programs"
            ) from error
        self.assign(self._safe)
        self.micro_batch_size = -(-tried // 2)
        parts = -(-max(self.tiles.batch_sizes) // self.micro_batch_size)
        say(
            f"out of memory with {tried} tiles at a time; goes on with {parts} x "
            f"{self.micro_batch_size}, same batch"
        )

    def _checkpoint(self, checkpoint: Path | None, on_checkpoint: Callable[[], None]) -> None:
        self._safe = self.finite_arrays()
        if checkpoint is None:
            return
        if self._backend.is_chief():
            checkpoints.write_checkpoint(checkpoint, self._safe)
        on_checkpoint()


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
    """A ladder in its initial state, which follows from the arguments alone.

    Args:
        preset, channels, stride, latent_channels, precision: of the model.
        tiles: the training tiles.
        floor: principal components of the training images' patches, where a linear path starts.
        seed: of the initial weights.

    >>> import numpy as np
    >>> from keras_ae import Tiles
    >>> images = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
    >>> floor = linear.fit(linear.patch_moments(images, stride=8), latent_channels=8)
    >>> begin("small", Tiles(images, stride=8), floor).epoch
    0
    """
    model = ConvAutoencoder(preset, channels, stride, latent_channels, precision, seed)
    if model.preset.architecture == "linear-residual":
        linear.set_linear_path(model, floor)
    return Ladder(model, tiles)
