"""An original, its reconstruction and the error between them, in one labelled picture."""

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_ae.errors import DataError

SHORTEST, LONGEST, THINNEST = 256, 1024, 8
"""Pixels of a panel's long side at least and at most, and of its short side at least."""
GAP, LINE, BAR = 24, 24, 14
INK, PAPER, FRAME = (30, 30, 34), (255, 255, 255), (190, 190, 196)
_STEPS = (4, 8, 16, 32, 64, 128, 255)
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class _Panel:
    caption: str
    image: Image.Image


def read_pixels(data: bytes, channels: int) -> np.ndarray:
    """An encoded image as the model sees it: alpha dropped, of 16 bits the higher 8, not turned.

    Args:
        data: PNG, JPEG, BMP, WebP or GIF (first frame).
        channels: 1 or 3.

    Returns:
        uint8 [H, W, channels].

    Raises:
        DataError: if it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            image: Image.Image = opened
            if image.mode in _SIXTEEN_BIT:
                high = np.asarray(image).astype(np.int64) >> 8
                image = Image.fromarray(high.clip(0, 255).astype(np.uint8))
            if image.mode in ("P", "PA", "LA"):
                image = image.convert("RGBA")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot be decoded: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def compare(original: np.ndarray, reconstruction: np.ndarray, title: str) -> Image.Image:
    """The three side by side, or below each other where they are wide.

    Small images are enlarged by a whole number, large ones are reduced; very thin ones are
    widened to be seen.

    Args:
        original, reconstruction: uint8 [H, W, C].
        title: text on top; a line break starts a second line.

    Raises:
        DataError: if they differ in shape.
    """
    if original.shape != reconstruction.shape:
        raise DataError(
            f"the reconstruction is {list(reconstruction.shape)}, the image {list(original.shape)}"
        )
    height, width = original.shape[:2]
    error = np.abs(original.astype(np.float32) - reconstruction).mean(axis=-1)
    # A few pixels far off would leave the rest dark.
    top = next(step for step in _STEPS if step >= float(np.quantile(error, 0.995)))
    beyond = bool(error.max() > top)
    panels = [
        _Panel(f"original, {width} x {height}", _resized(_image(original))),
        _Panel("reconstruction", _resized(_image(reconstruction))),
        _Panel(f"error, mean {error.mean():.2f} grey levels", _coloured(error, top)),
    ]
    return _compose(panels, title, top, beyond)


def colours() -> np.ndarray:
    """A colour map, uint8 [256, 3]: lightness rises evenly from dark violet over red to yellow.

    The path is straight in lightness and hue of CIELAB, so that equal steps look equal, also in
    grey.
    """
    t = np.linspace(0, 1, 256)
    # Chroma stays inside of sRGB all the way.
    lightness, chroma = 6 + 90 * t, 20 + 45 * np.sin(np.pi * t)
    hue = np.radians(300 + 158 * t)
    y = (lightness + 16) / 116
    lab = np.stack([y + chroma * np.cos(hue) / 500, y, y - chroma * np.sin(hue) / 200], -1)
    # CIELAB to XYZ under D65, and on to linear and to gamma-coded sRGB (IEC 61966-2-1).
    xyz = np.where(lab > 6 / 29, lab**3, 3 * (6 / 29) ** 2 * (lab - 4 / 29))
    xyz *= (0.95047, 1.0, 1.08883)
    to_rgb = np.array(
        [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    )
    linear = (xyz @ to_rgb.T).clip(0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * coded).astype(np.uint8)


def _image(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return image.convert("RGB")


def _panel_size(width: int, height: int) -> tuple[int, int]:
    long = max(width, height)
    scale: float = -(-SHORTEST // long) if long < SHORTEST else min(1.0, LONGEST / long)
    return max(round(width * scale), THINNEST), max(round(height * scale), THINNEST)


def _resized(image: Image.Image) -> Image.Image:
    size = _panel_size(*image.size)
    enlarged = size[0] >= image.width and size[1] >= image.height
    return image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def _coloured(error: np.ndarray, top: float) -> Image.Image:
    scaled = np.asarray(_resized(Image.fromarray(error)))
    return Image.fromarray(colours()[np.round(255 * (scaled / top).clip(0, 1)).astype(np.intp)])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _compose(panels: list[_Panel], title: str, top: int, beyond: bool) -> Image.Image:
    font, width_of = _font(15), lambda text: math.ceil(_font(15).getlength(text))
    wide, high = panels[0].image.size
    cell = max(wide, *(width_of(panel.caption) for panel in panels))
    below = wide > 2 * high
    columns, rows = (1, 3) if below else (3, 1)
    lines = title.splitlines()
    width = max(columns * (cell + GAP), max(map(width_of, lines)) + GAP) + GAP
    head = GAP + len(lines) * LINE
    row = LINE + high + GAP
    canvas = Image.new("RGB", (width, head + rows * row + BAR + LINE + GAP // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((GAP, GAP // 2 + i * LINE), line, INK, font)
    for i, panel in enumerate(panels):
        x = GAP if below else GAP + i * (cell + GAP)
        y = head + (i * row if below else 0)
        draw.text((x, y), panel.caption, INK, font)
        draw.rectangle((x - 1, y + LINE - 1, x + wide, y + LINE + high), outline=FRAME)
        canvas.paste(panel.image, (x, y + LINE))
    _legend(canvas, draw, x, head + rows * row - GAP // 2, cell, top, beyond)
    return canvas


def _legend(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    x: int,
    y: int,
    width: int,
    top: int,
    beyond: bool,
) -> None:
    """The scale of the error map below it."""
    width = min(width, LONGEST // 2)
    bar = np.broadcast_to(colours()[None], (BAR, 256, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(bar)).resize((width, BAR)), (x, y))
    draw.rectangle((x - 1, y - 1, x + width, y + BAR), outline=FRAME)
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        text = f"{top * share:g}" + (" and more" if beyond and share == 1 else "")
        draw.text((x + share * width, y + BAR + 4), text, INK, _font(13), anchor)
