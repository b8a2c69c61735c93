from .asynchronous import AsyncReconstructionClient as AsyncReconstructionClient
from .blocking import ReconstructionClient as ReconstructionClient

__all__: list[str]
