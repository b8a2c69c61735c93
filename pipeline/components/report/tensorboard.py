"""Writes the comparison for TensorBoard: curves over epochs, and test images at each budget."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_ae.comparison.records import Comparison
from keras_ae.contract import TEST
from keras_ae.scores import MODEL, PICTURES_INDEX
from pipeline.components.report.curves import points

ORIGINAL = "original"


def write(comparison: Comparison, pictures: Path, folder: Path) -> None:
    """Writes event files, a run for each kind and split, so that curves of a metric share a chart.

    The scalars are `psnr`, `ssim`, `ms_ssim` and `gain_over_floor` with epochs as steps, in runs
    such as `model/val` and, for the floors, `patch_pca/val`. The images are tagged
    `image/NAME`: in `model/test` with epochs as steps, and once in `original/test` and
    `patch_pca/test`.

    Args:
        comparison: comparison to write.
        pictures: folder with `pictures.json` and the images that it names; may be missing.
        folder: folder of the runs.
    """
    with ExitStack() as writers:

        @cache
        def writer(kind: str, split: str) -> Any:
            created = tf.summary.create_file_writer(str(folder / kind / split))
            writers.callback(created.close)
            return created

        for point in points(comparison):
            with writer(point.kind, point.split).as_default(step=point.epochs):
                tf.summary.scalar(point.metric, point.value)
        index = pictures / PICTURES_INDEX
        for image in json.loads(index.read_text())["images"] if index.is_file() else ():
            for kind, epochs, file in _files(image):
                with writer(kind, TEST).as_default(step=epochs):
                    pixels = np.asarray(Image.open(pictures / file).convert("RGB"))
                    tf.summary.image(f"image/{image['name']}", pixels[None])


def _files(image: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """The kind, the epochs and the file of each picture of an image."""
    yield ORIGINAL, 0, image["original"]
    yield "patch_pca", 0, image["floor"]
    for epochs, entry in image["budgets"].items():
        yield MODEL, int(epochs), entry["image"]
