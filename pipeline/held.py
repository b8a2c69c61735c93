"""What a Trainer leaves to the next one in its process, which then need not compile again.

In a module of its own: TFX loads the Trainer's anew for each stage.
"""

from keras_ae.training import Ladder

_ladders: dict[str, Ladder] = {}


def keep(name: str, ladder: Ladder) -> None:
    """Holds a ladder, and no other, under a name for all that determines its foot."""
    _ladders.clear()
    _ladders[name] = ladder


def take(name: str) -> Ladder | None:
    """Hands out the ladder of that name, in whatever state it is, and forgets any other."""
    ladder = _ladders.pop(name, None)
    release()
    return ladder


def release() -> None:
    """Lets go of what is held."""
    _ladders.clear()
