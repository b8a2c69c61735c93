"""The pipeline on LocalDagRunner: folders, terminal, and errors in one line."""

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
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from keras_ae import durable, imports
from keras_ae.datasets.sources import base, storage
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import KerasAEError, StorageError
from pipeline.runners.beam import engines
from pipeline.runners.local import lock, recovery
from pipeline.runners.preflight import check_reachable
from pipeline.runtime import console

SETTINGS = "run.yaml"
"""In the root, for `--config`: what repeats the last run that ended."""
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
# What is in service may have changed since a push was cached, and a report is of its run.
_ALWAYS_RUN = ("ServingCheck", "Report", "Pusher")
# As TensorFlow and SQLite say it.
_FULL = ("No space left on device", "database or disk is full")
_KEPT = "; what earlier runs made is kept"


def run(arguments: argparse.Namespace) -> None:
    """Runs the pipeline and prints what came of it.

    Args:
        arguments: of `pipeline.run_local.parse_arguments`.

    Raises:
        KerasAEError: with one line that says what is wrong.
    """
    check_reachable(arguments.root)
    with (
        lock.held(arguments.root, arguments.command, wait=arguments.wait) as alone,
        recovery.folder(arguments.root, alone=alone),
    ):
        _run_and_log(arguments, alone)


def _run_and_log(arguments: argparse.Namespace, alone: bool) -> None:
    began = time.monotonic()
    logs = arguments.root / "logs"
    for place in (logs, arguments.push_dir):
        check_reachable(place)
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
            _run(arguments, alone)
        except Exception as error:
            known = _cause(error) or _cause_in_worker(error)
            if known is not None:
                raise known from error
            logging.exception("the run failed")
            where = "above" if arguments.verbose else f"in {log}"
            first = (str(error).strip().splitlines() or [""])[0][:300]
            raise KerasAEError(
                f"{type(error).__name__}: {first}; the details are {where}"
            ) from error
    console.say(f"\ndone in {time.monotonic() - began:.0f} s")


def _run(arguments: argparse.Namespace, alone: bool) -> None:
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.INFO)
    absl_logging.use_absl_handler()
    with imports.without(*imports.OPTIONAL):
        import tensorflow  # noqa: F401
    with imports.without():
        from tfx.dsl.compiler import compiler
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner
        from tfx.orchestration.metadata import sqlite_metadata_connection_config

        from pipeline.components.serving_check import server
        from pipeline.definition import create_pipeline
        from pipeline.runners import tfx_patches
        from pipeline.runners.beam import operator
        from pipeline.runners.local import caching, metadata, summary
        from pipeline.runners.local.checksums import Checksums
        from pipeline.runtime import plan
    # A collection goes through all objects: half a second for those of the libraries, which stay.
    gc.freeze()

    lineage = _lineage(arguments)
    connection = sqlite_metadata_connection_config(str(arguments.root / metadata.NAME))
    checksums = Checksums(arguments.root / metadata.KEPT)
    if alone:
        metadata.check(arguments.root)
        recovery.clear(arguments.root, connection)
        caching.set_aside(connection, lineage, checksums, but=_ALWAYS_RUN)
    fingerprint = open_source(arguments.data).fingerprint()
    same = {"command": arguments.command, "data": fingerprint}
    pipeline = create_pipeline(
        dataclasses.replace(arguments.config, data=_resolved(arguments.data)),
        pipeline_name=lineage,
        pipeline_root=str(arguments.root / "artifacts" / lineage),
        data_fingerprint=fingerprint,
        push_destination=str(arguments.push_dir),
        checkpoints=str(arguments.root / "checkpoints"),
        in_service=recovery.began(arguments.root, same, _in_service(arguments.push_dir, lineage)),
        check_command=arguments.check_command,
        command=arguments.command,
        metadata_connection_config=connection,
        beam_pipeline_args=engines.beam_arguments(engines.DIRECT, 1, []),
    )
    compiled = compiler.Compiler().compile(pipeline)
    for node in compiled.nodes:
        if node.pipeline_node.node_info.id in _ALWAYS_RUN:
            node.pipeline_node.execution_options.caching_options.enable_cache = False
    ordered = depth_first(compiled.nodes)
    del compiled.nodes[:]
    compiled.nodes.extend(ordered)
    progress = _Progress(max(len(node.pipeline_node.node_info.id) for node in ordered))
    trainers = plan.trainers(ordered)
    cached = functools.partial(caching.predicted_hits, connection, lineage, checksums, trainers)
    stages = plan.Plan(plan.stages(trainers), cached)
    try:
        with (
            operator.engine(arguments.beam_arguments),
            caching.by_content(checksums),
            tfx_patches.nodes_observed(progress.on_start, progress.on_finish),
            plan.held(stages),
            server.ahead(arguments.check_command),
        ):
            LocalDagRunner().run_with_ir(compiled)
    finally:
        # A disk that is full is told of by what failed before.
        with suppress(OSError):
            caching.record(connection, lineage, checksums)
            metadata.keep(arguments.root)
    shutil.rmtree(arguments.root / "checkpoints", ignore_errors=True)
    durable.write(arguments.root / SETTINGS, arguments.settings.encode())
    summary.tell(arguments, connection, lineage, progress.cached)
    recovery.ended(arguments.root)


