"""Images cut into units of work of about the same size."""

from collections.abc import Iterator, Sequence

SHARD_BYTES = 32 * 2**20
"""About what a unit of work holds, in bytes of images, with `IMAGE_BYTES` for each of them."""
IMAGE_BYTES = 8 * 2**10
"""What an image costs beside its bytes, in bytes that cost as much."""
MAX_SHARDS = 4096


def balanced(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cuts images into shards that hold about as many bytes each, in the order given.

    It follows from the sizes alone, not from the number of workers. The largest shard exceeds the
    mean by no more than the largest image, each with `IMAGE_BYTES` more.

    Args:
        sizes: encoded bytes of each image.

    Yields:
        The first image of a shard, and the last plus one.
    """
    # Command lines are checked by what imports this, before anything heavy is.
    import numpy as np

    ends = np.cumsum(np.asarray(sizes, np.int64) + IMAGE_BYTES)
    if not len(ends):
        return
    total = int(ends[-1])
    count = min(max(1, round(total / SHARD_BYTES)), MAX_SHARDS)
    # An image goes where its first byte lies.
    begins = np.concatenate([[0], ends[:-1]])
    cuts = np.searchsorted(begins, [total * i / count for i in range(count)]).tolist()
    for start, stop in zip(cuts, [*cuts[1:], len(ends)]):
        if start < stop:
            yield start, stop
