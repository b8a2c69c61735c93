"""What can be trained, by name. Standard library only, so that a wrong name is told at once."""

from dataclasses import dataclass

from keras_ae.errors import ConfigurationError

DEFAULT = "linear-residual"
STRIDE = 8
LATENT_CHANNELS = 8


@dataclass(frozen=True)
class Preset:
    """How a model is built and trained.

    Attributes:
        architecture: "plain" or "linear-residual".
        widths: channels of each convolution ("plain"), or the one width ("linear-residual").
        blocks: residual blocks on each side; 0 for "plain".
        learning_rate: Adam's, after the warm-up.
        clipnorm: limit of the gradient's global norm, or None.
        jit_compile: whether XLA was measured faster on the CPU.
    """

    architecture: str
    widths: tuple[int, ...]
    blocks: int
    learning_rate: float
    clipnorm: float | None
    jit_compile: bool


PRESETS = {
    "baseline": Preset("plain", (32, 32), 0, 1e-3, None, jit_compile=False),
    "linear-residual": Preset("linear-residual", (96,), 2, 1e-3, 1.0, jit_compile=True),
}


def get(name: str) -> Preset:
    """Looks up a preset.

    Raises:
        ConfigurationError: if there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name]
