"""The command line of the server: the names and defaults of `tensorflow_model_server`."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from google.protobuf.message import Message

from keras_ae.errors import ConfigurationError
from serving.server.models import config
from serving.server.models.batching import BatchingOptions
from serving.server.models.manager import ManagerOptions
from serving.wire.protos import ModelServerConfig

MAX_MESSAGE_BYTES = 256 * 2**20
PROCESSOR_COUNT = os.cpu_count() or 1
DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class Flags:
    """The checked values of the command line.

    Attributes:
        models: the models to serve.
        manager: how versions are found and loaded.
        batching: options of batching; None for no batching.
        config_file: file of `models`, which is read again every `config_poll_seconds`; None if
            there is no such file.
        host: address that the TCP ports are bound to.
        port: gRPC port; None for none, 0 for a free one.
        rest_port: port of REST and the playground; None for none, 0 for a free one.
        socket_path: path of a Unix socket for gRPC; empty for none.
        channel_arguments: (name, value) pairs for the gRPC server.
        ssl: the SSLConfig message; None for plain text.
        metrics_path: URL path of the Prometheus metrics; None for no metrics.
        rest_timeout: timeout of REST requests in seconds.
        max_message_bytes: size of the largest request.
        intra_op_threads: number of threads that share one TensorFlow operation.
        inter_op_threads: number of concurrent TensorFlow operations; 0 for one per processor.
    """

    models: ModelServerConfig
    manager: ManagerOptions
    batching: BatchingOptions | None
    config_file: Path | None
    config_poll_seconds: float
    host: str
    port: int | None
    rest_port: int | None
    socket_path: str
    channel_arguments: tuple[tuple[str, int | str], ...]
    ssl: Message | None
    metrics_path: str | None
    rest_timeout: float
    max_message_bytes: int
    intra_op_threads: int
    inter_op_threads: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")


def parse(argv: Sequence[str] | None = None) -> Flags:
    """Parses the command line and reads the files that it names.

    Unknown or contradictory flags end the process with status 2 and a message of one line.
    """
    parser = _build_parser()
    arguments = parser.parse_args(argv)
    try:
        return _to_flags(arguments)
    except ConfigurationError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="serving.server",
        description="Answer gRPC and REST requests for SavedModels as tensorflow_model_server "
        "does, on machines without it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    _add_model_flags(parser)
    _add_network_flags(parser)
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model_name", default="default", help="name of the model in --model_base_path")
    add("--model_base_path", default="", help="absolute path of a folder of version folders")
    add("--model_config_file", default="", help="ModelServerConfig text proto, for several models")
    add(
        "--model_config_file_poll_wait_seconds",
        type=_parse_number,
        default=0,
        help="seconds after which --model_config_file is read again; 0 to read it once",
    )
    add(
        "--file_system_poll_wait_seconds",
        type=_parse_number,
        default=1,
        help="seconds between searches for versions; 0 to search once",
    )
    add(
        "--max_num_load_retries",
        type=_parse_number,
        default=5,
        help="number of retries to load a version",
    )
    add(
        "--load_retry_interval_micros",
        type=_parse_number,
        default=60_000_000,
        help="microseconds between these retries",
    )
    add(
        "--allow_version_labels_for_unavailable_models",
        type=_parse_boolean,
        nargs="?",
        const=True,
        default=False,
        help="allow a new label for a version that is not loaded yet",
    )
    add(
        "--enable_batching",
        type=_parse_boolean,
        nargs="?",
        const=True,
        default=False,
        help="combine concurrent requests into one call of the model",
    )
    add("--batching_parameters_file", default="", help="BatchingParameters text proto")
    add(
        "--tensorflow_intra_op_parallelism",
        type=_parse_number,
        default=0,
        help="threads that share one operation: more make one large image faster and many small "
        "ones slower; 0 for a quarter of the processors",
    )
    add(
        "--tensorflow_inter_op_parallelism",
        type=_parse_number,
        default=0,
        help="number of concurrent operations; 0 for one per processor",
    )


def _add_network_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--port", type=_parse_port, default=8500, help="port of gRPC; 0 for none")
    add(
        "--rest_api_port",
        type=_parse_port,
        default=0,
        help="port of REST and the playground; 0 for none",
    )
    add(
        "--rest_api_timeout_in_ms",
        type=_parse_number,
        default=30_000,
        help="timeout of REST requests in milliseconds",
    )
    add("--host", default="127.0.0.1", help="address to bind to; 0.0.0.0 for all")
    add("--grpc_socket_path", default="", help="path of a Unix socket for gRPC, in addition")
    add("--grpc_channel_arguments", default="", help="name=value pairs, separated by commas")
    add("--ssl_config_file", default="", help="SSLConfig text proto, for gRPC")
    add(
        "--monitoring_config_file",
        default="",
        help="MonitoringConfig text proto; needs --rest_api_port",
    )
    add(
        "--max_message_bytes",
        type=_parse_number,
        default=MAX_MESSAGE_BYTES,
        help="size of the largest request over gRPC or REST",
    )


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
        intra_op_threads=arguments.tensorflow_intra_op_parallelism or max(1, PROCESSOR_COUNT // 4),
        inter_op_threads=arguments.tensorflow_inter_op_parallelism,
    )


def _read_models(arguments: argparse.Namespace) -> ModelServerConfig:
    if arguments.model_config_file:
        models = config.read(Path(arguments.model_config_file), ModelServerConfig)
    elif arguments.model_base_path:
        models = config.single_model(arguments.model_name, arguments.model_base_path)
    else:
        raise ConfigurationError("no model: give --model_base_path or --model_config_file")
    if arguments.model_config_file_poll_wait_seconds and not arguments.model_config_file:
        raise ConfigurationError("--model_config_file_poll_wait_seconds needs --model_config_file")
    config.validate(models)
    return models


def _read_batching(arguments: argparse.Namespace) -> BatchingOptions | None:
    if not arguments.enable_batching:
        if arguments.batching_parameters_file:
            raise ConfigurationError(
                "--batching_parameters_file needs --enable_batching: give both or neither"
            )
        return None
    parameters = config.BatchingParameters()
    if arguments.batching_parameters_file:
        file = Path(arguments.batching_parameters_file)
        parameters = config.read(file, config.BatchingParameters)
    return BatchingOptions.from_proto(parameters)


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
    prometheus = monitoring.prometheus_config
    if not prometheus.enable:
        return None
    path = prometheus.path or DEFAULT_METRICS_PATH
    return path if path.startswith("/") else f"/{path}"
