"""Addresses that a process and its descendants listen on."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

POLL_SECONDS = 0.3
"""Short enough for the servers of a run, which live for seconds."""


def listening_addresses(pid: int) -> set[tuple[str, int]]:
    """Address and port of each TCP socket that a process or a descendant listens on."""
    addresses: set[tuple[str, int]] = set()
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                addresses |= {
                    tuple(socket.laddr)
                    for socket in process.net_connections("tcp")
                    if socket.status == psutil.CONN_LISTEN
                }
    return addresses


def is_loopback(text: str) -> bool:
    """Whether an IP address is reached from this machine only; IPv4 may be mapped into IPv6."""
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@contextmanager
def collect_listening_addresses(pid: int) -> Iterator[set[tuple[str, int]]]:
    """Collects the listening addresses of a process in a set until the end of the block."""
    addresses: set[tuple[str, int]] = set()
    stop = threading.Event()

    def collect() -> None:
        while not stop.wait(POLL_SECONDS):
            addresses.update(listening_addresses(pid))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield addresses
    finally:
        stop.set()
        thread.join()
