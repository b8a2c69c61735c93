"""Whether a served model answers as it did: `python -m serving.check SAVED_MODEL_DIR EXPECTED.npz`

A server is started on the SavedModel, and images whose reconstructions are known are sent in each
way that a client may send them.
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
from typing import Final, NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae.errors import DataError, KerasAEError, ServerError
from serving.client.blocking import ReconstructionClient
from serving.client.images import encode_png

BINARY: Final = "tensorflow_model_server"
TOLERANCE: Final = 1
"""Grey levels that an answer may differ by."""

START_TIMEOUT, TIMEOUT, STOP_TIMEOUT = 120.0, 120.0, 10.0
# A server that has just begun to listen is found at once.
_OPTIONS: Final = (("grpc.max_reconnect_backoff_ms", 100),)


class Server(NamedTuple):
    """A server that runs: the name of its model, and its addresses."""

    model: str
    grpc: str
    rest: str


def main(argv: list[str] | None = None) -> int:
    """Parses, checks and tells; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serving.check", description=__doc__)
    parser.add_argument("saved_model", type=Path, metavar="SAVED_MODEL_DIR")
    parser.add_argument(
        "expected",
        metavar="EXPECTED.npz",
        help="images_0, images_1, ... and reconstructions_0, ...: uint8 [N, H, W, C]; - reads "
        "its path, as JSON, from the standard input once the server runs",
    )
    arguments = parser.parse_args(argv)
    # Whoever stops the check stops its server, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if arguments.expected == "-":
            return _report(check(arguments.saved_model, _read_named))
        pairs = read_expected(Path(arguments.expected))
        return _report(check(arguments.saved_model, lambda: pairs))
    except KerasAEError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def read_expected(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and their reconstructions, uint8 [N, H, W, C] each.

    Raises:
        DataError: if the file does not hold them in pairs.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            count = sum(name.startswith("images_") for name in arrays.files)
            names = [(f"images_{i}", f"reconstructions_{i}") for i in range(count)]
            pairs = [(arrays[a], arrays[b]) for a, b in names]
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


def _read_named() -> list[tuple[np.ndarray, np.ndarray]]:
    line = sys.stdin.readline()
    try:
        return read_expected(Path(json.loads(line)))
    except (ValueError, TypeError) as error:
        raise DataError(f"expected the path of a file as JSON; got {line!r}") from error


def check(
    model: Path, expected: Callable[[], list[tuple[np.ndarray, np.ndarray]]]
) -> dict[str, int]:
    """Serves a SavedModel and asks it for reconstructions in every way.

    Args:
        model: folder of the SavedModel.
        expected: called when it is served; gives images and their reconstructions, uint8
            [N, H, W, C] each.

    Returns:
        The largest difference in grey levels of each way, by its name.

    Raises:
        DataError: if there is no SavedModel.
        ServerError: if the server does not start or refuses a request.
    """
    if not (model / "saved_model.pb").is_file():
        raise DataError(f"no SavedModel in {model}")
    with serve(model) as server:
        found, pairs = {}, expected()
        for protocol, target in (("gRPC", server.grpc), ("REST", server.rest)):
            with ReconstructionClient(target, server.model, timeout=TIMEOUT, retries=0) as client:
                for kind, ask in (("tensors", _by_tensors), ("PNG", _by_png)):
                    found[f"{protocol}, {kind}"] = max(
                        _difference(ask(client, images), reconstructions)
                        for images, reconstructions in pairs
                    )
    return found


@contextmanager
def serve(model: Path) -> Iterator[Server]:
    """A server of one SavedModel on free ports of this machine, stopped at the end.

    It is `tensorflow_model_server` where that is on the PATH, else the local one. Its model has a
    name of its own, so that no other server can be taken for it.

    Raises:
        ServerError: if it ends before it is ready; its last words are in the message.
    """
    name = f"check_{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix="keras_ae_check_") as folder:
        base = Path(folder) / name
        base.mkdir()
        (base / "1").symlink_to(model.absolute(), target_is_directory=True)
        ports = _free_ports(2)
        server = Server(name, f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
        binary = shutil.which(BINARY)
        command = [binary] if binary else [sys.executable, "-m", "serving.server"]
        command += [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
        command += [f"--model_name={name}", f"--model_base_path={base}"]
        # Once: nothing changes below; and a model that cannot be loaded will not mend.
        command += ["--file_system_poll_wait_seconds=0", "--max_num_load_retries=0"]
        log = Path(folder) / "log"
        # Our packages are found wherever the check is run.
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        try:
            _wait(server, process, log)
            yield server
        finally:
            _stop(process)


def _wait(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    def died() -> None:
        if process.poll() is not None:
            words = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServerError(
                f"the server ended with status {process.returncode} before it was ready: "
                f"{' / '.join(words) or 'it said nothing'}"
            )

    with ReconstructionClient(server.grpc, server.model, channel_options=_OPTIONS) as client:
        client.wait_until_ready(START_TIMEOUT, while_waiting=died)
    with ReconstructionClient(server.rest, server.model) as client:
        client.wait_until_ready(START_TIMEOUT, while_waiting=died)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _by_tensors(client: ReconstructionClient, images: np.ndarray) -> np.ndarray:
    """As tensors over REST too, where `reconstruct` would send PNG."""
    return client.predict(c.RECONSTRUCT, {c.IMAGES: images})[c.RECONSTRUCTIONS]


def _by_png(client: ReconstructionClient, images: np.ndarray) -> np.ndarray:
    result = client.reconstruct([encode_png(image) for image in images])
    faults = sorted({status for status in result.status if status})
    if faults:
        raise ServerError(f"the server could not use an image sent as PNG: {', '.join(faults)}")
    return np.stack(result.reconstructions)


def _difference(answer: np.ndarray, expected: np.ndarray) -> int:
    if answer.shape != expected.shape:
        raise ServerError(
            f"expected reconstructions {list(expected.shape)}; got {list(answer.shape)}"
        )
    return int(np.abs(answer.astype(np.int16) - expected).max())


def _report(found: dict[str, int]) -> int:
    for way, difference in found.items():
        print(f"{way}: largest difference {difference} of 255 grey levels")
    wrong = {way: difference for way, difference in found.items() if difference > TOLERANCE}
    if not wrong:
        return 0
    ways = "; ".join(f"{way}: {difference} grey levels" for way, difference in wrong.items())
    print(
        f"error: the server does not answer as the model did, at most {TOLERANCE} grey level is "
        f"allowed ({ways})",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
