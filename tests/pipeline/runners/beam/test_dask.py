"""Why `--beam-runner dask` is refused. If one of these fails, a new Beam may do better: try it."""

from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from pipeline.components.image_example_gen.executor import Executor
from pipeline.runners.beam import engines

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def arguments() -> Iterator[list[str]]:
    """Beam's for a cluster of threads."""
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        runner = f"--runner={engines.RUNNERS[engines.DASK]}"
        yield [runner, f"--dask_client_address={cluster.scheduler_address}"]
        # Beam leaves its own open.
        for client in list(Client._instances):
            client.close()


def _touch(number: int, place: Path) -> None:
    (place / str(number)).touch()


def _names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_file())


def test_a_file_that_is_written_is_empty(arguments, tmp_path):
    with beam.Pipeline(argv=arguments) as pipeline:
        _ = pipeline | beam.Create(["a", "b"]) | beam.io.WriteToText(str(tmp_path / "out"))
    (path,) = (path for path in tmp_path.iterdir() if path.is_file())
    assert path.read_text() == ""


def test_one_branch_of_two_is_run(arguments, tmp_path):
    with beam.Pipeline(argv=arguments) as pipeline:
        for number in (1, 2):
            created = pipeline | f"create {number}" >> beam.Create([number])
            _ = created | f"touch {number}" >> beam.Map(_touch, tmp_path)
    assert _names(tmp_path) == ["2"]


def test_a_split_puts_all_elements_into_one_part(arguments, tmp_path):
    with beam.Pipeline(argv=arguments) as pipeline:
        numbers = pipeline | beam.Create([1, 2, 3])
        _, odd = numbers | beam.Partition(lambda number, _: number % 2, 2)
        _ = odd | beam.Map(_touch, tmp_path)
    assert _names(tmp_path) == ["1", "2", "3"]


def test_ingest_keeps_no_plan(arguments, tmp_path, photographs, encode):
    (tmp_path / "images").mkdir()
    for i in range(4):
        data = encode(photographs[0][i : i + 40, :60], "PNG")
        (tmp_path / "images" / f"{i}.png").write_bytes(data)
    examples = standard_artifacts.Examples()
    examples.uri = str(tmp_path / "examples")
    executor = Executor(BaseBeamExecutor.Context(beam_pipeline_args=arguments))
    properties = {"data": str(tmp_path / "images"), "channels": 3, "max_bad_share": 0.1}
    # Of its two branches, one keeps what the other has found out.
    with pytest.raises(tf.errors.NotFoundError, match="/plan"):
        executor.Do({}, {"examples": [examples]}, properties)
