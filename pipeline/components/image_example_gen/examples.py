"""An image as a tf.Example."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import tensorflow as tf

from keras_ae import contract as c
from keras_ae.datasets.images import normalize
from keras_ae.datasets.quartiles import QUARTERS
from keras_ae.datasets.sources import Record


def to_example(
    record: Record,
    channels: int,
    quarters: Sequence[str] = (c.NO_SLICE,) * len(QUARTERS),
    *,
    proven: bool = False,
) -> bytes:
    """A record as a serialized tf.Example with the features named in the contract.

    Args:
        record: of an image that can be decoded.
        channels: 1 or 3.
        quarters: values of the slices size, brightness and detail.
        proven: whether it was decoded before.
    """
    data, header = normalize(record.data, channels, proven=proven)
    features: dict[str, Any] = {
        c.IMAGE_ENCODED: data,
        c.IMAGE_FORMAT: header.format.encode(),
        c.IMAGE_HEIGHT: header.height,
        c.IMAGE_WIDTH: header.width,
        c.IMAGE_SOURCE: record.key.encode(),
    }
    if record.label is not None:
        features[c.IMAGE_LABEL] = record.label.encode()
    slices = (record.label or c.NO_SLICE, _first_folder(record.key), *quarters)
    features |= {c.SLICE_PREFIX + name: text.encode() for name, text in zip(c.SLICES, slices)}
    example = tf.train.Example()
    # In place: each message that is put into another one is copied, megabytes of an image as well.
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    # Otherwise the order of features is another one in each process.
    return example.SerializeToString(deterministic=True)


def _first_folder(key: str) -> str:
    folders = [part for part in PurePosixPath(key).parts[:-1] if part not in ("/", "..")]
    return folders[0] if folders else c.NO_SLICE
