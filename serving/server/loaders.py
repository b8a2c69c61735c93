"""The threads that models are loaded and freed in."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


class Loaders:
    """A thread for each version that is there, for as long as it is there.

    What a thread asks of glibc's malloc lies in a pool of its own, so that what a version took lies
    together and goes back to the system with it. In one thread for all of them the versions would
    come to lie between each other, and each time less would go back.

    Attributes:
        turn: held while a model is loaded: one after the other.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._all: list[ThreadPoolExecutor] = []
        self._idle: list[ThreadPoolExecutor] = []

    def take(self) -> ThreadPoolExecutor:
        """An idle thread, or a new one."""
        if not self._idle:
            self._all.append(ThreadPoolExecutor(1, "load"))
            return self._all[-1]
        return self._idle.pop()

    def give_back(self, loader: ThreadPoolExecutor) -> None:
        """Takes the thread of a version that is gone."""
        self._idle.append(loader)

    def close(self) -> None:
        """Ends the threads once they are idle; returns at once."""
        for loader in self._all:
            loader.shutdown(wait=False)
