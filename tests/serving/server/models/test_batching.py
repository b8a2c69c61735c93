import asyncio
import contextlib
import dataclasses
import io
import threading

import grpc
import numpy as np
import pytest
from PIL import Image

from keras_ae import contract
from keras_ae.errors import ConfigurationError
from serving.server.errors import RequestError
from serving.server.models import config
from serving.server.models.batching import Batcher, BatchingOptions
from serving.server.models.inputs import Inputs
from serving.server.models.servable import Servable
from serving.wire.protos import Example, PredictRequest
from serving.wire.tensors import to_proto
from tests.serving.servers import PIXELS, wait_until


def inputs(values, columns=1, signature="s", outputs=("y",)):
    array = np.repeat(np.array(values, np.float32)[:, None], columns, axis=1)
    return Inputs(signature, {"x": array}, outputs, len(values), 0)


class Key(str):
    """A model version, of which a test needs the name only."""

    __slots__ = ()
    in_use = contextlib.nullcontext


class DoublingModel:
    """A model that doubles its inputs and records its batches; clearing `go` blocks its calls."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()
        self.go.set()

    def __call__(self, batch):
        self.batches.append(batch.arrays["x"].tolist())
        self.go.wait(60)
        if (batch.arrays["x"] < 0).any():
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "negative")
        return {"y": batch.arrays["x"] * 2}


async def submit_all(options, model, members, servables=None):
    batcher = Batcher(options)
    servables = servables or ["model"] * len(members)
    work = [batcher.submit(Key(s), m, model) for s, m in zip(servables, members)]
    try:
        return await asyncio.gather(*work, return_exceptions=True)
    finally:
        batcher.close()


def run(options, model, *members, **rest):
    return asyncio.run(submit_all(options, model, members, **rest))


ONE_THREAD = BatchingOptions(max_batch_size=8, num_batch_threads=1)


def test_concurrent_requests_are_one_batch_and_get_their_own_rows():
    model = DoublingModel()
    answers = run(ONE_THREAD, model, inputs([1]), inputs([2, 3]), inputs([4]))
    assert model.batches == [[[1], [2], [3], [4]]]
    assert [answer["y"].ravel().tolist() for answer in answers] == [[2], [4, 6], [8]]


def test_a_batch_is_never_larger_than_allowed():
    model = DoublingModel()
    answers = run(ONE_THREAD, model, *(inputs([i] * 3) for i in range(5)))
    assert [len(batch) for batch in model.batches] == [6, 6, 3]
    assert [answer["y"][0, 0] for answer in answers] == [0, 2, 4, 6, 8]


def test_a_larger_request_is_refused():
    [error] = run(ONE_THREAD, DoublingModel(), inputs([1] * 9))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == "Task size 9 is larger than maximum input batch size 8"


@pytest.mark.parametrize(
    "different",
    [inputs([2], columns=2), inputs([2], signature="t"), inputs([2], outputs=("y", "z"))],
)
def test_requests_with_different_shapes_signatures_or_outputs_are_not_batched(different):
    model = DoublingModel()
    run(ONE_THREAD, model, inputs([1]), different, inputs([3]))
    assert sorted(map(len, model.batches)) == [1, 2]


def test_versions_are_not_mixed():
    model = DoublingModel()
    run(ONE_THREAD, model, inputs([1]), inputs([2]), servables=["one", "two"])
    assert sorted(model.batches) == [[[1]], [[2]]]


def test_batches_are_padded_to_the_next_allowed_size():
    model = DoublingModel()
    options = BatchingOptions(max_batch_size=8, num_batch_threads=1, allowed_batch_sizes=(4, 8))
    answers = run(options, model, inputs([1]), inputs([2]))
    assert model.batches == [[[1], [2], [2], [2]]]
    assert [answer["y"].tolist() for answer in answers] == [[[2]], [[4]]]


def test_a_failing_request_does_not_fail_the_others_in_its_batch():
    answers = run(ONE_THREAD, DoublingModel(), inputs([1]), inputs([-2]), inputs([3]))
    assert answers[0]["y"].tolist() == [[2]]
    assert (answers[1].code, answers[1].message) == (grpc.StatusCode.INVALID_ARGUMENT, "negative")
    assert answers[2]["y"].tolist() == [[6]]


class DecodingModel:
    """A model that decodes at most 5 pixels per call; `x` is the number of pixels of each row."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        sizes = batch.arrays["x"][:, 0]
        self.batches.append(len(sizes))
        fits = np.cumsum(sizes) <= 5
        status = np.where(fits, b"", contract.TOO_MANY_PIXELS.encode()).astype(object)
        outputs = {"y": sizes * fits, contract.STATUS: status}
        return {name: outputs[name] for name in batch.outputs}


