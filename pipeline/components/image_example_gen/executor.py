"""The work of ImageExampleGen, on Beam: check all images, then write the good ones by split."""

import functools
import hashlib
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from keras_ae import contract as c
from keras_ae.datasets.decoding import CORRUPT, decode_stored
from keras_ae.datasets.images import normalize
from keras_ae.datasets.quartiles import QUARTERS, measure
from keras_ae.datasets.sources import Record, Shard, Source, open_source
from keras_ae.errors import DataError
from pipeline.components.image_example_gen.places import Check, Place, assign_places

QUARANTINE = "quarantine.jsonl"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the images twice, so that only names and digests are ever shuffled or collected."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes examples by split, and the list of images that were set aside."""
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        artifact.split_names = artifact_utils.encode_split_names(list(c.SPLITS))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        channels = exec_properties["channels"]
        with tempfile.TemporaryDirectory() as workspace:
            source = open_source(exec_properties["data"], Path(workspace))
            checks = self._check_all(source, channels, Path(workspace) / "checks")
            bad = sorted(check for check in checks if check.fault)
            quarantine = Path(artifact.uri) / QUARANTINE
            quarantine.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"source": k.source, "reason": k.fault}) + "\n" for k in bad]
            quarantine.write_text("".join(lines))
            for check in bad:
                logging.warning("set aside %s: %s", check.source, check.fault)
            _refuse_bad_data(checks, bad, exec_properties["max_bad_share"])
            places = assign_places([check for check in checks if not check.fault])
            self._write_all(source, channels, places, artifact)
        counts = {name: sum(p.split == name for p in places.values()) for name in c.SPLITS}
        for name, count in {**counts, "quarantined": len(bad)}.items():
            artifact.set_int_custom_property(name, count)
        artifact.set_string_custom_property("data", exec_properties["data"])

    def _check_all(self, source: Source, channels: int, place: Path) -> list[Check]:
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(source.shards())
                | "Spread" >> beam.Reshuffle()
                | "Check" >> beam.FlatMap(_check_shard, source, channels)
                | "Encode" >> beam.Map(json.dumps)
                | "Collect" >> beam.io.WriteToText(str(place))
            )
        texts = [path.read_text() for path in place.parent.glob(f"{place.name}-*")]
        return [Check(*json.loads(line)) for text in texts for line in text.splitlines()]

    def _write_all(
        self, source: Source, channels: int, places: dict[str, Place], artifact: types.Artifact
    ) -> None:
        with self._make_beam_pipeline() as pipeline:
            parts = (
                pipeline
                | "Shards" >> beam.Create(source.shards())
                | "Spread" >> beam.Reshuffle()
                | "Examples" >> beam.FlatMap(_examples_of_shard, source, channels, places)
                | "Split" >> beam.Partition(lambda example, n: c.SPLITS.index(example[0]), 3)
            )
            for name, part in zip(c.SPLITS, parts):
                _ = (
                    part
                    | f"Example {name}" >> beam.Values()
                    | f"Write {name}"
                    >> beam.io.WriteToTFRecord(
                        str(Path(artifact_utils.get_split_uri([artifact], name)) / "data_tfrecord"),
                        file_name_suffix=".gz",
                    )
                )


def to_example(
    record: Record, channels: int, quarters: Sequence[str] = (c.NO_SLICE,) * len(QUARTERS)
) -> bytes:
    """A record as a serialized tf.Example with the features named in the contract.

    Args:
        record: of an image that can be decoded.
        channels: 1 or 3.
        quarters: values of the slices size, brightness and detail.
    """
    data, header = normalize(record.data, channels)
    features: dict[str, Any] = {
        c.IMAGE_ENCODED: data,
        c.IMAGE_FORMAT: header.format.encode(),
        c.IMAGE_HEIGHT: header.height,
        c.IMAGE_WIDTH: header.width,
        c.IMAGE_SOURCE: record.key.encode(),
    }
    if record.label is not None:
        features[c.IMAGE_LABEL] = record.label.encode()
    slices = (record.label or c.NO_SLICE, _first_folder(record.key), *quarters)
    features |= {c.SLICE_PREFIX + name: text.encode() for name, text in zip(c.SLICES, slices)}
    feature = {name: _feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _first_folder(key: str) -> str:
    folders = [part for part in PurePosixPath(key).parts[:-1] if part not in ("/", "..")]
    return folders[0] if folders else c.NO_SLICE


def _feature(value: bytes | int) -> tf.train.Feature:
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _check_shard(shard: Shard, source: Source, channels: int) -> Iterator[Check]:
    return _in_threads(functools.partial(_check, channels=channels), source.read(shard))


def _examples_of_shard(
    shard: Shard, source: Source, channels: int, places: dict[str, Place]
) -> Iterator[tuple[str, bytes]]:
    def example(record: Record) -> tuple[str, bytes]:
        place = places[record.key]
        return place.split, to_example(record, channels, place.quarters)

    return _in_threads(example, (r for r in source.read(shard) if r.key in places))


def _in_threads(work: Callable[[Record], Any], records: Iterator[Record]) -> Iterator[Any]:
    """Decodes on all cores of a worker, holding only a few images at a time."""
    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(itertools.islice(records, 4 * threads)):
            yield from pool.map(work, some)


def _check(record: Record, channels: int) -> Check:
    fault = record.fault
    measured: Sequence[float] = ()
    if not fault:
        try:
            stored, _ = normalize(record.data, channels)
            # Every later step decodes with TensorFlow, which is stricter than Pillow.
            measured = measure(decode_stored(tf.constant(stored), channels).numpy())
        except DataError as error:
            fault = str(error)
        except tf.errors.InvalidArgumentError:
            fault = CORRUPT
    digest = hashlib.sha256(record.data).hexdigest()
    return Check(record.key, digest, fault, record.split, measured)


def _refuse_bad_data(checks: list[Check], bad: list[Check], max_bad_share: float) -> None:
    count = len(checks)
    good = len({check.digest for check in checks if not check.fault})
    examples = "; ".join(f"{check.source}: {check.fault}" for check in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    listed = f" ({examples}{more})" if bad else ""
    if good < len(c.SPLITS):
        raise DataError(
            "at least three different good images are needed, one per split; "
            f"got {good} among {count}{listed}"
        )
    if len(bad) > max_bad_share * count:
        raise DataError(
            f"{len(bad)} of {count} images cannot be used, more than the share of "
            f"{max_bad_share:g} that is allowed{listed}; mend them (the log lists all) or raise "
            "--max-bad-share"
        )
