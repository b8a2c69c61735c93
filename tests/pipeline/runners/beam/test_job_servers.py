"""Ingest through a job server of Beam, as Flink and Spark run it.

Their servers are Java programs: put the jars where Beam keeps them, or name them in
KERAS_AE_FLINK_JAR and KERAS_AE_SPARK_JAR. The way to a server is tried with Beam's own in Python.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import FlinkRunnerOptions
from apache_beam.version import __version__ as version
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from pipeline.components.image_example_gen.executor import Executor
from pipeline.runners.beam import engines

CACHE = Path("~/.apache_beam/cache/jars").expanduser()
FLINK = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS[-1]
JARS = {
    "flink": f"beam-runners-flink-{FLINK}-job-server-{version}.jar",
    "spark": f"beam-runners-spark-3-job-server-{version}.jar",
}


@pytest.fixture
def images(tmp_path, photographs, encode) -> Path:
    place = tmp_path / "images"
    place.mkdir()
    for i in range(6):
        (place / f"{i}.png").write_bytes(encode(photographs[0][i : i + 40, :60], "PNG"))
    return place


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """Address of a job server of Beam's own in Python."""
    port = tmp_path / "port"
    module = "apache_beam.runners.portability.local_job_service_main"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", module, "--port=0", f"--port_file={port}"],
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            for _ in range(1200):
                if port.exists() and port.read_text():
                    break
                time.sleep(0.1)
            yield f"localhost:{port.read_text()}"
        finally:
            process.terminate()


def ingest(images: Path, place: Path, arguments: list[str]) -> dict[str, list[bytes]]:
    """The examples of each split, sorted."""
    examples = standard_artifacts.Examples()
    examples.uri = str(place)
    executor = Executor(BaseBeamExecutor.Context(beam_pipeline_args=arguments))
    properties = {"data": str(images), "channels": 3, "max_bad_share": 0.1}
    executor.Do({}, {"examples": [examples]}, properties)
    files = {split.name: list(split.glob("*.gz")) for split in place.glob("Split-*")}
    return {
        name: sorted(tf.data.TFRecordDataset(list(map(str, paths)), "GZIP").as_numpy_iterator())
        for name, paths in files.items()
    }


def in_memory(images: Path, place: Path) -> dict[str, list[bytes]]:
    return ingest(images, place, engines.beam_arguments(engines.DIRECT, 1, []))


@pytest.mark.parametrize("runner", ["flink", "spark"])
def test_a_job_server_that_runs_elsewhere_is_used(runner, server, images, tmp_path):
    passed = [f"--job_endpoint={server}", "--environment_type=LOOPBACK"]
    arguments = engines.beam_arguments(runner, 2, passed)
    written = ingest(images, tmp_path / "through", arguments)
    assert written == in_memory(images, tmp_path / "direct")
    assert sum(map(len, written.values())) == 6


@pytest.mark.parametrize("runner", ["flink", "spark"])
def test_a_job_server_is_started(runner, images, tmp_path):
    jar = Path(os.environ.get(f"KERAS_AE_{runner.upper()}_JAR", CACHE / JARS[runner]))
    if not jar.is_file():
        pytest.skip(f"the job server's jar is not here: {JARS[runner]}")
    if not shutil.which("java"):
        pytest.skip("there is no Java here")
    arguments = engines.beam_arguments(runner, 2, [f"--{runner}_job_server_jar={jar}"])
    written = ingest(images, tmp_path / "through", arguments)
    assert written == in_memory(images, tmp_path / "direct")
