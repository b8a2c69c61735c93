"""Bodies of HTTP requests, never larger than they may be."""

import ipaddress
import zlib
from collections.abc import Mapping
from urllib.parse import urlsplit

import grpc
from starlette.requests import Request

from serving.server.core import RequestError


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _too_large(limit: int) -> RequestError:
    return _invalid(f"the body has more than {limit:,} bytes; send less")


async def read(request: Request, limit: int) -> bytes:
    """The body as it came.

    What is over the limit is read and thrown away: who sends it gets the answer, and not a
    connection that breaks.

    Raises:
        RequestError: INVALID_ARGUMENT, if it has more bytes than the limit.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding.

    Raises:
        RequestError: INVALID_ARGUMENT, for an encoding other than gzip, for what is not gzip, and
            for more bytes than the limit once decompressed.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise _invalid(f"Content-Encoding: expected gzip or none, got {encoding[:40]}")
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise _invalid(f"the body is not gzip: {error}") from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not stream.eof or stream.unused_data:
        raise _invalid("the body is not gzip: truncated, or more after its end")
    return plain


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
