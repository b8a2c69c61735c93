"""Pictures of the report: files of a folder as data URLs, as many as there is room for."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

from keras_ae.scores import PICTURES_INDEX

RANKS = ("best", "median", "worst")
_MARKUP = 1_000
"""Bytes of the page that stand around one encoded picture, at most."""


class Stored(NamedTuple):
    """A picture that is shown from one place of the page: pixels, and its data URL."""

    width: int
    height: int
    url: str


class Pictures(NamedTuple):
    """What a page shows of them.

    Attributes:
        images: entries of `pictures.json` in the order that they are shown, the best, the median
            and the worst first; instead of the names of files there are ids of `files`.
        files: pictures by id.
        error_top: grey levels of 255 that the brightest spot of an error map stands for.
        left_out: number of images for which the page has no room.
    """

    images: list[dict[str, Any]]
    files: dict[str, Stored]
    error_top: float
    left_out: int


def load(folder: Path | None, room: int) -> Pictures:
    """Reads a folder of pictures.

    Args:
        folder: with `pictures.json` and the WebP files that it names, or None for no pictures.
        room: bytes of the page for them; the best, the median and the worst image are taken even
            where it is too small.
    """
    if folder is None or not (folder / PICTURES_INDEX).is_file():
        return Pictures([], {}, 0.0, 0)
    index = json.loads((folder / PICTURES_INDEX).read_text())
    taken: list[dict[str, Any]] = []
    files: dict[str, Stored] = {}
    for number, entry in enumerate(sorted(index["images"], key=_importance)):
        shown, stored = _embed(entry, number, folder)
        room -= sum(len(file.url) + _MARKUP for file in stored.values())
        if room >= 0 or entry["rank"]:
            taken.append(shown)
            files |= stored
    return Pictures(taken, files, index["error_top"], len(index["images"]) - len(taken))


def _importance(entry: Mapping[str, Any]) -> int:
    return RANKS.index(entry["rank"]) if entry["rank"] else len(RANKS)


def _embed(
    entry: Mapping[str, Any], number: int, folder: Path
) -> tuple[dict[str, Any], dict[str, Stored]]:
    """The entry with ids in place of files, and the files by id."""
    stored = {}
    height, width = entry["shown"]

    def embed(file: str, name: str) -> str:
        identity = f"p{number}-{name}"
        data = base64.b64encode((folder / file).read_bytes()).decode()
        stored[identity] = Stored(width, height, f"data:image/webp;base64,{data}")
        return identity

    shown = {
        **entry,
        "original": embed(entry["original"], "original"),
        "floor": embed(entry["floor"], "floor"),
        "budgets": {
            int(epochs): {
                **budget,
                "image": embed(budget["image"], epochs),
                "error": embed(budget["error"], f"{epochs}-error"),
            }
            for epochs, budget in entry["budgets"].items()
        },
    }
    return shown, stored


def viewer_data(pictures: Pictures, chosen: int) -> dict[str, Any]:
    """What the viewer's script reads: budgets, which is chosen, colours, and the images."""
    budgets = sorted(pictures.images[0]["budgets"]) if pictures.images else []
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
    """Cividis, perceptually uniform also for the colour-blind, as red, green and blue in 0..255."""
    table = mpl.colormaps["cividis"](np.linspace(0, 1, steps))[:, :3]
    levels: list[list[int]] = np.rint(table * 255).astype(int).tolist()
    return levels


def by_rank(images: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best, the median and the worst image, those that there are."""
    return [image for image in images if image["rank"]]
