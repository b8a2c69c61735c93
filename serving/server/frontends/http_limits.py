"""Limits of HTTP requests: the size of their bodies, and the web pages that may send them.

Functions raise RequestError, INVALID_ARGUMENT unless noted.
"""

import zlib
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from grpc import StatusCode
from starlette.requests import Request

from serving.server.errors import RequestError, invalid
from serving.server.models.inputs import MAX_STRINGS

MAX_VALUES: Final = 4_000_000
"""Limit of the values in a body, and of its arrays and objects.

A body is parsed while holding the GIL, so a larger one would stop all other requests for seconds.
"""

_B64: Final = b'"b64"'
_COUNTED_BYTES = 2**20


def _too_large(max_bytes: int) -> RequestError:
    return invalid(f"the body has more than {max_bytes:,} bytes; send fewer or smaller images")


async def read(request: Request, max_bytes: int) -> bytes:
    """Reads the body of a request, which may have at most `max_bytes`.

    A larger one is read to its end and discarded, so that the client gets the error instead of a
    broken connection.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def size_of(body: bytes, encoding: str) -> int:
    """Returns the size of a body without its Content-Encoding, gzip or none.

    It is what gzip states at the end. `decode` refuses a body that is larger.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return len(body)
    if encoding not in ("gzip", "x-gzip"):
        raise invalid(f"Content-Encoding: expected gzip or none, got {encoding[:40]}")
    return int.from_bytes(body[-4:], "little")


def decode(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decodes the Content-Encoding of a body of at most `max_bytes` decompressed."""
    size = size_of(body, encoding)
    if encoding.strip().lower() in ("", "identity"):
        return body
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(body, min(size, max_bytes) + 1)
    except zlib.error as error:
        raise invalid(f"the body is not gzip: {error}") from error
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    if not stream.eof or stream.unused_data:
        raise invalid("the body is not gzip: truncated, or with data after its end")
    return plain


def check_counts(body: bytes) -> None:
    """Refuses a body of JSON that would take seconds and gigabytes, before it is parsed."""
    values = containers = strings = 0
    for start in range(0, len(body), _COUNTED_BYTES):
        end = start + _COUNTED_BYTES
        values += body.count(b",", start, end)
        containers += body.count(b"[", start, end) + body.count(b"{", start, end)
        # One that begins before the end.
        strings += body.count(_B64, start, end + len(_B64) - 1)
        if max(values, containers) > MAX_VALUES:
            raise invalid(
                f"the body has more than {MAX_VALUES:,} values; send images as PNG in b64, tensors "
                "over gRPC, or fewer images per request"
            )
        if strings > MAX_STRINGS:
            raise invalid(
                f"the body has more than {MAX_STRINGS:,} strings in b64; send fewer images per "
                "request, or tensors over gRPC"
            )


def refuse_foreign_pages(request: Request) -> None:
    """Raises PERMISSION_DENIED for requests that a page of another origin makes in a browser.

    Programs and the server's own page pass. Without this check, any page that a user opens could
    send images to a server on the user's machine (CSRF), or read its responses under a host name
    that resolves to 127.0.0.1 (DNS rebinding).
    """
    headers = request.headers
    if not headers.get("user-agent", "").startswith("Mozilla") and not any(
        name == "origin" or name.startswith("sec-") for name in headers
    ):
        return
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    host = headers.get("host", "")
    is_foreign = origin is not None and _split(origin).netloc.lower() != host.lower()
    if request.method != "GET" and (is_foreign or site in ("cross-site", "same-site")):
        raise RequestError(
            StatusCode.PERMISSION_DENIED,
            "requests from web pages of other origins are refused; open this server's own page",
        )
    bound_to = _address((request.scope.get("server") or ("",))[0])
    if bound_to and bound_to.is_loopback and not _names_this_machine(host):
        raise RequestError(
            StatusCode.PERMISSION_DENIED,
            "this server only serves this machine; open it as localhost or 127.0.0.1",
        )


def _names_this_machine(host: str) -> bool:
    """Whether a Host header has localhost or an address, which DNS rebinding cannot give."""
    name = _split(f"//{host}").hostname or ""
    return name == "localhost" or name.endswith(".localhost") or _address(name) is not None


def _split(url: str) -> SplitResult:
    """Splits a URL into its parts, which are empty if it is not valid."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