@pytest.mark.parametrize("outputs", [("y", contract.STATUS), ("y",)])
def test_the_pixels_of_a_request_do_not_fail_the_others_in_its_batch(outputs):
    model = DecodingModel()
    members = [
        dataclasses.replace(inputs(sizes), outputs=outputs, has_status=True)
        for sizes in ([4], [3], [4, 4])
    ]
    answers = run(ONE_THREAD, model, *members)
    assert model.batches == [4, 1, 1, 2]
    assert [answer["y"].tolist() for answer in answers] == [[4], [3], [4, 0]]
    assert all(set(answer) == set(outputs) for answer in answers)


@pytest.fixture(scope="module")
def servable(cold):
    return Servable(cold)


@pytest.mark.parametrize(
    ("signature", "sent", "expected"),
    [
        ("serving_default", {"image_bytes": [b""]}, True),
        ("decode", {"latents": np.zeros((1, 1, 1, 8), np.float32)}, False),
    ],
)
def test_has_status_is_true_for_signatures_with_a_status(servable, signature, sent, expected):
    request = PredictRequest(output_filter=["psnr"] if expected else [])
    request.model_spec.signature_name = signature
    for name, values in sent.items():
        request.inputs[name].CopyFrom(to_proto(values))
    assert servable.check(request).has_status == expected


def png(side):
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("signature", "alias", "sides", "is_large"),
    [
        ("serving_default", "image_bytes", [2100], True),
        ("serving_default", "image_bytes", [1500, 1500], True),
        ("serving_default", "image_bytes", [1500, 0], False),
        ("score", "examples", [2100], True),
        ("score", "examples", [16], False),
    ],
)
def test_encoded_images_are_large_by_their_headers(servable, signature, alias, sides, is_large):
    values = [png(side) if side else b"no image" for side in sides]
    if alias == "examples":
        for i, value in enumerate(values):
            example = Example()
            example.features.feature["image/encoded"].bytes_list.value.append(value)
            values[i] = example.SerializeToString()
    request = PredictRequest()
    request.model_spec.signature_name = signature
    request.inputs[alias].CopyFrom(to_proto(values))
    assert servable.check(request).is_large == is_large


def test_large_images_do_not_share_a_batch():
    model = DoublingModel()
    array = {"x": np.ones((1, 1), np.float32)}
    large = [Inputs("s", array, ("y",), 1, 3_000_000) for _ in range(2)]
    run(ONE_THREAD, model, *large)
    assert len(model.batches) == 2


def test_outputs_without_a_row_per_input_are_refused():
    [error] = run(ONE_THREAD, lambda _: {"y": np.zeros(())}, inputs([1]))
    assert "without batching" in error.message


async def submit_while_blocked(options, model, count):
    """Returns the batcher and the futures of `count` requests; the first one is running."""
    batcher = Batcher(options)
    model.go.clear()
    work = []
    for i in range(count):
        work.append(asyncio.ensure_future(batcher.submit(Key("model"), inputs([i]), model)))
        while not model.batches:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    return batcher, work


def test_a_full_queue_refuses_requests():
    options = BatchingOptions(max_batch_size=1, max_enqueued_batches=2, num_batch_threads=1)

    async def check():
        model = DoublingModel()
        batcher, work = await submit_while_blocked(options, model, 4)
        model.go.set()
        answers = await asyncio.gather(*work, return_exceptions=True)
        batcher.close()
        return answers

    answers = asyncio.run(check())
    assert [answer["y"][0, 0] for answer in answers[:3]] == [0, 2, 4]
    assert answers[3].code == grpc.StatusCode.UNAVAILABLE
    assert "queue to which this task was submitted is full" in answers[3].message


