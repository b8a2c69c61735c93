import numpy as np
import pytest

from keras_ae.datasets.sources.base import (
    IMAGE_OVERHEAD_BYTES,
    MAX_SHARDS,
    SHARD_BYTES,
    balanced_ranges,
    equal_ranges,
)

MB = 2**20


def shard_bytes(sizes) -> list[int]:
    """The size of each shard, including the overhead of its images."""
    ranges = list(balanced_ranges(sizes))
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == len(sizes)
    return [
        sum(sizes[start:stop]) + IMAGE_OVERHEAD_BYTES * (stop - start) for start, stop in ranges
    ]


@pytest.mark.parametrize("index", [0, 5_000, 9_999])
def test_a_huge_file_does_not_enlarge_other_shards(index):
    sizes = np.random.default_rng(0).integers(1_000, 100_000, 10_000).tolist()
    sizes[index] = 300 * MB
    shards = shard_bytes(sizes)
    mean = sum(shards) / round(sum(shards) / SHARD_BYTES)
    smaller = sorted(shards)[:-1]
    assert 300 * MB <= max(shards) <= 300 * MB + mean + IMAGE_OVERHEAD_BYTES
    assert max(smaller) <= mean + 100_000 + IMAGE_OVERHEAD_BYTES
    assert len(shards) > 15


def test_shards_of_equal_images_have_equal_sizes():
    for size, count in ((900, 50_000), (2_200_000, 500)):
        shards = shard_bytes([size] * count)
        assert len(shards) >= 10
        assert max(shards) - min(shards) <= size + IMAGE_OVERHEAD_BYTES


def test_few_images_are_one_shard():
    assert list(balanced_ranges([100_000] * 17)) == [(0, 17)]
    assert list(balanced_ranges([0])) == [(0, 1)]
    assert not list(balanced_ranges([]))


def test_the_number_of_shards_is_limited():
    assert len(shard_bytes([SHARD_BYTES] * (3 * MAX_SHARDS))) == MAX_SHARDS


@pytest.mark.parametrize("size", [0, 3072, 10**6, 10**8])
def test_ranges_of_equal_images_are_the_balanced_ones(size):
    for count in (1, 2, 17, 1000, 9973):
        assert list(equal_ranges(size, count)) == list(balanced_ranges([size] * count))
