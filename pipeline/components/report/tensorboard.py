"""Writes the comparison for TensorBoard: curves over epochs, and test images at each budget."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_ae.comparison.records import Comparison
from keras_ae.contract import TEST
from keras_ae.scores import MODEL, PICTURES_INDEX
from pipeline.components.report.curves import points

ORIGINAL = "original"


class _Picture(NamedTuple):
    kind: str
    name: str
    epochs: int
    file: str


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
        opened: dict[str, Any] = {}

        def writer(kind: str, split: str) -> Any:
            run = f"{kind}/{split}"
            if run not in opened:
                created = tf.summary.create_file_writer(str(folder / run))
                writers.callback(created.close)
                opened[run] = created
            return opened[run]

        for point in points(comparison):
            with writer(point.kind, point.split).as_default(step=point.epochs):
                tf.summary.scalar(point.metric, point.value)
        for picture in _pictures(pictures):
            with writer(picture.kind, TEST).as_default(step=picture.epochs):
                pixels = np.asarray(Image.open(pictures / picture.file).convert("RGB"))
                tf.summary.image(f"image/{picture.name}", pixels[None])


def _pictures(folder: Path) -> Iterator[_Picture]:
    index = folder / PICTURES_INDEX
    if not index.is_file():
        return
    for image in json.loads(index.read_text())["images"]:
        yield _Picture(ORIGINAL, image["name"], 0, image["original"])
        yield _Picture("patch_pca", image["name"], 0, image["floor"])
        for epochs, entry in image["budgets"].items():
            yield _Picture(MODEL, image["name"], int(epochs), entry["image"])
