"""Runs the pipeline on TFX's LocalDagRunner: folders, terminal, and errors in one line."""

import argparse
import errno
import functools
import gc
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from keras_ae import durable, imports
from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import KerasAEError, StorageError, first_line
from keras_ae.storage import PathOrUri
from pipeline.runners.beam import engines, supervision
from pipeline.runners.local import lock, recovery
from pipeline.runners.preflight import check_reachable
from pipeline.runtime import console

SETTINGS = "run.yaml"
"""File in the root whose settings repeat the last run that ended, for `--config`."""
_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
# The messages of TensorFlow and SQLite.
_DISK_FULL = ("No space left on device", "database or disk is full")
_RESULTS_KEPT = "; what earlier runs made is kept"


def run(arguments: argparse.Namespace) -> None:
    """Runs the pipeline with arguments of `run_local.parse_arguments`, and prints a summary.

    Raises:
        KerasAEError: with one line that says what is wrong.
    """
    check_reachable(arguments.root)
    with (
        lock.locked(arguments.root, arguments.command, wait=arguments.wait) as exclusive,
        recovery.temporary_folder(arguments.root, exclusive=exclusive),
    ):
        _run_and_log(arguments, exclusive)


def _run_and_log(arguments: argparse.Namespace, exclusive: bool) -> None:
    start = time.monotonic()
    logs = arguments.root / "logs"
    for folder in (logs, arguments.push_dir):
        check_reachable(folder)
    log = logs / time.strftime("run-%Y%m%d-%H%M%S.log")
    data = "the sample photographs" if arguments.data == base.SAMPLE else arguments.data
    console.say(
        f"keras-ae: {arguments.preset} on {data}, "
        f"budgets {', '.join(map(str, arguments.budgets))} epochs"
        + (f", tuned by {arguments.tune} trials" if arguments.tune else "")
        + (f", {arguments.seeds} seeds" if arguments.seeds > 1 else "")
        + (", and the baseline" if arguments.with_baseline else "")
    )
    for path, name in arguments.own_folders.items():
        console.say(f"left out: {path}/ (this run's {name})")
    with nullcontext() if arguments.verbose else console.logs_to(log):
        try:
            _run(arguments, exclusive)
        except Exception as error:
            own_error = _cause(error)
            if own_error is None:
                logging.exception("the run failed")
                where = "above" if arguments.verbose else f"in {log}"
                text = f"{type(error).__name__}: {first_line(error)[:300]}"
                unknown = KerasAEError(f"{text}; the details are {where}")
                own_error = supervision.cause(error) or unknown
            raise own_error from error
    console.say(f"\ndone in {time.monotonic() - start:.0f} s")


def _run(arguments: argparse.Namespace, exclusive: bool) -> None:
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.use_absl_handler()
    with imports.hide_packages(*imports.OPTIONAL_PACKAGES):
        import tensorflow  # noqa: F401
    with imports.hide_packages():
        from tfx.dsl.compiler import compiler
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner
        from tfx.orchestration.metadata import sqlite_metadata_connection_config

        from pipeline.components.serving_check import server
        from pipeline.definition import UNCACHED, create_pipeline
        from pipeline.runners import tfx_patches
        from pipeline.runners.beam import operator
        from pipeline.runners.local import caching, metadata, summary
        from pipeline.runners.local.checksums import Checksums
        from pipeline.runtime import plan, versions
    # Garbage collection would visit the libraries' objects, which stay: half a second each time.
    gc.freeze()

    pipeline_name = _pipeline_name(arguments)
    connection = sqlite_metadata_connection_config(str(arguments.root / metadata.NAME))
    checksums = Checksums(arguments.root / metadata.BACKUPS)
    if exclusive:
        metadata.check(arguments.root)
        recovery.remove_unfinished(arguments.root, connection)
        caching.remove_damaged(connection, pipeline_name, checksums, ignored_nodes=UNCACHED)
    options = {**arguments.config.source_options, "leave_out": arguments.own_folders}
    fingerprint = open_source(arguments.data, **options).fingerprint()
    identity = {"command": arguments.command, "data": fingerprint}
    newest = versions.newest_version(arguments.push_dir)
    in_service = recovery.record_start(arguments.root, identity, newest)
    if in_service and not arguments.replace:
        _note_fault(in_service, arguments.channels)
    pipeline = create_pipeline(
        arguments.config,
        pipeline_name=pipeline_name,
        pipeline_root=str(arguments.root / "artifacts" / pipeline_name),
        data_fingerprint=fingerprint,
        push_destination=str(arguments.push_dir),
        checkpoints=str(arguments.root / "checkpoints"),
        in_service=None if in_service is None else str(in_service),
        check_command=arguments.check_command,
        command=arguments.command,
        leave_out=arguments.own_folders,
        metadata_connection_config=connection,
        beam_pipeline_args=engines.beam_arguments(engines.DIRECT, 1, []),
    )
    compiled = compiler.Compiler().compile(pipeline)
    for node in compiled.nodes:
        if node.pipeline_node.node_info.id in UNCACHED:
            node.pipeline_node.execution_options.caching_options.enable_cache = False
    ordered = depth_first(compiled.nodes)
    del compiled.nodes[:]
    compiled.nodes.extend(ordered)
    on_ingested = functools.partial(summary.print_findings, connection, pipeline_name)
    progress = _Progress(ordered, on_ingested)
    trainers = plan.trainers(ordered)
    cached = functools.partial(
        caching.predicted_hits, connection, pipeline_name, checksums, trainers
    )
    stages = plan.TrainingPlan(plan.stages(trainers), cached)
    try:
        with (
            operator.engine(arguments.beam_arguments),
            caching.by_content(checksums),
            tfx_patches.nodes_observed(progress.on_start, progress.on_finish),
            plan.in_use(stages),
            server.started_ahead(arguments.check_command),
        ):
            LocalDagRunner().run_with_ir(compiled)
    finally:
        # What fails on a full disk here has failed before, with a message.
        with suppress(OSError):
            caching.write_manifests(connection, pipeline_name, checksums)
            metadata.back_up(arguments.root)
    shutil.rmtree(arguments.root / "checkpoints", ignore_errors=True)
    durable.write(arguments.root / SETTINGS, arguments.settings.encode())
    summary.print_summary(arguments, connection, pipeline_name, progress.cached)
    recovery.record_end(arguments.root)


