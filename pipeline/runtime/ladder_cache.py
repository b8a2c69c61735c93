"""What a Trainer leaves to the next one in its process, which need not compile it again.

In a module of its own: TFX loads the Trainer's anew for each stage.
"""

from typing import NamedTuple

from keras_ae.saved_model.export import Exporter
from keras_ae.training.ladder import Ladder


class Exported(NamedTuple):
    """A ladder, whose training step is compiled, and what exports its model, which is traced."""

    ladder: Ladder
    exporter: Exporter


_cached: dict[str, Exported] = {}


def put(name: str, exported: Exported) -> None:
    """Caches a ladder with its exporter, and drops all others.

    Args:
        name: what determines both before any epoch: settings, data and code.
        exported: the two.
    """
    _cached.clear()
    _cached[name] = exported


def pop(name: str) -> Exported | None:
    """Removes and returns what has that name, in whatever state it is, and drops all others."""
    exported = _cached.pop(name, None)
    clear()
    return exported


def clear() -> None:
    """Empties the cache."""
    _cached.clear()
