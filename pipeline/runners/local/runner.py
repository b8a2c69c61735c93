"""Runs the pipeline on TFX's LocalDagRunner: folders, terminal, and errors in one line."""

import argparse
import dataclasses
import errno
import functools
import gc
import hashlib
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from keras_ae import durable, imports
from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import KerasAEError, StorageError, first_line
from pipeline.runners import flags
from pipeline.runners.beam import engines
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
    """Runs the pipeline and prints a summary.

    Args:
        arguments: of `pipeline.run_local.parse_arguments`.

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
    console.say(
        f"keras-ae: {arguments.preset} on {_shown(arguments.data)}, "
        f"budgets {', '.join(map(str, arguments.budgets))} epochs"
        + (f", tuned by {arguments.tune} trials" if arguments.tune else "")
        + (f", {arguments.seeds} seeds" if arguments.seeds > 1 else "")
        + (", and the baseline" if arguments.with_baseline else "")
    )
    with nullcontext() if arguments.verbose else console.logs_to(log):
        try:
            _run(arguments, exclusive)
        except Exception as error:
            own_error = _cause(error) or _cause_in_worker(error)
            if own_error is not None:
                raise own_error from error
            logging.exception("the run failed")
            where = "above" if arguments.verbose else f"in {log}"
            raise KerasAEError(
                f"{type(error).__name__}: {first_line(error)[:300]}; the details are {where}"
            ) from error
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
        from pipeline.runtime import plan
    # Garbage collection would visit the libraries' objects, which stay: half a second each time.
    gc.freeze()

    lineage = _lineage(arguments)
    connection = sqlite_metadata_connection_config(str(arguments.root / metadata.NAME))
    checksums = Checksums(arguments.root / metadata.BACKUPS)
    if exclusive:
        metadata.check(arguments.root)
        recovery.remove_unfinished(arguments.root, connection)
        caching.remove_damaged(connection, lineage, checksums, ignored_nodes=UNCACHED)
    fingerprint = open_source(arguments.data, **arguments.config.source_options).fingerprint()
    identity = {"command": arguments.command, "data": fingerprint}
    in_service = _in_service(arguments.push_dir, lineage)
    pipeline = create_pipeline(
        dataclasses.replace(arguments.config, data=flags.resolve_data(arguments.data)),
        pipeline_name=lineage,
        pipeline_root=str(arguments.root / "artifacts" / lineage),
        data_fingerprint=fingerprint,
        push_destination=str(arguments.push_dir),
        checkpoints=str(arguments.root / "checkpoints"),
        in_service=recovery.record_start(arguments.root, identity, in_service),
        check_command=arguments.check_command,
        command=arguments.command,
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
    progress = _Progress(
        max(len(node.pipeline_node.node_info.id) for node in ordered),
        functools.partial(summary.print_findings, connection, lineage),
    )
    trainers = plan.trainers(ordered)
    cached = functools.partial(caching.predicted_hits, connection, lineage, checksums, trainers)
    stages = plan.Plan(plan.stages(trainers), cached)
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
            caching.write_manifests(connection, lineage, checksums)
            metadata.back_up(arguments.root)
    shutil.rmtree(arguments.root / "checkpoints", ignore_errors=True)
    durable.write(arguments.root / SETTINGS, arguments.settings.encode())
    summary.print_summary(arguments, connection, lineage, progress.cached)
    recovery.record_end(arguments.root)


class _Progress:
    """Prints a line for each node, and releases memory between nodes.

    Args:
        width: characters of the longest id of a node.
        on_ingested: called after the images were ingested.

    Attributes:
        cached: whether a node's outputs were taken from the cache, by its id.
    """

    def __init__(self, width: int, on_ingested: Callable[[], None]) -> None:
        self._width = max(20, width)
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


def _lineage(arguments: argparse.Namespace) -> str:
    """A name that runs share whose models can replace each other: same data, preset, channels."""
    text = json.dumps([flags.resolve_data(arguments.data), arguments.preset, arguments.channels])
    return f"keras-ae-{arguments.preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _shown(data: str) -> str:
    return "the sample photographs" if data == base.SAMPLE else data


def _in_service(push_dir: Path, lineage: str) -> str | None:
    """The Model artifact of the newest version of this lineage, if both still exist."""
    from pipeline.components.pusher.executor import intact, newest_version, provenance

    version = newest_version(push_dir, lineage)
    if version is None:
        return None
    if not intact(version):
        console.say(f"damaged: {version} is not what was pushed")
    artifact = provenance(version).get("artifact", "")
    if artifact and Path(artifact).is_dir():
        return str(artifact)
    console.say(
        f"note: the artifact of {version} is gone; a new model is compared with the floor only"
    )
    return None


def _cause_in_worker(error: Exception) -> KerasAEError | None:
    from pipeline.runners.beam import supervision

    own_error = supervision.cause(error)
    if own_error is not None:
        logging.exception("a worker failed")
    return own_error


def _cause(error: BaseException) -> KerasAEError | None:
    """The project's own error behind one that a library raised from it."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, KerasAEError):
            # Beam raises a copy of an error with the name of the step in its message.
            message = re.sub(r" \[while running .*\]$", "", str(current), flags=re.DOTALL)
            return type(current)(
                message + _RESULTS_KEPT if message.endswith(_DISK_FULL[0]) else message
            )
        if isinstance(current, OSError) and current.errno in _STORAGE_ERRORS:
            file = f" {current.filename}" if current.filename else ""
            return StorageError(f"cannot write{file}: {current.strerror}{_RESULTS_KEPT}")
        if any(words in str(current) for words in _DISK_FULL):
            return StorageError(f"cannot write: {_DISK_FULL[0]}{_RESULTS_KEPT}")
        current = current.__cause__ or current.__context__
    return None


def depth_first(nodes: Sequence[Any]) -> list[Any]:
    """Orders nodes so that each follows one that it depends on.

    The stages of a ladder then follow each other, and each uses what the one before it has left in
    `pipeline.runtime.ladder_cache`.

    Args:
        nodes: nodes of a compiled pipeline, in topological order.

    Returns:
        The same nodes in another topological order.
    """
    ordered: list[Any] = []
    seen: set[str] = set()

    def visit(node: Any) -> None:
        inner = node.pipeline_node
        name = inner.node_info.id
        if name in seen or not seen.issuperset(inner.upstream_nodes):
            return
        seen.add(name)
        ordered.append(node)
        for other in nodes:
            if name in other.pipeline_node.upstream_nodes:
                visit(other)

    for node in nodes:
        visit(node)
    return ordered
