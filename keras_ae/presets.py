"""What can be trained, by name. Standard library only, so that a wrong name is told at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_ae.errors import ConfigurationError

DEFAULT = "medium"
BASELINE = "baseline"
"""The plain network that the others are compared with."""
STRIDE = 8
LATENT_CHANNELS = 8
TRAIN_TILE = 64
"""Side of a training tile in pixels, by default."""
ARCHITECTURES = ("plain", "linear-residual")


@dataclass(frozen=True)
class Preset:
    """How a model is built and trained.

    Attributes:
        name: what it is called in reports.
        architecture: "plain" or "linear-residual".
        widths: channels of each convolution ("plain"), or the one width ("linear-residual").
        blocks: residual blocks in encoder and decoder; none in "plain".
        learning_rate: Adam's, after the warm-up.
        clipnorm: limit of the gradient's global norm, some times its usual size, or None.
        jit_compile: whether XLA was measured faster on the CPU.

    Raises:
        ConfigurationError: for values that make no model.

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
        # As they come back from JSON.
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.architecture not in ARCHITECTURES:
            raise ConfigurationError(
                f"architecture must be one of {', '.join(ARCHITECTURES)}; got {self.architecture!r}"
            )
        if not self.widths or min(self.widths) < 1:
            raise ConfigurationError(f"widths must be positive; got {list(self.widths)}")
        if len(self.blocks) != 2 or min(self.blocks) < 0:
            raise ConfigurationError(f"blocks must be two numbers from 0; got {list(self.blocks)}")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning rate must be above 0; got {self.learning_rate}")


# What each costs and reaches, measured: docs/model.md.
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
    """Looks up a preset by name, or builds the one whose fields are given.

    Raises:
        ConfigurationError: if there is none of that name.

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
