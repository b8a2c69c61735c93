"""Copies of pictures are found, and similar pictures are kept apart."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from keras_ae.datasets.images.copies import FIELDS, fields, find_copies, near_pairs
from keras_ae.datasets.images.looks import encoding_of, is_plain, look_at, thumbnail
from keras_ae.datasets.images.quartiles import measure
from keras_ae.datasets.sources import sample_photos

PHOTOGRAPHS = [name for names in sample_photos.SPLITS.values() for name in names]


def photograph(name: str, side: int = 512) -> Image.Image:
    image = Image.open(sample_photos.path_of(name)).convert("RGB")
    image.thumbnail((side, side))
    return image


def crops(side: int, count: int) -> list[Image.Image]:
    """Crops of different photographs, without two that overlap."""
    names = [name for name in PHOTOGRAPHS if "motorcycle" not in name]
    images = [photograph(name) for name in names]
    corners = [(x, y) for y in (0, 128) for x in (0, 128, 256)]
    boxes = [(image, x, y) for x, y in corners for image in images]
    fitting = [b for b in boxes if b[1] + side <= b[0].width and b[2] + side <= b[0].height]
    return [image.crop((x, y, x + side, y + side)) for image, x, y in fitting[:count]]


def encoded(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def half(image: Image.Image) -> Image.Image:
    return image.resize(((image.width + 1) // 2, (image.height + 1) // 2), Image.Resampling.LANCZOS)


def pictures(files: list[bytes]) -> list[int]:
    """The index of the largest copy of each file; plain images are left out."""
    rows, thumbnails = [], []
    for data in files:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        look, small = look_at(pixels, data)
        if look is not None:
            level = measure(pixels)[1]
            rows.append(fields(look, len(data), level, hashlib.sha256(data).digest()))
            thumbnails.append(small)
    return find_copies(np.array(rows, FIELDS), thumbnails.__getitem__).tolist()


def assert_all_apart(files: list[bytes]) -> None:
    found = pictures(files)
    assert found == list(range(len(found)))


def from_pixels(pixels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)))


@pytest.mark.parametrize("side", [32, 64, 256])
def test_png_jpeg_and_half_the_size_of_a_photograph_are_one_picture(side):
    images = [image for image in crops(side, 40) if not is_plain(thumbnail(np.asarray(image)))]
    files = [encoded(image) for image in images]
    files += [encoded(image, "JPEG", quality=75) for image in images]
    files += [encoded(half(image), "JPEG", quality=75) for image in images]
    found = pictures(files)
    count = len(images)
    copies = 3 if side > 32 else 2  # Half of 32 pixels is the least that is recognized.
    right = sum(found[i] == i % count for i in range(copies * count))
    assert right >= 0.95 * copies * count
    assert all(other % count == index % count for index, other in enumerate(found))


@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {"quality": 50}), ("WEBP", {"quality": 50}), ("GIF", {}), ("BMP", {}), ("TIFF", {})],
)
@pytest.mark.parametrize("scale", [0.25, 0.5, 0.75, 1, 2])
def test_whole_photographs_are_found_in_every_format_and_size(format, options, scale):
    images = [photograph(name, 256) for name in PHOTOGRAPHS]
    files = [encoded(image) for image in images]
    sizes = [(round(image.width * scale), round(image.height * scale)) for image in images]
    files += [encoded(i.resize(s), format, **options) for i, s in zip(images, sizes)]
    found = pictures(files)
    count = len(images)
    assert sum(found[i] == found[i + count] for i in range(count)) >= count - 1
    # Both are of pictures of their own if they are not of one.
    assert all(other % count == i % count for i, other in enumerate(found))


def test_a_stereo_pair_is_two_pictures():
    assert_all_apart(
        [encoded(photograph(f"skimage/motorcycle_{s}.png")) for s in ("left", "right")]
    )


@pytest.mark.parametrize(("side", "object_side", "noise"), [(64, 4, 2), (128, 8, 3), (256, 6, 1)])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_frames_of_a_fixed_camera_are_different(side, object_side, noise, format):
    rng = np.random.default_rng(0)
    scene = np.asarray(photograph("sklearn/china.jpg").resize((side, side)), np.float64)
    files = []
    for _ in range(300):
        frame = scene.copy()
        for y, x in rng.integers(0, side - object_side, (2, 2)):
            frame[y : y + object_side, x : x + object_side] = rng.integers(0, 256, 3)
        frame += rng.normal(0, noise, frame.shape)
        image = Image.fromarray(frame.clip(0, 255).astype(np.uint8))
        files.append(encoded(image, format))
    assert_all_apart(files)


@pytest.mark.parametrize("frames", [6, 24, 300])
def test_frames_of_a_time_lapse_are_different(frames):
    scene = np.asarray(photograph("skimage/coffee.png", 128), np.float64)
    assert_all_apart([from_pixels(scene * light) for light in np.linspace(0.2, 1.0, frames)])


def test_parts_of_a_plain_texture_are_different():
    rng = np.random.default_rng(1)
    for name in ("grass", "gravel", "brick"):
        texture = Image.open(sample_photos.path_of(f"skimage/{name}.png")).convert("RGB")
        corners = [(x, y) for y in range(0, 448, 64) for x in range(0, 448, 64)]
        parts = [texture.crop((x, y, x + 64, y + 64)) for x, y in corners]
        assert_all_apart([encoded(part) for part in parts])
    walls = [from_pixels(128 + rng.normal(0, 8, (64, 64, 3))) for _ in range(100)]
    assert_all_apart(walls)


@pytest.mark.parametrize("height", [2, 12, 24])
def test_blank_pages_with_one_line_are_different(height):
    pages = []
    for top in range(10, 240, 3):
        page = np.full((300, 200, 3), 250.0)
        page[top : top + height, 20:180:3] = 30
        pages.append(from_pixels(page))
    assert_all_apart(pages)


def test_plain_images_have_no_look():
    grey = np.full((40, 60, 3), 90, np.uint8)
    assert look_at(grey, encoded(Image.fromarray(grey)))[0] is None
    grey[20] = 0
    assert is_plain(thumbnail(grey))


def test_equal_pixels_in_different_files_are_one_picture_even_in_a_series():
    rng = np.random.default_rng(0)
    scene = np.asarray(photograph("skimage/coffee.png", 96), np.float64)
    frames = [
        Image.fromarray((scene + rng.normal(0, 2, scene.shape)).clip(0, 255).astype(np.uint8))
        for _ in range(20)
    ]
    files = [encoded(f) for f in frames] + [encoded(f, compress_level=1) for f in frames]
    found = pictures(files)
    assert len(set(found)) == 20
    assert found[:20] == found[20:]


def test_colours_tell_pictures_apart():
    image = photograph("skimage/coffee.png", 128)
    red, green, blue = image.split()
    swapped = Image.merge("RGB", (blue, green, red))
    assert_all_apart([encoded(image), encoded(swapped), encoded(image.convert("L"))])


def test_near_pairs_are_those_of_a_full_search():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 500, dtype=np.uint64)
    flips = np.array([sum(1 << int(b) for b in rng.choice(64, 9, False)) for _ in base], object)
    hashes = np.concatenate([base, base ^ flips.astype(np.uint64)])
    levels = rng.uniform(0, 255, len(hashes))
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = np.argwhere(np.triu(distances <= 9, 1))
    assert np.stack(near_pairs(hashes, levels), 1).tolist() == expected.tolist()
    assert len(expected) >= 500


def test_the_work_for_many_equal_hashes_is_bounded():
    hashes = np.full(20_000, 12345, np.uint64)
    before, _ = near_pairs(hashes, np.linspace(0, 255, len(hashes)))
    assert len(before) < 20 * len(hashes)


def test_the_picture_of_a_copy_is_the_largest_file():
    image = photograph("skimage/coffee.png", 256)
    files = [
        encoded(half(image)),
        encoded(image, "JPEG"),
        encoded(image),
        encoded(half(half(image))),
    ]
    assert pictures(files) == [2, 2, 2, 2]


def test_no_images_have_no_copies():
    assert pictures([]) == []


def test_the_encoding_tells_jpegs_of_different_quality_apart():
    image = photograph("skimage/coffee.png", 64)
    first, same, other = (encoded(image, "JPEG", quality=q) for q in (75, 75, 90))
    assert encoding_of(first) == encoding_of(same) != encoding_of(other)
    assert encoding_of(encoded(image)) == encoding_of(encoded(image, "TIFF"))
    assert encoding_of(encoded(image, "WEBP")) != encoding_of(encoded(image, "GIF"))
