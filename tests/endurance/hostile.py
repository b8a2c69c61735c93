"""Requests that no server should fall for: broken images and tensors, from a seed."""

import functools
import gzip
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin

from keras_ae import contract as c
from serving.wire.protos import DataType, PredictRequest, TensorProto
from serving.wire.tensors import to_proto

PNG = b"\x89PNG\r\n\x1a\n"
SIZES = (0, 1, 2, 3, 7, 8, 64, -1, 2**31, 2**40, 2**62)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with the right length and checksum."""
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png_header(width: int, height: int) -> bytes:
    """A PNG of 8-bit RGB with no data."""
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def unusual_images(photograph: Image.Image) -> dict[str, bytes]:
    """Images by what is unusual about them; each has a right answer."""
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 1_000_000)
    sixteen = Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)
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
        "BMP": encoded(photograph, "BMP"),
        "1x1": encoded(photograph.crop((0, 0, 1, 1)), "PNG"),
        "1x100000": encoded(wide, "PNG"),
        "trailing junk": encoded(photograph, "PNG") + b"junk" * 1000,
        "a text chunk of 1 MB": encoded(photograph, "PNG", pnginfo=text),
    }


def broken_images(photograph: Image.Image) -> dict[str, bytes]:
    """Files by what is wrong with them; each gets a status that says so."""
    png, jpeg = encoded(photograph, "PNG"), encoded(photograph, "JPEG")
    bad_checksum = bytearray(png)
    bad_checksum[-17] ^= 0xFF
    gif = _large_gif()
    return {
        "no bytes": b"",
        "text": b"this is no image",
        "PNG magic only": PNG,
        "truncated PNG": png[: len(png) // 2],
        "truncated JPEG": jpeg[: len(jpeg) // 2],
        "bad checksum": bytes(bad_checksum),
        "0x0": png_header(0, 0) + chunk(b"IEND", b""),
        "a header of 2^31-1 square": png_header(2**31 - 1, 2**31 - 1) + chunk(b"IEND", b""),
        "8001x8000 in 8 KB": _large_png(),
        "a header of 23170 square": png_header(23170, 23170) + chunk(b"IEND", b""),
        "14000x14000 on a GIF's screen of 1x1": gif[:6] + struct.pack("<HH", 1, 1) + gif[10:],
    }


def mutants(photograph: Image.Image, count: int, seed: int = 0) -> Iterator[bytes]:
    """PNG and JPEG files with bytes changed, cut, doubled or taken out."""
    random = np.random.default_rng(seed)
    small = photograph.resize((48, 40))
    originals = [
        encoded(small, "PNG"),
        encoded(small, "JPEG", quality=80),
        encoded(small, "JPEG", quality=30, progressive=True),
        encoded(small.convert("P"), "PNG"),
    ]
    for _ in range(count):
        yield _mutated(bytearray(originals[random.integers(len(originals))]), random)


def _mutated(data: bytearray, random: np.random.Generator) -> bytes:
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(max(1, len(data))))
        # Headers are short and what breaks most stands in them.
        at = at % 64 if random.random() < 0.5 else at
        length = int(random.integers(1, 32))
        match random.integers(5):
            case 0:
                data[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = random.bytes(length)
            case 3:
                data[at:at] = data[at : at + length]
            case _:
                del data[max(at, 8) :]
    return bytes(data)


def bad_tensors() -> dict[str, PredictRequest]:
    """Requests by what is wrong with them; each is an INVALID_ARGUMENT."""
    pixels = np.zeros((1, 8, 8, 3), np.uint8)

    def images(tensor: TensorProto) -> PredictRequest:
        return request(c.RECONSTRUCT, **{c.IMAGES: tensor})

    def shaped(*sizes: int, **values) -> TensorProto:
        tensor = TensorProto(dtype=DataType.DT_UINT8, **values)
        for size in sizes:
            tensor.tensor_shape.dim.add(size=size)
        return tensor

    no_image = TensorProto(dtype=DataType.DT_STRING, string_val=[b""])
    no_image.tensor_shape.dim.add(size=100_000_000)
    ranks = {
        f"rank {rank}": images(to_proto(np.zeros((1,) * rank, np.uint8))) for rank in (0, 1, 3, 5)
    }
    return {
        "one value for a huge shape": images(shaped(1, 2**20, 2**20, 3, int_val=[1])),
        "one string for a huge shape": request(c.SERVING_DEFAULT, **{c.IMAGE_BYTES: no_image}),
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
    random = np.random.default_rng(seed)
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
        signature = str(random.choice(list(inputs)))
        name = inputs[signature] if random.random() < 0.9 else "other"
        tensor = TensorProto(
            dtype=types[random.integers(4)] if random.random() < 0.8 else int(random.integers(130))
        )
        for _ in range(random.choice([0, 1, 3, 4, 4, 4, 5])):
            small = random.random() < 0.8
            tensor.tensor_shape.dim.add(size=SIZES[random.integers(7 if small else len(SIZES))])
        if random.random() < 0.7:
            _fill(tensor, random)
        else:
            pixels = random.integers(0, 256, (*random.integers(1, 20, 3), 3), np.uint8)
            tensor = to_proto(pixels if random.random() < 0.7 else pixels.astype(np.float32))
        yield request(signature, **{name: tensor})


def _fill(tensor: TensorProto, random: np.random.Generator) -> None:
    length = int(random.choice([0, 1, 3, 8, 192, 1536]))
    match random.integers(4):
        case 0:
            tensor.tensor_content = random.bytes(length)
        case 1:
            tensor.int_val.extend(random.integers(-(2**31), 2**31, length).tolist())
        case 2:
            special = [np.nan, np.inf, -np.inf, 0.0, 1e38]
            tensor.float_val.extend(random.choice(special, length).tolist())
        case _:
            tensor.string_val.extend(random.bytes(20) for _ in range(length))


def request(signature: str, **inputs: TensorProto) -> PredictRequest:
    """A PredictRequest to the model `keras_ae`."""
    made = PredictRequest()
    made.model_spec.name = "keras_ae"
    made.model_spec.signature_name = signature
    for name, tensor in inputs.items():
        made.inputs[name].CopyFrom(tensor)
    return made


def bad_bodies() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Bodies and headers of REST requests that are refused."""
    deep = b'{"instances": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    return {
        "nested 50,000 deep": (deep, {}),
        "a gzip bomb": (_bomb(), {"content-encoding": "gzip"}),
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


@functools.cache
def _large_png() -> bytes:
    return encoded(Image.new("1", (8001, 8000)), "PNG")


@functools.cache
def _large_gif() -> bytes:
    return encoded(Image.new("P", (14000, 14000)), "GIF")


@functools.cache
def _bomb() -> bytes:
    """2 MB that become 512 MB."""
    return gzip.compress(b"0" * 2**29, 1)
