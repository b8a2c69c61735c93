"""A labelled picture of an original, its reconstruction and a map of the error between them."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_ae.errors import DataError

MIN_LONG_SIDE, MAX_LONG_SIDE, MIN_SHORT_SIDE = 256, 1024, 8
"""Limits of the sides of a panel, in pixels."""
GAP, LINE_HEIGHT, BAR_HEIGHT = 24, 24, 14
TEXT_COLOUR, BACKGROUND, FRAME_COLOUR = (30, 30, 34), (255, 255, 255), (190, 190, 196)
_SCALE_MAXIMA = (4, 8, 16, 32, 64, 128, 255)


@dataclass(frozen=True)
class _Panel:
    caption: str
    image: Image.Image


def compare(original: np.ndarray, reconstruction: np.ndarray, title: str) -> Image.Image:
    """Draws original, reconstruction and error map side by side, or stacked if they are wide.

    Small images are enlarged by a whole factor, and large ones are reduced. Very thin images are
    widened, so that they are visible.

    Args:
        original, reconstruction: uint8 [H, W, C].
        title: text above the panels; it may have several lines.

    Raises:
        DataError: if the shapes differ.
    """
    if original.shape != reconstruction.shape:
        raise DataError(
            f"expected a reconstruction of the image's shape {list(original.shape)}; got "
            f"{list(reconstruction.shape)}"
        )
    height, width = original.shape[:2]
    error = np.abs(original.astype(np.float32) - reconstruction).mean(axis=-1)
    # A quantile instead of the maximum: a few pixels of large error would darken all others.
    quantile = float(np.quantile(error, 0.995))
    scale_max = next(maximum for maximum in _SCALE_MAXIMA if maximum >= quantile)
    exceeds_scale = bool(error.max() > scale_max)
    panels = [
        _Panel(f"original, {width} x {height}", _resize(_to_rgb(original))),
        _Panel("reconstruction", _resize(_to_rgb(reconstruction))),
        _Panel(f"error, mean {error.mean():.2f} grey levels", _to_colours(error, scale_max)),
    ]
    return _compose(panels, title, scale_max, exceeds_scale)


def colour_map() -> np.ndarray:
    """Returns a colour map, uint8 [256, 3], from dark violet over red to light yellow.

    CIELAB lightness and hue are linear in the index, so that equal steps look equal, also when the
    picture is converted to grey.
    """
    t = np.linspace(0, 1, 256)
    # The chroma is low enough for all colours to be inside the sRGB gamut.
    lightness, chroma = 6 + 90 * t, 20 + 45 * np.sin(np.pi * t)
    hue = np.radians(300 + 158 * t)
    y = (lightness + 16) / 116
    lab = np.stack([y + chroma * np.cos(hue) / 500, y, y - chroma * np.sin(hue) / 200], -1)
    # CIELAB to XYZ (white point D65), to linear sRGB, to gamma-encoded sRGB (IEC 61966-2-1).
    xyz = np.where(lab > 6 / 29, lab**3, 3 * (6 / 29) ** 2 * (lab - 4 / 29))
    xyz *= (0.95047, 1.0, 1.08883)
    xyz_to_rgb = np.array(
        [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    )
    linear = (xyz @ xyz_to_rgb.T).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    levels: np.ndarray = np.round(255 * encoded).astype(np.uint8)
    return levels


def _to_rgb(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return image.convert("RGB")


def _panel_size(width: int, height: int) -> tuple[int, int]:
    long_side = max(width, height)
    if long_side < MIN_LONG_SIDE:
        scale: float = math.ceil(MIN_LONG_SIDE / long_side)
    else:
        scale = min(1.0, MAX_LONG_SIDE / long_side)
    return max(round(width * scale), MIN_SHORT_SIDE), max(round(height * scale), MIN_SHORT_SIDE)


def _resize(image: Image.Image) -> Image.Image:
    size = _panel_size(*image.size)
    is_enlarged = size[0] >= image.width and size[1] >= image.height
    return image.resize(size, Image.Resampling.NEAREST if is_enlarged else Image.Resampling.BOX)


def _to_colours(error: np.ndarray, scale_max: float) -> Image.Image:
    resized = np.asarray(_resize(Image.fromarray(error)))
    indices = np.round(255 * (resized / scale_max).clip(0, 1)).astype(np.intp)
    return Image.fromarray(colour_map()[indices])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _compose(panels: list[_Panel], title: str, scale_max: int, exceeds_scale: bool) -> Image.Image:
    font = _font(15)

    def text_width(text: str) -> int:
        return math.ceil(font.getlength(text))

    panel_width, panel_height = panels[0].image.size
    column_width = max(panel_width, *(text_width(panel.caption) for panel in panels))
    is_stacked = panel_width > 2 * panel_height
    columns, rows = (1, 3) if is_stacked else (3, 1)
    lines = title.splitlines()
    width = max(columns * (column_width + GAP), max(map(text_width, lines)) + GAP) + GAP
    title_height = GAP + len(lines) * LINE_HEIGHT
    row_height = LINE_HEIGHT + panel_height + GAP
    panels_bottom = title_height + rows * row_height
    height = panels_bottom + BAR_HEIGHT + LINE_HEIGHT + GAP // 2
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        draw.text((GAP, GAP // 2 + i * LINE_HEIGHT), line, TEXT_COLOUR, font)
    for i, panel in enumerate(panels):
        left = GAP if is_stacked else GAP + i * (column_width + GAP)
        caption_top = title_height + (i * row_height if is_stacked else 0)
        top = caption_top + LINE_HEIGHT
        draw.text((left, caption_top), panel.caption, TEXT_COLOUR, font)
        frame = (left - 1, top - 1, left + panel_width, top + panel_height)
        draw.rectangle(frame, outline=FRAME_COLOUR)
        canvas.paste(panel.image, (left, top))
    _draw_legend(
        canvas, draw, left, panels_bottom - GAP // 2, column_width, scale_max, exceeds_scale
    )
    return canvas


def _draw_legend(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    width: int,
    scale_max: int,
    exceeds_scale: bool,
) -> None:
    """Draws the scale of the error map below it."""
    width = min(width, MAX_LONG_SIDE // 2)
    bar = np.broadcast_to(colour_map()[None], (BAR_HEIGHT, 256, 3))
    image = Image.fromarray(np.ascontiguousarray(bar)).resize((width, BAR_HEIGHT))
    canvas.paste(image, (left, top))
    draw.rectangle((left - 1, top - 1, left + width, top + BAR_HEIGHT), outline=FRAME_COLOUR)
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        text = f"{scale_max * share:g}" + (" and more" if exceeds_scale and share == 1 else "")
        position = (left + share * width, top + BAR_HEIGHT + 4)
        draw.text(position, text, TEXT_COLOUR, _font(13), anchor)
