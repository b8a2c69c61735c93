"""Each patch of Beam: the fault of the unpatched Beam, and that the patch removes it."""

import inspect
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import core

from pipeline.runners import beam_patches
from pipeline.runners.beam import engines, worker_main
from tests.listening import is_loopback, listening_addresses

PATCHES = {
    name: function.__doc__
    for name, function in inspect.getmembers(beam_patches, inspect.isfunction)
    if function.__module__ == beam_patches.__name__ and not name.startswith("_")
} | {"worker_main": worker_main.__doc__}


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_names_the_installed_version_its_reason_and_its_end(name):
    for text in (f"Written for: apache-beam {beam.__version__}.", "Reason: ", "Remove when: "):
        assert text in PATCHES[name]


def addresses_of(*ports: int) -> set[str]:
    return {address for address, port in listening_addresses(os.getpid()) if port in ports}


def addresses_of_beam() -> set[str]:
    """The addresses at which Beam's servers for worker processes listen."""
    server = worker_handlers.GrpcServer(None, None, None)
    try:
        return addresses_of(
            server.control_port, server.data_port, server.state_port, server.logging_port
        )
    finally:
        server.close()


def test_beam_s_servers_listen_on_loopback_only():
    assert not all(map(is_loopback, addresses_of_beam()))
    with beam_patches.servers_on_loopback():
        addresses = addresses_of_beam()
    assert addresses
    assert all(map(is_loopback, addresses))
    assert not all(map(is_loopback, addresses_of_beam()))


def test_a_server_for_one_address_is_left_as_it_is():
    with beam_patches.servers_on_loopback():
        server = grpc.server(ThreadPoolExecutor(1))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            assert len(addresses_of(port)) == 1
        finally:
            server.stop(None).wait()


class _Double(beam.DoFn):
    def process(self, element, factor=2):
        yield factor * element


@pytest.fixture
def inspected(monkeypatch) -> Counter:
    """How often Beam itself inspects each method of `_Double`."""
    counts: Counter = Counter()
    original = core.get_function_args_defaults

    def counted(function):
        if isinstance(getattr(function, "__self__", None), _Double):
            counts[function.__name__] += 1
        return original(function)

    monkeypatch.setattr(core, "get_function_args_defaults", counted)
    return counts


def run_double() -> None:
    with beam.Pipeline(argv=engines.beam_arguments(engines.DIRECT, 1, [])) as pipeline:
        doubled = pipeline | beam.Create([1, 2]) | beam.ParDo(_Double())
        assert_that(doubled, equal_to([2, 4]))


def test_a_method_is_inspected_once(inspected):
    run_double()
    assert inspected["process"] > 1
    inspected.clear()
    with beam_patches.signatures_cached():
        run_double()
    assert set(inspected.values()) == {1}


def test_a_cached_signature_is_the_original_and_the_caller_s_own():
    method = _Double().process
    expected = core.get_function_args_defaults(method)
    with beam_patches.signatures_cached():
        core.get_function_args_defaults(method)[0].clear()
        assert core.get_function_args_defaults(method) == expected
        assert core.get_function_args_defaults(run_double) == ([], [])
    assert core.get_function_args_defaults(method) == expected


@pytest.fixture
def handler() -> Iterator[worker_handlers.SubprocessSdkWorkerHandler]:
    """Beam's handler of a worker process, which ends at once."""
    server = worker_handlers.GrpcServer(None, None, None)
    line = f"{sys.executable} -S -c pass".encode()
    handler = worker_handlers.SubprocessSdkWorkerHandler(
        line, None, ExtendedProvisionInfo(), server
    )
    yield handler
    handler.close()
    server.close()


def test_beam_waits_for_a_worker_that_has_ended(handler):
    handler.start_worker()
    handler.worker_thread.join()
    answer = handler.control_conn.push(beam_fn_api_pb2.InstructionRequest())
    with pytest.raises(AssertionError):
        answer.get(timeout=1)


def test_a_request_to_a_worker_that_has_ended_fails(handler):
    commands = []

    def command(words):
        commands.append(words)
        return [*words[:2], "-c", "import sys; sys.exit()"]

    with beam_patches.workers_supervised(command, lambda: MemoryError("no worker")):
        handler.start_worker()
    assert commands == [[sys.executable, "-S", "-c", "pass"]]
    handler.worker_thread.join()
    for _ in range(2):
        answer = handler.control_conn.push(beam_fn_api_pb2.InstructionRequest())
        with pytest.raises(MemoryError, match="no worker"):
            answer.get(timeout=30)


def test_beam_s_options_set_up_no_logging(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with beam_patches.logging_unchanged():
        PipelineOptions([])
    assert logging.getLogger().handlers == []
    PipelineOptions([])
    assert logging.getLogger().handlers != []
