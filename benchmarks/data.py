"""Images for benchmarks, divided into the splits that results are reported for."""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_ae.contract import SPLITS
from keras_ae.datasets.images import normalize
from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.open import open_source

HELD_OUT_SHARE = 0.1


def load(data: str, limit: int | None = None) -> dict[str, list[np.ndarray]]:
    """Reads RGB images, uint8 [H, W, 3], by split.

    Args:
        data: "sample", for the sample photographs with their own splits; or a folder or archive of
            images, or an .npy file of them, uint8 [N, H, W, 3], of which a random tenth is held
            out, one half of it for val and one for test.
        limit: maximum number of images, which are chosen at random; all by default.
    """
    if data == base.SAMPLE:
        # The other kinds of data can be read where tensorflow-datasets is not installed.
        from keras_ae.datasets.sources import sample_photos as sample

        return {
            split: [np.asarray(Image.open(sample.path_of(name)).convert("RGB")) for name in names]
            for split, names in sample.SPLITS.items()
        }
    if Path(data).suffix == ".npy":
        images = list(np.load(data, allow_pickle=False))
    else:
        source = open_source(data)
        records = [record for shard in source.shards() for record in source.read(shard)]
        images = [normalize.decode(record.data, 3) for record in records]
    order = np.random.default_rng(0).permutation(len(images))[:limit]
    size = max(1, round(len(order) * HELD_OUT_SHARE / 2))
    parts = np.split(order, [len(order) - 2 * size, len(order) - size])
    return {split: [images[i] for i in part] for split, part in zip(SPLITS, parts)}
