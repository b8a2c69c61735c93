"""The pipeline on LocalDagRunner: places, terminal, and what is told at the end."""

import argparse
import errno
import functools
import gc
import hashlib
import json
import logging
import re
import shlex
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from keras_ae import durable, imports
from keras_ae.datasets import sources, storage
from keras_ae.errors import KerasAEError, StorageError
from pipeline import console, engines, flags, lock, temporary
from pipeline.order import depth_first
from pipeline.staging import check_reachable

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
        temporary.folder(arguments.root, alone=alone),
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
        + (", the baseline beside" if arguments.with_baseline else "")
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

        from pipeline import beam_operator, caching, metadata, plan, recovery
        from pipeline.checksums import Checksums
        from pipeline.components.serving_check import server
        from pipeline.definition import create_pipeline
    # A collection goes through all objects: half a second for those of the libraries, which stay.
    gc.freeze()

    lineage = _lineage(arguments)
    connection = sqlite_metadata_connection_config(str(arguments.root / metadata.NAME))
    checksums = Checksums(arguments.root / metadata.KEPT)
    if alone:
        metadata.check(arguments.root)
        recovery.clear(arguments.root, connection)
        caching.set_aside(connection, lineage, checksums, but=_ALWAYS_RUN)
    fingerprint = sources.open_source(arguments.data).fingerprint()
    same = {"command": arguments.command, "data": fingerprint}
    pipeline = create_pipeline(
        pipeline_name=lineage,
        pipeline_root=str(arguments.root / "artifacts" / lineage),
        data=_resolved(arguments.data),
        data_fingerprint=fingerprint,
        push_destination=str(arguments.push_dir),
        checkpoints=str(arguments.root / "checkpoints"),
        in_service=recovery.began(arguments.root, same, _in_service(arguments.push_dir, lineage)),
        check_command=arguments.check_command,
        command=arguments.command,
        **flags.settings(arguments),
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
    watch = _NodeWatch(max(len(node.pipeline_node.node_info.id) for node in ordered))
    logging.getLogger().addHandler(watch)
    trainers = plan.trainers(ordered)
    cached = functools.partial(caching.predicted_hits, connection, lineage, checksums, trainers)
    stages = plan.Plan(plan.stages(trainers), cached)
    try:
        with (
            beam_operator.engine(arguments.beam_arguments),
            caching.by_content(checksums),
            plan.held(stages),
            server.ahead(arguments.check_command),
        ):
            LocalDagRunner().run_with_ir(compiled)
    finally:
        logging.getLogger().removeHandler(watch)
        # A disk that is full is told of by what failed before.
        with suppress(OSError):
            caching.record(connection, lineage, checksums)
            metadata.keep(arguments.root)
    shutil.rmtree(arguments.root / "checkpoints", ignore_errors=True)
    _tell(arguments, connection, lineage, watch)
    recovery.ended(arguments.root)


class _NodeWatch(logging.Handler):
    """Prints a line per node, from what LocalDagRunner logs."""

    def __init__(self, width: int) -> None:
        super().__init__(logging.INFO)
        self._width = max(20, width)
        self.cached: dict[str, bool] = {}
        self._node, self._began = "", 0.0

    def emit(self, record: logging.LogRecord) -> None:
        message = str(record.msg)
        if message.startswith("Component %s is running") and isinstance(record.args, tuple):
            self._node, self._began = str(record.args[0]), time.monotonic()
            self.cached[self._node] = False
            if not self._node.startswith("Trainer"):
                from pipeline import held

                held.release()
            console.hint(f"  {self._node} ...")
        elif message.startswith("A cached execution"):
            self.cached[self._node] = True
        elif message.startswith("Component %s is finished"):
            took = (
                "cached" if self.cached[self._node] else f"{time.monotonic() - self._began:.1f} s"
            )
            console.say(f"  {self._node:<{self._width}} {took:>8}")
            # Compiled functions hang in cycles: a hundred megabytes for each stage and model.
            gc.collect()


def _tell(arguments: argparse.Namespace, connection: Any, lineage: str, watch: _NodeWatch) -> None:
    from keras_ae import search_space
    from keras_ae.comparison import format_table
    from pipeline import outputs
    from pipeline.components.image_example_gen.executor import QUARANTINE
    from pipeline.components.report import executor as report

    found = outputs.artifacts_of_last_run(connection, lineage)
    (examples,), (report_artifact,) = found["Examples"], found["pipeline.ReportArtifact"]
    place = outputs.folder(report_artifact)
    for name in (report.COMPARISON, report.IMAGES, report.REPORT):
        durable.copy(place / name, arguments.root / name)
    comparison = json.loads((place / report.COMPARISON).read_text())
    console.say(f"\n{format_table(comparison)}\n")
    if comparison["trials"]:
        console.say(f"tuned: {search_space.summary(comparison['trials'], comparison['tuning'])}")
    console.say(comparison["answer"]["sentence"])
    console.say(f"chosen: {comparison['chosen']['reason']}")
    for note in comparison["answer"]["notes"]:
        console.say(f"note: {note['text']}")
    if outputs.quarantined(examples):
        console.say(
            f"set aside: {outputs.quarantined(examples)} images, "
            f"see {outputs.folder(examples) / QUARANTINE}"
        )
    if all(cached for node, cached in watch.cached.items() if node.startswith("Trainer")):
        console.say("trained nothing: data, flags and code are those of an earlier run")
    console.say(f"report: {arguments.root / report.REPORT}")
    _tell_mlflow(arguments, outputs.texts(report_artifact))
    _tell_push(arguments.push_dir, found, comparison["verdict"])


def _tell_mlflow(arguments: argparse.Namespace, told: Mapping[str, str]) -> None:
    from pipeline.components.report.executor import MLFLOW_FAILURE, MLFLOW_RUN

    if failure := told.get(MLFLOW_FAILURE):
        console.say(f"warning: {failure}")
    elif run := told.get(MLFLOW_RUN):
        console.say(f"mlflow: run {run} of {arguments.mlflow_experiment!r}")


def _tell_push(push_dir: Path, found: dict[str, list[Any]], verdict: dict[str, Any]) -> None:
    from pipeline import outputs
    from pipeline.components.pusher.executor import UNCHANGED
    from pipeline.verdict import reasons

    why = reasons(verdict)
    if not verdict["blessed"]:
        console.say(f"pushed nothing: the model is not blessed: {'; '.join(why)}")
        return
    for reason in why:
        console.say(f"blessed: {reason}")
    pushed = max(found["PushedModel"], key=lambda artifact: artifact.id).custom_properties
    if pushed["pushed"].int_value:
        console.say(f"pushed: {pushed['pushed_destination'].string_value}")
    elif UNCHANGED in pushed:
        console.say(f"pushed nothing: {pushed[UNCHANGED].string_value} is this model already")
    else:
        reason = outputs.refusal(found)
        console.say(f"pushed nothing: the model does not answer alike when it is served: {reason}")
        return
    console.say(
        "serve: python -m serving.server --rest_api_port=8501 --model_name=keras_ae "
        f"--model_base_path={shlex.quote(str(push_dir))}"
    )


def _lineage(arguments: argparse.Namespace) -> str:
    """Names runs whose models can stand in for each other: same place of data, same kind."""
    text = json.dumps([_resolved(arguments.data), arguments.preset, arguments.channels])
    return f"keras-ae-{arguments.preset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _resolved(data: str) -> str:
    if data == sources.SAMPLE or data.startswith(sources.TFDS_PREFIX) or storage.is_uri(data):
        return data
    return str(Path(data).expanduser().resolve())


def _shown(data: str) -> str:
    return "the sample photographs" if data == sources.SAMPLE else data


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
    from pipeline import beam_workers

    known = beam_workers.cause(error)
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
