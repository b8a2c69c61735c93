import pytest
from PIL import Image

from benchmarks.servers import local_server
from tests.endurance import storms, swaps
from tests.endurance.storm import Storm, StressError


@pytest.fixture(scope="module")
def server(cold):
    with local_server(cold, ["--max_num_load_retries=0"]) as running:
        yield running


@pytest.fixture
def storm(server, photographs):
    return Storm(server.target, server.url, server.pid, Image.fromarray(photographs[1]))


def test_unusual_images_are_reconstructed(storm):
    assert storms.unusual_images(storm)["answered"] == 15


def test_broken_images_get_a_status(storm):
    assert storms.broken_images(storm)["status"] == 17


def test_each_mutated_image_gets_a_status_or_a_correct_result(storm):
    counts = storms.mutated_images(storm, 80)
    assert counts.total() == 80
    assert min(counts["status"], counts["answered"]) > 10


def test_bad_tensors_are_refused(storm):
    assert storms.bad_tensors(storm)["INVALID_ARGUMENT"] == 13


def test_random_tensors_are_answered_or_refused(storm):
    counts = storms.random_tensors(storm, 300)
    assert counts.total() == 300
    assert min(counts["OK"], counts["INVALID_ARGUMENT"]) > 5


def test_bad_rest_requests_are_refused(storm):
    assert storms.bad_rest(storm).total() >= 10


def test_cancelled_requests_do_not_block_others(storm, server):
    assert storms.cancelled_requests(storm, server.target, 20)["CANCELLED"] == 10


def test_incomplete_requests_do_not_block_others(storm, server):
    assert storms.slow_streams(storm, server.target, 20)["open"] == 40


def test_memory_does_not_grow_with_invalid_requests(storm):
    def some_of_each() -> None:
        storms.broken_images(storm)
        storms.bad_rest(storm)
        storms.mutated_images(storm, 50)
        storms.random_tensors(storm, 100)

    some_of_each()
    before = storm.memory()
    some_of_each()
    some_of_each()
    assert storm.memory() < 1.1 * before


def test_versions_come_and_go_under_load_without_a_failed_request(storm, server):
    counts = swaps.hot_swap(storm, server.target, server.base, seconds=0, threads=1)
    assert counts["rounds"] == 1
    assert counts["requests"] > 10


def test_a_different_response_is_an_error(storm):
    storm.expected = {name: values[:0] for name, values in storm.expected.items()}
    with pytest.raises(StressError, match="the good request has another"):
        storm.check_good("nothing")
