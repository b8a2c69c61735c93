"""Clients of a reconstruction server: `ReconstructionClient`, and one for asyncio.

In a checkout the package is `serving.client`; an installed keras-ae has it as `keras_ae.client`. So
that both work, its modules and those of `wire` import each other relatively.
"""

from keras_ae.imports import lazily

__all__ = ["AsyncReconstructionClient", "ReconstructionClient"]
# Imported on first use, since `__main__` sets GRPC_VERBOSITY before gRPC is imported.
__getattr__ = lazily(
    __name__,
    {"AsyncReconstructionClient": ".asynchronous", "ReconstructionClient": ".blocking"},
    extra="client",
)
