"""One stage of data processing in a process of its own, for `benchmarks.ingest`.

    python -m benchmarks.stages ingest INPUT OUTPUT [BEAM OPTIONS]

Prints the seconds of the stage, without imports, and the processor seconds of this process and of
those that it started.
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

from benchmarks.models import fit_pca, initialize
from keras_ae import contract as c
from keras_ae import presets
from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources.open import open_source
from keras_ae.models import linear
from keras_ae.saved_model.export import export
from keras_ae.scores import MODEL, Layout
from keras_ae.scoring.floors import Floors
from pipeline.components.budget_comparison.scoring import score
from pipeline.components.image_example_gen import executor as ingest_executor

CHANNELS = 3
GZIP_LEVELS = {"plain": None, "plain-stored": 0}
"""Compression level of the plain loop: the default, or none, as ingest writes large images."""


def run_plain(stage: str, data: str, output: Path, beam_arguments: list[str]) -> None:
    """Validates, decodes, hashes and writes the images of a source in one process with Pillow."""
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=GZIP_LEVELS[stage])
    output.mkdir(parents=True)
    writers = {split: tf.io.TFRecordWriter(str(output / f"{split}.gz"), options) for split in "abc"}
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


def run_ingest(stage: str, data: str, output: Path, beam_arguments: list[str]) -> None:
    """Runs ImageExampleGen."""
    context = ingest_executor.Executor.Context(
        beam_pipeline_args=beam_arguments, tmp_dir=str(output / "temp"), unique_id="1"
    )
    properties = {"data": data, "channels": CHANNELS, "max_bad_share": 0.1}
    ingest_executor.Executor(context).Do({}, {"examples": [_examples(output)]}, properties)


def run_transform(stage: str, data: str, output: Path, beam_arguments: list[str]) -> None:
    """Runs TFX's Transform with the `preprocessing_fn` and the properties of the pipeline."""
    context = transform_executor.Executor.Context(
        beam_pipeline_args=beam_arguments, tmp_dir=str(output / "temp"), unique_id="1"
    )
    inputs = {"examples": [_examples(Path(data))], "schema": [_schema(output / "schema")]}
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(output / "graph")
    cache = standard_artifacts.TransformCache()
    cache.uri = str(output / "cache")
    properties = {
        "preprocessing_fn": "pipeline.preprocessing.preprocessing_fn",
        "splits_config": json_format.MessageToJson(transform_pb2.SplitsConfig(analyze=[c.TRAIN])),
        "custom_config": json.dumps({"channels": CHANNELS, "stride": presets.STRIDE}),
        "disable_statistics": 1,
        "force_tf_compat_v1": 0,
    }
    outputs = {"transform_graph": [graph], "updated_analyzer_cache": [cache]}
    transform_executor.Executor(context).Do(inputs, outputs, properties)


def run_comparison(stage: str, data: str, output: Path, beam_arguments: list[str]) -> None:
    """Scores one model as BudgetComparison does, from files to sums, table and `images.jsonl`."""
    output.mkdir(parents=True)
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
        output / "images.jsonl",
        str(output / "parts"),
    )


def export_model(stage: str, data: str, output: Path, beam_arguments: list[str]) -> None:
    """Exports an untrained model of the preset `small` and its floor, the PCA of 64 images."""
    source = open_source(data)
    shard = source.shards()[0][:64]
    floor = fit_pca(decode(record.data, CHANNELS) for record in source.read(shard))
    export(initialize("small", floor), output / "1", floor=floor)
    linear.save(floor, output / "floor.npz")


STAGES: dict[str, Callable[[str, str, Path, list[str]], None]] = {
    **dict.fromkeys(GZIP_LEVELS, run_plain),
    "ingest": run_ingest,
    "transform": run_transform,
    "comparison": run_comparison,
    "model": export_model,
}


def _example(name: str, data: bytes, image: Image.Image) -> bytes:
    """A serialized tf.Example with the features of ingest, where every slice is "none"."""
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


def _examples(folder: Path) -> Any:
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    examples.split_names = artifact_utils.encode_split_names(list(c.SPLITS))
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    examples.set_string_custom_property("file_format", "tfrecords_gzip")
    return examples


def _schema(folder: Path) -> Any:
    from tensorflow_transform.tf_metadata import schema_utils

    text, number = (tf.io.FixedLenFeature([1], kind) for kind in (tf.string, tf.int64))
    texts = [c.IMAGE_ENCODED, c.IMAGE_FORMAT, c.IMAGE_SOURCE]
    texts += [c.SLICE_PREFIX + name for name in c.SLICES]
    spec = {**dict.fromkeys(texts, text), c.IMAGE_HEIGHT: number, c.IMAGE_WIDTH: number}
    folder.mkdir(parents=True)
    schema = text_format.MessageToString(schema_utils.schema_from_feature_spec(spec))
    (folder / "schema.pbtxt").write_text(schema)
    artifact = standard_artifacts.Schema()
    artifact.uri = str(folder)
    return artifact


def main() -> None:
    """Runs the stage named on the command line and prints its seconds."""
    stage, data, output, *beam_arguments = sys.argv[1:]
    start, cpu_start = time.perf_counter(), sum(os.times()[:4])
    STAGES[stage](stage, data, Path(output), beam_arguments)
    seconds, cpu_seconds = time.perf_counter() - start, sum(os.times()[:4]) - cpu_start
    print(f"seconds {seconds:.3f} {cpu_seconds:.3f}")


if __name__ == "__main__":
    main()
