import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.sources.blocks import EQUAL, block_side
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from tests.corpus.pictures import chunk


def noise(height: int, width: int, seed: int = 0, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(dtype)


def save(path: Path, pixels: np.ndarray, **options) -> str:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def read_all(data, **options) -> dict[str, Record]:
    source = open_source(str(data), **options)
    shards = source.shards()
    worker = pickle.loads(pickle.dumps(source))
    records = [record for shard in shards for record in worker.read(shard)]
    assert [record.key for record in records] == [key for shard in shards for key in shard]
    return {record.key: record for record in records}


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(3000, 4000)], 424),  # 7 x 9 blocks; 6 x 9 of 432 are 54
        ([(512, 768)], 72),  # 7 x 10; 6 x 9 of 80 are 54
        ([(480, 640)], 64),  # 7 x 10; 6 x 8 of 72 are 48
        ([(64, 64 * 60)], 64),
        ([(72, 72 * 60)], 72),
        ([(100, 100)], 64),
        ([(20, 5000)], 64),
        ([(512, 768), (100, 100)], 72),
        ([(512, 768), (512, 768)], 104),  # 2 x 4 x 7 are 56; of 104: 2 x 4 x 7
    ],
)
def test_the_side_is_the_largest_that_gives_60_blocks(sizes, side):
    def count(side: int) -> int:
        return sum((height // side) * (width // side) for height, width in sizes)

    chosen = block_side(sizes)
    assert chosen % 8 == 0
    assert chosen == max([64, *(s for s in range(64, 5001, 8) if count(s) >= 60)])
    if len(sizes) == 1:
        assert chosen == side


def test_a_picture_is_cut_into_blocks(tmp_path):
    pixels = noise(200, 330)
    records = read_all(save(tmp_path / "photo.png", pixels))
    assert list(records) == [f"photo.png#{y},{x}" for y in (0, 64, 128) for x in range(0, 320, 64)]
    for key, record in records.items():
        row, column = map(int, key.partition("#")[2].split(","))
        block = pixels[row : row + 64, column : column + 64]
        assert np.array_equal(decode(record.data, 3), block)
        assert (record.fault, record.split, record.label) == ("", None, None)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_two_pictures_in_all_are_cut_and_three_are_not(tmp_path, kind):
    def blocks() -> dict[str, Record]:
        data = tmp_path / "photos"
        if kind == "zip":
            data = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", data))
        return read_all(data, blocks=True)

    save(tmp_path / "photos/a.png", noise(64, 192, 1))
    (tmp_path / "photos/scan.xyz").write_bytes(b"no image")
    assert list(blocks()) == ["a.png#0,0", "a.png#0,64", "a.png#0,128"]
    save(tmp_path / "photos/b.png", noise(64, 64, 2))
    assert list(blocks()) == ["a.png#0,0", "a.png#0,64", "a.png#0,128", "b.png#0,0"]
    save(tmp_path / "photos/c.png", noise(64, 64, 3))
    assert [key for key, record in blocks().items() if not record.not_read] == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_what_is_left_of_bad_pictures_is_not_cut(tmp_path):
    save(tmp_path / "photos/a.png", noise(300, 300))
    (tmp_path / "photos/b.png").write_bytes(b"no image")
    assert list(read_all(tmp_path / "photos", blocks=True)) == ["a.png", "b.png"]
    (tmp_path / "photos/a.png").unlink()
    assert list(read_all(tmp_path / "photos/b.png")) == ["b.png"]


def test_equal_blocks_count_once(tmp_path):
    pixels = np.full((64, 64 * 6, 3), 255, np.uint8)
    pixels[:, 64:256] = noise(64, 192)
    path = save(tmp_path / "photo.png", pixels)
    assert [key.partition(",")[2] for key in read_all(path)] == ["0", "64", "128", "192"]
    source = open_source(path)
    source.shards()
    assert source.findings().not_read == {EQUAL: 2}


def test_a_block_is_identified_by_picture_and_position(tmp_path):
    pixels = noise(64, 256)
    one = read_all(save(tmp_path / "a.png", pixels))
    # The same picture under another name, and one that differs elsewhere.
    same = read_all(save(tmp_path / "b.png", pixels))
    pixels[0, 200] ^= 1
    other = read_all(save(tmp_path / "c.png", pixels))
    assert one["a.png#0,0"].identity == same["b.png#0,0"].identity
    assert one["a.png#0,0"].identity != other["c.png#0,0"].identity
    assert len({record.identity for record in one.values()}) == len(one) == 4


def test_16_bits_stay_16_bits(tmp_path):
    pixels = noise(64, 256, dtype=np.uint16)[..., 0] * 16
    for name in ("a.png", "a.tif"):
        records = read_all(save(tmp_path / name, pixels))
        block = tf.io.decode_png(records[f"{name}#0,64"].data, dtype=tf.uint16).numpy()
        assert np.array_equal(block[..., 0], pixels[:, 64:128])


@pytest.mark.parametrize("is_behind_the_pixels", [False, True])
def test_a_turned_16_bit_picture_is_cut_upright(tmp_path, is_behind_the_pixels):
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x06" + bytes(7))
    pixels = noise(192, 64, dtype=np.uint16) * 16
    data = tf.io.encode_png(pixels).numpy()
    at = data.index(b"IEND") - 4 if is_behind_the_pixels else 33
    (tmp_path / "a.png").write_bytes(data[:at] + exif + data[at:])
    records = read_all(tmp_path / "a.png")
    assert list(records) == ["a.png#0,0", "a.png#0,64", "a.png#0,128"]
    block = tf.io.decode_png(records["a.png#0,0"].data, dtype=tf.uint16)
    assert np.array_equal(block, np.rot90(pixels[-64:], -1))


def test_a_damaged_16_bit_picture_is_quarantined(tmp_path):
    path = Path(save(tmp_path / "a.tif", np.full((192, 64), 9, np.uint16), compression="tiff_lzw"))
    path.write_bytes(path.read_bytes().replace(b"\x80", b"\xff"))
    (record,) = read_all(path).values()
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(record.data, 3)


def test_orientation_and_alpha_are_applied_before_cutting(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = noise(192, 64)
    records = read_all(save(tmp_path / "a.png", pixels, exif=exif))
    assert list(records) == ["a.png#0,0", "a.png#0,64", "a.png#0,128"]
    assert np.array_equal(decode(records["a.png#0,0"].data, 3), np.rot90(pixels[-64:], -1))
    alpha = np.zeros((192, 64, 1), np.uint8)
    with pytest.raises(DataError, match="got 1 different block from"):
        read_all(save(tmp_path / "b.png", np.concatenate([pixels, alpha], -1)))


@pytest.mark.parametrize(
    ("pixels", "count"), [(noise(63, 900), "0"), (noise(64, 191), "2"), (noise(900, 900) * 0, "1")]
)
def test_too_few_different_blocks_are_refused_with_the_size_needed(tmp_path, pixels, count):
    size = f"{pixels.shape[1]}x{pixels.shape[0]} pixels"
    text = f"such as one of 192x64; got {count} different blocks? from a.png \\({size}\\)"
    with pytest.raises(DataError, match=text):
        read_all(save(tmp_path / "a.png", pixels))


def test_a_note_says_where_train_and_test_come_from(tmp_path):
    source = open_source(save(tmp_path / "photos/a.png", noise(200, 200)))
    assert source.has_whole_pictures
    source.shards()
    assert not source.has_whole_pictures
    assert source.findings().notes == (
        "a.png is cut into 9 blocks of 64x64 pixels: train and test come from one picture, so that "
        "the results may be too good for new pictures",
    )
    save(tmp_path / "photos/b.png", noise(200, 200, 1))
    folder = open_source(str(tmp_path / "photos"), blocks=True)
    folder.shards()
    (note,) = folder.findings().notes
    assert note.startswith("a.png and b.png are cut into 18 blocks")
    assert "train and test come from the same two pictures" in note


def test_a_picture_of_any_name_is_a_picture(tmp_path):
    Path(save(tmp_path / "a.png", noise(64, 192))).rename(tmp_path / "scan")
    assert len(read_all(tmp_path / "scan")) == 3
    assert open_source(str(tmp_path / "scan")).fingerprint()


def test_the_fingerprint_is_that_of_the_picture(tmp_path):
    path = save(tmp_path / "photos/a.png", noise(64, 192))
    source = open_source(path)
    source.shards()
    assert source.fingerprint_of([]) == source.fingerprint() == open_source(path).fingerprint()
    folder = open_source(str(tmp_path / "photos"), blocks=True)
    folder.shards()
    assert folder.fingerprint_of([]) == open_source(str(tmp_path / "photos")).fingerprint()


def test_pages_that_are_not_read_are_noted(tmp_path):
    pages = [Image.fromarray(noise(256, 256, seed)) for seed in range(3)]
    path = tmp_path / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    source = open_source(str(path))
    assert len(source.shards()[0]) == 16
    assert source.findings().notes[1:] == ("only the first page of stack.tif is read",)
