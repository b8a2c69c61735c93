"""The executor of ImageExampleGen: checks all images, then writes the good ones by split."""

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
from keras_ae import presets, storage
from keras_ae.datasets.images.levels import White
from keras_ae.datasets.sources.base import ReadRecord, Source
from keras_ae.datasets.sources.open import open_source
from keras_ae.datasets.sources.splits import AUTO
from keras_ae.errors import DataError
from pipeline.components.image_example_gen import findings
from pipeline.components.image_example_gen.checks import Check, check_shard, read_checks
from pipeline.components.image_example_gen.pictures import PERCEPTUAL
from pipeline.components.image_example_gen.splits import SplitAccumulator, SplitPlan
from pipeline.components.image_example_gen.writing import write_shard
from pipeline.runtime import ingested

QUARANTINE = "quarantine.jsonl"
WORK_FOLDER = "unfinished"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the images twice, so that only digests and measures are collected in one process.

    The Beam elements are shards of names. The worker that checks a shard writes the results to a
    file below the URI of the artifact, which all workers must reach; the worker that writes the
    examples of the shard reads it. The output files do not depend on the number of workers.
    """

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples of each split, and the list of quarantined images."""
        artifact = artifact_utils.get_single_instance(output_dict["examples"])
        data, fingerprint = exec_properties["data"], exec_properties.get("fingerprint", "")
        artifact.split_names = artifact_utils.encode_split_names(list(c.SPLITS))
        examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)
        with (
            tempfile.TemporaryDirectory() as workspace,
            _temporary_folder(artifact.uri) as work_folder,
        ):
            source = open_source(data, Path(workspace), **_options(exec_properties))
            # Lists, because Beam checks the type of each element of a tuple, which takes long.
            shards = [(index, list(shard)) for index, shard in enumerate(source.shards())]
            plan = self._ingest(source, shards, exec_properties, artifact, work_folder)
            _check_unchanged(source, fingerprint, shards, work_folder)
            found = source.findings()
        not_read = findings.all_not_read(plan, found)
        counted = findings.describe_not_read(not_read)
        if plan.refusal:
            listed = ""
            if plan.bad:
                # TFX removes the folder of the artifact after a failure.
                folder = artifact.uri.rpartition("/")[0]
                listed = f"{_write_quarantine(plan, folder)} lists all of them"
            raise DataError("; ".join(filter(None, [plan.refusal, listed, counted])))
        _write_quarantine(plan, artifact.uri)
        facts = findings.facts(plan, found)
        ingested.write(facts, artifact.uri)
        counts = {**plan.counts, "quarantined": len(plan.bad), **findings.count_copies(plan)}
        for name, count in counts.items():
            artifact.set_int_custom_property(name, count)
        artifact.set_string_custom_property(findings.SPLITS, findings.describe_splits(plan, found))
        artifact.set_string_custom_property(findings.NOT_READ, json.dumps(not_read))
        artifact.set_string_custom_property(findings.LEVELS, facts.levels)
        artifact.set_string_custom_property(findings.PICTURES, findings.describe_copies(plan))
        artifact.set_string_custom_property("data", data)
        artifact.set_string_custom_property("fingerprint", fingerprint)

    def _ingest(
        self,
        source: Source,
        indexed_shards: list[tuple[int, list[str]]],
        properties: dict[str, Any],
        artifact: types.Artifact,
        work_folder: str,
    ) -> SplitPlan:
        folders = {split: artifact_utils.get_split_uri([artifact], split) for split in c.SPLITS}
        channels, level = properties["channels"], properties.get("white") or None
        white = White(level, level)
        stride = properties.get("stride", presets.STRIDE)
        compare = source.has_whole_pictures and properties.get("copies", PERCEPTUAL) == PERCEPTUAL
        with self._make_beam_pipeline() as pipeline:
            shards = pipeline | "Shards" >> beam.Create(indexed_shards)
            plan = (
                shards
                | "Spread to check" >> beam.Reshuffle()
                | "Check" >> beam.Map(_check_shard, source, channels, work_folder, white, compare)
                | "Plan"
                >> beam.CombineGlobally(
                    _CombineChecks(stride, properties["max_bad_share"], level, work_folder)
                )
            )
            _ = plan | "Keep" >> beam.Map(_write_plan, work_folder)
            _ = (
                shards
                | "Spread to write" >> beam.Reshuffle()
                | "Write"
                >> beam.Map(
                    _write_shard,
                    source,
                    channels,
                    beam.pvalue.AsSingleton(plan),
                    folders,
                    work_folder,
                )
            )
        return SplitPlan(*json.loads(storage.read_file(_plan_file(work_folder))))


