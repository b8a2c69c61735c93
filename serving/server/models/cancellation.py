"""Cancellation of what TensorFlow computes, for a request that nobody waits for any more."""

import contextvars
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_active: contextvars.ContextVar[Any] = contextvars.ContextVar("cancellation", default=None)


class Cancellation:
    """Calls a function whose TensorFlow functions can be cancelled from another thread.

    A cancelled function of TensorFlow fails with CancelledError before the next step of one of its
    loops, such as that over tiles; the operation that is running ends first.
    """

    def __init__(self) -> None:
        from tensorflow.python.eager import cancellation

        # TensorFlow reads the active manager from one variable of the process, in which threads
        # would replace each other's.
        cancellation.context = _active.get
        self._manager = cancellation.CancellationManager()

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function in this thread."""
        token = _active.set(self._manager)
        try:
            return function(*args, **kwargs)
        finally:
            _active.reset(token)

    def cancel(self) -> None:
        """Cancels what runs in `call`, and what would run in it."""
        self._manager.start_cancel()
