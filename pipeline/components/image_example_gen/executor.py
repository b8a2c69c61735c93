"""The work of ImageExampleGen, on Beam: check all images, then write the good ones by split."""

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from keras_ae import contract as c
from keras_ae import storage
from keras_ae.datasets.sources.base import ReadRecord, Source
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from pipeline.components.image_example_gen.checks import Check, check_shard, checks_of
from pipeline.components.image_example_gen.splits import Plan, SplitAccumulator
from pipeline.components.image_example_gen.writing import write_shard

QUARANTINE = "quarantine.jsonl"
UNFINISHED = "unfinished"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the images twice, so that only digests and measures are ever collected.

    Beam's elements are shards of names. What is known of an image lies in a file of its shard below
    the artifact's URI, which workers on other machines must reach, and is read where the image is
    written. Files and what they hold do not depend on the number of workers.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes examples by split, and the list of quarantined images."""
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        data, fingerprint = exec_properties["data"], exec_properties.get("fingerprint", "")
        artifact.split_names = artifact_utils.encode_split_names(list(c.SPLITS))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        with tempfile.TemporaryDirectory() as workspace, _unfinished(artifact.uri) as work:
            source = open_source(data, Path(workspace))
            # As lists: of a tuple Beam checks the type of each name, which takes milliseconds.
            shards = [(number, list(shard)) for number, shard in enumerate(source.shards())]
            plan = self._ingest(source, shards, exec_properties, artifact, work)
            _check_unchanged(source, fingerprint, shards, work)
        with storage.create_file(f"{artifact.uri}/{QUARANTINE}") as file:
            for name, reason in plan.bad:
                file.write(f"{json.dumps({'source': name, 'reason': reason})}\n".encode())
                logging.warning("quarantined %s: %s", name, reason)
        if plan.refusal:
            raise DataError(plan.refusal)
        for name, count in {**plan.counts, "quarantined": len(plan.bad)}.items():
            artifact.set_int_custom_property(name, count)
        artifact.set_string_custom_property("data", data)
        artifact.set_string_custom_property("fingerprint", fingerprint)

    def _ingest(
        self,
        source: Source,
        numbered: list[tuple[int, list[str]]],
        properties: dict[str, Any],
        artifact: types.Artifact,
        work: str,
    ) -> Plan:
        folders = {split: artifact_utils.get_split_uri([artifact], split) for split in c.SPLITS}
        channels = properties["channels"]
        with self._make_beam_pipeline() as pipeline:
            shards = pipeline | "Shards" >> beam.Create(numbered)
            plan = (
                shards
                | "Spread to check" >> beam.Reshuffle()
                | "Check" >> beam.Map(_check, source, channels, work)
                | "Plan" >> beam.CombineGlobally(_Combine(properties["max_bad_share"]))
            )
            _ = plan | "Keep" >> beam.Map(_keep, work)
            _ = (
                shards
                | "Spread to write" >> beam.Reshuffle()
                | "Write"
                >> beam.Map(_write, source, channels, beam.pvalue.AsSingleton(plan), folders, work)
            )
        return Plan(*json.loads(storage.read_file(_plan_file(work))))


def _check_unchanged(
    source: Source, fingerprint: str, shards: list[tuple[int, list[str]]], work: str
) -> None:
    """Compares what was read with what the run says it reads.

    Args:
        source: of the images.
        fingerprint: of the data when the run was started. One that is no digest is a word of the
            user's, who knows what it stands for.
        shards: what was read, by number.
        work: folder with the checks.

    Raises:
        DataError: if they are not the same.
    """
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        return
    seen = (
        ReadRecord(name, check.digest, check.size)
        for number, shard in shards
        for name, check in zip(shard, checks_of(number, work))
    )
    if source.fingerprint_of(seen) != fingerprint:
        found = source.changes(name for _, shard in shards for name in shard)
        raise DataError(
            "the data is not what it was when the run was started"
            f"{f' ({found})' if found else ''}; run again"
        )


class _Combine(beam.CombineFn):
    """Checks to the plan for all images."""

    def __init__(self, max_bad_share: float):
        self._max_bad_share = max_bad_share

    def create_accumulator(self) -> SplitAccumulator:
        return SplitAccumulator()

    def add_input(self, accumulator: SplitAccumulator, checks: list[Check]) -> SplitAccumulator:
        accumulator.add(checks)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[SplitAccumulator]) -> SplitAccumulator:
        merged = self.create_accumulator()
        for other in accumulators:
            merged.merge(other)
        return merged

    def extract_output(self, accumulator: SplitAccumulator) -> Plan:
        return accumulator.plan(self._max_bad_share)


def _check(element: tuple[int, list[str]], source: Source, channels: int, work: str) -> list[Check]:
    number, shard = element
    return check_shard(number, tuple(shard), source, channels, work)


def _write(
    element: tuple[int, list[str]],
    source: Source,
    channels: int,
    plan: Plan,
    folders: dict[str, str],
    work: str,
) -> None:
    # An error of its own would reach the run as a text of Beam's where there are several processes.
    if not plan.refusal:
        number, shard = element
        write_shard(number, tuple(shard), source, channels, plan, folders, work)


def _keep(plan: Plan, work: str) -> None:
    storage.write_file(_plan_file(work), json.dumps(plan).encode())


def _plan_file(work: str) -> str:
    return f"{work}/plan"


@contextmanager
def _unfinished(uri: str) -> Iterator[str]:
    """A folder for what only lives while images are read, where all workers reach it."""
    work = f"{uri}/{UNFINISHED}"
    storage.make_folder(work)
    try:
        yield work
    finally:
        storage.remove(work)
