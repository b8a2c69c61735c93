"""Who listens: the sockets of a process and of all that it started."""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SECONDS = 0.3
"""Between two looks: a server of a run lives for seconds."""


def listening(pid: int) -> set[tuple[str, int]]:
    """Address and port of each TCP socket that a process or a descendant listens on."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        found = set()
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                found |= {
                    tuple(socket.laddr)
                    for socket in each.net_connections("tcp")
                    if socket.status == psutil.CONN_LISTEN
                }
        return found
    return set()


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an IP address; one of IPv4 may be mapped into IPv6."""
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


@contextmanager
def watching(pid: int) -> Iterator[set[tuple[str, int]]]:
    """Collects `listening` of a process until the block ends."""
    found: set[tuple[str, int]] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(SECONDS):
            found.update(listening(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
