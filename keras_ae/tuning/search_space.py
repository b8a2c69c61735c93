"""What tuning may change in a preset, within a parameter budget. Standard library only."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import count, takewhile
from typing import Any

from keras_ae import presets
from keras_ae.errors import ConfigurationError
from keras_ae.presets import Preset

DEPTHS = (2, 4, 6, 8, 12)
WIDTH_STEP = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a search space.

    Attributes:
        width: channels of the residual path.
        blocks: residual blocks of encoder and decoder.
        learning_rate: Adam's, after the warm-up.
        batch_size: batch size (maximum).
        parameters: number of trainable parameters.
        untuned: whether these are the preset's own values.
    """

    width: int
    blocks: tuple[int, int]
    learning_rate: float
    batch_size: int
    parameters: int
    untuned: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial(Point):
    """A trial of a search.

    Attributes:
        trial: number of the trial, from 1.
        val_psnr: mean PSNR on val, dB.
        taken: whether the ladder is trained with its values.
    """

    trial: int
    val_psnr: float
    taken: bool


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Depth, width, learning rate and batch size around a preset; each point is within the budget.

    Depth counts the residual blocks of encoder and decoder together, which share them as in the
    preset. Each depth has widths of its own, from a quarter of the largest that is within the
    budget up to that one. Learning rates reach from a quarter of the preset's to four times that,
    batches from half the size to twice.

    Args:
        preset: the preset around which to search.
        batch_size: largest number of tiles in a step, when not tuned.
        parameters: the budget in trainable numbers; by default those of the preset.
        channels, stride, latent_channels: of the model.

    Raises:
        ConfigurationError: for a preset that has no depth, or a budget that nothing is within.
    """

    preset: Preset
    batch_size: int = 32
    parameters: int = 0
    channels: int = 3
    stride: int = presets.STRIDE
    latent_channels: int = presets.LATENT_CHANNELS

    def __post_init__(self) -> None:
        if self.preset.architecture != "linear-residual":
            raise ConfigurationError(
                "tuning needs a preset with residual blocks, such as "
                f"{presets.DEFAULT}; got {self.preset.name}"
            )
        if not self.parameters:
            object.__setattr__(self, "parameters", self.parameters_of(self.preset))
        if not self.widths:
            smallest = _reshaped(self.preset, min(self._depths), WIDTH_STEP)
            least = self.parameters_of(smallest)
            raise ConfigurationError(
                f"the smallest model that tuning tries has {least:,} parameters; "
                f"got a budget of {self.parameters:,}"
            )

    @cached_property
    def widths(self) -> dict[int, list[int]]:
        """The widths to try at each depth; a depth without any within the budget is left out."""
        found = {depth: self._widths_at(depth) for depth in self._depths}
        return {depth: widths for depth, widths in found.items() if widths}

    def _widths_at(self, depth: int) -> list[int]:
        def fits(width: int) -> bool:
            return self.parameters_of(_reshaped(self.preset, depth, width)) <= self.parameters

        # Multiples of eight, as most processors like them.
        fitting = list(takewhile(fits, count(WIDTH_STEP, WIDTH_STEP)))
        tried = {width for width in fitting if 4 * width >= fitting[-1]}
        own = self.preset.widths[0]
        if depth == sum(self.preset.blocks) and fits(own):
            tried.add(own)
        return sorted(tried)

    def define(self, hp: Any) -> tuple[Preset, int]:
        """Declares the space; its defaults are the preset itself where that is within the budget.

        Args:
            hp: `keras_tuner.HyperParameters`.

        Returns:
            The preset and the batch size of the present values.
        """
        depths, own_depth = list(self.widths), sum(self.preset.blocks)
        hp.Choice("depth", depths, default=own_depth if own_depth in depths else depths[0])
        for depth, widths in self.widths.items():
            own = depth == own_depth and self.preset.widths[0] in widths
            default = self.preset.widths[0] if own else widths[-1]
            with hp.conditional_scope("depth", [depth]):
                # With one name for all depths keras-tuner would drop the value.
                hp.Choice(_width_at(depth), widths, default=default)
        rate = self.preset.learning_rate
        hp.Float("learning_rate", rate / 4, rate * 4, sampling="log", default=rate)
        sizes = sorted({max(1, self.batch_size // 2), self.batch_size, self.batch_size * 2})
        hp.Choice("batch_size", sizes, default=self.batch_size)
        return tuned(self.preset, hp.values)

    def parameters_of(self, preset: Preset) -> int:
        """Trainable numbers of a preset's model."""
        return count_parameters(preset, self.channels, self.stride, self.latent_channels)

    @property
    def _depths(self) -> list[int]:
        return sorted({*DEPTHS, sum(self.preset.blocks)})


