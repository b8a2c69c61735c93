"""A cache in which a Trainer leaves its compiled ladder for the next one in the same process.

It is a module of its own because TFX loads the Trainer's module again for each stage.
"""

from typing import NamedTuple

from keras_ae.saved_model.export import Exporter
from keras_ae.training.ladder import Ladder


class Exported(NamedTuple):
    """A ladder whose training step is compiled, and its exporter whose functions are traced."""

    ladder: Ladder
    exporter: Exporter


_cached: dict[str, Exported] = {}


def put(name: str, exported: Exported) -> None:
    """Caches a ladder with its exporter, and drops all others.

    Args:
        name: digest of all that both depend on before the first epoch: settings, data and code.
    """
    clear()
    _cached[name] = exported


def pop(name: str) -> Exported | None:
    """Removes and returns the entry of a name, in its current state, and drops all others."""
    exported = _cached.pop(name, None)
    clear()
    return exported


def clear() -> None:
    """Empties the cache."""
    _cached.clear()
