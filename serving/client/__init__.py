"""Clients of a server of reconstructions: `ReconstructionClient`, and its twin for asyncio."""

from keras_ae.imports import lazy_getattr

__all__ = ["AsyncReconstructionClient", "ReconstructionClient"]
# When they are asked for: `serving.client.__main__` sets gRPC up before it is imported.
__getattr__ = lazy_getattr(
    __name__,
    {
        "AsyncReconstructionClient": "serving.client.asynchronous",
        "ReconstructionClient": "serving.client.blocking",
    },
)
