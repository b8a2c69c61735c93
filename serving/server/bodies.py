"""Bodies of HTTP requests, never larger than they may be."""

import zlib

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
