"""One decoding contract: what ingest stores is what the graph decodes from the same file."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae.datasets.images.decoding import decode_each
from keras_ae.datasets.images.decoding_header import CORRUPT, UNKNOWN_FORMAT
from keras_ae.datasets.images.levels import White
from keras_ae.datasets.images.normalize import PAGES, PROFILE, decode, examine, normalize
from tests.corpus.formats import BLACK, NOT_TURNED, REFUSED, SAME, WHITE, Sample, rgba, samples
from tests.corpus.pictures import encoded, riff, vp8x


@pytest.fixture(scope="module", params=[1, 3])
def served(request):
    """The number of channels, and a function that decodes an image as a server does."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def traced(data):
        pixels, _, status = decode_each(data, request.param, WHITE)
        return pixels.read(0), status[0]

    def decode_raw(data: bytes) -> tuple[np.ndarray, str]:
        pixels, status = traced(tf.constant([data]))
        return pixels.numpy(), status.numpy().decode()

    return request.param, decode_raw


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_ingest_and_a_raw_request_give_the_same_pixels(served, sample: Sample):
    channels, decode_raw = served
    ingested = decode(sample.data, channels, white=White(WHITE))
    stored, _ = normalize(sample.data, channels, white=White(WHITE))
    raw, status = decode_raw(sample.data)
    assert np.array_equal(decode_raw(stored)[0], ingested)
    if sample.raw == REFUSED:
        assert status == UNKNOWN_FORMAT
        return
    assert status == ""
    if sample.raw == SAME:
        assert np.array_equal(raw, ingested)
    elif sample.raw == BLACK:
        different = (raw != ingested).any(-1)
        assert different.any()
        assert (raw[different] == 0).all()
        assert (ingested[different] == 255).all()
    else:
        assert sample.raw == NOT_TURNED
        assert np.array_equal(raw, decode_raw(_without_orientation(sample))[0])


def _without_orientation(sample: Sample) -> bytes:
    name = sample.name.replace(sample.name.split("-")[1][0], "1", 1)
    return next(other.data for other in samples() if other.name == name)


def test_hidden_colours_are_white(served):
    channels, _ = served
    hidden = encoded(rgba(), "PNG")
    assert (decode(hidden, channels)[:2] == 255).all()


def test_a_frame_of_an_animation_that_is_not_what_its_container_says_is_refused(served):
    _, decode_raw = served
    part = encoded(rgba(), "WEBP", lossless=True)[12:]
    place = b"".join(n.to_bytes(3, "little") for n in (0, 0, 9, 11, 100)) + b"\0"

    def animated(frame: bytes, width: int = 10, height: int = 12) -> bytes:
        return riff(vp8x(width, height, 2), (b"ANIM", bytes(6)), (b"ANMF", frame))

    assert decode_raw(animated(place + part))[1] == ""
    larger = encoded(rgba().resize((99, 99)), "WEBP", lossless=True)[12:]
    moved = b"\1\0\0" + place[3:]
    bad = {
        "another size": animated(place + larger),
        "outside of the canvas": animated(moved + part),
        "a canvas that is smaller": animated(place + part, width=9),
        "truncated": animated(place + part)[:-40],
        "no chunks": animated(place),
        "nothing": animated(b""),
        "no frame": riff(vp8x(10, 12, 2), (b"ANIM", bytes(6))),
        "text": animated(place + b"text" * 20),
        "an animation in the frame": animated(place + riff(vp8x(10, 12, 2))),
        "a size of 4 GB": animated(place + part).replace(b"ANIM\6\0\0\0", b"ANIM\xff\xff\xff\xff"),
        "many chunks": riff(vp8x(10, 12, 2), *[(b"text", b"")] * 100, (b"ANMF", place + part)),
    }
    assert {name: decode_raw(data)[1] for name, data in bad.items()} == dict.fromkeys(bad, CORRUPT)


def test_changed_bytes_of_an_animation_give_pixels_or_a_status(served):
    _, decode_raw = served
    rng = np.random.default_rng(0)
    for sample in samples():
        if not sample.name.startswith("animated") or not sample.name.endswith("webp"):
            continue
        good = np.frombuffer(sample.data, np.uint8)
        for _ in range(40):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 4)] = rng.integers(0, 256, 4)
            pixels, status = decode_raw(bad.tobytes())
            assert pixels.size > 0 or status


def test_many_chunks_before_the_pixels_of_a_png_are_searched_for_transparency(served):
    channels, decode_raw = served
    data = encoded(rgba().convert("RGB"), "PNG", transparency=rgba().getpixel((3, 3))[:3])
    text = struct.pack(">I", 0) + b"teSt" + bytes(4)
    longer = data[:33] + text * 2000 + data[33:]
    assert np.array_equal(decode_raw(longer)[0], decode(data, channels))


def test_pages_and_profiles_are_noted():
    image = rgba().convert("RGB")
    pages = encoded(image, "TIFF", save_all=True, append_images=[image])
    assert examine(pages, 3).notes == (PAGES,)
    for name, notes in (("rXYZ", (PROFILE,)), ("none", ())):
        for kind in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF"):
            data = encoded(image, kind, icc_profile=_profile(wide=name == "rXYZ"))
            assert examine(data, 3).notes == notes, kind


def _profile(*, wide: bool) -> bytes:
    """The profile of sRGB as Pillow writes it, optionally with another red."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if wide:
        entry = profile.index(b"rXYZ")
        (start,) = struct.unpack_from(">I", profile, entry + 4)
        struct.pack_into(">i", profile, start + 8, int(0.5151 * 65536))
    return bytes(profile)


def test_a_picture_with_alpha_in_front_of_white_is_that_of_pillow():
    white = Image.new("RGBA", rgba().size, "white")
    expected = np.asarray(Image.alpha_composite(white, rgba()).convert("RGB"))
    assert np.array_equal(decode(encoded(rgba(), "PNG"), 3), expected)
