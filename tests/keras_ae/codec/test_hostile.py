"""Files that were damaged, or made to do harm."""

import re
import tracemalloc

import numpy as np
import pytest

from keras_ae.codec.file import decode, encode, read_header
from keras_ae.codec.header import seal
from keras_ae.errors import DataError
from tests.keras_ae.codec.conftest import header_of, smooth


@pytest.fixture(scope="module")
def file() -> bytes:
    return encode(smooth((9, 8, 3)), header_of((9, 8, 3)))


def fault(data: bytes) -> str:
    """The message of a refusal that took little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_truncated_files_are_refused(file):
    messages = {fault(file[:length]) for length in range(len(file))}
    assert len(messages) > 3
    assert all("not a .kae" in m or "truncated" in m for m in messages)


def test_a_changed_bit_is_noticed(file):
    for bit in range(8 * len(file)):
        changed = bytearray(file)
        changed[bit // 8] ^= 1 << bit % 8
        message = fault(bytes(changed))
        if bit < 32:
            assert message == "not a .kae file: it does not begin as one"
        elif bit < 40:
            assert f"version {changed[4]}; this release reads version 1" in message
        else:
            assert "wrong checksum" in message
        with pytest.raises(DataError):
            read_header(bytes(changed))


def test_random_bytes_are_refused(file):
    random = np.random.default_rng(0)
    for length in (0, 3, 31, 32, 100, 1000):
        fault(random.bytes(length))
        fault(file[:5] + random.bytes(length))
        fault(seal(file[:38] + random.bytes(length - length % 4 + 16)))


def put(offset: int, value: int, size: int):
    return lambda file: seal(file[:offset] + value.to_bytes(size, "little") + file[offset + size :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(5, 1, 1), "flags"),
        (put(6, 0, 2), "1 to 1024 channels, not 0"),
        (
            put(6, 2, 2),
            "is not that of its values|not one that an encoder writes|ends before|tiles",
        ),
        (put(6, 1025, 2), "ends before their steps"),
        (put(6, 65535, 2), "65535 channels that ends before their steps"),
        (put(20, 0, 4), "not 0x71"),
        (put(20, 2**32 - 1, 4), "pixels, not 4294967295x71"),
        (put(20, 901_000, 4), "cannot hold 3040875 values"),
        (put(20, 56, 4), "sizes do not fit"),
        (put(20, 72, 4), "sizes do not fit"),
        (put(20, 80_000, 4), "no code of 40 tiles"),
        (put(24, 73, 4), "sizes do not fit"),
        (put(28, 0, 2), "a stride is 1 to 255, not 0"),
        (put(28, 7, 2), "sizes do not fit"),
        (put(28, 256, 2), "a stride is 1 to 255, not 256"),
        (put(30, 4, 1), "1 or 3 channels, not 4"),
        (put(31, 101, 1), "quality is 0 to 100"),
        (put(32, 4096, 2), "0 to 4095"),
        (lambda file: seal(file[:-4]), "sizes do not fit"),
        (lambda file: seal(file[:-1]), "no code of 1 tiles"),
        (lambda file: seal(file + b"\1\0\0\0"), "sizes do not fit"),
        (lambda file: seal(file + bytes(4)), "sizes do not fit"),
    ],
)
def test_lies_with_the_right_checksum_are_refused(file, change, message):
    assert re.search(message, fault(change(file)))


def test_tiles_that_are_longer_than_the_file_are_refused():
    shape = (2, 520, 1)
    data = encode(smooth(shape), header_of(shape))
    assert "longer than the file" in fault(put(34, 2**32 - 1, 4)(data))
    # This is noticed at the end of the first tile, which takes as long as decoding it.
    count = int.from_bytes(data[34:38], "little")
    assert "sizes do not fit" in fault(put(34, count - 1, 4)(data))


def test_the_largest_image_in_a_small_file_is_refused_at_once():
    header = header_of((1, 1, 8))._replace(width=8000, height=8000)
    random = np.random.default_rng(0)
    start = seal(encode(np.zeros((1, 1, 8), np.int32), header_of((1, 1, 8))))[:48]
    start = start[:20] + (8000).to_bytes(4, "little") * 2 + start[28:]
    assert header.latent_shape == (1000, 1000, 8)
    assert "cannot hold 8000000 values" in fault(seal(start + bytes(400)))
    for code in (random.bytes(4000), bytes(4000), b"\xff" * 4000):
        assert "damaged" in fault(seal(start + code))
