"""Patches of Apache Beam, one context manager each: outside of its block Beam is as installed.

`tests/pipeline/runners/test_beam_patches.py` shows for each of them the fault of the unpatched
Beam, so that it fails for a version that does not need the patch any more, or no longer fits it.
What a worker process needs is in `pipeline.runners.beam.worker_main`: it is started for every step,
and must not import what is here.
"""

import logging
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import MethodType
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import grpc
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.transforms import core

_ALL_ADDRESSES, _LOOPBACK = "[::]:", "localhost:"
_ABORT_INTERVAL_SECONDS = 0.5


@contextmanager
def servers_on_loopback() -> Iterator[None]:
    """Binds gRPC servers to loopback that would listen on every address of the machine.

    Replaces: `grpc.server`; servers that are bound to one address are left as they are.
    Written for: apache-beam 2.77.0.
    Reason: `worker_handlers.GrpcServer`, `SubprocessSdkWorker` and the job servers bind to
        "[::]:0" and have no option for it, though workers on this machine connect to "localhost".
        Whoever reaches these ports reads the data of a run and can send code to its workers.
    Remove when: Beam binds the servers of local workers to loopback, or has an option for it.
    """
    original = grpc.server

    def server(*args: Any, **kwargs: Any) -> grpc.Server:
        created = original(*args, **kwargs)
        add_insecure_port = created.add_insecure_port

        def add_loopback_port(address: str) -> int:
            if address.startswith(_ALL_ADDRESSES):
                address = _LOOPBACK + address.removeprefix(_ALL_ADDRESSES)
            return int(add_insecure_port(address))

        created.add_insecure_port = add_loopback_port
        return created

    with mock.patch.object(grpc, "server", server):
        yield


@contextmanager
def signatures_cached() -> Iterator[None]:
    """Inspects the signature of each method once, not for every use of a DoFn.

    Replaces: `apache_beam.transforms.core.get_function_args_defaults`.
    Written for: apache-beam 2.77.0.
    Reason: `apache_beam.transforms.userstate.get_dofn_specs` inspects all methods of a DoFn
        several times while a pipeline is built and started. That is a tenth of the time of a short
        run.
    Remove when: Beam caches what it has inspected.
    """
    original = core.get_function_args_defaults
    inspected: WeakKeyDictionary[Any, tuple[list[str], list[Any]]] = WeakKeyDictionary()

    def get_function_args_defaults(function: Any) -> tuple[list[str], list[Any]]:
        # Other callables may have a signature of their own in each instance.
        if not isinstance(function, MethodType):
            return original(function)
        if function.__func__ not in inspected:
            inspected[function.__func__] = original(function)
        arguments, defaults = inspected[function.__func__]
        # The callers own the lists that they get.
        return list(arguments), list(defaults)

    with mock.patch.object(core, "get_function_args_defaults", get_function_args_defaults):
        yield


@contextmanager
def workers_supervised(
    command: Callable[[Sequence[str]], Sequence[str]], error: Callable[[], Exception]
) -> Iterator[None]:
    """Starts worker processes by another command, and fails a pipeline one of whose workers ends.

    Replaces: `apache_beam.runners.portability.fn_api_runner.worker_handlers`
        `.SubprocessSdkWorkerHandler.start_worker`; it also reads and writes the handler's private
        `_worker_command_line`, and reads the private `_state` of its `control_conn`.
    Written for: apache-beam 2.77.0.
    Reason: a worker that dies raises RuntimeError in the handler's own thread, where nobody sees
        it, while the runner waits for the worker's answer for ever. And Beam starts the process
        behind a shell that outlives a runner that is killed, as does the worker.
    Remove when: Beam aborts the control connection of a worker process that has ended, and has an
        option for the command that starts one.

    Args:
        command: maps the words of Beam's command line to those that are run instead.
        error: creates what the pipeline raises when a worker process has died.
    """
    handler_class = worker_handlers.SubprocessSdkWorkerHandler
    original = handler_class.start_worker

    def start_worker(handler: Any) -> None:
        words = command(shlex.split(handler._worker_command_line.decode()))
        # Beam runs the line in a shell. With exec the shell becomes the worker.
        handler._worker_command_line = f"exec {shlex.join(words)}".encode()
        original(handler)
        threading.Thread(target=_abort_when_it_ends, args=(handler, error), daemon=True).start()

    with mock.patch.object(handler_class, "start_worker", start_worker):
        yield


def _abort_when_it_ends(handler: Any, error: Callable[[], Exception]) -> None:
    """Fails all requests to a worker process that has ended, until its connection is closed.

    The connection is closed first where Beam ends the worker itself. Otherwise the runner may send
    further requests before it sees that one has failed, so that one abort does not suffice.
    """
    handler.worker_thread.join()
    while handler.control_conn._state != worker_handlers.BeamFnControlServicer.DONE_STATE:
        # Beam iterates over its requests here, which fails if one is added meanwhile.
        with suppress(RuntimeError):
            handler.control_conn.abort(error())
        time.sleep(_ABORT_INTERVAL_SECONDS)


@contextmanager
def logging_unchanged() -> Iterator[None]:
    """Restores the handlers of the root logger, which Beam's options set up.

    Replaces: nothing.
    Written for: apache-beam 2.77.0.
    Reason: `apache_beam.options.pipeline_options.PipelineOptions` calls `logging.basicConfig()`,
        also where it is used to check a command line only. The libraries' logs would then go to a
        terminal that they are kept from.
    Remove when: PipelineOptions leaves the root logger alone.
    """
    handlers = logging.getLogger().handlers
    before = [*handlers]
    try:
        yield
    finally:
        handlers[:] = before
