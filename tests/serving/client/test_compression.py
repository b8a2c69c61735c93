"""Files of latents, written and opened by the clients and the command line with a server."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from keras_ae import errors as e
from keras_ae.codec.file import read_header
from keras_ae.codec.header import pack
from keras_ae.codec.images import psnr
from serving.client import latent_files, originals
from serving.client.asynchronous import AsyncReconstructionClient
from serving.client.blocking import ReconstructionClient
from serving.client.cli.commands import main


@pytest.fixture
def running(real_server):
    return real_server.running


@pytest.fixture
def client(running):
    with ReconstructionClient(running.grpc) as client:
        yield client


@pytest.fixture
def run(running, capsys):
    """run(*arguments, target=...) -> exit status, stdout, stderr."""

    def run_command(*arguments, target=running.grpc):
        status = main([*map(str, arguments), "--target", target])
        return status, *capsys.readouterr()

    return run_command


@pytest.fixture(scope="module")
def image(photographs):
    return photographs[1][:96, :120]


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_the_best_file_of_an_image_is_as_good_as_its_reconstruction(transport, running, image):
    with ReconstructionClient(getattr(running, transport)) as client:
        data = client.compress(image, quality=100)
        decompressed = client.decompress(data)
        reconstruction = client.reconstruct(image[None])[0]
    assert decompressed.shape == image.shape
    assert decompressed.dtype == np.uint8
    assert psnr(image, decompressed) > reconstruction.psnr - 0.05
    assert read_header(data).quality == 100


def test_a_lower_quality_is_a_smaller_and_worse_file(client, image):
    files = [client.compress(image, quality=quality) for quality in (30, 60, 90)]
    sizes = [len(file) for file in files]
    qualities = [psnr(image, client.decompress(file)) for file in files]
    assert sizes == sorted(set(sizes))
    assert qualities == sorted(set(qualities))
    assert client.compress(image) == client.compress(image, quality=75)


def test_the_size_and_the_psnr_of_a_file_can_be_chosen(client, image):
    least = psnr(image, client.decompress(client.compress(image, quality=60)))
    data = client.compress(image, psnr=least)
    assert psnr(image, client.decompress(data)) >= least
    assert len(data) <= len(client.compress(image, quality=60))
    small = client.compress(image, max_bytes=len(data) - 20)
    assert 0.8 * len(data) - 20 < len(small) <= len(data) - 20


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"psnr": 80.0}, r"this model reaches .* dB on this image, not 80"),
        ({"max_bytes": 20}, r"needs at least .* bytes, and 20 are allowed"),
        ({"quality": 0}, "expected a quality of 1 to 100; got 0"),
        ({"quality": 50, "psnr": 30.0}, r"expected one target .*quality 50 and psnr 30"),
    ],
)
def test_a_target_that_cannot_be_reached_is_refused_with_the_bounds(client, image, target, message):
    with pytest.raises(e.ConfigurationError, match=message):
        client.compress(image, **target)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (9, 7), (65, 8)])
def test_images_of_any_size_come_back_in_their_size(client, photographs, shape):
    image = photographs[0][: shape[0], : shape[1]]
    assert client.decompress(client.compress(image)).shape == image.shape


def test_files_are_decoded_as_the_model_decodes_them(client, photographs, encode, tmp_path):
    image = photographs[0][:60, :80]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(image, "PNG", exif=exif)
    path = tmp_path / "turned.png"
    path.write_bytes(turned)
    expected = client.compress(np.rot90(image, -1).copy())
    assert client.compress(turned) == client.compress(path) == expected
    deep = encode(Image.fromarray(image[..., 0].astype(np.uint16) * 257), "PNG")
    assert client.compress(deep) == client.compress(np.repeat(image[..., :1], 3, -1))


def test_a_grey_model_compresses_grey_images(mixed_server, photographs, encode):
    with ReconstructionClient(mixed_server.running.grpc, "grey") as client:
        data = client.compress(encode(photographs[0][:40, :40], "PNG"))
        assert client.decompress(data).shape == (40, 40, 1)
        with pytest.raises(e.InvalidRequestError, match="expected an image of 1 channels"):
            client.compress(photographs[0][:40, :40])


def test_a_file_of_another_model_is_not_opened(client, mixed_server, image):
    data = client.compress(image)
    with ReconstructionClient(mixed_server.running.grpc, "few") as other:
        own = read_header(other.compress(image)).model_id.hex()
        with pytest.raises(e.DataError, match=rf"{read_header(data).model_id.hex()}.*{own}.*label"):
            other.decompress(data)
        with pytest.raises(e.DataError, match=r"a truncated \.kae file: 8 bytes"):
            other.decompress(data[:8])
    with (
        ReconstructionClient(mixed_server.running.grpc, "grey") as grey,
        pytest.raises(e.DataError, match="only the version that wrote a file can open it"),
    ):
        grey.decompress(data)


def test_a_file_whose_header_lies_is_refused(client, image):
    data = client.compress(image)
    header = read_header(data)
    for lie in ({"stride": 4}, {"stride": 16}, {"image_channels": 1}, {"steps": header.steps[:7]}):
        forged = pack(header._replace(**lie), data[48:])
        with pytest.raises(e.DataError, match="its sizes are not those of the model"):
            client.decompress(forged)


def test_one_image_is_compressed_at_a_time(client, image):
    with pytest.raises(e.InvalidRequestError, match="got a list: call once for each image"):
        client.compress([image, image])


def test_a_version_that_changes_meanwhile_is_noticed(client, image, monkeypatch):
    predict, ids = latent_files.Plans.predict, iter("abcdefgh")

    def with_other_ids(self, signature, inputs):
        plan = predict(self, signature, inputs)
        other = np.array([f"{next(ids) * 16}".encode()], object)
        join = lambda parts: {**plan.join(parts), "model_id": other}  # noqa: E731
        return type(plan)(plan.exchanges, join)

    monkeypatch.setattr(latent_files.Plans, "predict", with_other_ids)
    with pytest.raises(e.DataError, match="changed to another version meanwhile: try again"):
        client.compress(image)


def test_a_level_of_white_that_cannot_be_found_is_asked_for(client, encode, monkeypatch):
    monkeypatch.setattr(originals, "RANGES", (1000,))
    deep = encode(Image.fromarray(np.full((20, 20), 30000, np.uint16)), "PNG")
    with pytest.raises(e.DataError, match="give the one of the training run, as white=LEVEL"):
        client.compress(deep)


def test_a_model_of_another_kind_is_refused(mixed_server, image):
    with (
        ReconstructionClient(mixed_server.running.grpc, "adder") as adder,
        pytest.raises(e.DataError, match="it is not one of keras-ae"),
    ):
        adder.compress(image)


def test_a_model_that_was_exported_earlier_is_refused_in_one_line(client, image, monkeypatch):
    predict = latent_files.Plans.predict

    def without_ids(self, signature, inputs):
        plan = predict(self, signature, inputs)
        names = ("latents", "images")
        join = lambda parts: {k: v for k, v in plan.join(parts).items() if k in names}  # noqa: E731
        return type(plan)(plan.exchanges, join)

    monkeypatch.setattr(latent_files.Plans, "predict", without_ids)
    with pytest.raises(e.DataError, match=r"exported before there were .*export it again"):
        client.compress(image)


def test_the_asyncio_client_writes_the_same_files(client, running, image):
    async def convert():
        async with AsyncReconstructionClient(running.grpc) as other:
            # More than the default executor has threads, which requests need, too.
            qualities = [40, 80] * 20
            files = await asyncio.gather(*(other.compress(image, quality=q) for q in qualities))
            return files[:2], await other.decompress(files[1])

    files, decompressed = asyncio.run(convert())
    assert files == [client.compress(image, quality=quality) for quality in (40, 80)]
    np.testing.assert_array_equal(decompressed, client.decompress(files[1]))


def test_commands_for_a_file(run, client, image, encode, tmp_path):
    source, file, target = (tmp_path / name for name in ("a.png", "a.kae", "b.png"))
    source.write_bytes(encode(image, "PNG"))
    status, out, _ = run("compress", source, file, "--quality", 60)
    model_id = read_header(file.read_bytes()).model_id.hex()
    assert status == 0
    assert f"a.kae: 120x96 RGB, {file.stat().st_size:,} bytes, " in out
    assert f" bits per pixel, quality 60, model {model_id}" in out
    assert run("info", file, target="127.0.0.1:1")[:2] == (0, out)
    assert run("decompress", file, target)[0] == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(target.read_bytes()))),
        client.decompress(file.read_bytes()),
    )
    assert "ends in .kae" in run("compress", source, tmp_path / "a.txt")[2]
    assert "needs at least" in run("compress", source, file, "--bytes", 10)[2]


def test_commands_for_a_folder(run, image, encode, tmp_path):
    folder, files, images = (tmp_path / name for name in ("in", "kae", "out"))
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(encode(image, "PNG"))
    (folder / "deep" / "b.jpg").write_bytes(encode(image[:30], "JPEG"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "notes.txt").write_text("no image")
    status, out, errors = run("compress", folder, files)
    assert status == 1
    assert "2 of 3 files written in " in out
    assert "broken.png: cannot be decoded" in errors
    assert "not read: 1 .txt" in errors
    assert sorted(p.name for p in files.rglob("*.kae")) == ["a.kae", "b.kae"]
    status, out, _ = run("decompress", files, images)
    assert status == 0
    assert "2 of 2 files written in " in out
    with Image.open(images / "deep" / "b.png") as decompressed:
        assert decompressed.size == (120, 30)
    (files / "deep" / "b.kae").write_bytes(b"\x89KAE")
    status, _, errors = run("decompress", files, images)
    assert status == 1
    assert "b.kae: a truncated .kae file" in errors
