"""Where in an epoch training is, which is what a backend needs to go on from there."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol


class Position(NamedTuple):
    """How far an epoch is trained.

    Attributes:
        batches: that are done.
        total: the sum of their tiles' mean squared errors on pixels 0..1, a float32 value, added
            up in the order of the batches.
    """

    batches: int = 0
    total: float = 0.0


class Run(Protocol):
    """Trains the rest of an epoch, in place, and updates the average.

    Yields a position whenever `pause` says so, and at the end of the epoch; the variables are then
    those of that position. A backend makes as many batches in one call as pays. An epoch that is
    left at a position and gone on with from there, in this process or in another, ends with the
    bits of one that was not, on one machine's CPU.

    Args:
        epoch: its number.
        at: where it begins; one that was yielded, or the beginning.
        micro_batch_size: most tiles in a forward pass. The gradients of a larger batch are summed
            over its micro-batches, weighted by their sizes, before the one step that it gives.
        pause: asked after each call.
    """

    def __call__(
        self, epoch: int, at: Position, micro_batch_size: int, pause: Callable[[], bool]
    ) -> Iterator[Position]: ...
