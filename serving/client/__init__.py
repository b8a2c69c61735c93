"""Clients of a server of reconstructions: `ReconstructionClient`, and its twin for asyncio.

In a checkout the package is called `serving.client`; an installed keras-ae calls it
`keras_ae.client`. So that both work, its modules and those of `wire` import each other relatively.
"""

from keras_ae.imports import lazily

__all__ = ["AsyncReconstructionClient", "ReconstructionClient"]
# When they are asked for: `__main__` sets gRPC up before it is imported.
__getattr__ = lazily(
    __name__,
    {"AsyncReconstructionClient": ".asynchronous", "ReconstructionClient": ".blocking"},
    extra="client",
)
