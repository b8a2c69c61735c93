"""The comparison as one HTML page that needs no network and no script."""

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader
from PIL import Image

from keras_ae.contract import SPLITS
from keras_ae.report import figures

CROP = 176


class Picture(NamedTuple):
    """A test image and what became of it.

    Attributes:
        name: of the source.
        original: the encoded image.
        reconstructions: by budget, the encoded image and its PSNR in dB.
    """

    name: str
    original: bytes
    reconstructions: dict[int, tuple[bytes, float]]


def write_report(
    comparison: dict[str, Any], pictures: list[Picture], about: dict[str, Any], path: Path
) -> None:
    """Writes the report.

    Args:
        comparison: what `keras_ae.comparison.compare` gives; and where the models were tuned, as
            `trials` what `keras_ae.search_space.trials` gives, and as `tuning` the `preset`,
            `epochs`, `parameters`, number of `trials` and how many of them `failed`.
        pictures: test images; the middle of each is shown pixel by pixel.
        about: facts of the run: `data`, `images` (counts by split, and `quarantined`), `preset`,
            `parameters`, `channels`, `stride`, `latent_channels`, `tile`, `tiles_per_epoch`,
            `tiles_per_second`, `decoded_bytes` (of all training images), `placement` (of
            `keras_ae.training.Ladder`) and `seed`.
        path: file to write.
    """
    environment = Environment(
        loader=PackageLoader("keras_ae.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["decimal"] = _decimal
    shown = [
        {
            "name": picture.name,
            "original": _crop(picture.original),
            "reconstructions": {
                budget: (_crop(data), psnr)
                for budget, (data, psnr) in picture.reconstructions.items()
            },
        }
        for picture in pictures
    ]
    page = environment.get_template("page.html").render(
        comparison=comparison,
        pictures=shown,
        about=about,
        splits=SPLITS,
        curve=figures.psnr_curve(comparison),
        size=figures,
        chosen=comparison["chosen"],
    )
    path.write_text(page, encoding="utf-8")


def _decimal(value: float | None, digits: int = 2, sign: bool = False) -> str:
    if value is None:
        return "–"  # noqa: RUF001
    return f"{value:{'+' if sign else ''}.{digits}f}"


def _crop(data: bytes) -> str:
    """The middle of an image at its own pixels, as a data URL."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    left, top = max(0, (image.width - CROP) // 2), max(0, (image.height - CROP) // 2)
    image = image.crop((left, top, min(image.width, left + CROP), min(image.height, top + CROP)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
