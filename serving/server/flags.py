"""The command line of the server: the names and defaults of `tensorflow_model_server`."""

import argparse
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf.message import Message

from keras_ae.errors import ConfigurationError
from serving.server import other_flags
from serving.server.errors import RequestError
from serving.server.models import config
from serving.server.models.batching import BatchingOptions
from serving.server.models.versions import ManagerOptions
from serving.wire.protos import ModelServerConfig

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class Flags:
    """The checked values of the command line, and the content of the files that it names."""

    models: ModelServerConfig
    manager: ManagerOptions
    batching: BatchingOptions | None
    config_file: Path | None
    """File of `models`, which is read again every `config_poll_seconds`."""
    config_poll_seconds: float
    host: str
    port: int | None
    """Port of gRPC; None for none, 0 for a free one."""
    rest_port: int | None
    """Port of REST and the playground; None for none, 0 for a free one."""
    socket_path: str
    """Path of a Unix socket for gRPC; empty for none."""
    channel_arguments: tuple[tuple[str, int | str], ...]
    ssl: Message | None
    """The SSLConfig; None for plain text."""
    metrics_path: str | None
    """URL path of the Prometheus metrics; None for no metrics."""
    rest_timeout: float
    """Timeout of REST requests in seconds; 0 for none."""
    max_message_bytes: int
    """Size of the largest request, also once it is decompressed."""
    tensor_content: bool
    """Whether outputs over gRPC fill tensor_content, not the field of their type."""
    intra_op_threads: int
    inter_op_threads: int
    without_effect: tuple[str, ...]
    """Lines for the log about flags that were given and have no effect."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")


def parse(argv: Sequence[str] | None = None) -> Flags:
    """Parses the command line and reads the files that it names.

    Unknown or contradictory flags end the process with status 2 and a message of one line.
    """
    parser = _build_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        library = importlib.metadata.version("tensorflow")
        parser.exit(message=f"{parser.prog}\nTensorFlow Library: {library}\n")
    try:
        return _to_flags(arguments)
    except (ConfigurationError, RequestError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


# Name -> default, whose type is that of the flag, and help.
_FLAGS: dict[str, tuple[str | int, str]] = {
    "model_name": ("default", "name of the model in --model_base_path"),
    "model_base_path": ("", "absolute path of a folder of version folders"),
    "model_config_file": ("", "ModelServerConfig text proto, for several models"),
    "model_config_file_poll_wait_seconds": (
        0,
        "seconds after which --model_config_file is read again; 0 to read it once",
    ),
    "file_system_poll_wait_seconds": (1, "seconds between searches for versions; 0 to search once"),
    "max_num_load_retries": (5, "number of retries to load a version"),
    "load_retry_interval_micros": (60_000_000, "microseconds between these retries"),
    "allow_version_labels_for_unavailable_models": (
        False,
        "allow a new label for a version that is not loaded yet, as none is at the start",
    ),
    "enable_batching": (False, "combine concurrent requests into one call of the model"),
    "batching_parameters_file": ("", "BatchingParameters text proto"),
    "tensorflow_intra_op_parallelism": (
        0,
        "threads that share one operation: more make one large image faster and many small "
        "ones slower; 0 for a quarter of the processors",
    ),
    "tensorflow_inter_op_parallelism": (
        0,
        "number of concurrent operations; 0 for one per processor",
    ),
    "tensorflow_session_parallelism": (0, "value of these two flags if both are 0"),
    "port": (8500, "port of gRPC; 0 for none"),
    "rest_api_port": (0, "port of REST and the playground; 0 for none"),
    "rest_api_timeout_in_ms": (30_000, "timeout of REST requests in milliseconds"),
    "host": ("127.0.0.1", "address to bind to; 0.0.0.0 for all"),
    "grpc_socket_path": ("", "path of a Unix socket for gRPC, in addition"),
    "grpc_channel_arguments": ("", "name=value pairs, separated by commas"),
    "ssl_config_file": ("", "SSLConfig text proto, for gRPC"),
    "monitoring_config_file": ("", "MonitoringConfig text proto; needs --rest_api_port"),
    "enable_serialization_as_tensor_content": (
        False,
        "fill tensor_content of outputs over gRPC: pixels take less time and memory",
    ),
    "max_message_bytes": (256 * 2**20, "size of the largest request over gRPC or REST"),
    "version": (False, "print the versions of this server and of TensorFlow"),
}


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="serving.server",
        description="Answer gRPC and REST requests for SavedModels as tensorflow_model_server "
        "does, on machines without it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for name, (default, help_text) in _FLAGS.items():
        kind = _PARSERS[type(default)]
        if name in ("port", "rest_api_port"):
            kind = _parse_port
        elif name.endswith(("_path", "_file")):
            # A shell expands ~ after a space, but not after an equals sign.
            kind = os.path.expanduser
        optional_value: dict[str, Any] = {"nargs": "?", "const": True} if default is False else {}
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=help_text, **optional_value
        )
    other_flags.add_to(parser)
    return parser


def _parse_number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2^31-1, got {text!r}")
    return number


def _parse_port(text: str) -> int:
    number = _parse_number(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return number


def _parse_boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return values[text.lower()]


_PARSERS: dict[type, Callable[[str], Any]] = {str: str, int: _parse_number, bool: _parse_boolean}


def _to_flags(arguments: argparse.Namespace) -> Flags:
    if arguments.port and arguments.port == arguments.rest_api_port:
        raise ConfigurationError("--rest_api_port cannot be the same as --port: choose another")
    if not arguments.port and not arguments.rest_api_port and not arguments.grpc_socket_path:
        raise ConfigurationError(
            "nothing to listen on: give --port, --rest_api_port or --grpc_socket_path"
        )
    if not arguments.max_message_bytes:
        raise ConfigurationError("--max_message_bytes must be above 0")
    return Flags(
        without_effect=other_flags.check(arguments),
        models=_read_models(arguments),
        manager=ManagerOptions(
            poll_seconds=arguments.file_system_poll_wait_seconds,
            load_retries=arguments.max_num_load_retries,
            retry_seconds=arguments.load_retry_interval_micros / 1e6,
            labels_ahead=arguments.allow_version_labels_for_unavailable_models,
        ),
        batching=_read_batching(arguments),
        config_file=Path(arguments.model_config_file) if arguments.model_config_file else None,
        config_poll_seconds=arguments.model_config_file_poll_wait_seconds,
        host=arguments.host,
        port=arguments.port or None,
        rest_port=arguments.rest_api_port or None,
        socket_path=arguments.grpc_socket_path,
        channel_arguments=_parse_channel_arguments(arguments.grpc_channel_arguments),
        ssl=_read_ssl(arguments.ssl_config_file),
        metrics_path=_read_metrics_path(arguments),
        rest_timeout=arguments.rest_api_timeout_in_ms / 1000,
        max_message_bytes=arguments.max_message_bytes,
        tensor_content=arguments.enable_serialization_as_tensor_content,
        **_read_threads(arguments),
    )


def _read_threads(arguments: argparse.Namespace) -> dict[str, int]:
    intra, inter = (
        arguments.tensorflow_intra_op_parallelism,
        arguments.tensorflow_inter_op_parallelism,
    )
    if not intra and not inter:
        intra = inter = arguments.tensorflow_session_parallelism
    cpu_count = os.cpu_count() or 1
    return {
        "intra_op_threads": intra or max(1, cpu_count // 4),
        "inter_op_threads": inter,
    }


def _read_models(arguments: argparse.Namespace) -> ModelServerConfig:
    if arguments.model_config_file:
        models = config.read(Path(arguments.model_config_file), ModelServerConfig)
    elif arguments.model_base_path:
        model = {"name": arguments.model_name, "base_path": arguments.model_base_path}
        model["model_platform"] = config.PLATFORM
        models = ModelServerConfig(model_config_list={"config": [model]})
    else:
        raise ConfigurationError("no model: give --model_base_path or --model_config_file")
    if arguments.model_config_file_poll_wait_seconds and not arguments.model_config_file:
        raise ConfigurationError("--model_config_file_poll_wait_seconds needs --model_config_file")
    config.check(models)
    return models


def _read_batching(arguments: argparse.Namespace) -> BatchingOptions | None:
    file = arguments.batching_parameters_file
    if arguments.enable_batching:
        kind = config.BatchingParameters
        return BatchingOptions.from_proto(config.read(Path(file), kind) if file else kind())
    if file:
        raise ConfigurationError(
            "--batching_parameters_file needs --enable_batching: give both or neither"
        )
    return None


def _parse_channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ConfigurationError(f"--grpc_channel_arguments: expected name=value, got {part!r}")
        number = value.removeprefix("-")
        pairs.append((name, int(value) if number.isascii() and number.isdecimal() else value))
    return tuple(pairs)


def _read_ssl(file: str) -> Message | None:
    if not file:
        return None
    ssl = config.read(Path(file), config.SSLConfig)
    if not ssl.server_key or not ssl.server_cert:
        raise ConfigurationError(f"{file} needs server_key and server_cert, both as PEM text")
    if ssl.client_verify and not ssl.custom_ca:
        raise ConfigurationError(f"{file}: client_verify needs custom_ca to verify against")
    return ssl


def _read_metrics_path(arguments: argparse.Namespace) -> str | None:
    if not arguments.monitoring_config_file:
        return None
    if not arguments.rest_api_port:
        raise ConfigurationError(
            "--monitoring_config_file needs --rest_api_port, where the metrics are read"
        )
    monitoring = config.read(Path(arguments.monitoring_config_file), config.MonitoringConfig)
    path = monitoring.prometheus_config.path or DEFAULT_METRICS_PATH
    return f"/{path.removeprefix('/')}" if monitoring.prometheus_config.enable else None
