"""Hostile requests: unusual and broken images, mutated files, bad and random tensors."""

import functools
import gzip
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin

from keras_ae import contract as c
from serving.wire.protos import DataType, PredictRequest, TensorProto
from serving.wire.tensors import to_proto
from tests.corpus.converted import tiff
from tests.corpus.pictures import PNG, chunk, encoded, ihdr

SIZES = (0, 1, 2, 3, 7, 8, 64, -1, 2**31, 2**40, 2**62)


def unusual_images(photograph: Image.Image) -> dict[str, bytes]:
    """Valid images by their unusual property; each can be reconstructed."""
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 1_000_000)
    sixteen = _deep(photograph)
    frames = [photograph.convert("P"), photograph.rotate(180).convert("P")]
    many = [Image.new("L", (96, 64), grey) for grey in range(250)]
    wide = Image.new("RGB", (100_000, 1), (10, 200, 30))
    return {
        "RGBA": encoded(photograph.convert("RGBA"), "PNG"),
        "16-bit": encoded(sixteen, "PNG"),
        "palette": encoded(photograph.convert("P"), "PNG"),
        "grey": encoded(photograph.convert("L"), "PNG"),
        "CMYK JPEG": encoded(photograph.convert("CMYK"), "JPEG"),
        "GIF": encoded(photograph.convert("P"), "GIF"),
        "animated GIF": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "GIF of 250 frames": encoded(many[0], "GIF", save_all=True, append_images=many[1:]),
        "WebP": encoded(photograph, "WEBP"),
        "animated WebP": encoded(photograph, "WEBP", save_all=True, append_images=frames[1:]),
        "BMP": encoded(photograph, "BMP"),
        "1x1": encoded(photograph.crop((0, 0, 1, 1)), "PNG"),
        "1x100000": encoded(wide, "PNG"),
        "trailing junk": encoded(photograph, "PNG") + b"junk" * 1000,
        "a text chunk of 1 MB": encoded(photograph, "PNG", pnginfo=text),
    }


