"""Presets: models and their training, by name.

Standard library only, so that a wrong name is reported before TensorFlow is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_ae.errors import ConfigurationError

DEFAULT = "medium"
BASELINE = "baseline"
"""The plain network with which the other presets are compared."""
STRIDE = 8
STRIDES = (2, 4, 8, 16)
"""Strides that a run may have."""
LATENT_CHANNELS = 8
TRAIN_TILE = 64
"""Default side of a training tile, in pixels."""
SERVING_TILE = 1024
"""Default of the maximum side of what goes through a served model at once, in pixels."""
ARCHITECTURES = ("plain", "linear-residual")


@dataclass(frozen=True)
class Preset:
    """The hyperparameters of a model and its training.

    Attributes:
        name: name of the preset in reports.
        architecture: "plain" or "linear-residual".
        widths: channels of each convolution ("plain"), or the one width ("linear-residual").
        blocks: number of residual blocks in encoder and in decoder; not used in "plain".
        learning_rate: learning rate of Adam after the warm-up.
        clipnorm: maximum global norm of the gradient, or None for no clipping.
        jit_compile: whether to compile with XLA, which is faster on the CPU for some presets.

    Raises:
        ConfigurationError: if a value is invalid.

    >>> Preset("wide", "linear-residual", widths=(96,), blocks=(2, 2)).learning_rate
    0.001
    """

    name: str
    architecture: str
    widths: tuple[int, ...]
    blocks: tuple[int, int] = (0, 0)
    learning_rate: float = 1e-3
    clipnorm: float | None = None
    jit_compile: bool = False

    def __post_init__(self) -> None:
        # JSON returns lists.
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.architecture not in ARCHITECTURES:
            raise ConfigurationError(
                f"architecture must be one of {', '.join(ARCHITECTURES)}; got {self.architecture!r}"
            )
        if not self.widths or min(self.widths) < 1:
            raise ConfigurationError(f"widths must be positive; got {list(self.widths)}")
        if len(self.blocks) != 2 or min(self.blocks) < 0:
            raise ConfigurationError(
                f"blocks must be two integers, 0 or more; got {list(self.blocks)}"
            )
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning rate must be above 0; got {self.learning_rate}")


# docs/model.md has the measured cost and quality of each.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(BASELINE, "plain", (32, 32)),
        Preset("small", "linear-residual", (48,), (1, 3), clipnorm=0.03, jit_compile=True),
        Preset("medium", "linear-residual", (64,), (1, 6), clipnorm=0.03, jit_compile=True),
        Preset("large", "linear-residual", (256,), (2, 6), 5e-4, clipnorm=0.03, jit_compile=True),
    )
}


def get(preset: str | Preset | Mapping[str, Any]) -> Preset:
    """Returns a preset by name, or builds one from its fields.

    Raises ConfigurationError if there is no preset of that name.

    >>> get("medium").widths, get("medium").blocks
    ((64,), (1, 6))
    >>> get({"name": "tiny", "architecture": "plain", "widths": [4]}).name
    'tiny'
    """
    if isinstance(preset, Preset):
        return preset
    if isinstance(preset, Mapping):
        return Preset(**preset)
    if preset not in PRESETS:
        raise ConfigurationError(f"preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    return PRESETS[preset]


def check_latent_channels(latent_channels: int, stride: int, channels: int) -> int:
    """Returns the number of latent channels.

    Raises ConfigurationError if it is not from 1 to the number of values of a patch, which has
    `stride` x `stride` pixels with `channels` values each.
    """
    most = stride * stride * channels
    if not 1 <= latent_channels <= most:
        raise ConfigurationError(
            f"latent channels must be 1 to {most}, the values of a patch of {stride}x{stride} "
            f"pixels with {channels} channel{'' if channels == 1 else 's'}; got {latent_channels}"
        )
    return latent_channels


def describe_latent(latent_channels: int, stride: int, channels: int) -> str:
    """Describes the size of a latent, also relative to images with `channels` values per pixel.

    >>> describe_latent(8, 8, 3)
    "8 channels at stride 8: 0.125 values per pixel, 4.2 % of the image's values"
    """
    per_pixel = latent_channels / stride**2
    percent = 100 * per_pixel / channels
    return (
        f"{latent_channels} channel{'' if latent_channels == 1 else 's'} at stride {stride}: "
        f"{per_pixel:.3g} values per pixel, {percent:{'.1f' if percent >= 1 else '.2g'}} % of the "
        "image's values"
    )


def tile_alignment(stride: int) -> int:
    """Returns the pixels of which the side of a serving tile is a multiple.

    They are a position of the latent, and at least one of MS-SSIM's coarsest scale.
    """
    return max(16, stride)


def check_tile(tile: int, stride: int) -> int:
    """Returns the side of a serving tile.

    Raises ConfigurationError if it is not a positive multiple of the stride and of 16.
    """
    if tile < 1 or tile % tile_alignment(stride):
        raise ConfigurationError(
            f"tile must be a positive multiple of {tile_alignment(stride)} pixels; got {tile}"
        )
    return tile
