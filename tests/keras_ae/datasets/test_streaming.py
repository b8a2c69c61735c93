from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ae import contract as c
from keras_ae.datasets import streaming
from keras_ae.datasets.streaming import StoredImages, StreamedTiles
from keras_ae.datasets.tiles import Tiles
from keras_ae.errors import DataError
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.training.ladder import Ladder
from tests.tiny import TINY

SIZES = ((70, 130), (64, 64), (20, 300), (64, 65), (3, 2), (200, 90), (64, 64), (30, 30), (80, 80))


@pytest.fixture
def store(tmp_path, encode):
    """Writes images as GZIP TFRecords: store(images) -> pattern of the files."""

    def feature(value: bytes | int) -> tf.train.Feature:
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def stored(images: list[np.ndarray], files: int = 3) -> str:
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        paths = [tmp_path / f"{files}-{i}.gz" for i in range(files)]
        writers = [tf.io.TFRecordWriter(str(path), options) for path in paths]
        # The order of the sources is neither that of the files nor that within them.
        for i in np.random.default_rng(0).permutation(len(images)):
            features = {
                c.IMAGE_SOURCE: f"{i:03d}.png".encode(),
                c.IMAGE_ENCODED: encode(images[i], "PNG"),
                c.IMAGE_HEIGHT: images[i].shape[0],
                c.IMAGE_WIDTH: images[i].shape[1],
            }
            example = {name: feature(value) for name, value in features.items()}
            record = tf.train.Example(features=tf.train.Features(feature=example))
            writers[i % files].write(record.SerializeToString())
        for writer in writers:
            writer.close()
        return str(tmp_path / f"{files}-*.gz")

    return stored


def make_images(channels: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*sides, channels), np.uint8) for sides in SIZES]


def sorted_tiles(batches) -> list[bytes]:
    return sorted(tile.tobytes() for batch in batches for tile in batch)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("buffer_bytes", [0, 64 * 64 * 10, 2**30])
def test_an_epoch_has_the_same_tiles_as_in_memory(store, channels, buffer_bytes):
    images = make_images(channels)
    options = {"stride": 8, "crops": 5, "batch_size": 6, "seed": 4}
    tiles = Tiles(images, **options)
    stored = StoredImages([store(images)])
    streamed = StreamedTiles(stored, channels, **options, buffer_bytes=buffer_bytes)
    assert stored.decoded_bytes(channels) == sum(image.nbytes for image in images)
    assert (len(streamed), streamed.size) == (len(tiles), tiles.size)
    assert streamed.batch_sizes == tiles.batch_sizes
    assert len(set(tiles.batch_sizes)) == 2
    for epoch in (0, 7):
        batches = list(streamed.epoch(epoch))
        assert [len(batch) for batch in batches] == streamed.batch_sizes
        assert all(batch.dtype == np.uint8 for batch in batches)
        assert sorted_tiles(batches) == sorted_tiles(tiles.epoch(epoch))


def test_small_images_give_small_tiles(store):
    images = [image[:20, :20] for image in make_images(3)]
    streamed = StreamedTiles(StoredImages([store(images)]), 3, stride=8)
    assert streamed.size == Tiles(images, stride=8).size == 16
    assert sorted_tiles(streamed.epoch(2)) == sorted_tiles(Tiles(images, stride=8).epoch(2))


@pytest.mark.parametrize("chunk_bytes", [0, 50_000, streaming.CHUNK_BYTES])
def test_images_are_indexed_in_the_order_of_their_sources(store, chunk_bytes, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_BYTES", chunk_bytes)
    images = make_images(3)
    stored = StoredImages([store(images)])
    assert stored.sides.tolist() == [list(sides) for sides in SIZES]
    read = dict(stored.read(3))
    assert sorted(read) == list(range(len(images)))
    assert all(np.array_equal(read[i], image) for i, image in enumerate(images))


def test_the_order_depends_only_on_seed_and_epoch(store):
    pattern = store(make_images(3))

    def epochs(order: list[int], seed: int = 1) -> dict[int, bytes]:
        tiles = StreamedTiles(StoredImages([pattern]), 3, stride=8, seed=seed, buffer_bytes=10**5)
        return {epoch: np.concatenate(list(tiles.epoch(epoch))).tobytes() for epoch in order}

    first = epochs([0, 1, 2])
    assert first == epochs([2, 1, 0])
    assert len(set(first.values())) == 3
    assert first[0] != epochs([0], seed=2)[0]


def test_files_are_shuffled_and_a_buffer_of_one_tile_shuffles_nothing_else(store):
    images = [np.full((64, 64, 3), i, np.uint8) for i in range(40)]
    tiles = StreamedTiles(StoredImages([store(images, 20)]), 3, stride=8, buffer_bytes=0)
    orders = [[int(tile[0, 0, 0]) for batch in tiles.epoch(e) for tile in batch] for e in (0, 1)]
    assert orders[0] != orders[1]
    wide = StreamedTiles(StoredImages([store(images, 1)]), 3, stride=8)
    narrow = StreamedTiles(StoredImages([store(images, 1)]), 3, stride=8, buffer_bytes=0)
    for tiles, shuffled in ((wide, True), (narrow, False)):
        orders = [[t[0, 0, 0] for batch in tiles.epoch(e) for t in batch] for e in (0, 1)]
        assert (orders[0] != orders[1]) == shuffled


def test_a_resumed_ladder_equals_an_uninterrupted_one(store, tmp_path):
    pattern = store(make_images(3))

    def make_ladder() -> Ladder:
        tiles = StreamedTiles(StoredImages([pattern]), 3, stride=8, batch_size=12, seed=3)
        return Ladder(ConvAutoencoder(TINY, seed=3), tiles)

    ladder, resumed = make_ladder(), make_ladder()
    assert ladder.placement == "streamed"
    start = ladder.to_arrays()
    ladder.train(1)
    ladder.save(tmp_path / "half.npz")
    ladder.assign(start)
    ladder.train(3)
    resumed.restore(tmp_path / "half.npz")
    resumed.train(3)
    for name, array in ladder.to_arrays().items():
        if name != "seconds":
            np.testing.assert_array_equal(array, resumed.to_arrays()[name], err_msg=name)


@pytest.mark.parametrize("buffer_bytes", [0, 64 * 64 * 30, 2**30])
def test_an_epoch_can_start_at_any_batch(store, buffer_bytes):
    stored = StoredImages([store(make_images(3))])
    tiles = StreamedTiles(stored, 3, stride=8, batch_size=12, buffer_bytes=buffer_bytes)
    batches = list(tiles.epoch(3))
    assert len(batches) > 2
    for first in range(len(batches) + 1):
        remaining = list(tiles.epoch(3, first))
        assert len(remaining) == len(batches) - first
        assert all(np.array_equal(a, b) for a, b in zip(remaining, batches[first:]))


def test_files_without_images_are_refused(tmp_path: Path):
    stored = StoredImages([str(tmp_path / "*.gz")])
    assert len(stored) == stored.decoded_bytes(3) == 0
    assert list(stored.read(3)) == []
    with pytest.raises(DataError, match="at least one image"):
        StreamedTiles(stored, 3, stride=8)
