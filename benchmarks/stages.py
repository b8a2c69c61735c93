"""One stage of the data work in a process of its own, for `benchmarks.ingest`.

    python -m benchmarks.stages ingest INPUT OUTPUT [BEAM OPTIONS]

Prints the seconds that the stage took, and those that processors computed for it and for processes
that it started; imports are left out.
"""

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import json_format, text_format
from PIL import Image
from tfx.components.transform import executor as transform_executor
from tfx.proto import transform_pb2
from tfx.types import artifact_utils, standard_artifacts

from keras_ae import contract as c
from keras_ae import presets
from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources.open import open_source
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.saved_model.export import export
from keras_ae.scores import MODEL, Layout
from keras_ae.scoring.floors import Floors
from pipeline.components.budget_comparison.scoring import score
from pipeline.components.image_example_gen import executor as ingest_executor

CHANNELS = 3
GZIP = {"plain": None, "plain-stored": 0}
"""GZIP's level in the plain loop: its default, and bytes as they are, as ingest has large ones."""


def plain(stage: str, data: str, place: Path, beam_arguments: list[str]) -> None:
    """One process with Pillow: validates, decodes, hashes and writes images of a source."""
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=GZIP[stage])
    place.mkdir(parents=True)
    writers = {split: tf.io.TFRecordWriter(str(place / f"{split}.gz"), options) for split in "abc"}
    source = open_source(data)
    for shard in source.shards():
        for record in source.read(shard):
            image: Image.Image = Image.open(io.BytesIO(record.data))
            image.load()
            if image.mode != "RGB":
                image = image.convert("RGB")
            share = int(hashlib.sha256(record.data).hexdigest()[:16], 16) / 2**64
            writers["abc"[int(10 * share) if share < 0.2 else 2]].write(
                _example(record.key, record.data, image)
            )
    for writer in writers.values():
        writer.close()


def ingest(stage: str, data: str, place: Path, beam_arguments: list[str]) -> None:
    """ImageExampleGen."""
    context = ingest_executor.Executor.Context(
        beam_pipeline_args=beam_arguments, tmp_dir=str(place / "temp"), unique_id="1"
    )
    properties = {"data": data, "channels": CHANNELS, "max_bad_share": 0.1}
    ingest_executor.Executor(context).Do({}, {"examples": [_examples(place)]}, properties)


def transform(stage: str, data: str, place: Path, beam_arguments: list[str]) -> None:
    """TFX's Transform with the pipeline's `preprocessing_fn`, as the pipeline runs it."""
    context = transform_executor.Executor.Context(
        beam_pipeline_args=beam_arguments, tmp_dir=str(place / "temp"), unique_id="1"
    )
    inputs = {"examples": [_examples(Path(data))], "schema": [_schema(place / "schema")]}
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(place / "graph")
    cache = standard_artifacts.TransformCache()
    cache.uri = str(place / "cache")
    properties = {
        "preprocessing_fn": "pipeline.preprocessing.preprocessing_fn",
        "splits_config": json_format.MessageToJson(transform_pb2.SplitsConfig(analyze=[c.TRAIN])),
        "custom_config": json.dumps({"channels": CHANNELS, "stride": presets.STRIDE}),
        "disable_statistics": 1,
        "force_tf_compat_v1": 0,
    }
    outputs = {"transform_graph": [graph], "updated_analyzer_cache": [cache]}
    transform_executor.Executor(context).Do(inputs, outputs, properties)


def comparison(stage: str, data: str, place: Path, beam_arguments: list[str]) -> None:
    """The scoring of BudgetComparison: one model, from files to sums, table and `images.jsonl`."""
    place.mkdir(parents=True)
    examples = _examples(Path(data))
    patterns = {s: artifact_utils.get_split_uri([examples], s) + "/*.gz" for s in c.SPLITS}
    model = Path(data).parent / "model"
    floor = linear.load(model / "floor.npz")
    score(
        lambda: beam.Pipeline(options=PipelineOptions(beam_arguments)),
        patterns,
        {MODEL: [[str(model / "1")]]},
        Layout((1,), {MODEL: 1}),
        Floors(floor, presets.STRIDE),
        CHANNELS,
        place / "images.jsonl",
        str(place / "parts"),
    )


def model(stage: str, data: str, place: Path, beam_arguments: list[str]) -> None:
    """A `small` model set to PCA of some images: speed does not depend on weights."""
    source = open_source(data)
    shard = source.shards()[0][:64]
    images = [decode(record.data, CHANNELS) for record in source.read(shard)]
    floor = linear.fit(linear.patch_moments(images, presets.STRIDE), presets.LATENT_CHANNELS)
    small = ConvAutoencoder("small", seed=0)
    linear.set_linear_path(small, floor)
    export(small, place / "1", floor=floor)
    linear.save(floor, place / "floor.npz")


STAGES: dict[str, Callable[[str, str, Path, list[str]], None]] = {
    **dict.fromkeys(GZIP, plain),
    "ingest": ingest,
    "transform": transform,
    "comparison": comparison,
    "model": model,
}


def _example(name: str, data: bytes, image: Image.Image) -> bytes:
    """The features of ingest, of which slices are none here."""
    texts = {
        c.IMAGE_ENCODED: data,
        c.IMAGE_FORMAT: (image.format or "jpeg").lower().encode(),
        c.IMAGE_SOURCE: name.encode(),
        **{c.SLICE_PREFIX + slice_name: b"none" for slice_name in c.SLICES},
    }
    numbers = {c.IMAGE_HEIGHT: image.height, c.IMAGE_WIDTH: image.width}
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
        for name, text in texts.items()
    }
    for name, number in numbers.items():
        feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _examples(place: Path) -> Any:
    examples = standard_artifacts.Examples()
    examples.uri = str(place)
    examples.split_names = artifact_utils.encode_split_names(list(c.SPLITS))
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    return examples


def _schema(place: Path) -> Any:
    from tensorflow_transform.tf_metadata import schema_utils

    text, number = (tf.io.FixedLenFeature([1], kind) for kind in (tf.string, tf.int64))
    texts = [c.IMAGE_ENCODED, c.IMAGE_FORMAT, c.IMAGE_SOURCE]
    texts += [c.SLICE_PREFIX + name for name in c.SLICES]
    spec = {**dict.fromkeys(texts, text), c.IMAGE_HEIGHT: number, c.IMAGE_WIDTH: number}
    place.mkdir(parents=True)
    schema = text_format.MessageToString(schema_utils.schema_from_feature_spec(spec))
    (place / "schema.pbtxt").write_text(schema)
    artifact = standard_artifacts.Schema()
    artifact.uri = str(place)
    return artifact


def main() -> None:
    """Runs the stage that is named, and prints its seconds."""
    stage, data, place, *beam_arguments = sys.argv[1:]
    began, computed = time.perf_counter(), sum(os.times()[:4])
    STAGES[stage](stage, data, Path(place), beam_arguments)
    seconds, cpu = time.perf_counter() - began, sum(os.times()[:4]) - computed
    print(f"seconds {seconds:.3f} {cpu:.3f}")


if __name__ == "__main__":
    main()
