"""SIGINT and SIGTERM end a run within seconds, and a line says how to go on."""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

GRACE = 8.0
"""Seconds until a run that is asked to stop, and does not, is ended."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Watch:
    """The signals of a run.

    Args:
        command: that goes on with the run.

    Attributes:
        received: the first of the signals that came, or 0.
        ended: whether the run has ended.
    """

    def __init__(self, command: str):
        self.received, self.deferred, self.ended = 0, False, False
        self._line = f"; to resume, run: {command}\n"
        self._told = False
        self._own = 0
        # Of its own: the standard error goes to the log meanwhile.
        self._stderr = os.dup(2)
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_sender.setblocking(False)

    def install(self) -> None:
        """Takes the signals."""
        self._handlers = [signal.signal(number, self._on_signal) for number in _SIGNALS]
        self._wakeup = signal.set_wakeup_fd(self._wakeup_sender.fileno())
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable
        threading.Thread(target=self._guard, daemon=True).start()

    def remove(self) -> None:
        """Gives them back."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in zip(_SIGNALS, self._handlers):
            signal.signal(number, handler)
        sys.unraisablehook = self._unraisable
        self._wakeup_sender.close()
        os.close(self._stderr)

    def tell(self) -> int:
        """Says how to go on, once; returns the exit status."""
        if not self._told:
            self._told = True
            name = signal.Signals(self.received).name
            # The terminal may be gone.
            with suppress(OSError):
                os.write(self._stderr, f"stopped by {name}{self._line}".encode())
        return 128 + self.received

    def _on_signal(self, number: int, _: object) -> None:
        self.received = self.received or number
        if not self.deferred:
            raise KeyboardInterrupt

    def _on_unraisable(self, unraisable: Any) -> None:
        """Sends the signal again, soon, where Python ran a finalizer, in which it is lost."""
        if self.received and unraisable.exc_type is KeyboardInterrupt:
            again = threading.Timer(0.1, self._send_again)
            again.daemon = True
            again.start()
        self._unraisable(unraisable)

    def _send_again(self) -> None:
        if self.ended:
            return
        self._own += 1
        signal.pthread_kill(threading.main_thread().ident or 0, self.received)

    def _guard(self) -> None:
        """Ends the process if it is asked to a second time, or does not stop by itself.

        In a thread, which hears of a signal through a socket at once: a handler waits for the main
        thread, which may be in a long call of TensorFlow's.
        """
        with self._wakeup_receiver:
            number = self._heard(None)
            if not number:
                return
            self.received = self.received or number
            end = time.monotonic() + GRACE
            while self._heard(max(0.0, end - time.monotonic())) and self._own:
                self._own -= 1
        # What is still there would outlive this process.
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(self.tell())

    def _heard(self, seconds: float | None) -> int:
        """The next of the signals; 0 if none comes in time, or none will come."""
        while select.select([self._wakeup_receiver], [], [], seconds)[0]:
            number = int.from_bytes(self._wakeup_receiver.recv(1), "little")
            if number in (0, *_SIGNALS):
                return number
        return 0


_watch: Watch | None = None


@contextmanager
def handled(command: str) -> Iterator[Watch]:
    """Lets SIGINT and SIGTERM raise KeyboardInterrupt, and ends a process that goes on regardless.

    After a signal they stay in force when the block ends, for the end of the process may take long.

    Args:
        command: that goes on with the run.
    """
    global _watch
    watch = Watch(command)
    watch.install()
    _watch = watch
    try:
        yield watch
    finally:
        watch.ended = True
        if not watch.received:
            watch.remove()
            _watch = None


@contextmanager
def deferred() -> Iterator[None]:
    """Holds back KeyboardInterrupt until the block ends, for one that asks `requested`."""
    watch = _watch
    if watch is None:
        yield
        return
    watch.deferred = True
    try:
        yield
    finally:
        watch.deferred = False
    if watch.received:
        raise KeyboardInterrupt


def requested() -> bool:
    """Whether the run is asked to stop."""
    return _watch is not None and bool(_watch.received)
