"""Requests per second of the local server, compared with calls in process.

    python -m benchmarks.serving

All are measured alternately in one run. Client and server share the machine's cores. A call in
process calls the SavedModel's signature with a NumPy array and converts the outputs to NumPy
arrays; the client is `serving.client`, with one thread for each concurrent request.
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
from benchmarks.models import fit_pca, initialize
from benchmarks.servers import cpu_seconds, local_server
from benchmarks.timing import measure_seconds
from keras_ae import contract as c
from keras_ae import presets
from keras_ae.saved_model.export import export
from serving.client.blocking import ReconstructionClient

TILE_SIZE, PHOTOGRAPH_SIZE = 64, (768, 512)
BATCH_SIZES, CONCURRENCIES = (1, 32), (1, 8, 32)
BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
"""
ONE_THREAD = "--tensorflow_inter_op_parallelism=1"
"""Batches are computed concurrently, so the operations of one batch need not be."""

Call = Callable[[], object]


@dataclasses.dataclass
class Measurement:
    """One kind of request and its measured times.

    Attributes:
        target, request: names of the row in the table.
        images: number of images in a request.
        concurrency: number of concurrent requests.
        call: sends one request and waits for the response.
        pid: process of the server; None for a call in process.
        latencies: seconds of each request.
        wall_seconds: time of all measurements.
        cpu_seconds: processor time of client and server during the measurements.
    """

    target: str
    request: str
    images: int
    concurrency: int
    call: Call
    pid: int | None = None
    latencies: list[float] = dataclasses.field(default_factory=list)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Images per second."""
        return len(self.latencies) * self.images / self.wall_seconds

    def latency_ms(self, percentile: float) -> float:
        """A percentile, 0 to 100, of the latencies in milliseconds."""
        return 1000 * float(np.percentile(self.latencies, percentile))

    def measure(self, seconds: float) -> None:
        """Sends requests for a time and adds the results to those of earlier measurements."""
        start, cpu_start = time.perf_counter(), self._total_cpu_seconds()
        with ThreadPoolExecutor(self.concurrency) as pool:
            list(pool.map(self._send, [start + seconds] * self.concurrency))
        self.wall_seconds += time.perf_counter() - start
        self.cpu_seconds += self._total_cpu_seconds() - cpu_start

    def _send(self, deadline: float) -> None:
        while (start := time.perf_counter()) < deadline:
            self.call()
            self.latencies.append(time.perf_counter() - start)

    def _total_cpu_seconds(self) -> float:
        return time.process_time() + (cpu_seconds(self.pid) if self.pid else 0.0)


def main() -> None:
    """Parses the command line, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a SavedModel; by default an untrained one")
    parser.add_argument("--preset", choices=presets.PRESETS, default=presets.DEFAULT)
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or export_untrained(arguments.preset, Path(folder) / "model")
        parameters = Path(folder) / "batching.config"
        parameters.write_text(BATCHING)
        flags = ["--enable_batching", f"--batching_parameters_file={parameters}", ONE_THREAD]
        with local_server(model) as plain, local_server(model, flags) as batched:
            measurements = [
                *in_process(model),
                *over_grpc("server", plain.target, plain.pid),
                *over_grpc("batching", batched.target, batched.pid),
            ]
            for measurement in measurements:
                measurement.measure(0.5)
                measurement.latencies.clear()
                measurement.wall_seconds = measurement.cpu_seconds = 0.0
            for _ in range(arguments.repeats):
                for measurement in measurements:
                    measurement.measure(arguments.seconds)
        batching = " ".join([*BATCHING.split(), ONE_THREAD])
        print(f"{machine()}\nbatching: {batching}\n")
        print_measurements(measurements)
        print_parts(model, arguments.repeats)


def export_untrained(preset: str, path: Path) -> Path:
    """Writes the SavedModel of an untrained model and returns its path."""
    pca = fit_pca(data.load("sample")["train"])
    export(initialize(preset, pca), path, floor=pca, val_mse=[0.001])
    return path


def tiles(count: int) -> np.ndarray:
    """Tiles of a photograph, uint8 [count, 64, 64, 3]."""
    pixels = np.asarray(photograph())
    crops = [pixels[8 * i : 8 * i + TILE_SIZE, 16 * i : 16 * i + TILE_SIZE] for i in range(count)]
    return np.ascontiguousarray(crops)


def photograph() -> Image.Image:
    """A photograph of 768x512 pixels."""
    return Image.fromarray(data.load("sample")["test"][0]).resize(PHOTOGRAPH_SIZE)


