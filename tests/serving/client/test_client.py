"""The client with the local server and a real model, over gRPC and REST."""

import asyncio
import doctest
import io
import math
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from keras_ae import errors as e
from keras_ae.datasets.images.normalize import decode
from serving.client import asynchronous, blocking, prepare
from serving.client.asynchronous import AsyncReconstructionClient
from serving.client.blocking import ReconstructionClient
from serving.client.images import encode_png
from serving.client.prepare import FIRST_PAGE
from serving.client.results import Reconstruction, Signature, TensorInfo
from tests.corpus.formats import samples
from tests.serving import servers
from tests.serving.conftest import VAL_MSE


@pytest.fixture
def running(real_server):
    """The server, with the model keras_ae."""
    return real_server.running


@pytest.fixture(params=["grpc", "rest"])
def target(running, request):
    return getattr(running, request.param)


@pytest.fixture
def client(target):
    with ReconstructionClient(target) as client:
        yield client


@pytest.fixture
def reconstructed(in_process):
    """reconstructed(uint8 [N, H, W, 3]) -> reconstructions of the model in this process."""
    reconstruct = in_process.signatures["reconstruct"]
    return lambda images: reconstruct(images=images)["reconstructions"].numpy()


@pytest.fixture
def crops(photographs):
    """Images of one size, uint8 [5, 48, 40, 3]."""
    return np.stack([photographs[0][i : i + 48, 2 * i : 2 * i + 40] for i in range(0, 100, 20)])


def assert_same(images, others):
    """Asserts that images are equal to within one grey level, and not constant."""
    for image, other in zip(images, others, strict=True):
        assert image.shape == other.shape
        assert image.dtype == other.dtype == np.uint8
        assert np.abs(image.astype(int) - other).max() <= 1
        assert image.std() > 0


