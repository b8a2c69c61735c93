"""Clients of a reconstruction server: `ReconstructionClient`, and one for asyncio.

In a checkout the package is `serving.client`; an installed keras-ae has it as `keras_ae.client`. So
that both work, its modules and those of `wire` import each other relatively.
"""

from keras_ae.imports import lazy_getattr

__all__ = ["AsyncReconstructionClient", "ReconstructionClient"]
# Imported on first use, because `__main__` sets gRPC up before it is imported.
__getattr__ = lazy_getattr(
    __name__,
    {"AsyncReconstructionClient": ".asynchronous", "ReconstructionClient": ".blocking"},
    extra="client",
)
