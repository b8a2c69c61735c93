"""Compiles the pipeline for Kubeflow, and starts it: `python pipeline/run_kubeflow.py --help`."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The path of a script begins with its own folder, not with that of the packages.
sys.path[0:1] = [str(Path(__file__).resolve().parent.parent)]

from keras_ae.errors import ConfigurationError, KerasAEError
from pipeline.runners import flags
from pipeline.runners.beam import engines
from pipeline.runners.kubeflow import cluster, runner
from pipeline.runtime import paths

PROGRAM = "pipeline/run_kubeflow.py"
_SUBMISSION_FLAGS = (
    "output", "submit", "host", "namespace", "experiment", "run_name", "wait", "no_cache",
    "data_fingerprint",
)  # fmt: skip


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads and checks the command line, before anything heavy is imported."""
    words, beam_options = engines.split(sys.argv[1:] if argv is None else argv)
    parser = flags.Parser(
        prog="run_kubeflow.py",
        description="Compile the pipeline to KFP's YAML (--output), or start it on Kubeflow "
        "Pipelines (--submit). Nothing is trained here.",
    )
    _add_actions(parser)
    flags.add_arguments(parser)
    _add_locations(parser)
    _add_cluster(parser)
    engines.add_arguments(parser)
    arguments = flags.parse(parser, words)
    _check(parser, arguments)
    arguments.command = _command(parser, arguments) + engines.format_beam_options(beam_options)
    arguments.beam_options = beam_options
    arguments.push_dir = arguments.push_dir or f"{arguments.pipeline_root}/serving/keras_ae"
    arguments.checkpoints = arguments.checkpoints or f"{arguments.pipeline_root}/checkpoints"
    arguments.own_folders = flags.own_folders(
        parser,
        arguments.data,
        {"root": arguments.pipeline_root, "push folder": arguments.push_dir},
    )
    arguments.check_command = ["python", "-m", "serving.check"]
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, compiles and, with --submit, submits; returns the exit status."""
    arguments = parse_arguments(argv)
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        runner.run(arguments)
    except KerasAEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: a run that was started continues", file=sys.stderr)
        return 130
    return 0


def _add_actions(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--output",
        type=flags.checked(_file),
        metavar="FILE.yaml",
        help="write the compiled pipeline here",
    )
    add("--submit", action="store_true", help="upload the pipeline and start a run; needs --host")
    add("--host", metavar="URL", help="address of Kubeflow Pipelines, http(s)://HOST[:PORT]")
    add("--namespace", help="namespace of the run, where Kubeflow has several users")
    add("--experiment", default="keras-ae", metavar="NAME", help="experiment of the run")
    add("--run-name", metavar="NAME", help="name of the run (default: pipeline and time)")
    what = "wait until the run ends; the exit status says whether it succeeded"
    add("--wait", action="store_true", help=what)
    add("--no-cache", action="store_true", help="run every step, without cached results")
    what = (
        "represents the content of the data: a different text means different data (default: "
        "computed when the run is submitted, if this machine can read the data)"
    )
    add("--data-fingerprint", metavar="TEXT", help=what)


def _add_locations(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--name", type=flags.checked(_name), default="keras-ae", help="name of the pipeline")
    add("--image", required=True, help="container image of the project, see pipeline/Dockerfile")
    what = "folder of the artifacts: gs://BUCKET/FOLDER or s3://BUCKET/FOLDER"
    add("--pipeline-root", required=True, type=flags.checked(_root), metavar="URI", help=what)
    for flag, what in (
        ("--push-dir", "folder of the versions (default: ROOT/serving/keras_ae)"),
        ("--checkpoints", "folder of unfinished stages (default: ROOT/checkpoints)"),
        (
            "--incumbent-uri",
            "version folder or Model artifact that is in service, which a new model must not be "
            "worse than, and which it may replace (default: the newest version in --push-dir when "
            "the run is submitted, if this machine can read it)",
        ),
    ):
        add(flag, metavar="URI", help=what)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    for flag, default, what in (
        ("--cpu", "2", "cores of each node"),
        ("--memory", "4Gi", "memory of each node"),
        ("--trainer-cpu", "4", "cores of Trainers and Tuner"),
        ("--trainer-memory", "16Gi", "memory of Trainers and Tuner"),
    ):
        add(flag, type=_validated(cluster.quantity), default=default, help=what)
    what = "accelerators of Trainers and Tuner, such as nvidia.com/gpu=1"
    gpu = _validated(cluster.gpu)
    add("--gpu", type=gpu, default="none", metavar="NAME=COUNT", help=what)
    machines = "of machines for Trainers and Tuner"
    for flag, read, form, what in (
        ("--node-selector", cluster.pair, "KEY=VALUE", f"label {machines}"),
        ("--toleration", cluster.toleration, "KEY[=VALUE]:EFFECT", f"taint {machines}"),
        ("--volume", cluster.mount, "CLAIM:/PATH", "volume claim to mount in every node"),
        ("--secret", cluster.mount, "NAME:/PATH", "secret to mount in every node, as files"),
        ("--env", cluster.pair, "NAME=VALUE", "environment variable of every node"),
    ):
        what += "; may be given several times"
        add(flag, type=_validated(read), action="append", default=[], metavar=form, help=what)


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if not (arguments.output or arguments.submit):
        parser.error("expected --output FILE.yaml, --submit, or both; got neither")
    if arguments.submit and not arguments.host:
        parser.error("--submit needs --host")
    if arguments.host and not arguments.host.startswith(("http://", "https://")):
        parser.error(f"--host: expected http://HOST or https://HOST; got {arguments.host!r}")
    if arguments.output and arguments.output.suffix not in (".yaml", ".yml"):
        parser.error(f"--output: Kubeflow takes .yaml only; got {str(arguments.output)!r}")
    volumes = [cluster.mount(volume).path for volume in arguments.volume]
    for name in ("data", "push_dir", "checkpoints", "incumbent_uri"):
        location = getattr(arguments, name)
        if not location or "://" in location or (name == "data" and not flags.is_path(location)):
            continue
        if not any(Path(location).is_relative_to(volume) for volume in volumes):
            parser.error(
                f"--{name.replace('_', '-')}: the nodes cannot reach {location!r}: give a gs:// or "
                "s3:// URI, or an absolute path on a --volume CLAIM:/PATH"
            )


def _command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The command line that compiles the same pipeline, without what each run can set."""
    defaults = parser.parse_args(["--image=", "--pipeline-root=gs://bucket/root"])
    defaults.image = defaults.pipeline_root = None
    excluded = {*_SUBMISSION_FLAGS, *runner.runtime_parameters(arguments)}
    return flags.command(PROGRAM, defaults, arguments, excluded)


def _validated(read: Callable[[str], Any]) -> Callable[[str], str]:
    """Makes an argument type that checks a text by a reader, and returns it unchanged."""

    def validate(text: str) -> str:
        read(text)
        return text

    return flags.checked(validate)


def _file(text: str) -> Path:
    return Path(paths.expand(text))


def _root(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme not in ("gs", "s3") or not rest.strip("/"):
        raise ConfigurationError(
            "expected a bucket for the artifacts, gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; "
            f"got {text!r}"
        )
    return text.rstrip("/")


def _name(text: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,127}", text):
        raise ConfigurationError(f"expected lower-case letters, digits and hyphens; got {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