def broken_images(photograph: Image.Image) -> dict[str, bytes]:
    """Image files by their defect; each gets a status that names it."""
    png, jpeg = encoded(photograph, "PNG"), encoded(photograph, "JPEG")
    bad_checksum = bytearray(png)
    bad_checksum[-17] ^= 0xFF
    gif = _large_gif()
    return {
        "no bytes": b"",
        "text": b"this is no image",
        "PNG magic only": PNG,
        # A server decodes what TensorFlow does; the client converts these.
        "TIFF": encoded(photograph, "TIFF"),
        "TIFF of many tags": tiff([(1000 + i, 7, 2**20, 8) for i in range(4000)], bytes(2**20)),
        "PPM": encoded(photograph, "PPM"),
        "a PPM of 60000x60000": b"P6 60000 60000 255\n" + bytes(100),
        "AVIF": encoded(photograph, "AVIF"),
        "truncated 16-bit PNG": encoded(_deep(photograph), "PNG")[:-200],
        "truncated PNG": png[: len(png) // 2],
        "truncated JPEG": jpeg[: len(jpeg) // 2],
        "bad checksum": bytes(bad_checksum),
        "0x0": _png_without_data(0, 0),
        "a header of 2^31-1 square": _png_without_data(2**31 - 1, 2**31 - 1),
        "8001x8000 in 8 KB": _large_png(),
        "a header of 23170 square": _png_without_data(23170, 23170),
        "14000x14000 on a GIF's screen of 1x1": gif[:6] + struct.pack("<HH", 1, 1) + gif[10:],
    }


def _deep(photograph: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)


def mutants(photograph: Image.Image, count: int, seed: int = 0) -> Iterator[bytes]:
    """PNG and JPEG files with bytes replaced, deleted, inserted, duplicated or truncated."""
    rng = np.random.default_rng(seed)
    small = photograph.resize((48, 40))
    originals = [
        encoded(small, "PNG"),
        encoded(small, "JPEG", quality=80),
        encoded(small, "JPEG", quality=30, progressive=True),
        encoded(small.convert("P"), "PNG"),
        encoded(_deep(small), "PNG"),
        encoded(small, "WEBP"),
    ]
    for _ in range(count):
        yield _mutate(bytearray(originals[rng.integers(len(originals))]), rng)


def _mutate(data: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(rng.integers(1, 4)):
        start = int(rng.integers(max(1, len(data))))
        # Mutations of headers break most, and headers are short.
        start = start % 64 if rng.random() < 0.5 else start
        length = int(rng.integers(1, 32))
        match rng.integers(5):
            case 0:
                data[start : start + 1] = bytes([int(rng.integers(256))])
            case 1:
                del data[start : start + length]
            case 2:
                data[start:start] = rng.bytes(length)
            case 3:
                data[start:start] = data[start : start + length]
            case _:
                del data[max(start, 8) :]
    return bytes(data)


def bad_tensors() -> dict[str, PredictRequest]:
    """Requests by their defect; each is refused with INVALID_ARGUMENT."""
    pixels = np.zeros((1, 8, 8, 3), np.uint8)

    def images(tensor: TensorProto) -> PredictRequest:
        return request(c.RECONSTRUCT, **{c.IMAGES: tensor})

    def shaped(*sizes: int, **values) -> TensorProto:
        tensor = TensorProto(dtype=DataType.DT_UINT8, **values)
        for size in sizes:
            tensor.tensor_shape.dim.add(size=size)
        return tensor

    empty_strings = TensorProto(dtype=DataType.DT_STRING, string_val=[b""])
    empty_strings.tensor_shape.dim.add(size=100_000_000)
    ranks = {
        f"rank {rank}": images(to_proto(np.zeros((1,) * rank, np.uint8))) for rank in (0, 1, 3, 5)
    }
    return {
        "one value for a huge shape": images(shaped(1, 2**20, 2**20, 3, int_val=[1])),
        "one string for a huge shape": request(c.SERVING_DEFAULT, **{c.IMAGE_BYTES: empty_strings}),
        "short tensor_content": images(shaped(1, 8, 8, 3, tensor_content=b"short")),
        "a negative size": images(shaped(1, -8, 8, 3, int_val=[1])),
        "an overflowing shape": images(shaped(2**62, 2**62, 2**62, 3, int_val=[1])),
        **ranks,
        "H=0": images(shaped(1, 0, 8, 3)),
        "N=0": images(shaped(0, 8, 8, 3)),
        "four channels": images(to_proto(np.zeros((1, 8, 8, 4), np.uint8))),
        "floats": images(to_proto(np.full(pixels.shape, np.nan, np.float32))),
    }


def random_requests(count: int, seed: int = 0) -> Iterator[PredictRequest]:
    """Requests with random types, shapes, values and names."""
    rng = np.random.default_rng(seed)
    inputs = {
        c.SERVING_DEFAULT: c.IMAGE_BYTES,
        c.RECONSTRUCT: c.IMAGES,
        c.ENCODE: c.IMAGES,
        c.DECODE: c.LATENTS,
        c.SCORE: c.EXAMPLES,
        "nothing": "nothing",
    }
    types = [DataType.DT_UINT8, DataType.DT_FLOAT, DataType.DT_STRING, DataType.DT_INT64]
    for _ in range(count):
        signature = str(rng.choice(list(inputs)))
        name = inputs[signature] if rng.random() < 0.9 else "other"
        tensor = TensorProto(
            dtype=types[rng.integers(4)] if rng.random() < 0.8 else int(rng.integers(130))
        )
        for _ in range(rng.choice([0, 1, 3, 4, 4, 4, 5])):
            small = rng.random() < 0.8
            tensor.tensor_shape.dim.add(size=SIZES[rng.integers(7 if small else len(SIZES))])
        if rng.random() < 0.7:
            _fill(tensor, rng)
        else:
            pixels = rng.integers(0, 256, (*rng.integers(1, 20, 3), 3), np.uint8)
            tensor = to_proto(pixels if rng.random() < 0.7 else pixels.astype(np.float32))
        yield request(signature, **{name: tensor})


def _fill(tensor: TensorProto, rng: np.random.Generator) -> None:
    length = int(rng.choice([0, 1, 3, 8, 192, 1536]))
    match rng.integers(4):
        case 0:
            tensor.tensor_content = rng.bytes(length)
        case 1:
            tensor.int_val.extend(rng.integers(-(2**31), 2**31, length).tolist())
        case 2:
            special = [np.nan, np.inf, -np.inf, 0.0, 1e38]
            tensor.float_val.extend(rng.choice(special, length).tolist())
        case _:
            tensor.string_val.extend(rng.bytes(20) for _ in range(length))


def request(signature: str, **inputs: TensorProto) -> PredictRequest:
    """A PredictRequest to the model `keras_ae`."""
    message = PredictRequest()
    message.model_spec.name = "keras_ae"
    message.model_spec.signature_name = signature
    for name, tensor in inputs.items():
        message.inputs[name].CopyFrom(tensor)
    return message


def bad_bodies() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Bodies and headers of REST requests by their defect; each request is refused."""
    nested = b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    return {
        "nested 50,000 deep": (nested, {}),
        "a gzip bomb": (_gzip_bomb(), {"content-encoding": "gzip"}),
        "no JSON": (b"{", {}),
        "neither inputs nor instances": (b"{}", {}),
        "both inputs and instances": (b'{"inputs": [1], "instances": [1]}', {}),
        "ragged rows": (
            b'{"signature_name": "reconstruct", "instances": [[[[1,2,3]], [[1,2,3],[4,5,6]]]]}',
            {},
        ),
        "text for a pixel": (
            b'{"signature_name": "reconstruct", "instances": [[[["a", "b", "c"]]]]}',
            {},
        ),
    }


def _png_without_data(width: int, height: int) -> bytes:
    return PNG + ihdr(width, height) + chunk(b"IEND")


@functools.cache
def _large_png() -> bytes:
    return encoded(Image.new("1", (8001, 8000)), "PNG")


@functools.cache
def _large_gif() -> bytes:
    return encoded(Image.new("P", (14000, 14000)), "GIF")


@functools.cache
def _gzip_bomb() -> bytes:
    """2 MB that decompress to 512 MB."""
    return gzip.compress(b"0" * 2**29, 1)
