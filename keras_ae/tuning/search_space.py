"""The search space of tuning: variants of a preset within a parameter budget.

It uses the standard library only, so that the runner can check the flags of tuning at once.
"""

import dataclasses
from collections.abc import Mapping
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
    """A point of a search space; `parameters` are trainable ones, `batch_size` is the maximum.

    Width and blocks are those of the residual path, in encoder and decoder. A point with the
    preset's own values is `untuned`.
    """

    width: int
    blocks: tuple[int, int]
    learning_rate: float
    batch_size: int
    parameters: int
    untuned: bool


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Depth, width, learning rate and batch size near a preset, all within a parameter budget.

    Depth is the number of residual blocks of encoder and decoder together, divided between them as
    in the preset. Each depth has its own widths, from a quarter of the largest within the budget up
    to the largest. Learning rates are between a quarter and four times the preset's, batch sizes
    between half and twice `batch_size`.

    Args:
        preset: the preset near which to search.
        batch_size: maximum batch size without tuning.
        parameters: the budget, in trainable parameters; 0 for those of the preset.
        channels, stride, latent_channels: arguments of the model.

    Raises:
        ConfigurationError: for a preset without residual blocks, or if no model is within the
            budget.
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
            smallest = self.parameters_of(_with_shape(self.preset, min(self._depths), WIDTH_STEP))
            raise ConfigurationError(
                f"tuning needs a budget of at least {smallest:,} parameters, those of its smallest "
                f"model; got {self.parameters:,}"
            )

    @cached_property
    def widths(self) -> dict[int, list[int]]:
        """The widths to try at each depth, without depths that have none within the budget."""
        candidates = {depth: self._widths_at(depth) for depth in self._depths}
        return {depth: widths for depth, widths in candidates.items() if widths}

    def _widths_at(self, depth: int) -> list[int]:
        def fits(width: int) -> bool:
            return self.parameters_of(_with_shape(self.preset, depth, width)) <= self.parameters

        # Matrix products are fastest if the sizes are multiples of eight.
        fitting = list(takewhile(fits, count(WIDTH_STEP, WIDTH_STEP)))
        widths = {width for width in fitting if 4 * width >= fitting[-1]}
        preset_width = self.preset.widths[0]
        if depth == sum(self.preset.blocks) and fits(preset_width):
            widths.add(preset_width)
        return sorted(widths)

    def define(self, hp: Any) -> tuple[Preset, int]:
        """Declares the hyperparameters; the defaults are the preset, if it is within the budget.

        Returns the preset and the batch size of the values in `hp`, `keras_tuner.HyperParameters`.
        """
        depths, preset_depth = list(self.widths), sum(self.preset.blocks)
        preset_width = self.preset.widths[0]
        hp.Choice("depth", depths, default=preset_depth if preset_depth in depths else depths[0])
        for depth, widths in self.widths.items():
            is_preset = depth == preset_depth and preset_width in widths
            default = preset_width if is_preset else widths[-1]
            with hp.conditional_scope("depth", [depth]):
                # A name of its own for each depth: keras-tuner drops the value of a shared name.
                hp.Choice(_width_name(depth), widths, default=default)
        rate = self.preset.learning_rate
        hp.Float("learning_rate", rate / 4, rate * 4, sampling="log", default=rate)
        sizes = sorted({max(1, self.batch_size // 2), self.batch_size, self.batch_size * 2})
        hp.Choice("batch_size", sizes, default=self.batch_size)
        return apply_values(self.preset, hp.values)

    def parameters_of(self, preset: Preset) -> int:
        """Returns the number of trainable parameters of a preset's model."""
        return count_parameters(preset, self.channels, self.stride, self.latent_channels)

    @property
    def _depths(self) -> list[int]:
        return sorted({*DEPTHS, sum(self.preset.blocks)})


def apply_values(preset: Preset, values: Mapping[str, Any]) -> tuple[Preset, int]:
    """Returns the tuned preset and the batch size for the values of a trial.

    They are `depth`, `width_DEPTH`, `learning_rate` and `batch_size`.
    """
    depth = int(values["depth"])
    tuned = dataclasses.replace(
        _with_shape(preset, depth, int(values[_width_name(depth)])),
        name=f"{preset.name} tuned",
        learning_rate=float(values["learning_rate"]),
    )
    return tuned, int(values["batch_size"])


def _width_name(depth: int) -> str:
    return f"width_{depth}"


def _with_shape(preset: Preset, depth: int, width: int) -> Preset:
    """Changes depth and width, with blocks divided between encoder and decoder as in the preset."""
    encoder, decoder = preset.blocks
    new_encoder = depth * encoder // (encoder + decoder) if encoder + decoder else depth // 2
    blocks = (new_encoder, depth - new_encoder)
    return dataclasses.replace(preset, widths=(width,), blocks=blocks)


def count_parameters(preset: Preset, channels: int, stride: int, latent_channels: int) -> int:
    """Counts the trainable parameters of a "linear-residual" model without building it."""
    width, patch = preset.widths[0], stride * stride * channels
    block = (9 * width + 1) * width + (width + 1) * width

    def count_path(inputs: int, outputs: int, blocks: int) -> int:
        linear = (inputs + 1) * outputs
        return linear + (inputs + 1) * width + blocks * block + (width + 1) * outputs

    encoder, decoder = preset.blocks
    return count_path(patch, latent_channels, encoder) + count_path(latent_channels, patch, decoder)


def point_of(space: SearchSpace, values: Mapping[str, Any]) -> Point:
    """Returns the point of a search space that the values of a trial describe."""
    preset, batch_size = apply_values(space.preset, values)
    same = dataclasses.replace(preset, name=space.preset.name) == space.preset
    return Point(
        width=preset.widths[0],
        blocks=preset.blocks,
        learning_rate=preset.learning_rate,
        batch_size=batch_size,
        parameters=space.parameters_of(preset),
        untuned=same and batch_size == space.batch_size,
    )


def format_point(point: Any) -> str:
    """Formats a `Point`, or the record of a trial, as a short text."""
    encoder, decoder = point.blocks
    return (
        f"width {point.width}, {encoder} + {decoder} blocks, "
        f"learning rate {point.learning_rate:.2g}, batch size {point.batch_size}"
    )
