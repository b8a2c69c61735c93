"""What the report shows: some test images, what each budget makes of them, and where it errs."""

import io
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_ae import storage
from keras_ae.concurrency import map_in_threads
from keras_ae.scores import MODEL, PICTURES_INDEX, Layout, Table
from keras_ae.scoring.reading import pixels, read

MOST = 12
SIDE, BUDGETS = 512, 10
"""Pixels of the longer side of what is shown; less where there are more budgets than these, so that
a page of them keeps its size."""
ERROR_TOP = 32
"""Mean absolute error of a pixel, in grey levels of 255, that is drawn as the largest."""
QUALITY, SMALL = 90, 128
"""Of lossy WebP; images of no longer side are kept as they are."""

Reconstruct = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Shown(NamedTuple):
    """A test image that is shown.

    Attributes:
        row: in the table of test images.
        rank: "best", "median" or "worst" by PSNR at the chosen budget, or empty.
    """

    row: int
    rank: str


def write_pictures(
    pattern: str,
    table: Table,
    layout: Layout,
    chosen: tuple[int, int],
    reconstruct: Reconstruct,
    channels: int,
    place: Path,
) -> None:
    """Writes images, reconstructions and error maps as WebP, and `pictures.json` that names them.

    Args:
        pattern: files of GZIP TFRecords of the test images' tf.Examples.
        table: scores of test images, from which the best, the median, the worst and others between
            them are taken by PSNR.
        layout: of its columns.
        chosen: places of the seed and the budget whose PSNR ranks them.
        reconstruct: of an image, uint8 [1, H, W, C], makes the reconstructions, uint8 of its shape,
            by epochs as text, and "floor".
        channels: 1 or 3.
        place: folder to write.
    """
    place.mkdir(parents=True, exist_ok=True)
    psnr = layout.of(table.values, MODEL, "psnr")
    shown = choose(psnr[(slice(None), *chosen)])
    found = dict(_images(pattern, {str(table.digests[s.row]) for s in shown}, channels))
    side = round(SIDE * min(1.0, math.sqrt(BUDGETS / len(layout.budgets))))
    entries = []
    for number, (row, rank) in enumerate(shown):
        image = found[str(table.digests[row])]
        others = reconstruct(image[None])
        entry, files = _picture(number, image, side, {k: v[0] for k, v in others.items()})
        deque(
            map_in_threads(lambda file: (place / file[0]).write_bytes(_webp(*file[1])), files, 2), 0
        )
        scores = {
            name: layout.of(table.values, MODEL, name)[row, chosen[0]] for name in ("psnr", "ssim")
        }
        for i, budget in enumerate(layout.budgets):
            for name, of_budgets in scores.items():
                entry["budgets"][str(budget)][name] = _number(of_budgets[i])
        entry["floor_psnr"] = _number(table.values[row, layout.floor("patch_pca")])
        entries.append({"name": str(table.sources[row]), "rank": rank, **entry})
    index = {"error_top": ERROR_TOP, "images": entries}
    (place / PICTURES_INDEX).write_text(json.dumps(index, indent=1, allow_nan=False))


def choose(psnr: np.ndarray, most: int = MOST) -> list[Shown]:
    """The best, the median and the worst image, then others evenly between them by rank."""
    order = np.argsort(-psnr, kind="stable")
    last = len(order) - 1
    ranks = {0: "best"}
    if last:
        ranks[last] = "worst"
    if last > 1:
        ranks[last // 2] = "median"
    named = {"best": 0, "median": 1, "worst": 2}
    places = sorted(ranks, key=lambda place: named[ranks[place]])
    between = np.linspace(0, last, min(most, last + 1)).round().astype(int)
    places += [int(place) for place in between if place not in ranks]
    return [Shown(int(order[place]), ranks.get(place, "")) for place in places[:most]]


def _images(pattern: str, digests: set[str], channels: int) -> Iterator[tuple[str, np.ndarray]]:
    """The digest and the pixels, uint8 [H, W, channels], of the images of some digests."""
    for file in storage.glob(pattern):
        for batch in read(file):
            for example in batch:
                if example.digest in digests:
                    yield example.digest, pixels([example], channels)[0].numpy()


def _picture(
    number: int, image: np.ndarray, side: int, others: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], list[tuple[str, tuple[Image.Image, bool]]]]:
    """What `pictures.json` says of an image, and the files: name, picture, without loss or not."""
    height, width = image.shape[:2]
    share = min(1.0, side / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    exact = max(size) <= SMALL
    entry: dict[str, Any] = {
        "height": height,
        "width": width,
        "shown": [size[1], size[0]],
        "original": f"{number}.webp",
        "floor": f"{number}-floor.webp",
        "budgets": {},
    }
    files = [(entry["original"], (_scaled(image, size), exact))]
    for name, other in others.items():
        file = f"{number}-{name}.webp"
        files.append((file, (_scaled(other, size), exact)))
        if name != "floor":
            error = np.abs(image.astype(np.float32) - other).mean(2)
            errors = f"{number}-{name}-error.webp"
            files.append((errors, (_error_map(error, size), exact)))
            entry["budgets"][name] = {"image": file, "error": errors}
    return entry, files


def _scaled(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.squeeze(pixels, 2) if pixels.shape[2] == 1 else pixels)
    return image if image.size == size else image.resize(size, Image.Resampling.BOX)


def _error_map(error: np.ndarray, size: tuple[int, int]) -> Image.Image:
    scaled = Image.fromarray(error).resize(size, Image.Resampling.BOX)
    levels = np.asarray(scaled) * (255.0 / ERROR_TOP)
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _webp(image: Image.Image, lossless: bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2, lossless=lossless)
    return buffer.getvalue()


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
