"""The interface of the training backends: the position in an epoch, and training from there."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias


class Position(NamedTuple):
    """Batches of an epoch that are done, and the sum of the losses of their tiles.

    The loss is the mean squared error on pixels 0..1; the sum is a float32 value, added up in the
    order of the batches.
    """

    batches_done: int = 0
    loss_sum: float = 0.0


TrainEpoch: TypeAlias = Callable[[int, Position, int, Callable[[], bool]], Iterator[Position]]
"""Trains the rest of an epoch in place and updates the EMA weights.

The arguments are the number of the epoch; where to start: a position that was yielded, or
`Position()`; the maximum number of tiles in a forward pass; and `should_yield`, which is called
after each call of the compiled function. The gradients of a larger batch are summed over its
micro-batches, weighted by their sizes, before its one step.

It yields a position whenever `should_yield` returns true, and at the end of the epoch; the
variables then have the values of that position. A backend may train on several batches in one
call. An epoch that is interrupted at a position and resumed from it, in this process or in another
one, gives the same bits as an uninterrupted one, on one machine's CPU.
"""