def test_an_array_is_reconstructed_as_in_process(client, crops, reconstructed):
    result = client.reconstruct(crops)
    expected = reconstructed(crops)
    assert isinstance(result.reconstructions, np.ndarray)
    assert_same(result.reconstructions, expected)
    mse = np.mean((crops / 255.0 - expected / 255.0) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(result.mse, mse, rtol=0.02)
    np.testing.assert_allclose(result.psnr, -10 * np.log10(mse), atol=0.1)
    assert (result.ssim > 0.3).all()
    assert result.status == ("",) * 5
    result.reconstructions[0] = 0


def test_every_file_gives_the_pixels_of_ingest(client):
    files = [sample.data for sample in samples()]
    ingested = [encode_png(decode(data, 3)) for data in files]
    result, expected = client.reconstruct(files), client.reconstruct(ingested)
    assert set(result.status) == set(expected.status) == {""}
    for one, other in zip(result, expected, strict=True):
        assert one.image.shape == other.image.shape
        assert np.abs(one.image.astype(int) - other.image).max(initial=0) <= 1
    np.testing.assert_allclose(result.mse, expected.mse, rtol=1e-3)
    assert set(result.notes) == {"", FIRST_PAGE}
    assert client.score(files).notes == result.notes


def test_a_file_that_cannot_be_converted_fails_no_other(target, crops, encode):
    good = encode(crops[0], "PNG")
    floats = encode(Image.fromarray(np.float32([[0, 500]])), "TIFF")
    for white, usable in ((None, False), (500, True)):
        with ReconstructionClient(target, white=white) as client:
            for result in (
                client.reconstruct([good, floats, b"P6 x"]),
                client.score([good, floats, b"P6 x"]),
            ):
                assert result.status[0] == ""
                assert (result.status[1] == "") == usable
                assert usable or "from 0 to 500" in result.status[1]
                assert result.status[2] == "the header is truncated"
                assert np.isnan(result.mse).tolist() == [False, not usable, True]
    with pytest.raises(e.ConfigurationError, match="white"):
        ReconstructionClient(target, white=0)


def test_files_are_converted_off_the_event_loop(target, crops, encode, monkeypatch):
    threads = set()
    flatten = prepare.flatten

    def record(*arguments):
        threads.add(threading.get_ident())
        return flatten(*arguments)

    monkeypatch.setattr(prepare, "flatten", record)
    tiff = encode(crops[0], "TIFF")

    async def reconstruct():
        async with AsyncReconstructionClient(target) as client:
            return await client.reconstruct([tiff] * 3)

    result = asyncio.run(reconstruct())
    assert result.status == ("",) * 3
    assert threads
    assert threading.get_ident() not in threads


def test_every_kind_of_input_gives_the_same_pixels(client, crops, reconstructed, encode, tmp_path):
    expected = reconstructed(crops[:1])
    path = tmp_path / "image.png"
    path.write_bytes(encode(crops[0], "PNG"))
    for images in (
        crops[:1],
        [crops[0]],
        path,
        str(path),
        [path],
        path.read_bytes(),
        [bytearray(path.read_bytes())],
        encode(crops[0], "BMP"),
        encode(crops[0], "WEBP", lossless=True),
    ):
        result = client.reconstruct(images)
        assert len(result) == 1
        assert_same(list(result.reconstructions), list(expected))


def test_images_of_any_sizes_keep_their_order(client, photographs, reconstructed, encode):
    small = photographs[1][:1, :1]
    line = photographs[1][:1, :333]
    images = [photographs[0], small, photographs[1][:50, :70], line, photographs[0][:50, :70]]
    mixed = [image if i % 2 else encode(image, "PNG") for i, image in enumerate(images)]
    for sent in (images, mixed):
        result = client.reconstruct(sent)
        expected = [reconstructed(image[None])[0] for image in images]
        for reconstruction, image in zip(result, expected, strict=True):
            assert reconstruction.image.shape == image.shape
            assert np.abs(reconstruction.image.astype(int) - image).max() <= 1
        assert math.isnan(result[1].ssim)


def test_a_split_batch_has_the_results_of_a_single_request(target, crops):
    with ReconstructionClient(target) as client:
        together = client.reconstruct(crops)
    with ReconstructionClient(target, max_request_bytes=10_000) as client:
        split = client.reconstruct(crops)
    assert_same(split.reconstructions, together.reconstructions)
    np.testing.assert_allclose(split.mse, together.mse, rtol=0.02)


def test_a_bad_image_does_not_fail_the_others(client, crops, encode):
    good, truncated = encode(crops[0], "PNG"), encode(crops[1], "JPEG")[:300]
    result = client.reconstruct([b"", good, b"text", truncated, crops[2]])
    assert [bool(status) for status in result.status] == [True, False, True, True, False]
    assert result.status[2].startswith("not a PNG")
    assert result[0].image.size == 0
    assert math.isnan(result[3].psnr)
    assert_same(
        [result[1].image, result[4].image], client.reconstruct(crops[[0, 2]]).reconstructions
    )
    scores = client.score([b"", good, b"text"])
    assert [bool(status) for status in scores.status] == [True, False, True]
    assert math.isnan(scores.mse[2])


def test_png_files_are_returned_unchanged(client, crops, encode):
    result = client.reconstruct([encode(crops[0], "PNG"), b"text", crops[1]], as_png=True)
    assert result[0].image.startswith(b"\x89PNG")
    assert result[1].image == b""
    again = client.reconstruct(crops[:2])
    for png, image in zip((result[0].image, result[2].image), again.reconstructions):
        with Image.open(io.BytesIO(png)) as opened:
            np.testing.assert_array_equal(np.asarray(opened), image)


def test_encode_and_decode_equal_reconstruct(client, crops):
    latents = client.encode(crops)
    assert (latents.shape, latents.dtype) == ((5, 6, 5, 8), np.float32)
    assert_same(client.decode(latents), client.reconstruct(crops).reconstructions)
    listed = client.encode([crops[0], crops[1][:16]])
    np.testing.assert_allclose(listed[0], latents[0], atol=1e-4)
    images = client.decode(listed)
    assert [image.shape for image in images] == [(48, 40, 3), (16, 40, 3)]


def test_scores_are_those_of_the_reconstructions(client, crops, encode, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encode(crops[0], "PNG"))
    scores = client.score([path, encode(crops[1], "PNG"), crops[2]])
    result = client.reconstruct(crops[:3])
    for name in ("mse", "psnr", "ssim", "percentile"):
        found = getattr(scores, name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, getattr(result, name), rtol=0.02)
    # The model is not trained: it is equal to its linear baseline.
    np.testing.assert_allclose(scores.floor_psnr, scores.psnr, atol=0.1)
    assert (scores.ms_ssim > scores.ssim).all()


def test_noise_is_unusual(client, photographs):
    noise = np.random.default_rng(0).integers(0, 2, photographs[0].shape, np.uint8) * 255
    result = client.reconstruct([photographs[0], noise])
    assert result.unusual.tolist() == [False, True]
    assert (result[0].unusual, result[1].unusual) == (False, True)
    assert client.score([photographs[0], noise]).unusual.tolist() == [False, True]
    assert result.judged.tolist() == [True, True]
    assert result.val_images.tolist() == [200, 200]
    below = np.sum(result.mse[0] > VAL_MSE)
    assert result.percentile[0] == np.float32(below / 201)


def test_without_a_percentile_no_image_is_unusual():
    image = np.zeros((1, 1, 3), np.uint8)
    result = Reconstruction(image, 1.0, 0.0, math.nan, math.nan, val_images=200)
    assert (result.unusual, result.judged) == (False, False)


@pytest.mark.parametrize(
    ("percentile", "val_images", "judged"),
    [(0.75, 3, False), (98 / 99, 98, False), (0.0, 99, True), (0.5, 0, False), (0.99, 0, True)],
)
def test_few_val_images_tell_nothing(percentile, val_images, judged):
    image = np.zeros((1, 1, 3), np.uint8)
    result = Reconstruction(image, 1.0, 0.0, 1.0, percentile, val_images=val_images)
    assert result.judged == judged


def test_metadata_and_status_are_plain(client):
    metadata = client.metadata()
    assert (metadata.model, metadata.version) == ("keras_ae", 1)
    assert set(metadata.signatures) == {
        *("serving_default", "reconstruct", "encode", "decode", "score")
    }
    assert metadata.signatures["encode"] == Signature(
        {"images": TensorInfo("uint8", (None, None, None, 3))},
        {
            "latents": TensorInfo("float32", (None, None, None, 8)),
            "model_id": TensorInfo("string", (None,)),
            "steps": TensorInfo("int32", (None, 8)),
        },
    )
    assert client.status() == [(1, "AVAILABLE", "")]
    client.wait_until_ready(20)


def test_missing_models_versions_and_labels_are_errors(target, crops):
    with ReconstructionClient(target, "other") as client:
        for call in (lambda: client.reconstruct(crops), client.metadata, client.status):
            with pytest.raises(e.NotFoundError, match="other"):
                call()
        with pytest.raises(e.DeadlineError, match=r"other at .* is not ready after 1 s"):
            client.wait_until_ready(1)
    with (
        ReconstructionClient(target, version=7) as client,
        pytest.raises(e.NotFoundError, match="7"),
    ):
        client.reconstruct(crops)
    with ReconstructionClient(target, label="canary") as client:
        with pytest.raises(e.InvalidRequestError, match="canary"):
            client.reconstruct(crops)
        with pytest.raises(e.DeadlineError, match="canary"):
            client.wait_until_ready(1)


def test_a_version_is_selected_by_its_number(target, crops):
    with ReconstructionClient(target, version=1) as client:
        assert client.metadata().version == 1
        assert len(client.reconstruct(crops)) == 5


def test_another_number_of_channels_is_refused(client, crops):
    with pytest.raises(e.InvalidRequestError):
        client.reconstruct(crops[..., :1])


def test_an_unknown_signature_or_input_is_refused(client, crops):
    with pytest.raises(e.InvalidRequestError, match="nonsense"):
        client.predict("nonsense", {"images": crops})
    with pytest.raises(e.InvalidRequestError):
        client.predict("encode", {"pictures": crops})


def test_rest_and_grpc_results_are_equal(running, crops, encode):
    jpeg = encode(crops[4], "JPEG")
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    images = [*crops[:2], jpeg, b"bad", noise]
    with (
        ReconstructionClient(running.grpc) as grpc_client,
        ReconstructionClient(running.rest) as rest_client,
    ):
        grpc_result, rest_result = grpc_client.reconstruct(images), rest_client.reconstruct(images)
        for a, b in zip(grpc_result, rest_result, strict=True):
            assert (a.image.shape, a.status) == (b.image.shape, b.status)
            np.testing.assert_allclose(b.image.astype(int), a.image, atol=1)
        for name in ("mse", "psnr", "ssim", "percentile"):
            np.testing.assert_allclose(
                getattr(rest_result, name), getattr(grpc_result, name), rtol=0.02
            )
        np.testing.assert_allclose(rest_client.encode(crops), grpc_client.encode(crops), atol=1e-5)
        np.testing.assert_allclose(
            rest_client.score(images).ms_ssim, grpc_client.score(images).ms_ssim, rtol=0.01
        )
        tensors = rest_client.predict("reconstruct", {"images": crops})["reconstructions"]
        assert_same(tensors, grpc_client.reconstruct(crops).reconstructions)
        assert rest_client.metadata() == grpc_client.metadata()
        assert rest_client.status() == grpc_client.status()


def test_asyncio_returns_what_the_blocking_client_returns(target, client, crops, encode):
    images = [crops[0], encode(crops[1], "PNG"), b"bad"]

    async def call_all():
        async with AsyncReconstructionClient(target, max_request_images=2) as async_client:
            await async_client.wait_until_ready(20)
            latents = await async_client.encode(crops)
            return (
                *await asyncio.gather(
                    async_client.reconstruct(images),
                    async_client.score(images),
                    async_client.metadata(),
                    async_client.status(),
                ),
                latents,
                await async_client.decode(latents),
                await async_client.predict("encode", {"images": crops}),
            )

    result, scores, metadata, status, latents, decoded, predicted = asyncio.run(call_all())
    expected = client.reconstruct(images)
    assert_same([r.image for r in result][:2], [r.image for r in expected][:2])
    assert result.status == expected.status == scores.status
    np.testing.assert_allclose(result.mse, expected.mse, rtol=0.02)
    np.testing.assert_allclose(scores.floor_psnr, client.score(images).floor_psnr, rtol=0.01)
    assert (metadata, status) == (client.metadata(), client.status())
    np.testing.assert_allclose(latents, client.encode(crops), atol=1e-5)
    np.testing.assert_allclose(predicted["latents"], latents, atol=1e-5)
    assert_same(decoded, client.decode(latents))


def test_asyncio_raises_what_the_blocking_client_raises(target, crops):
    async def call_all():
        async with AsyncReconstructionClient(target, "other", max_request_images=1) as client:
            await client.reconstruct(crops)

    with pytest.raises(e.NotFoundError, match="other"):
        asyncio.run(call_all())


def test_a_grey_model(tmp_path, tiny_model, photographs, encode):
    grey = photographs[0][..., :1]
    ignore = shutil.ignore_patterns("assets.extra")
    shutil.copytree(
        tiny_model("uncalibrated", 1) / "Format-Serving", tmp_path / "grey" / "1", ignore=ignore
    )
    flags = ["--model_name=grey", f"--model_base_path={tmp_path / 'grey'}"]
    with servers.started(flags) as server:
        server.wait_for({1: "AVAILABLE"}, "grey")
        images = np.stack([grey[:40, :40], grey[40:80, 40:80]])
        for target in (server.running.grpc, server.running.rest):
            with ReconstructionClient(target, "grey") as client:
                result = client.reconstruct(images)
                assert result.reconstructions.shape == (2, 40, 40, 1)
                assert_same(client.decode(client.encode(images)), result.reconstructions)
                assert_same(
                    client.reconstruct(encode(images[0], "PNG")).reconstructions,
                    result.reconstructions[:1],
                )
                # It was exported without the errors of val images.
                assert np.isnan(result.percentile).all()
                assert not result.unusual.any()
                with pytest.raises(e.InvalidRequestError):
                    client.reconstruct(photographs[0][None])


def test_the_import_starts_no_tensorflow_and_is_small():
    program = r"""
import re, sys
from pathlib import Path
import serving.client.blocking
heavy = {"tensorflow", "tensorflow.python", "keras", "PIL", "httpx"} & set(sys.modules)
peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]
print(int(peak) // 1024, *heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100, "megabytes"


@pytest.mark.parametrize("module", [blocking, asynchronous])
def test_the_docstring_examples_run(running, tmp_path, monkeypatch, module):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48), "teal").save("photo.jpg")
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        for example in test.examples:
            example.source = example.source.replace("127.0.0.1:8500", running.grpc)
        assert not doctest.DocTestRunner().run(test).failed