def in_process(model: Path) -> list[Measurement]:
    """Calls of the SavedModel's signatures in this process."""
    signatures = tf.saved_model.load(str(model)).signatures
    reconstruct, default = signatures[c.RECONSTRUCT], signatures[c.SERVING_DEFAULT]

    def call(signature: Callable[..., dict], **arrays: object) -> Call:
        def predict() -> list[np.ndarray]:
            inputs = {name: tf.constant(array) for name, array in arrays.items()}
            return [value.numpy() for value in signature(**inputs).values()]

        return predict

    name = "in process"
    measurements = [
        Measurement(name, f"reconstruct N={n}", n, 1, call(reconstruct, images=tiles(n)))
        for n in (1, 8, 32)
    ]
    encoded = png(photograph())
    measurements.append(Measurement(name, "photograph", 1, 1, call(default, image_bytes=[encoded])))
    return measurements


def over_grpc(name: str, target: str, pid: int) -> list[Measurement]:
    """Requests of the client to a server, by kind and concurrency."""
    client = ReconstructionClient(target)
    encoded = png(photograph())
    measurements = []
    for concurrency in CONCURRENCIES:
        for n in BATCH_SIZES:
            call = partial(client.predict, c.RECONSTRUCT, {c.IMAGES: tiles(n)})
            measurements.append(Measurement(name, f"reconstruct N={n}", n, concurrency, call, pid))
        call = partial(client.predict, c.SERVING_DEFAULT, {c.IMAGE_BYTES: [encoded]})
        measurements.append(Measurement(name, "photograph", 1, concurrency, call, pid))
    return measurements


def png(image: Image.Image) -> bytes:
    """The image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def print_measurements(measurements: list[Measurement]) -> None:
    """Prints the table, with each rate relative to that of the same request in process."""
    baselines = {row.request: row for row in measurements if row.pid is None}
    print(
        f"{'':<12} {'request':<18} {'concurrent':>10} {'images/s':>9} {'vs in process':>14} "
        f"{'p50 ms':>8} {'p99 ms':>8} {'cores':>6}"
    )
    for row in measurements:
        print(
            f"{row.target:<12} {row.request:<18} {row.concurrency:>10} {row.rate:>9,.0f} "
            f"{row.rate / baselines[row.request].rate:>14.2f} {row.latency_ms(50):>8.2f} "
            f"{row.latency_ms(99):>8.2f} {row.cpu_seconds / row.wall_seconds:>6.2f}"
        )
    rows = {(row.target, row.request, row.concurrency): row for row in measurements}
    one, eight, many = "reconstruct N=1", "reconstruct N=8", "reconstruct N=32"
    best = max(rows["server", many, concurrency].rate for concurrency in CONCURRENCIES)
    concurrent = rows["server", one, 8].rate / baselines[one].rate
    batched = rows["batching", one, 8].rate / baselines[eight].rate
    latency = rows["server", one, 1].latency_ms(50) / baselines[one].latency_ms(50)
    print(
        "\nratios to calls in process:"
        f"\nimages/s, N=32: {best / baselines[many].rate:.2f} (goal 0.85)"
        f"\nimages/s, 8 concurrent requests of N=1, to N=1: {concurrent:.2f} (goal 0.75)"
        f"\nimages/s, the same with batching, to N=8: {batched:.2f} (goal 0.60)"
        f"\nmedian latency, N=1: {latency:.2f} (goal at most 1.50)"
    )


def print_parts(model: Path, repeats: int) -> None:
    """Prints the median time of each part of reconstructing a photograph."""
    signatures = tf.saved_model.load(str(model)).signatures
    encoded = png(photograph())
    pixels = tf.constant(np.asarray(photograph())[None])
    outputs = signatures[c.SERVING_DEFAULT](image_bytes=tf.constant([encoded]))
    (reconstruction_png,) = outputs[c.RECONSTRUCTION_PNG_BYTES].numpy()
    reconstruction = tf.io.decode_png(reconstruction_png)
    parts: dict[str, Call] = {
        "all of serving_default": lambda: signatures[c.SERVING_DEFAULT](
            image_bytes=tf.constant([encoded])
        ),
        "decoding": lambda: tf.io.decode_png(encoded, 3),
        "model and scores": lambda: signatures[c.RECONSTRUCT](images=pixels),
        "encoding": lambda: tf.io.encode_png(reconstruction, compression=1),
        "encoding at TensorFlow's default level": lambda: tf.io.encode_png(reconstruction),
    }
    width, height = PHOTOGRAPH_SIZE
    print(
        f"\na photograph of {width}x{height} in process, ms; "
        f"a PNG of {len(reconstruction_png):,} bytes"
    )
    for name, call in parts.items():
        call()
        seconds = [measure_seconds(call) for _ in range(10 * repeats)]
        print(f"  {name:<40} {1000 * statistics.median(seconds):>8.1f}")


if __name__ == "__main__":
    main()
