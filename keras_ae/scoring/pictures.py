"""Writes the images of the report: test images, reconstructions at every budget, error maps."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_ae.concurrency import map_in_threads
from keras_ae.scores import MODEL, PICTURES_INDEX, Layout, Table, finite_or_none
from keras_ae.scoring.reading import decode_batch, read_examples

MAX_IMAGES = 12
MAX_SIDE = 512
"""Longer side in pixels of the pictures that are written."""
MAX_FULL_SIZE_BUDGETS = 10
"""With more budgets, pictures are smaller, so that the size of the page stays the same."""
ERROR_TOP = 32
"""Mean absolute error of a pixel, in grey levels of 0 to 255, at the top of the colour scale."""
WEBP_QUALITY = 90
MAX_LOSSLESS_SIDE = 128
"""Pictures whose sides are at most this long are stored without loss."""

Reconstruct = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class SelectedImage(NamedTuple):
    """A row of the table of test images, and "best", "median", "worst" or "" by PSNR."""

    row: int
    rank: str


def write_pictures(
    pattern: str,
    table: Table,
    layout: Layout,
    chosen: tuple[int, int],
    reconstruct: Reconstruct,
    channels: int,
    folder: Path,
) -> None:
    """Writes images, reconstructions and error maps as WebP, and `pictures.json`, which lists them.

    Args:
        pattern: pattern of the files, GZIP TFRecords with the tf.Examples of test images.
        table, layout: their scores, by which `select_images` selects some.
        chosen: indices of the seed and of the budget by whose PSNR images are ranked.
        reconstruct: maps an image, uint8 [1, H, W, C], to reconstructions of the same shape and
            type, by epochs as text, and "floor".
    """
    folder.mkdir(parents=True, exist_ok=True)
    psnr = layout.select(table.values, MODEL, "psnr")
    selected = select_images(psnr[(slice(None), *chosen)])
    images = dict(_images(pattern, {str(table.digests[s.row]) for s in selected}, channels))
    side = round(MAX_SIDE * min(1.0, math.sqrt(MAX_FULL_SIZE_BUDGETS / len(layout.budgets))))
    entries = []
    for number, (row, rank) in enumerate(selected):
        image = images[str(table.digests[row])]
        reconstructions = {k: v[0] for k, v in reconstruct(image[None]).items()}
        entry, files = _draw(number, image, side, reconstructions)
        list(map_in_threads(lambda file: _write_webp(folder / file[0], *file[1:]), files, 2))
        for name in ("psnr", "ssim"):
            scores = layout.select(table.values, MODEL, name)[row, chosen[0]]
            for budget, score in zip(layout.budgets, scores):
                entry["budgets"][str(budget)][name] = finite_or_none(score)
        entry["floor_psnr"] = finite_or_none(table.values[row, layout.floor_column("patch_pca")])
        entries.append({"name": str(table.sources[row]), "rank": rank, **entry})
    index = {"error_top": ERROR_TOP, "images": entries}
    (folder / PICTURES_INDEX).write_text(json.dumps(index, indent=1, allow_nan=False))


def select_images(psnr: np.ndarray, max_images: int = MAX_IMAGES) -> list[SelectedImage]:
    """Selects the best, the median and the worst image, then others evenly spaced by rank."""
    order = np.argsort(-psnr, kind="stable")
    last = len(order) - 1
    ranks = {0: "best"}
    if last > 1:
        ranks[last // 2] = "median"
    if last:
        ranks[last] = "worst"
    spaced = np.linspace(0, last, min(max_images, last + 1)).round().astype(int)
    positions = [*ranks, *(int(position) for position in spaced if position not in ranks)]
    return [SelectedImage(int(order[p]), ranks.get(p, "")) for p in positions[:max_images]]


def _images(pattern: str, digests: set[str], channels: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields digest and pixels, uint8 [H, W, channels], of the images with the given digests."""
    for example in read_examples(pattern):
        if example.digest in digests:
            yield example.digest, decode_batch([example], channels)[0].numpy()


def _draw(
    number: int, image: np.ndarray, side: int, reconstructions: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], list[tuple[str, Image.Image, bool]]]:
    """The entry of `pictures.json`, and the files: their names, pictures and whether lossless."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    lossless = max(size) <= MAX_LOSSLESS_SIDE
    entry: dict[str, Any] = {
        "height": height,
        "width": width,
        "shown": [size[1], size[0]],
        "original": f"{number}.webp",
        "floor": f"{number}-floor.webp",
        "budgets": {},
    }
    files = [(entry["original"], _scaled(image, size), lossless)]
    for name, reconstruction in reconstructions.items():
        file = f"{number}-{name}.webp"
        files.append((file, _scaled(reconstruction, size), lossless))
        if name != "floor":
            error = np.abs(image.astype(np.float32) - reconstruction).mean(2)
            error_file = f"{number}-{name}-error.webp"
            files.append((error_file, _error_map(error, size), lossless))
            entry["budgets"][name] = {"image": file, "error": error_file}
    return entry, files


def _scaled(pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.squeeze(pixels, 2) if pixels.shape[2] == 1 else pixels)
    return image if image.size == size else image.resize(size, Image.Resampling.BOX)


def _error_map(error: np.ndarray, size: tuple[int, int]) -> Image.Image:
    scaled = Image.fromarray(error).resize(size, Image.Resampling.BOX)
    levels = np.asarray(scaled) * (255.0 / ERROR_TOP)
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _write_webp(path: Path, image: Image.Image, lossless: bool) -> None:
    image.save(path, "WEBP", quality=WEBP_QUALITY, method=2, lossless=lossless)
