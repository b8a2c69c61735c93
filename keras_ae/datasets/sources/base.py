"""The common parts of all sources of images: records, and the division into shards."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from keras_ae import storage
from keras_ae.datasets.sources.hints import hint_for_folder
from keras_ae.datasets.sources.kinds import format_counts
from keras_ae.errors import DataError

SAMPLE = "sample"
TFDS_PREFIX = "tfds:"
SHARD_BYTES = 32 * 2**20
"""Approximate size of a shard, including `IMAGE_OVERHEAD_BYTES` per image."""
IMAGE_OVERHEAD_BYTES = 8 * 2**10
"""Fixed cost of processing an image, as the number of encoded bytes that cost the same."""
MAX_SHARDS = 4096

Shard = tuple[str, ...]
"""A unit of work: keys of images of a source, which can be encoded as UTF-8."""


class Record(NamedTuple):
    """An encoded image of a source.

    Attributes:
        key: path or key, unique in the source.
        data: the encoded image; empty if it could not be read.
        fault: why it could not be read; empty otherwise.
        split: train, val or test if the source has fixed splits.
        label: name of its class if the source has labels.
        not_read: the kind by which it is counted if it turned out to be no image, such as ".xyz";
            its data are empty then.
        identity: what its digest is of, if it is encoded when it is read: the data of another
            version of zlib would differ. Empty if the digest is that of the data.

    >>> Record("cats/tom.png", b"...", split="train", label="cats").fault
    ''
    """

    key: str
    data: bytes
    fault: str = ""
    split: str | None = None
    label: str | None = None
    not_read: str = ""
    identity: bytes = b""


class Findings(NamedTuple):
    """What a source found beside the images that it reads.

    Attributes:
        not_read: number of files that are not opened, by kind, such as ".txt".
        split_folders: names of the folders of each split, if folders are the splits.
        categories: number of folders that contain split folders.
        notes: sentences without full stops on the images.
    """

    not_read: Mapping[str, int] = {}
    split_folders: Mapping[str, Sequence[str]] = {}
    categories: int = 0
    notes: Sequence[str] = ()


class ReadRecord(NamedTuple):
    """The name, digest and size of a record that was read.

    Attributes:
        name: its name in the shard.
        digest: SHA-256 of its data or its identity, in hexadecimal digits.
        size: size of its data in bytes; 0 if it could not be read.
    """

    name: str
    digest: str
    size: int


class Source(ABC):
    """A collection of encoded images; `open_source` opens the built-in kinds.

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

    has_whole_pictures: bool = True
    """Whether its images are pictures, so that images that look the same are copies. Blocks of one
    picture are not."""
    has_folders: bool = True
    """Whether the folders in its keys are those of the data, and not names of arrays or tables."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 that changes when the name or the content of an image changes.

        For a URI it covers only names, sizes and modification times, so that no image is read.
        """

    def fingerprint_of(self, records: Iterable["ReadRecord"]) -> str:
        """The fingerprint of records that were read.

        A source that cannot compute it from the records returns its current fingerprint.

        Args:
            records: of all images, in the order of the shards.
        """
        return self.fingerprint()

    def describe_changes(self, names: Iterable[str]) -> str:
        """Describes what may have changed since these names were listed; empty if unknown."""
        return ""

    @abstractmethod
    def shards(self) -> list[Shard]:
        """Divides the images into units of work for parallel reading."""

    @abstractmethod
    def read(self, shard: Shard) -> Iterator[Record]:
        """Reads the images of a shard."""

    def findings(self) -> Findings:
        """What `shards` found beside the images."""
        return Findings()


def raise_no_image(path: str, not_read: Mapping[str, int]) -> None:
    """Raises a DataError with the numbers of other files by kind."""
    others = f"not read: {format_counts(not_read)}" if any(not_read.values()) else "it has no files"
    raise DataError(f"no image in {path}: {others}{hint_for_folder(path, not_read)}")


def make_shards(names: Sequence[str], sizes: Sequence[int]) -> list[Shard]:
    """Divides images into shards of about the same number of bytes, in the given order."""
    return [tuple(names[start:stop]) for start, stop in balanced_ranges(sizes)]


def status_digest(files: Mapping[str, storage.Status]) -> str:
    """SHA-256 of names, sizes and modification times, for stores that are costly to read."""
    return storage.sha256_of_parts(
        f"{name}\0{size}\0{mtime_ns}\0".encode() for name, (size, mtime_ns) in files.items()
    )


def equal_ranges(size: int, count: int) -> Iterator[tuple[int, int]]:
    """What `balanced_ranges` yields for `count` images of one size, without a list of them.

    >>> list(equal_ranges(SHARD_BYTES // 2, 5))
    [(0, 2), (2, 4), (4, 5)]
    """
    shards = min(max(1, round(count * (size + IMAGE_OVERHEAD_BYTES) / SHARD_BYTES)), MAX_SHARDS)
    starts = [-(-count * i // shards) for i in range(shards + 1)]
    return ((start, stop) for start, stop in itertools.pairwise(starts) if start < stop)


def balanced_ranges(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Divides images into ranges of about the same number of bytes, in the given order.

    The ranges depend only on the sizes, not on the number of workers. With `IMAGE_OVERHEAD_BYTES`
    per image, no range exceeds the mean by more than the largest image.

    Args:
        sizes: encoded bytes of each image.

    Yields:
        The index of the first image of a range, and of the last plus one.
    """
    # A command line is checked before NumPy is imported, and the check imports this module.
    import numpy as np

    ends = np.cumsum(np.asarray(sizes, np.int64) + IMAGE_OVERHEAD_BYTES)
    if not len(ends):
        return
    total = int(ends[-1])
    count = min(max(1, round(total / SHARD_BYTES)), MAX_SHARDS)
    # An image belongs to the range that contains its first byte.
    begins = np.concatenate([[0], ends[:-1]])
    starts = np.searchsorted(begins, [total * i / count for i in range(count)]).tolist()
    for start, stop in zip(starts, [*starts[1:], len(ends)]):
        if start < stop:
            yield start, stop
