"""Compares served predictions with those of the trained model.

`python -m serving.check SAVED_MODEL_DIR EXPECTED.npz` starts a server on the SavedModel and sends
images whose reconstructions are known, over gRPC and REST, as tensors and as PNG.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from keras_ae import contract as c
from keras_ae.errors import DataError, KerasAEError, ServerError
from serving.client.blocking import ReconstructionClient
from serving.client.images import encode_png

BINARY: Final = "tensorflow_model_server"
HOST: Final = "127.0.0.1"
TOLERANCE: Final = 1
"""Largest difference that is allowed, in grey levels."""

START_TIMEOUT_SECONDS, REQUEST_TIMEOUT_SECONDS, STOP_TIMEOUT_SECONDS = 120.0, 120.0, 10.0
# Reconnect soon to a server that has just started to listen.
_CHANNEL_OPTIONS: Final = (("grpc.max_reconnect_backoff_ms", 100),)

Pair = tuple[np.ndarray, np.ndarray]
"""Images and their reconstructions."""


def main(argv: list[str] | None = None) -> int:
    """Parses the command line, checks the model and prints the result; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serving.check", description=__doc__)
    parser.add_argument("saved_model", type=Path, metavar="SAVED_MODEL_DIR")
    parser.add_argument(
        "expected",
        metavar="EXPECTED.npz",
        help="file with images_0, images_1, ... and reconstructions_0, ...: uint8 [N, H, W, C]; "
        "- reads the path of the file, as JSON, from standard input once the server runs",
    )
    arguments = parser.parse_args(argv)
    # Leaves the context managers, so that the server is stopped as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if arguments.expected == "-":
            return _report(check(arguments.saved_model, _read_from_stdin))
        pairs = read_expected(Path(arguments.expected))
        return _report(check(arguments.saved_model, lambda: pairs))
    except KerasAEError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def read_expected(path: Path) -> list[Pair]:
    """Reads images and their reconstructions, uint8 [N, H, W, C] each.

    Raises:
        DataError: if the file does not have them in pairs.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            count = sum(name.startswith("images_") for name in arrays.files)
            pairs = [(arrays[f"images_{i}"], arrays[f"reconstructions_{i}"]) for i in range(count)]
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"cannot read images and reconstructions in {path}: {error}") from error
    for images, reconstructions in pairs:
        if images.shape != reconstructions.shape or images.ndim != 4 or not images.size:
            raise DataError(
                f"expected images and reconstructions of one shape [N, H, W, C] in {path}; got "
                f"{list(images.shape)} and {list(reconstructions.shape)}"
            )
    if not pairs:
        raise DataError(f"expected images_0 and reconstructions_0 in {path}; got neither")
    return pairs


def _read_from_stdin() -> list[Pair]:
    line = sys.stdin.readline()
    try:
        return read_expected(Path(json.loads(line)))
    except (ValueError, TypeError) as error:
        raise DataError(f"expected the path of a file as JSON; got {line!r}") from error


def check(model: Path, expected: Callable[[], list[Pair]]) -> dict[str, int]:
    """Serves a SavedModel and compares its reconstructions with the expected ones.

    Args:
        model: folder of the SavedModel.
        expected: called when the model is served; returns images and their reconstructions, uint8
            [N, H, W, C] each.

    Returns:
        Protocol and kind of request, such as "gRPC, PNG" -> largest difference in grey levels.

    Raises:
        DataError: if there is no SavedModel.
        ServerError: if the server does not start, or a request fails.
    """
    if not (model / "saved_model.pb").is_file():
        raise DataError(f"no SavedModel in {model}")
    differences = {}
    with serve(model) as (name, targets):
        pairs = expected()
        for protocol, target in targets.items():
            with ReconstructionClient(
                target, name, timeout=REQUEST_TIMEOUT_SECONDS, retries=0
            ) as client:
                for kind, reconstruct in _RECONSTRUCT.items():
                    differences[f"{protocol}, {kind}"] = max(
                        _max_difference(reconstruct(client, images), reconstructions)
                        for images, reconstructions in pairs
                    )
    return differences


@contextmanager
def serve(model: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Serves a SavedModel on free ports of this machine; gives its name and protocol -> address.

    The server is `tensorflow_model_server` if that is on the PATH, otherwise the local one. The
    model has a unique name, so that another server on one of the ports would be noticed.

    Raises:
        ServerError: if the server ends before it is ready; the message has its last lines.
    """
    name = f"check_{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix="keras_ae_check_") as folder:
        base = Path(folder) / name
        base.mkdir()
        (base / "1").symlink_to(model.absolute(), target_is_directory=True)
        with socket.create_server((HOST, 0)) as first, socket.create_server((HOST, 0)) as second:
            ports = [probe.getsockname()[1] for probe in (first, second)]
        targets = {"gRPC": f"{HOST}:{ports[0]}", "REST": f"http://{HOST}:{ports[1]}"}
        binary = shutil.which(BINARY)
        command = [binary] if binary else [sys.executable, "-m", "serving.server"]
        command += [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
        command += [f"--model_name={name}", f"--model_base_path={base}"]
        # The folder does not change: search it once, and do not retry a model that fails to load.
        command += ["--file_system_poll_wait_seconds=0", "--max_num_load_retries=0"]
        log = Path(folder) / "log"
        # Makes the server's package importable from any working directory.
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        try:
            for target in targets.values():
                _wait_until_ready(name, target, process, log)
            yield name, targets
        finally:
            _stop(process)


def _wait_until_ready(name: str, target: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def check_running() -> None:
        if process.poll() is not None:
            last_lines = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServerError(
                f"the server ended with status {process.returncode} before it was ready: "
                f"{' / '.join(last_lines) or 'it printed nothing'}"
            )

    with ReconstructionClient(target, name, channel_options=_CHANNEL_OPTIONS) as client:
        client.wait_until_ready(START_TIMEOUT_SECONDS, while_waiting=check_running)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reconstruct_tensors(client: ReconstructionClient, images: np.ndarray) -> np.ndarray:
    # predict, since ReconstructionClient.reconstruct sends arrays as PNG over REST.
    return client.predict(c.RECONSTRUCT, {c.IMAGES: images})[c.RECONSTRUCTIONS]


def _reconstruct_png(client: ReconstructionClient, images: np.ndarray) -> np.ndarray:
    result = client.reconstruct([encode_png(image) for image in images])
    reasons = sorted({status for status in result.status if status})
    if reasons:
        raise ServerError(f"the server could not use an image sent as PNG: {', '.join(reasons)}")
    return np.stack(result.reconstructions)


_RECONSTRUCT: Final = {"tensors": _reconstruct_tensors, "PNG": _reconstruct_png}


def _max_difference(served: np.ndarray, expected: np.ndarray) -> int:
    if served.shape != expected.shape:
        raise ServerError(
            f"expected reconstructions {list(expected.shape)}; got {list(served.shape)}"
        )
    return int(np.abs(served.astype(np.int16) - expected).max())


def _report(differences: dict[str, int]) -> int:
    for request, difference in differences.items():
        print(f"{request}: largest difference {difference} of 255 grey levels")
    excessive = [f"{r}: {d} grey levels" for r, d in differences.items() if d > TOLERANCE]
    if excessive:
        print(
            "error: served predictions differ from the trained model; at most "
            f"{TOLERANCE} grey level is allowed ({'; '.join(excessive)})",
            file=sys.stderr,
        )
    return int(bool(excessive))


if __name__ == "__main__":
    sys.exit(main())
