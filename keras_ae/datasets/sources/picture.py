"""A single picture at a path or URI."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keras_ae import storage
from keras_ae.datasets.images.headers import MAX_BYTES
from keras_ae.datasets.sources.base import Record, Shard, Source
from keras_ae.datasets.sources.names import escape_name
from keras_ae.datasets.sources.parts import fingerprint_of_file
from keras_ae.errors import DataError


@dataclass(frozen=True)
class PictureSource(Source):
    """One file.

    Attributes:
        path: its path or URI.
    """

    path: str

    def fingerprint(self) -> str:
        return fingerprint_of_file(self.path)

    def describe_changes(self, names: Iterable[str]) -> str:
        return "the picture was changed or replaced"

    def shards(self) -> list[Shard]:
        return [(escape_name(storage.name(self.path)),)]

    def read(self, shard: Shard) -> Iterator[Record]:
        (name,) = shard
        try:
            yield Record(name, storage.read_file(self.path, MAX_BYTES))
        except OSError as error:
            yield Record(name, b"", f"cannot be read: {error.strerror}")
        except DataError as error:
            yield Record(name, b"", str(error))
