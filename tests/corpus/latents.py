"""Small .kae files."""

import numpy as np

from keras_ae.codec.file import encode
from keras_ae.codec.header import Header

SHAPES = (1, 1, 1), (1, 9, 2), (9, 1, 2), (3, 4, 8), (5, 5, 3)


def latents() -> dict[str, bytes]:
    """Files by name: of values that are all zero, small, and of all sizes."""
    random = np.random.default_rng(0)
    files = {}
    for height, width, channels in SHAPES:
        header = Header(bytes(8), 8 * width, 8 * height, 3, 8, (2048,) * channels)
        for scale in 0, 1, 1e8:
            values = random.normal(0, scale, (height, width, channels)).astype(np.int32)
            files[f"{height}x{width}x{channels}-{scale:g}.kae"] = encode(values, header)
    return files
