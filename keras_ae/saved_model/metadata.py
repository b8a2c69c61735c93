"""The facts about a SavedModel that no signature tells, in a file inside its folder."""

import json
from typing import NamedTuple

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.images.levels import FULL_RANGE
from keras_ae.errors import ReadError
from keras_ae.presets import LATENT_CHANNELS, STRIDE


class Metadata(NamedTuple):
    """Facts about a SavedModel.

    Attributes:
        white: level of 16-bit PNGs that becomes 255 in `serving_default` and `score`, as in the
            images that the model was trained on.
        stride, latent_channels: size of the latent; older models have the default, untold.
    """

    white: int = FULL_RANGE
    stride: int = STRIDE
    latent_channels: int = LATENT_CHANNELS


def write_metadata(metadata: Metadata, path: str) -> None:
    """Writes the facts into the folder of a SavedModel.

    Args:
        metadata: the facts.
        path: path or URI of the folder.
    """
    file = storage.join(path, c.METADATA_FILE)
    storage.make_folder(storage.parent(file))
    storage.write_file(file, json.dumps(metadata._asdict()).encode())


def read_metadata(path: str) -> Metadata:
    """Reads the facts about a SavedModel; without the file, they are the defaults.

    Models with different `white` cannot be compared: they see other pixels in one 16-bit file.

    >>> read_metadata("no/such/model").white
    65535

    Args:
        path: path or URI of the folder.
    """
    try:
        facts = json.loads(storage.read_file(storage.join(path, c.METADATA_FILE)))
        defaults = Metadata._field_defaults
        return Metadata(**{name: int(facts.get(name, defaults[name])) for name in defaults})
    except (OSError, ReadError, ValueError, TypeError, AttributeError):
        # Also the file of another program.
        return Metadata()
