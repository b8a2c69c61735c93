"""Requests per second of the local server beside calls in process, in turns, in one run.

    python -m benchmarks.serving

Client and server share the machine's cores. A call in process is the SavedModel's signature on a
NumPy array, with its answers as NumPy arrays; the client is `serving.client`, one thread for each
request at a time.
"""

import argparse
import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks import data
from benchmarks.machine import machine
from benchmarks.servers import cpu_seconds, local_server
from benchmarks.training import make_model
from keras_ae import contract as c
from keras_ae import presets
from keras_ae.models import linear
from keras_ae.saved_model.export import export
from serving.client.blocking import ReconstructionClient

TILE, PHOTOGRAPH = 64, (768, 512)
COUNTS, CONCURRENCIES = (1, 32), (1, 8, 32)
BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""
ONE_THREAD = "--tensorflow_inter_op_parallelism=1"
"""Batches are computed side by side; operations of one need not be."""

Call = Callable[[], object]


@dataclasses.dataclass
class Row:
    """One kind of request and what was measured of it.

    Attributes:
        place, work: of the table.
        images: in a request.
        concurrency: requests at a time.
        call: makes one request.
        pid: of the server's process; None for a call in process.
        latencies: seconds of each request.
        wall, cpu: seconds that all took, and that the processes computed meanwhile.
    """

    place: str
    work: str
    images: int
    concurrency: int
    call: Call
    pid: int | None = None
    latencies: list[float] = dataclasses.field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Images per second."""
        return len(self.latencies) * self.images / self.wall

    def percentile(self, share: float) -> float:
        """Milliseconds that so many of a hundred requests took at most."""
        return 1000 * float(np.percentile(self.latencies, share))

    def measure(self, seconds: float) -> None:
        """Sends requests for so long and adds up what was seen."""
        stop = time.perf_counter() + seconds
        began, computed = time.perf_counter(), self._computed()
        with ThreadPoolExecutor(self.concurrency) as pool:
            list(pool.map(self._send, [stop] * self.concurrency))
        self.wall += time.perf_counter() - began
        self.cpu += self._computed() - computed

    def _send(self, stop: float) -> None:
        while (began := time.perf_counter()) < stop:
            self.call()
            self.latencies.append(time.perf_counter() - began)

    def _computed(self) -> float:
        return time.process_time() + (cpu_seconds(self.pid) if self.pid else 0.0)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a SavedModel; without it an untrained one")
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind in each turn")
    parser.add_argument("--turns", type=int, default=3, help="of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or untrained(arguments.preset, Path(folder) / "model")
        parameters = Path(folder) / "batching.config"
        parameters.write_text(BATCHING)
        flags = ["--enable_batching", f"--batching_parameters_file={parameters}", ONE_THREAD]
        with local_server(model) as plain, local_server(model, flags) as batched:
            rows = [
                *in_process(model),
                *over_grpc("server", plain.target, plain.pid),
                *over_grpc("batching", batched.target, batched.pid),
            ]
            for row in rows:
                row.measure(0.5)
                row.latencies.clear()
                row.wall = row.cpu = 0.0
            for _ in range(arguments.turns):
                for row in rows:
                    row.measure(arguments.seconds)
        batching = " ".join([*BATCHING.split(), ONE_THREAD])
        print(f"{machine()}\nbatching: {batching}\n")
        print_rows(rows)
        print_parts(model, arguments.turns)


def untrained(preset: str, path: Path) -> Path:
    """A SavedModel that starts from PCA: what it was trained to changes no speed."""
    photographs = data.load("sample")["train"]
    moments = linear.patch_moments(photographs, presets.STRIDE)
    floor = linear.fit(moments, presets.LATENT_CHANNELS)
    export(make_model(preset, photographs), path, floor=floor, val_mse=[0.001])
    return path


def tiles(count: int) -> np.ndarray:
    """uint8 [count, 64, 64, 3]."""
    pixels = np.asarray(photograph())
    crops = [pixels[8 * i : 8 * i + TILE, 16 * i : 16 * i + TILE] for i in range(count)]
    return np.ascontiguousarray(crops)


def photograph() -> Image.Image:
    """A photograph of 768x512."""
    return Image.fromarray(data.load("sample")["test"][0]).resize(PHOTOGRAPH)


def in_process(model: Path) -> list[Row]:
    """Calls of the SavedModel's signatures."""
    signatures = tf.saved_model.load(str(model)).signatures
    reconstruct, default = signatures[c.RECONSTRUCT], signatures[c.SERVING_DEFAULT]

    def call(signature: Callable[..., dict], **arrays: object) -> Call:
        def answer() -> list[np.ndarray]:
            inputs = {name: tf.constant(array) for name, array in arrays.items()}
            return [value.numpy() for value in signature(**inputs).values()]

        return answer

    rows = [
        Row("in process", f"reconstruct N={n}", n, 1, call(reconstruct, images=tiles(n)))
        for n in (1, 8, 32)
    ]
    encoded = png(photograph())
    return [*rows, Row("in process", "photograph", 1, 1, call(default, image_bytes=[encoded]))]


