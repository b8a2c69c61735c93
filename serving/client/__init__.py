"""Clients of a server of reconstructions: `ReconstructionClient`, and its twin for asyncio."""

from importlib import import_module
from typing import Any

_DEFINED_IN = {
    "AsyncReconstructionClient": "serving.client.asynchronous",
    "ReconstructionClient": "serving.client.blocking",
}

__all__ = ["AsyncReconstructionClient", "ReconstructionClient"]


def __getattr__(name: str) -> Any:
    """Imports a client when it is asked for: `serving.client.__main__` sets gRPC up before."""
    if name in _DEFINED_IN:
        return getattr(import_module(_DEFINED_IN[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
