import numpy as np
import pytest

from keras_ae.datasets.sources.base import IMAGE_BYTES, MAX_SHARDS, SHARD_BYTES, balanced

MB = 2**20


def bytes_of(sizes) -> list[int]:
    """Bytes in each shard, with what an image costs beside its own."""
    cuts = list(balanced(sizes))
    assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])]
    assert cuts[-1][1] == len(sizes)
    return [sum(sizes[start:stop]) + IMAGE_BYTES * (stop - start) for start, stop in cuts]


@pytest.mark.parametrize("at", [0, 5_000, 9_999])
def test_one_huge_file_does_not_drag_small_ones_along(at):
    sizes = np.random.default_rng(0).integers(1_000, 100_000, 10_000).tolist()
    sizes[at] = 300 * MB
    found = bytes_of(sizes)
    mean = sum(found) / round(sum(found) / SHARD_BYTES)
    others = sorted(found)[:-1]
    assert 300 * MB <= max(found) <= 300 * MB + mean + IMAGE_BYTES
    assert max(others) <= mean + 100_000 + IMAGE_BYTES
    assert len(found) > 15


def test_shards_of_equal_images_are_equal_whatever_their_size():
    for size, count in ((900, 50_000), (2_200_000, 500)):
        found = bytes_of([size] * count)
        assert len(found) >= 10
        assert max(found) - min(found) <= size + IMAGE_BYTES


def test_few_images_are_one_shard():
    assert list(balanced([100_000] * 17)) == [(0, 17)]
    assert list(balanced([0])) == [(0, 1)]
    assert not list(balanced([]))


def test_the_number_of_shards_is_limited():
    assert len(bytes_of([SHARD_BYTES] * (3 * MAX_SHARDS))) == MAX_SHARDS
