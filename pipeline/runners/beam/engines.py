"""The engines that run the Beam steps: their requirements, and the options that Beam gets."""

import argparse
import difflib
import importlib
import re
import shlex
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from keras_ae.errors import ConfigurationError
from pipeline.runners.flags import checked
from pipeline.runtime.run_config import number

DIRECT, DATAFLOW, DASK = "direct", "dataflow", "dask"
RUNNERS = {
    DIRECT: "DirectRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    DATAFLOW: "DataflowRunner",
    DASK: "apache_beam.runners.dask.dask_runner.DaskRunner",
}
# Without the first option Beam's direct runner would download and start Prism, a runner in Go with
# workers of its own; no step has triggers, which the option is about. Without the second TFX would
# build a package of itself for remote workers at each step, in one to two seconds; no container is
# started.
LOCAL_OPTIONS = ("--allow_unsafe_triggers", "--sdk_container_image=none")
# A worker must import tfx before tensorflow_data_validation, which needs what tfx adds to tfx_bsl.
PLUGIN = "--beam_plugin=tfx"
# The option with the address of the cluster, and the beginning of an address on this machine.
_JOB_SERVERS = {"flink": ("flink_master", "["), "spark": ("spark_master_url", "local")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that choose the engine."""
    what = (
        "engine of the steps that go through all images; any of Beam's own options for it may "
        "follow after a bare --"
    )
    parser.add_argument("--beam-runner", choices=tuple(RUNNERS), default=DIRECT, help=what)
    what = "processes (direct), parallel parts (flink, spark) or initial machines (dataflow)"
    count = checked(number(int, 1, 1000))
    parser.add_argument("--workers", type=count, default=1, metavar="N", help=what)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line at a bare `--` into this program's own words, and those for Beam."""
    at = argv.index("--") if "--" in argv else len(argv)
    return [*argv[:at]], [*argv[at + 1 :]]


def format_beam_options(beam_options: Sequence[str]) -> str:
    """The end of a command line with options for Beam, as `split` reads it."""
    return f" -- {shlex.join(beam_options)}" if beam_options else ""


def beam_arguments(
    runner: str, workers: int, beam_options: Sequence[str], *, here: bool = True
) -> list[str]:
    """Beam's command line for an engine.

    Args:
        runner: one of `RUNNERS`.
        workers: processes, parallel parts or initial machines, at least 1.
        beam_options: further options for Beam; they override those of this function.
        here: whether the steps are started on this machine, so that the engine's requirements can
            be checked on it; those of a compiled pipeline are started in a container.

    Raises:
        ConfigurationError: in one line, for an option that Beam does not know or that is missing,
            or for an engine that is not installed: what is missing, and how to get it.
    """
    if runner == DASK:
        # Observed with apache-beam 2.77.0, which reports success all the same.
        raise ConfigurationError(
            "Beam's runner for dask cannot carry these steps: it writes empty files, runs the last "
            "of several branches only, and loses the elements of a split; use direct with "
            "--workers, flink, spark or dataflow"
        )
    arguments = [*_options(runner, workers), *beam_options]
    if beam_options or runner != DIRECT:
        # It imports Beam, which takes a second.
        from pipeline.runners import beam_patches

        with beam_patches.logging_unchanged():
            options = _parsed(runner, arguments, beam_options)
            if runner in _JOB_SERVERS:
                _check_job_server(runner, options, here)
            elif runner == DATAFLOW:
                _check_cloud(options, here)
    return arguments


def _options(runner: str, workers: int) -> list[str]:
    if runner == DIRECT and workers == 1:
        # With several threads Beam was observed to wait for ever after a disk was full.
        return ["--direct_running_mode=in_memory", *LOCAL_OPTIONS]
    if runner == DIRECT:
        processes = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
        return [*processes, *LOCAL_OPTIONS, PLUGIN]
    parallel = {
        "flink": f"--parallelism={workers}",
        "spark": f"--spark_master_url=local[{workers}]",
        DATAFLOW: f"--num_workers={workers}",
    }
    return [f"--runner={RUNNERS[runner]}", parallel[runner], PLUGIN]


def _parsed(
    runner: str, arguments: Sequence[str], beam_options: Sequence[str]
) -> argparse.Namespace:
    """Parses all of Beam's options. Beam itself only logs a warning for an unknown one."""
    from apache_beam.options.pipeline_options import PipelineOptions

    for word in beam_options:
        if word.split("=")[0] == "--runner":
            raise ConfigurationError(f"give Beam's runner by --beam-runner, not after --: {word}")
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    (parser,) = parsers
    parser.exit_on_error = False
    try:
        options, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigurationError(f"Beam: {error}") from error
    known = sorted(set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", parser.format_help())))
    for word in unknown:
        similar = difflib.get_close_matches(word.split("=")[0], known, 1, 0.8)
        # A job server in Java has options that Beam's Python side knows nothing about.
        if similar or runner not in _JOB_SERVERS:
            hint = f"; did you mean {similar[0]}?" if similar else ""
            raise ConfigurationError(f"Beam has no option {word!r} for the engine {runner}{hint}")
    return options


def _check_job_server(runner: str, options: argparse.Namespace, here: bool) -> None:
    """Checks what Flink and Spark need: a job server, or Java and its jar to start one."""
    master, local = _JOB_SERVERS[runner]
    address = getattr(options, master)
    cluster = not address.startswith(local)
    if cluster and not (options.environment_type or options.sdk_container_image):
        raise ConfigurationError(
            f"workers at --{master}={address} need the project and its libraries: give "
            "--sdk_container_image=IMAGE, or --environment_type=PROCESS or EXTERNAL with its "
            "--environment_options"
        )
    if here and options.job_endpoint:
        _check_answers(options.job_endpoint)
    elif here:
        _find_java(runner, options.job_server_java_launcher)
        _find_jar(runner, options)


def _check_answers(address: str) -> None:
    """Checks that a job server answers. Beam itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        if not port.isdecimal():
            raise ConfigurationError(f"expected --job_endpoint=HOST:PORT; got {address!r}")
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"no job server answers at {address}: {error}") from error


def _find_java(runner: str, launcher: str) -> None:
    if shutil.which(launcher) is None:
        raise ConfigurationError(
            f"the engine {runner} needs Java for Beam's job server, and there is no {launcher!r} "
            "here: install Java 11 or 17, or give --job_endpoint=HOST:PORT of a job server that "
            "runs elsewhere"
        )


def _find_jar(runner: str, options: argparse.Namespace) -> None:
    """Lets Beam find its jar, which it downloads once if it can."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability import flink_runner, spark_runner

    kinds = {"flink": flink_runner.FlinkJarJobServer, "spark": spark_runner.SparkJarJobServer}
    server = kinds[runner](PipelineOptions([], **vars(options)))
    try:
        jar = server.path_to_jar()
        server.local_jar(jar, options.jar_cache_dir)
    except (OSError, RuntimeError, ValueError) as error:
        name = getattr(options, f"{runner}_job_server_jar") or jar
        raise ConfigurationError(
            f"the engine {runner} needs Beam's job server, and {name} cannot be obtained "
            f"({type(error).__name__}): put {Path(name).name} into ~/.apache_beam/cache/jars, or "
            f"give --{runner}_job_server_jar=FILE, or --job_endpoint=HOST:PORT of one that runs"
        ) from error


def _check_cloud(options: argparse.Namespace, here: bool) -> None:
    try:
        if here:
            importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    except ImportError as error:
        raise ConfigurationError(
            f"the engine dataflow is not installed ({error}): install apache-beam[gcp], of which "
            "google-cloud-dataflow-client is missing"
        ) from error
    wanted = {"project": "ID", "region": "REGION", "temp_location": "gs://BUCKET/FOLDER"}
    missing = [f"--{name}={form}" for name, form in wanted.items() if not getattr(options, name)]
    if not (options.sdk_container_image or options.setup_file):
        # Dataflow's machines have neither the project nor TFX.
        missing.append("--sdk_container_image=IMAGE")
    if missing:
        raise ConfigurationError(f"the engine dataflow needs, after --: {' '.join(missing)}")
