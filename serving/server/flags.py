"""The command line of the server: the names and defaults of `tensorflow_model_server`."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from keras_ae.errors import ConfigurationError
from serving.server.models import config
from serving.server.models.batching import BatchingOptions
from serving.server.models.manager import ManagerOptions
from serving.wire.protos import ModelServerConfig

MAX_MESSAGE_BYTES = 256 * 2**20
PROCESSORS = os.cpu_count() or 1
PROMETHEUS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class Flags:
    """What the command line asks for, read and checked.

    Attributes:
        models: ModelServerConfig of the models to serve.
        manager: how versions are looked for and loaded.
        batching: None where requests are not batched.
        config_file: ModelServerConfig to read again every `config_poll_seconds`; None for none.
        host: address that the TCP ports are bound to.
        port: of gRPC; None for none, 0 for a free one.
        rest_port: of REST and the playground, likewise.
        socket_path: Unix socket of gRPC; empty for none.
        channel_arguments: (name, value) pairs for the gRPC server.
        ssl: SSLConfig, or None for plain text.
        metrics_path: where Prometheus metrics are; None for nowhere.
        rest_timeout: seconds that a REST request may take.
        max_message_bytes: largest request.
        intra_op_threads: that one operation of TensorFlow may use.
        inter_op_threads: for operations that run at once; 0 for as many as processors.
    """

    models: Any
    manager: ManagerOptions
    batching: BatchingOptions | None
    config_file: Path | None
    config_poll_seconds: float
    host: str
    port: int | None
    rest_port: int | None
    socket_path: str
    channel_arguments: tuple[tuple[str, int | str], ...]
    ssl: Any
    metrics_path: str | None
    rest_timeout: float
    max_message_bytes: int
    intra_op_threads: int
    inter_op_threads: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the flags\n")


def parse(argv: Sequence[str] | None = None) -> Flags:
    """Reads the command line and the files that it names.

    An unknown flag, or flags that contradict each other, end the process with status 2 and one
    line that says what to do.
    """
    parser = _arguments()
    given = parser.parse_args(argv)
    try:
        return _checked(given)
    except ConfigurationError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="serving.server",
        description="Answer gRPC and REST requests for SavedModels as tensorflow_model_server "
        "does, on a machine that does not have it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    _add_models(parser)
    _add_listening(parser)
    return parser


def _add_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model_name", default="default", help="name of the model of --model_base_path")
    add("--model_base_path", default="", help="absolute path of a folder of version folders")
    add("--model_config_file", default="", help="ModelServerConfig text proto of several models")
    add(
        "--model_config_file_poll_wait_seconds",
        type=_number,
        default=0,
        help="seconds between readings of --model_config_file; 0 for once",
    )
    add(
        "--file_system_poll_wait_seconds",
        type=_number,
        default=1,
        help="seconds between looks for versions; 0 for once",
    )
    add(
        "--max_num_load_retries",
        type=_number,
        default=5,
        help="how often a version that cannot be loaded is tried again",
    )
    add(
        "--load_retry_interval_micros",
        type=_number,
        default=60_000_000,
        help="microseconds between these tries",
    )
    add(
        "--allow_version_labels_for_unavailable_models",
        type=_boolean,
        nargs="?",
        const=True,
        default=False,
        help="let a new label name a version that is not loaded yet",
    )
    add(
        "--enable_batching",
        type=_boolean,
        nargs="?",
        const=True,
        default=False,
        help="let requests that arrive together share a call of the model",
    )
    add("--batching_parameters_file", default="", help="BatchingParameters text proto")
    add(
        "--tensorflow_intra_op_parallelism",
        type=_number,
        default=0,
        help="threads that share one operation: more answer one large image faster and many small "
        "ones slower; 0 for a quarter of the processors",
    )
    add(
        "--tensorflow_inter_op_parallelism",
        type=_number,
        default=0,
        help="threads for operations that run at once; 0 for as many as processors",
    )


def _add_listening(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--port", type=_port, default=8500, help="of gRPC; 0 for none")
    add("--rest_api_port", type=_port, default=0, help="of REST and the page at /; 0 for none")
    add("--rest_api_timeout_in_ms", type=_number, default=30_000, help="for a REST request")
    add("--host", default="127.0.0.1", help="address to bind to; 0.0.0.0 for every one")
    add("--grpc_socket_path", default="", help="Unix socket that gRPC listens on as well")
    add("--grpc_channel_arguments", default="", help="name=value pairs, with commas between")
    add("--ssl_config_file", default="", help="SSLConfig text proto, for gRPC")
    add("--monitoring_config_file", default="", help="MonitoringConfig text proto; needs REST")
    add(
        "--max_message_bytes",
        type=_number,
        default=MAX_MESSAGE_BYTES,
        help="largest request, gRPC or REST",
    )


def _number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2^31-1, got {text!r}")
    return number


def _port(text: str) -> int:
    number = _number(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text}")
    return number


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return values[text.lower()]


def _checked(given: argparse.Namespace) -> Flags:
    if given.port and given.port == given.rest_api_port:
        raise ConfigurationError("--rest_api_port cannot be the same as --port: choose another")
    if not given.port and not given.rest_api_port and not given.grpc_socket_path:
        raise ConfigurationError(
            "nothing to listen on: give --port, --rest_api_port or --grpc_socket_path"
        )
    if not given.max_message_bytes:
        raise ConfigurationError("--max_message_bytes must be above 0")
    return Flags(
        models=_models(given),
        manager=ManagerOptions(
            poll_seconds=given.file_system_poll_wait_seconds,
            load_retries=given.max_num_load_retries,
            retry_seconds=given.load_retry_interval_micros / 1e6,
            labels_ahead=given.allow_version_labels_for_unavailable_models,
        ),
        batching=_batching(given),
        config_file=Path(given.model_config_file) if given.model_config_file else None,
        config_poll_seconds=given.model_config_file_poll_wait_seconds,
        host=given.host,
        port=given.port or None,
        rest_port=given.rest_api_port or None,
        socket_path=given.grpc_socket_path,
        channel_arguments=_channel_arguments(given.grpc_channel_arguments),
        ssl=_ssl(given.ssl_config_file),
        metrics_path=_metrics_path(given),
        rest_timeout=given.rest_api_timeout_in_ms / 1000,
        max_message_bytes=given.max_message_bytes,
        intra_op_threads=given.tensorflow_intra_op_parallelism or max(1, PROCESSORS // 4),
        inter_op_threads=given.tensorflow_inter_op_parallelism,
    )


def _models(given: argparse.Namespace) -> Any:
    if given.model_config_file:
        models = config.read(Path(given.model_config_file), ModelServerConfig)
    elif given.model_base_path:
        models = config.single_model(given.model_name, given.model_base_path)
    else:
        raise ConfigurationError("no model: give --model_base_path or --model_config_file")
    if given.model_config_file_poll_wait_seconds and not given.model_config_file:
        raise ConfigurationError("--model_config_file_poll_wait_seconds needs --model_config_file")
    config.validate(models)
    return models


def _batching(given: argparse.Namespace) -> BatchingOptions | None:
    if not given.enable_batching:
        if given.batching_parameters_file:
            raise ConfigurationError(
                "--batching_parameters_file needs --enable_batching: give both or neither"
            )
        return None
    parameters = config.BatchingParameters()
    if given.batching_parameters_file:
        parameters = config.read(Path(given.batching_parameters_file), config.BatchingParameters)
    return BatchingOptions.from_proto(parameters)


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    pairs: list[tuple[str, int | str]] = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise ConfigurationError(f"--grpc_channel_arguments: expected name=value, got {part!r}")
        number = value.removeprefix("-")
        pairs.append((name, int(value) if number.isascii() and number.isdecimal() else value))
    return tuple(pairs)


def _ssl(file: str) -> Any:
    if not file:
        return None
    ssl = config.read(Path(file), config.SSLConfig)
    if not ssl.server_key or not ssl.server_cert:
        raise ConfigurationError(f"{file} needs server_key and server_cert, both as PEM text")
    if ssl.client_verify and not ssl.custom_ca:
        raise ConfigurationError(f"{file}: client_verify needs custom_ca to verify against")
    return ssl


def _metrics_path(given: argparse.Namespace) -> str | None:
    if not given.monitoring_config_file:
        return None
    if not given.rest_api_port:
        raise ConfigurationError(
            "--monitoring_config_file needs --rest_api_port, where the metrics are read"
        )
    monitoring = config.read(Path(given.monitoring_config_file), config.MonitoringConfig)
    prometheus = monitoring.prometheus_config
    if not prometheus.enable:
        return None
    path = prometheus.path or PROMETHEUS_PATH
    return path if path.startswith("/") else f"/{path}"
