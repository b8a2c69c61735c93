"""Images of TensorFlow datasets."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_ae.datasets.sources.base import (
    TFDS_PREFIX,
    Findings,
    Record,
    Shard,
    Source,
    balanced_ranges,
)
from keras_ae.datasets.sources.splits import split_of
from keras_ae.errors import DataError, first_line


class _DatasetSource(Source):
    """The common parts of both sources of TensorFlow datasets. A shard is a slice of a split.

    A dataset with the split train and another keeps train, val and test, and its other splits are
    not read. Otherwise, or if `keep_splits` is False, ingest splits all images by content.
    """

    keep_splits: bool

    @abstractmethod
    def builder(self) -> Any:
        """The builder of the dataset, downloaded and prepared."""

    def key(self, split: str, index: int, example: dict[str, Any]) -> str:
        """The key of the record of an example."""
        return f"{split}/{index}"

    def shards(self) -> list[Shard]:
        builder = self.builder()
        _image_feature(builder)
        kept = self._kept_splits(builder)
        return [
            (split, str(start), str(stop))
            for split, info in builder.info.splits.items()
            if not kept or split in kept
            for start, stop in balanced_ranges(_example_bytes(info))
        ]

    def findings(self) -> Findings:
        builder = self.builder()
        kept = self._kept_splits(builder)
        others = {
            f"in {split}": info.num_examples
            for split, info in builder.info.splits.items()
            if kept and split not in kept
        }
        return Findings(others)

    def _kept_splits(self, builder: Any) -> dict[str, str]:
        """The splits of ingest by the names of the dataset's; empty if they are not kept."""
        found = {split: split_of(split) for split in builder.info.splits}
        kept = {split: name for split, name in found.items() if name is not None}
        is_divided = len(set(kept.values())) > 1
        return kept if self.keep_splits and is_divided else {}

    def read(self, shard: Shard) -> Iterator[Record]:
        import tensorflow_datasets as tfds

        split, start, stop = shard[0], int(shard[1]), int(shard[2])
        builder = self.builder()
        features = dict(builder.info.features.items())
        image = _image_feature(builder)
        labels = features.get("label")
        kept = self._kept_splits(builder)
        examples = builder.as_dataset(
            split=f"{split}[{start}:{stop}]",
            decoders={image: tfds.decode.SkipDecoding()},
            shuffle_files=False,
        )
        for index, example in enumerate(tfds.as_numpy(examples), start):
            label = example.get("label")
            yield Record(
                key=self.key(split, index, example),
                data=example[image],
                split=kept.get(split),
                label=labels.int2str(int(label))
                if isinstance(labels, tfds.features.ClassLabel)
                else None,
            )


@dataclass(frozen=True)
class TfdsSource(_DatasetSource):
    """A dataset of tensorflow-datasets with one image per example: `tfds:NAME[:VERSION]`."""

    data: str
    keep_splits: bool = True

    def builder(self) -> Any:
        import requests
        import tensorflow_datasets as tfds

        name = self.data.removeprefix(TFDS_PREFIX)
        try:
            builder = tfds.builder(name)
        except (ImportError, ValueError, AssertionError, tfds.core.DatasetNotFoundError) as error:
            raise DataError(
                f"no TensorFlow dataset {name!r}: {first_line(error)}{_suggestion(name)}"
            ) from error
        _image_feature(builder)
        try:
            builder.download_and_prepare()
        except (ImportError, AssertionError, requests.RequestException) as error:
            raise DataError(
                f"the TensorFlow dataset {name!r} cannot be downloaded and prepared: "
                f"{first_line(error)}"
            ) from error
        return builder

    def fingerprint(self) -> str:
        builder = self.builder()
        splits = {
            split: (info.num_examples, info.num_bytes, info.shard_lengths)
            for split, info in builder.info.splits.items()
        }
        text = builder.info.full_name + json.dumps(splits, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class SampleSource(_DatasetSource):
    """The sample photographs, prepared in a folder of the caller so that they are never stale."""

    workspace: Path | None
    keep_splits: bool = True

    def builder(self) -> Any:
        from keras_ae.datasets.sources.sample_photos import SamplePhotos

        if self.workspace is None:
            raise DataError("the sample photographs need a workspace folder to be prepared in")
        builder = SamplePhotos(data_dir=self.workspace)
        builder.download_and_prepare()
        return builder

    def key(self, split: str, index: int, example: dict[str, Any]) -> str:
        return str(example["name"].decode())

    def fingerprint(self) -> str:
        from keras_ae.datasets.sources import sample_photos

        return sample_photos.fingerprint()


def _image_feature(builder: Any) -> str:
    """The name of the only image feature of a dataset, or of the one that is called image."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [n for n, f in features.items() if isinstance(f, tfds.features.Image)]
    if "image" in images:
        return "image"
    if len(images) != 1:
        raise DataError(
            f"the TensorFlow dataset {builder.info.full_name} has "
            f"{'several images' if images else 'no image'} in an example "
            f"(features: {', '.join(features)}); expected one image, or one that is named image"
        )
    return str(images[0])


def _example_bytes(split: Any) -> list[int]:
    """Bytes of each example of a split: the mean, because only the sum is known."""
    count = split.num_examples
    return [split.num_bytes // max(1, count)] * count


def _suggestion(name: str) -> str:
    import difflib

    import tensorflow_datasets as tfds

    names = tfds.list_builders(with_community_datasets=False)
    similar = difflib.get_close_matches(name.split(":")[0], names, n=3)
    return f"; did you mean {', '.join(similar)}?" if similar else ""
