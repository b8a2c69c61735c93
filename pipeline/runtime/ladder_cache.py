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


_held: dict[str, Exported] = {}


def keep(name: str, exported: Exported) -> None:
    """Holds these, and no others, under a name for all that determines them before any epoch."""
    _held.clear()
    _held[name] = exported


def take(name: str) -> Exported | None:
    """Hands out what has that name, in whatever state it is, and forgets all else."""
    exported = _held.pop(name, None)
    release()
    return exported


def release() -> None:
    """Lets go of what is held."""
    _held.clear()
