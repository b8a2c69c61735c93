"""The images of a request: prepared when it is built, and their faults and notes in its results."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from keras_ae import contract as c
from keras_ae.errors import DataError

from .images import Item, encode_png, read
from .prepare import Prepared, prepare

NOTE: Final = "note"
"""Name of the notes beside the outputs of the model."""


class Outgoing:
    """The encoded images of one request.

    An image that cannot be prepared is sent as an empty string, so that the others keep their
    places; its status then says why.

    Args:
        items: the images.
        white: see `keras_ae.client.prepare.prepare`.
    """

    def __init__(self, items: Sequence[Item], white: float | None):
        self.items, self._white = items, white
        self._faults = [b""] * len(items)
        self._notes = [b""] * len(items)

    def encode(self) -> list[bytes]:
        """Reads and prepares the images, one after the other, since decoded ones are large.

        Raises:
            DataError: if a file cannot be read.
        """
        sent = []
        for index, item in enumerate(self.items):
            if isinstance(item, np.ndarray):
                sent.append(encode_png(item))
                continue
            data = read(item)
            try:
                prepared = prepare(data, self._white)
            except DataError as error:
                prepared = Prepared(b"")
                self._faults[index] = str(error).encode()
            self._notes[index] = prepared.note.encode()
            sent.append(prepared.data)
        return sent

    def annotate(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Returns the outputs for the images with their notes, and the faults as statuses."""
        statuses = [fault or status for fault, status in zip(self._faults, outputs[c.STATUS])]
        return {**outputs, c.STATUS: statuses, NOTE: self._notes}