def _write_quarantine(plan: SplitPlan, folder: str) -> str:
    """Lists the images that cannot be used, with reasons, in a file and in the log."""
    path = f"{folder}/{QUARANTINE}"
    with storage.create_file(path) as file:
        for name, reason in plan.bad:
            file.write(f"{json.dumps({'source': name, 'reason': reason})}\n".encode())
            logging.warning("quarantined %s: %s", name, reason)
    return path


def _options(properties: dict[str, Any]) -> dict[str, Any]:
    """The options of `open_source` in the properties of the component."""
    return {
        "splits": properties.get("splits") or AUTO,
        "exclude": json.loads(properties.get("exclude") or "[]"),
        "follow_links": bool(properties.get("follow_links")),
        "white": properties.get("white") or None,
        "leave_out": json.loads(properties.get("leave_out") or "[]"),
        "blocks": True,
    }


def _check_unchanged(
    source: Source, fingerprint: str, shards: list[tuple[int, list[str]]], work_folder: str
) -> None:
    """Checks that the images that were read are those that the run was started with.

    Args:
        source: the source of the images.
        fingerprint: fingerprint of the data when the run was started. A value that is not a SHA-256
            digest was chosen by the user and is not checked.
        shards: index and names of each shard that was read.
        work_folder: folder with the checks.

    Raises:
        DataError: if the data changed.
    """
    if not re.fullmatch("[0-9a-f]{64}", fingerprint):
        return
    records = (
        ReadRecord(name, check.digest, check.size)
        for shard_index, shard in shards
        for name, check in zip(shard, read_checks(shard_index, work_folder))
    )
    if source.fingerprint_of(records) != fingerprint:
        changes = source.describe_changes(name for _, shard in shards for name in shard)
        raise DataError(
            f"the data changed after the run was started{f' ({changes})' if changes else ''}; "
            "run again"
        )


class _CombineChecks(beam.CombineFn):
    """Combines checks to the plan for all images."""

    def __init__(self, stride: int, max_bad_share: float, white: float | None, work_folder: str):
        self._stride, self._arguments = stride, (max_bad_share, white, work_folder)

    def create_accumulator(self) -> SplitAccumulator:
        return SplitAccumulator(self._stride)

    def add_input(
        self, accumulator: SplitAccumulator, element: tuple[int, list[Check]]
    ) -> SplitAccumulator:
        shard_index, checks = element
        accumulator.add(checks, shard_index)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[SplitAccumulator]) -> SplitAccumulator:
        merged = self.create_accumulator()
        for other in accumulators:
            merged.merge(other)
        return merged

    def extract_output(self, accumulator: SplitAccumulator) -> SplitPlan:
        return accumulator.plan(*self._arguments)


def _check_shard(
    element: tuple[int, list[str]],
    source: Source,
    channels: int,
    work_folder: str,
    white: White,
    compare: bool,
) -> tuple[int, list[Check]]:
    shard_index, shard = element
    return shard_index, check_shard(
        shard_index, tuple(shard), source, channels, work_folder, white, compare=compare
    )


def _write_shard(
    element: tuple[int, list[str]],
    source: Source,
    channels: int,
    plan: SplitPlan,
    folders: dict[str, str],
    work_folder: str,
) -> None:
    # Do raises the refusal. Raised in a worker process, it would become an error of Beam.
    if not plan.refusal:
        shard_index, shard = element
        write_shard(shard_index, tuple(shard), source, channels, plan, folders, work_folder)


def _write_plan(plan: SplitPlan, work_folder: str) -> None:
    storage.write_file(_plan_file(work_folder), json.dumps(plan).encode())


def _plan_file(work_folder: str) -> str:
    return f"{work_folder}/plan"


@contextmanager
def _temporary_folder(uri: str) -> Iterator[str]:
    """A temporary folder below the URI of the artifact, which all workers can reach."""
    work_folder = f"{uri}/{WORK_FOLDER}"
    storage.make_folder(work_folder)
    try:
        yield work_folder
    finally:
        storage.remove(work_folder)
