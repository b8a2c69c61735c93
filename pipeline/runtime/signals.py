"""SIGINT and SIGTERM end a run within seconds, and a line says how to resume it.

A Python signal handler runs in the main thread only, between two instructions of the interpreter.
While that thread is in a long call of TensorFlow's, a handler that raises KeyboardInterrupt may so
come minutes late. Two mechanisms of Python cover what the handler misses:

- `signal.set_wakeup_fd`: the interpreter's handler in C writes the signal's number to a socket at
  once, where a thread reads it. The thread ends the process if it has not stopped by itself after
  `GRACE_SECONDS`, or at a second signal.
- `sys.unraisablehook`: an exception in a finalizer (`__del__`, a weakref callback) is printed and
  dropped, KeyboardInterrupt too. Where that happens, the signal is sent again.
"""

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

GRACE_SECONDS = 8.0
"""Time for a run to stop after a signal, before the process is ended."""
_RESEND_SECONDS = 0.1

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Watch:
    """Handles the signals of a run, which the command line `command` resumes.

    Attributes:
        received: the first signal that was received, or 0.
        deferred: whether KeyboardInterrupt is held back, see the function `deferred`.
        ended: whether the run has ended.
    """

    def __init__(self, command: str):
        self.received, self.deferred, self.ended = 0, False, False
        self._command, self._reported, self._pending_resends = command, False, 0
        # A copy, because descriptor 2 is the log file during a run.
        self._stderr = os.dup(2)
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_sender.setblocking(False)

    def install(self) -> None:
        """Replaces the signal handlers and the hook, and starts the thread."""
        self._handlers = [signal.signal(number, self._on_signal) for number in _SIGNALS]
        self._wakeup = signal.set_wakeup_fd(self._wakeup_sender.fileno())
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable
        threading.Thread(target=self._guard, daemon=True).start()

    def remove(self) -> None:
        """Restores the signal handlers and the hook, and ends the thread."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in zip(_SIGNALS, self._handlers):
            signal.signal(number, handler)
        sys.unraisablehook = self._unraisable
        # The thread reads the end of the stream and returns.
        self._wakeup_sender.close()
        os.close(self._stderr)

    def report(self) -> int:
        """Prints once how to resume the run, and returns the exit status."""
        if not self._reported:
            self._reported = True
            name = signal.Signals(self.received).name
            text = f"stopped by {name}; to resume, run: {self._command}\n"
            # The terminal may have been closed.
            with suppress(OSError):
                os.write(self._stderr, text.encode())
        return 128 + self.received

    def _on_signal(self, number: int, _: object) -> None:
        self.received = self.received or number
        if not self.deferred:
            raise KeyboardInterrupt

    def _on_unraisable(self, unraisable: Any) -> None:
        """Sends the signal again if a finalizer has swallowed KeyboardInterrupt."""
        if self.received and unraisable.exc_type is KeyboardInterrupt:
            # The finalizer has probably returned then.
            timer = threading.Timer(_RESEND_SECONDS, self._resend)
            timer.daemon = True
            timer.start()
        self._unraisable(unraisable)

    def _resend(self) -> None:
        if not self.ended:
            self._pending_resends += 1
            signal.pthread_kill(threading.main_thread().ident or 0, self.received)

    def _guard(self) -> None:
        """Ends the process at a second signal, or if it has not stopped after the grace period."""
        with self._wakeup_receiver:
            number = self._next_signal(None)
            if not number:
                return
            self.received = self.received or number
            deadline = time.monotonic() + GRACE_SECONDS
            # A signal that `_resend` sent is no second request of the user's.
            while self._next_signal(deadline - time.monotonic()) and self._pending_resends:
                self._pending_resends -= 1
        # Children are not ended by the exit of their parent.
        for child in psutil.Process().children(recursive=True):
            child.kill()
        # `sys.exit` would end this thread only, and would wait for the main thread.
        os._exit(self.report())

    def _next_signal(self, seconds: float | None) -> int:
        """Waits for SIGINT or SIGTERM; 0 after a timeout or when the socket is closed."""
        timeout = None if seconds is None else max(0.0, seconds)
        while select.select([self._wakeup_receiver], [], [], timeout)[0]:
            # No byte at the end of the stream, which is 0. Other signals are written here as well.
            number = int.from_bytes(self._wakeup_receiver.recv(1), "little")
            if number in (0, *_SIGNALS):
                return number
        return 0


_watch: Watch | None = None


@contextmanager
def handled(command: str) -> Iterator[Watch]:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt, and ends a process that does not stop.

    After a signal the handlers stay installed when the block ends, because Python may take long to
    finalize the process. The command line `command` resumes the run.
    """
    global _watch
    _watch = watch = Watch(command)
    watch.install()
    try:
        yield watch
    finally:
        watch.ended = True
        if not watch.received:
            watch.remove()
            _watch = None


@contextmanager
def deferred() -> Iterator[None]:
    """Delays KeyboardInterrupt until the end of the block, which has to check `requested`."""
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
    """Whether the run has received a signal to stop."""
    return _watch is not None and bool(_watch.received)
