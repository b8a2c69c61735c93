"""What keeps web pages of others from using a server on this machine.

Without a CORS header no page of another origin can read an answer. Two things are left. A page may
send a POST blindly: refused by its Origin. Or its name may come to resolve to the loopback address
(DNS rebinding), which makes it the same origin: on a loopback address, browsers must ask for
localhost or an IP address. Such a page may send neither Origin nor Sec-Fetch-Site, so browsers are
known by their User-Agent too; programs are let through.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import grpc
from starlette.requests import Request

from serving.server.core import RequestError


def refuse_foreign_pages(request: Request) -> None:
    """Lets programs and the server's own page pass.

    Raises:
        RequestError: PERMISSION_DENIED, for a request that a page of another origin made.
    """
    if not _is_browser(request.headers):
        return
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    host = request.headers.get("host", "")
    foreign = origin is not None and _netloc(origin) != host.lower()
    if request.method != "GET" and (foreign or site in ("cross-site", "same-site")):
        raise RequestError(
            grpc.StatusCode.PERMISSION_DENIED,
            "requests of other web pages are not answered; open this server's own page",
        )
    if _is_loopback((request.scope.get("server") or ("",))[0]) and not _is_local(host):
        raise RequestError(
            grpc.StatusCode.PERMISSION_DENIED,
            "this server is for this machine; open it as localhost or 127.0.0.1",
        )


def _is_browser(headers: Mapping[str, str]) -> bool:
    if headers.get("user-agent", "").startswith("Mozilla"):
        return True
    return any(name == "origin" or name.startswith("sec-") for name in headers)


def _netloc(origin: str) -> str:
    """Host and port of an origin, "" if there are none ("null")."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
