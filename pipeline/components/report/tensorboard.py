"""The comparison for TensorBoard: curves over epochs, and test images at each budget."""

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


class _Shown(NamedTuple):
    kind: str
    name: str
    epochs: int
    file: str


def write(comparison: Comparison, pictures: Path, place: Path) -> None:
    """Writes event files, a run for each kind and split, so that curves of a metric lie together.

    The scalars are `psnr`, `ssim`, `ms_ssim` and `gain_over_floor` with epochs as steps, in runs
    such as `model/val` and, for the floors, `patch_pca/val`. The images are tagged
    `image/NAME`: in `model/test` with epochs as steps, and once in `original/test` and
    `patch_pca/test`.

    Args:
        comparison: whose numbers are written.
        pictures: folder with `pictures.json` and the images that it names; may be missing.
        place: folder of the runs.
    """
    with ExitStack() as writers:
        opened: dict[str, Any] = {}

        def writer(kind: str, split: str) -> Any:
            run = f"{kind}/{split}"
            if run not in opened:
                created = tf.summary.create_file_writer(str(place / run))
                writers.callback(created.close)
                opened[run] = created
            return opened[run]

        for point in points(comparison):
            with writer(point.kind, point.split).as_default(step=point.epochs):
                tf.summary.scalar(point.metric, point.value)
        for shown in _pictures(pictures):
            with writer(shown.kind, TEST).as_default(step=shown.epochs):
                pixels = np.asarray(Image.open(pictures / shown.file).convert("RGB"))
                tf.summary.image(f"image/{shown.name}", pixels[None])


def _pictures(folder: Path) -> Iterator[_Shown]:
    listed = folder / PICTURES_INDEX
    if not listed.is_file():
        return
    for image in json.loads(listed.read_text())["images"]:
        yield _Shown(ORIGINAL, image["name"], 0, image["original"])
        yield _Shown("patch_pca", image["name"], 0, image["floor"])
        for epochs, shown in image["budgets"].items():
            yield _Shown(MODEL, image["name"], int(epochs), shown["image"])