class _Progress:
    """Prints a line for each node, and releases memory between nodes.

    Args:
        nodes: of the pipeline.
        on_ingested: called after the images were ingested.

    Attributes:
        cached: whether a node's outputs were taken from the cache, by its id.
    """

    def __init__(self, nodes: Iterable[Any], on_ingested: Callable[[], None]) -> None:
        self._width = max(20, *(len(node.pipeline_node.node_info.id) for node in nodes))
        self._on_ingested = on_ingested
        self._start = 0.0
        self.cached: dict[str, bool] = {}

    def on_start(self, node: str) -> None:
        """Begins to time a node."""
        self._start = time.monotonic()
        if not node.startswith("Trainer"):
            from pipeline.runtime import ladder_cache

            ladder_cache.clear()
        console.hint(f"  {node} ...")

    def on_finish(self, node: str, cached: bool) -> None:
        """Prints the line of a node that has succeeded."""
        self.cached[node] = cached
        duration = "cached" if cached else f"{time.monotonic() - self._start:.1f} s"
        console.say(f"  {node:<{self._width}} {duration:>8}")
        if node == "ImageExampleGen":
            self._on_ingested()
        # Compiled functions are in reference cycles: a hundred megabytes for each stage and model.
        gc.collect()


def _pipeline_name(arguments: argparse.Namespace) -> str:
    """The name under which results are cached: that of data, preset and channels."""
    text = json.dumps([arguments.config.data, arguments.preset, arguments.channels])
    return f"keras-ae-{arguments.preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _note_fault(in_service: PathOrUri, channels: int) -> None:
    """Says before hours of training what would prevent the push of the model at their end."""
    from pipeline.runtime import versions

    if fault := versions.fault(Path(in_service), channels):
        refusal = versions.refusal(in_service, fault)
        console.say(f"note: a new model of this run will not be pushed: {refusal}")


def _cause(error: BaseException) -> KerasAEError | None:
    """The project's own error behind one that a library raised from it."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, KerasAEError):
            # Beam raises a copy of an error with the name of the step in its message.
            message = re.sub(r" \[while running .*\]$", "", str(current), flags=re.DOTALL)
            kept = _RESULTS_KEPT if message.endswith(_DISK_FULL[0]) else ""
            return type(current)(message + kept)
        if isinstance(current, OSError) and current.errno in _STORAGE_ERRORS:
            file = f" {current.filename}" if current.filename else ""
            return StorageError(f"cannot write{file}: {current.strerror}{_RESULTS_KEPT}")
        if any(words in str(current) for words in _DISK_FULL):
            return StorageError(f"cannot write: {_DISK_FULL[0]}{_RESULTS_KEPT}")
        current = current.__cause__ or current.__context__
    return None


def depth_first(nodes: Sequence[Any]) -> list[Any]:
    """Orders the nodes of a compiled pipeline so that each follows one that it depends on.

    The stages of a ladder then follow each other, and each uses what the one before it has left in
    `pipeline.runtime.ladder_cache`. The nodes are in topological order before and afterwards.
    """
    ordered: dict[str, Any] = {}

    def visit(node: Any) -> None:
        inner = node.pipeline_node
        name = inner.node_info.id
        if name not in ordered and ordered.keys() >= set(inner.upstream_nodes):
            ordered[name] = node
            for other in nodes:
                if name in other.pipeline_node.upstream_nodes:
                    visit(other)

    for node in nodes:
        visit(node)
    return [*ordered.values()]
