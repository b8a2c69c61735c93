"""Embeds pictures in the report as data URLs, as many as fit."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

from keras_ae.scores import PICTURES_INDEX

RANKS = ("best", "median", "worst")
_MARKUP_BYTES = 1_000
"""Upper limit of the bytes of markup for one picture."""


class EmbeddedPicture(NamedTuple):
    """A picture that is stored once in the page: its size in pixels, and its data URL."""

    width: int
    height: int
    url: str


class Pictures(NamedTuple):
    """The pictures of a page.

    Attributes:
        images: entries of `pictures.json` in the order of the page: the best, the median and the
            worst first. Names of files are replaced by ids of `files`.
        files: embedded pictures by id.
        error_top: error at the top of the colour scale, in grey levels of 0 to 255.
        left_out: number of images that do not fit.
    """

    images: list[dict[str, Any]]
    files: dict[str, EmbeddedPicture]
    error_top: float
    left_out: int


def load(folder: Path | None, max_bytes: int) -> Pictures:
    """Reads a folder of pictures, or None.

    At most `max_bytes` of the page are used, but the best, the median and the worst image are
    embedded even if they take more.
    """
    if folder is None or not (folder / PICTURES_INDEX).is_file():
        return Pictures([], {}, 0.0, 0)
    index = json.loads((folder / PICTURES_INDEX).read_text())
    images: list[dict[str, Any]] = []
    files: dict[str, EmbeddedPicture] = {}
    by_rank = sorted(index["images"], key=lambda entry: (*RANKS, "").index(entry["rank"] or ""))
    for number, entry in enumerate(by_rank):
        image, embedded = _embed(entry, number, folder)
        max_bytes -= sum(len(file.url) + _MARKUP_BYTES for file in embedded.values())
        if max_bytes >= 0 or entry["rank"]:
            images.append(image)
            files |= embedded
    return Pictures(images, files, index["error_top"], len(index["images"]) - len(images))


def _embed(
    entry: Mapping[str, Any], number: int, folder: Path
) -> tuple[dict[str, Any], dict[str, EmbeddedPicture]]:
    """The entry with ids instead of file names, and the pictures by id."""
    embedded = {}
    height, width = entry["shown"]

    def embed(files: Mapping[str, Any], **names: str) -> dict[str, Any]:
        ids = {key: f"p{number}-{name}" for key, name in names.items()}
        for key, identity in ids.items():
            data = base64.b64encode((folder / files[key]).read_bytes()).decode()
            embedded[identity] = EmbeddedPicture(width, height, f"data:image/webp;base64,{data}")
        return {**files, **ids}

    image = embed(entry, original="original", floor="floor")
    image["budgets"] = {
        int(epochs): embed(budget, image=epochs, error=f"{epochs}-error")
        for epochs, budget in entry["budgets"].items()
    }
    return image, embedded


def viewer_data(pictures: Pictures, chosen: int) -> dict[str, Any]:
    """The data of the viewer's script: budgets, the index of the chosen one, colours, images."""
    budgets = sorted(pictures.images[0]["budgets"])
    return {
        "budgets": budgets,
        "chosen": budgets.index(chosen) if chosen in budgets else len(budgets) - 1,
        "colours": colours(256),
        "images": [
            {**image, "budgets": [image["budgets"][epochs] for epochs in budgets]}
            for image in pictures.images
        ],
    }


def colours(steps: int) -> list[list[int]]:
    """Cividis, a colour map that suits the colour-blind, as red, green and blue in 0..255."""
    table = mpl.colormaps["cividis"](np.linspace(0, 1, steps))[:, :3]
    levels: list[list[int]] = np.rint(table * 255).astype(int).tolist()
    return levels