class _Progress:
    """Prints a line for each node, and releases memory between nodes.

    Args:
        width: characters of the longest id of a node.

    Attributes:
        cached: whether a node's outputs were taken from the cache, by its id.
    """

    def __init__(self, width: int) -> None:
        self._width = max(20, width)
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
        # Compiled functions are in reference cycles: a hundred megabytes for each stage and model.
        gc.collect()


def _lineage(arguments: argparse.Namespace) -> str:
    """Names runs whose models can stand in for each other: same place of data, same kind."""
    text = json.dumps([_resolved(arguments.data), arguments.preset, arguments.channels])
    return f"keras-ae-{arguments.preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _resolved(data: str) -> str:
    if data == base.SAMPLE or data.startswith(base.TFDS_PREFIX) or storage.is_uri(data):
        return data
    return str(Path(data).expanduser().resolve())


def _shown(data: str) -> str:
    return "the sample photographs" if data == base.SAMPLE else data


def _in_service(push_dir: Path, lineage: str) -> str | None:
    """The Model artifact behind the newest version of this lineage, if it is still there."""
    from pipeline.components.pusher.executor import intact, newest_version, provenance

    version = newest_version(push_dir, lineage)
    if version is None:
        return None
    if not intact(version):
        console.say(f"damaged: {version} is not what was pushed")
    artifact = provenance(version).get("artifact", "")
    if artifact and Path(artifact).is_dir():
        return str(artifact)
    console.say(f"note: the artifact of {version} is gone; a new model meets the floor only")
    return None


def _cause_in_worker(error: Exception) -> KerasAEError | None:
    from pipeline.runners.beam import supervision

    known = supervision.cause(error)
    if known is not None:
        logging.exception("a worker failed")
    return known


def _cause(error: BaseException) -> KerasAEError | None:
    """The project's own error behind one that a library wrapped around it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KerasAEError):
            # Beam raises an error anew and adds the name of its step.
            told = re.sub(r" \[while running .*\]$", "", str(seen), flags=re.DOTALL)
            return type(seen)(told + _KEPT if told.endswith(_FULL[0]) else told)
        if isinstance(seen, OSError) and seen.errno in _STORAGE:
            place = f" {seen.filename}" if seen.filename else ""
            return StorageError(f"cannot write{place}: {seen.strerror}{_KEPT}")
        if any(words in str(seen) for words in _FULL):
            return StorageError(f"cannot write: {_FULL[0]}{_KEPT}")
        seen = seen.__cause__ or seen.__context__
    return None


def depth_first(nodes: Sequence[Any]) -> list[Any]:
    """Puts each node right behind one that it waits for, so that the stages of a ladder follow
    each other and what one leaves in memory serves the next.

    Args:
        nodes: of a compiled pipeline, in topological order.

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
