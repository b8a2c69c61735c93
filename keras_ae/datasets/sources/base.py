"""What all sources of images have in common: records, shards, and how shards are cut."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from keras_ae import storage
from keras_ae.contract import IMAGE_SUFFIXES
from keras_ae.errors import DataError

SAMPLE = "sample"
TFDS_PREFIX = "tfds:"
SHARD_BYTES = 32 * 2**20
"""About what a unit of work holds, in bytes of images, with `IMAGE_BYTES` for each of them."""
IMAGE_BYTES = 8 * 2**10
"""What an image costs beside its bytes, in bytes that cost as much."""
MAX_SHARDS = 4096

Shard = tuple[str, ...]
"""Keys of some images of a source, in UTF-8."""


class Record(NamedTuple):
    """An image as the source holds it.

    Attributes:
        key: path or key, unique in the source.
        data: the encoded image; empty where it could not be read.
        fault: why it could not be read; empty otherwise.
        split: train, val or test where the source fixes it.
        label: name of its class, where the source has one.

    >>> Record("cats/tom.png", b"...", split="train", label="cats").fault
    ''
    """

    key: str
    data: bytes
    fault: str = ""
    split: str | None = None
    label: str | None = None


class ReadRecord(NamedTuple):
    """A record that was read: its name, digest and size.

    Attributes:
        name: in its shard.
        digest: SHA-256 of its bytes, in hexadecimal digits.
        size: of its bytes; 0 for one that could not be read.
    """

    name: str
    digest: str
    size: int


class Source(ABC):
    """A collection of encoded images; `open_source` finds one, and shows how it is read.

    >>> class Memory(Source):
    ...     def fingerprint(self):
    ...         return "1"
    ...     def shards(self):
    ...         return [("a.png",), ("b.png",)]
    ...     def read(self, shard):
    ...         return (Record(key, b"...") for key in shard)
    >>> source = Memory()
    >>> [record.key for shard in source.shards() for record in source.read(shard)]
    ['a.png', 'b.png']
    """

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that changes when a name or the content of an image does.

        Of what lies at a URI only names, sizes and times of the last change are asked for.
        """

    def fingerprint_of(self, seen: Iterable["ReadRecord"]) -> str:
        """The fingerprint of what was read, or of what is there now if reading does not tell.

        Args:
            seen: all images, in the order of the shards.
        """
        return self.fingerprint()

    def changes(self, names: Iterable[str]) -> str:
        """What may have changed since these names were listed, in a few words; empty if unknown."""
        return ""

    @abstractmethod
    def shards(self) -> list[Shard]:
        """Units of work for parallel reading."""

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[Record]:
        """Reads the images of a shard."""


def no_image(place: str, count: int) -> None:
    """Raises a DataError that tells how many other files there are."""
    raise DataError(
        f"no image in {place}: looked for {', '.join(IMAGE_SUFFIXES)} "
        f"and found {count or 'no'} other file{'s' if count != 1 else ''}"
    )


def cut(names: Sequence[str], sizes: Sequence[int]) -> list[Shard]:
    """Shards of about the same bytes, of images in the order given."""
    return [tuple(names[start:stop]) for start, stop in balanced(sizes)]


def status_digest(files: Mapping[str, storage.Status]) -> str:
    """SHA-256 of names, sizes and times of the last change, for stores that are costly to read."""
    return storage.sha256_of_parts(
        f"{name}\0{size}\0{changed}\0".encode() for name, (size, changed) in files.items()
    )


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