def tuned(preset: Preset, values: Mapping[str, Any]) -> tuple[Preset, int]:
    """The preset and the batch size that a trial's values stand for.

    Args:
        preset: the preset around which was searched.
        values: `depth`, `width_DEPTH`, `learning_rate` and `batch_size`.
    """
    depth = int(values["depth"])
    made = dataclasses.replace(
        _reshaped(preset, depth, int(values[_width_at(depth)])),
        name=f"{preset.name} tuned",
        learning_rate=float(values["learning_rate"]),
    )
    return made, int(values["batch_size"])


def _width_at(depth: int) -> str:
    return f"width_{depth}"


def _reshaped(preset: Preset, depth: int, width: int) -> Preset:
    encoder, decoder = preset.blocks
    share = depth * encoder // (encoder + decoder) if encoder + decoder else depth // 2
    return dataclasses.replace(preset, widths=(width,), blocks=(share, depth - share))


def count_parameters(preset: Preset, channels: int, stride: int, latent_channels: int) -> int:
    """Trainable numbers of a "linear-residual" model, without building it."""
    width, patch = preset.widths[0], stride * stride * channels
    block = (9 * width + 1) * width + (width + 1) * width

    def path(before: int, after: int, blocks: int) -> int:
        residual = (before + 1) * width + blocks * block + (width + 1) * after
        return residual + (before + 1) * after

    encoder, decoder = preset.blocks
    return path(patch, latent_channels, encoder) + path(latent_channels, patch, decoder)


def trials(space: SearchSpace, results: Iterable[Mapping[str, Any]]) -> list[Trial]:
    """Lists trials for reports, the best first.

    Args:
        space: what was searched.
        results: the best first, of each trial `trial_id`, `score` (val PSNR, dB) and its values, as
            TFX's Tuner writes them.
    """
    return [
        Trial(
            trial=int(result["trial_id"]) + 1,
            val_psnr=float(result["score"]),
            taken=rank == 0,
            **dataclasses.asdict(point(space, result)),
        )
        for rank, result in enumerate(results)
    ]


def point(space: SearchSpace, values: Mapping[str, Any]) -> Point:
    """The point of a space that the values of a trial stand for, as of `tuned`."""
    preset, batch_size = tuned(space.preset, values)
    same = dataclasses.replace(preset, name=space.preset.name) == space.preset
    return Point(
        width=preset.widths[0],
        blocks=preset.blocks,
        learning_rate=preset.learning_rate,
        batch_size=batch_size,
        parameters=space.parameters_of(preset),
        untuned=same and batch_size == space.batch_size,
    )


def describe(point: Point) -> str:
    """Describes a point in a few words."""
    encoder, decoder = point.blocks
    return (
        f"width {point.width}, {encoder} + {decoder} blocks, "
        f"learning rate {point.learning_rate:.2g}, batch size {point.batch_size}"
    )


def summary(trials: Sequence[Trial], *, preset: str, epochs: int, failed: int) -> str:
    """The values that were taken and what they gained, in a sentence.

    Args:
        trials: trials that trained, the best first.
        preset: name of the preset around which was searched.
        epochs: epochs of each trial.
        failed: number of trials that did not train.
    """
    taken = trials[0]
    text = (
        f"{describe(taken)} ({taken.parameters:,} parameters), the best of "
        f"{len(trials) + failed} trials of {epochs} epochs with {taken.val_psnr:.2f} dB on val"
    )
    untuned = next((trial for trial in trials if trial.untuned), None)
    if untuned is taken:
        text += f"; that is {preset} itself"
    elif untuned is not None:
        text += f"; {preset} itself has {untuned.val_psnr:.2f} dB"
    if failed:
        text += f"; {failed} did not train"
    return text
