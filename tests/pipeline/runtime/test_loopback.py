import os
from concurrent.futures import ThreadPoolExecutor

import grpc

from pipeline.runtime import loopback
from tests.listening import is_loopback, listening_addresses


def served(address: str) -> set[str]:
    """The addresses that a server answers at which is asked to listen at one with port 0."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port(address)
    server.start()
    try:
        return {where for where, at in listening_addresses(os.getpid()) if at == port}
    finally:
        server.stop(None).wait()


def test_a_server_for_every_address_is_bound_to_this_machine_meanwhile():
    with loopback.only():
        here, one = served("[::]:0"), served("127.0.0.1:0")
    assert here
    assert all(map(is_loopback, here))
    assert len(one) == 1
    assert not all(map(is_loopback, served("[::]:0")))