def test_a_cancelled_request_leaves_the_queue():
    options = BatchingOptions(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)

    async def check():
        model = DoublingModel()
        batcher, work = await submit_while_blocked(options, model, 2)
        work[1].cancel()
        await asyncio.wait([work[1]])
        again = asyncio.ensure_future(batcher.submit(Key("model"), inputs([7]), model))
        await asyncio.sleep(0)
        model.go.set()
        answers = await asyncio.gather(work[0], again)
        batcher.close()
        return model, answers

    model, answers = asyncio.run(check())
    assert [answer["y"].tolist() for answer in answers] == [[[0]], [[14]]]
    assert model.batches == [[[0]], [[7]]]


def test_requests_that_wait_for_a_thread_become_one_batch():
    async def check():
        model = DoublingModel()
        batcher, work = await submit_while_blocked(ONE_THREAD, model, 6)
        model.go.set()
        await asyncio.gather(*work)
        batcher.close()
        return model.batches

    assert [len(batch) for batch in asyncio.run(check())] == [1, 5]


def test_a_batch_waits_until_its_timeout_or_until_it_is_full():
    patient = BatchingOptions(
        max_batch_size=3, batch_timeout_micros=3_600_000_000, num_batch_threads=2
    )

    async def check():
        model, batcher = DoublingModel(), Batcher(patient)
        work = [asyncio.ensure_future(batcher.submit(Key("m"), inputs([i]), model)) for i in (0, 1)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not model.batches
        work.append(asyncio.ensure_future(batcher.submit(Key("m"), inputs([2]), model)))
        await asyncio.wait_for(asyncio.gather(*work), 60)
        batcher.close()
        return model.batches

    assert asyncio.run(check()) == [[[0], [1], [2]]]
    brief = DoublingModel()
    run(
        BatchingOptions(max_batch_size=3, batch_timeout_micros=1000, num_batch_threads=1),
        brief,
        inputs([5]),
    )
    assert brief.batches == [[[5]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be 1 or more; got 0"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be 1 or more"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be 0 or more"),
        ("allowed_batch_sizes: 2 allowed_batch_sizes: 1", "must be increasing"),
        ("allowed_batch_sizes: 2", "must be max_batch_size, 1000; got 2"),
        ("pad_variable_length_inputs: true", "leave it out"),
    ],
)
def test_invalid_parameters_are_refused(tmp_path, text, message):
    (tmp_path / "batching").write_text(text)
    parameters = config.read(tmp_path / "batching", config.BatchingParameters)
    with pytest.raises(ConfigurationError, match=message):
        BatchingOptions.from_proto(parameters)


def test_parameters_are_read_from_a_text_proto(tmp_path):
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 1500 } "
        "max_enqueued_batches { value: 3 } num_batch_threads { value: 2 } "
        'thread_pool_name { value: "p" } allowed_batch_sizes: [4, 8]'
    )
    parameters = config.read(tmp_path / "batching", config.BatchingParameters)
    assert BatchingOptions.from_proto(parameters) == BatchingOptions(8, 1500, 3, 2, (4, 8))


def test_requests_over_grpc_share_batches(start_server, tiny, tmp_path):
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 50000 } "
        "num_batch_threads { value: 1 } allowed_batch_sizes: [2, 4]"
    )
    client = start_server(
        "--model_name=m",
        f"--model_base_path={tiny}",
        "--enable_batching",
        f"--batching_parameters_file={tmp_path}/batching",
    )
    client.wait_for({3: "AVAILABLE"})
    requests = [
        client.request({"images": np.full((1, 4, 4, 3), i, np.uint8)}, signature="reconstruct")
        for i in range(24)
    ]
    calls = [client.prediction.Predict.future(request) for request in requests]
    answers = [call.result(60).outputs for call in calls]
    pixels = [list(answer["reconstructions"].int_val) for answer in answers]
    assert pixels == [[i + 3] * 48 for i in range(24)]
    rows = [answer["rows"].int_val[0] for answer in answers]
    assert set(rows) <= {2, 4}
    assert 4 in rows
    with pytest.raises(grpc.RpcError, match="Task size 5 is larger"):
        client.predict({"images": np.repeat(PIXELS, 5, axis=0)})
    assert client.predict({"images": PIXELS}).rows.tolist() == [2]
    model = client.running.server.manager._models["m"]
    wait_until(lambda: all(version.uses == 0 for version in model.versions))