def over_grpc(place: str, target: str, pid: int) -> list[Row]:
    """The client's requests, by kind and concurrency."""
    client = ReconstructionClient(target)
    encoded = png(photograph())
    rows = []
    for concurrency in CONCURRENCIES:
        for n in COUNTS:
            call = partial(client.predict, c.RECONSTRUCT, {c.IMAGES: tiles(n)})
            rows.append(Row(place, f"reconstruct N={n}", n, concurrency, call, pid))
        call = partial(client.predict, c.SERVING_DEFAULT, {c.IMAGE_BYTES: [encoded]})
        rows.append(Row(place, "photograph", 1, concurrency, call, pid))
    return rows


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def print_rows(rows: list[Row]) -> None:
    """The table: rates beside those in process for as many images in a request."""
    bare = {row.work: row for row in rows if row.pid is None}
    print(
        f"{'':<12} {'request':<18} {'at a time':>9} {'images/s':>9} {'of in process':>14} "
        f"{'p50 ms':>8} {'p99 ms':>8} {'cores':>6}"
    )
    for row in rows:
        print(
            f"{row.place:<12} {row.work:<18} {row.concurrency:>9} {row.rate:>9,.0f} "
            f"{row.rate / bare[row.work].rate:>14.2f} {row.percentile(50):>8.2f} "
            f"{row.percentile(99):>8.2f} {row.cpu / row.wall:>6.2f}"
        )
    goals = {(row.place, row.work, row.concurrency): row for row in rows}
    one, eight = "reconstruct N=1", "reconstruct N=8"
    best = max(goals["server", "reconstruct N=32", n].rate for n in CONCURRENCIES)
    latency = goals["server", one, 1].percentile(50) / bare[one].percentile(50)
    print(
        f"\nN=32, of in process at N=32: {best / bare['reconstruct N=32'].rate:.2f} (goal 0.85)"
        f"\nN=1, 8 at a time, of in process at N=1: "
        f"{goals['server', one, 8].rate / bare[one].rate:.2f} (goal 0.75)"
        f"\nthe same with batching, of in process at N=8: "
        f"{goals['batching', one, 8].rate / bare[eight].rate:.2f} (goal 0.60)"
        f"\nmedian latency of N=1, of in process: {latency:.2f} (goal at most 1.50)"
    )


def print_parts(model: Path, turns: int) -> None:
    """Where the time of a photograph goes."""
    signatures = tf.saved_model.load(str(model)).signatures
    encoded = png(photograph())
    pixels = tf.constant(np.asarray(photograph())[None])
    answer = signatures[c.SERVING_DEFAULT](image_bytes=tf.constant([encoded]))
    reconstruction = tf.io.decode_png(answer[c.RECONSTRUCTION_PNG_BYTES][0])
    size = len(answer[c.RECONSTRUCTION_PNG_BYTES].numpy()[0])
    parts: dict[str, Call] = {
        "all of serving_default": lambda: signatures[c.SERVING_DEFAULT](
            image_bytes=tf.constant([encoded])
        ),
        "decoding": lambda: tf.io.decode_png(encoded, 3),
        "model and scores": lambda: signatures[c.RECONSTRUCT](images=pixels),
        "encoding": lambda: tf.io.encode_png(reconstruction, compression=1),
        "encoding at TensorFlow's default level": lambda: tf.io.encode_png(reconstruction),
    }
    print(
        f"\na photograph of {PHOTOGRAPH[0]}x{PHOTOGRAPH[1]} in process, ms; a PNG of {size:,} bytes"
    )
    for name, call in parts.items():
        call()
        times = []
        for _ in range(10 * turns):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        print(f"  {name:<40} {1000 * statistics.median(times):>8.1f}")


if __name__ == "__main__":
    main()
