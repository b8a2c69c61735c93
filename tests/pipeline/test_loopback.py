import os
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import grpc

from pipeline import beam_operator, engines, loopback
from tests.listening import is_loopback, listening, watching

TWO = engines.beam_arguments(engines.DIRECT, 2, [])


def served(address: str) -> set[str]:
    """The addresses that a server answers at which is asked to listen at one with port 0."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port(address)
    server.start()
    try:
        return {where for where, at in listening(os.getpid()) if at == port}
    finally:
        server.stop(None).wait()


def test_a_server_for_every_address_is_bound_to_this_machine_meanwhile():
    with loopback.only():
        here, one = served("[::]:0"), served("127.0.0.1:0")
    assert here
    assert all(map(is_loopback, here))
    assert len(one) == 1
    assert not all(map(is_loopback, served("[::]:0")))


def test_beam_s_servers_for_its_workers_are_reached_from_this_machine_only():
    before = listening(os.getpid())
    with (
        watching(os.getpid()) as found,
        beam_operator.engine(TWO),
        beam.Pipeline(argv=TWO) as pipeline,
    ):
        _ = pipeline | beam.Create(range(4)) | beam.Reshuffle() | beam.Map(abs)
    made = found - before
    assert len(made) > 4
    assert {address for address, _ in made if not is_loopback(address)} == set()
