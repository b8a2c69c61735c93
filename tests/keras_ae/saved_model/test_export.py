import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_ae import contract as c
from keras_ae import metrics
from keras_ae.errors import ConfigurationError
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.saved_model.export import export
from keras_ae.saved_model.warmup import write_warmup
from tests.tiny import TINY, VAL_MSE


@pytest.fixture(scope="module", params=[3, 1])
def written(request, tiny_model):
    """The folder of a SavedModel, the exported model and its channels."""
    folder = tiny_model(channels=request.param)
    return folder / "Format-Serving", keras.models.load_model(folder / "model.keras"), request.param


@pytest.fixture(scope="module")
def exported(written):
    """A loaded SavedModel, the exported model and its channels."""
    path, model, channels = written
    return tf.saved_model.load(str(path)), model, channels


def decode(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def make_example(data: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    features = tf.train.Features(feature={c.IMAGE_ENCODED: feature})
    return tf.train.Example(features=features).SerializeToString()


def test_signatures_have_the_names_and_types_of_the_contract(exported):
    loaded, _, channels = exported
    quality = {c.MSE, c.PSNR, c.SSIM, c.PERCENTILE, c.VAL_IMAGES}
    expected = {
        c.SERVING_DEFAULT: ({c.IMAGE_BYTES}, {c.RECONSTRUCTION_PNG_BYTES, c.STATUS} | quality),
        c.RECONSTRUCT: ({c.IMAGES}, {c.RECONSTRUCTIONS} | quality),
        c.ENCODE: ({c.IMAGES}, {c.LATENTS, c.STEPS, c.MODEL_ID}),
        c.DECODE: ({c.LATENTS}, {c.IMAGES, c.MODEL_ID}),
        c.SCORE: ({c.EXAMPLES}, {c.MS_SSIM, c.FLOOR_PSNR, c.STATUS} | quality),
    }
    assert set(loaded.signatures) == set(expected)
    types = {
        c.IMAGE_BYTES: tf.string,
        c.EXAMPLES: tf.string,
        c.STATUS: tf.string,
        c.MODEL_ID: tf.string,
        c.STEPS: tf.int32,
        c.RECONSTRUCTION_PNG_BYTES: tf.string,
        c.IMAGES: tf.uint8,
        c.RECONSTRUCTIONS: tf.uint8,
        c.VAL_IMAGES: tf.int64,
    }
    for name, (inputs, outputs) in expected.items():
        signature = loaded.signatures[name]
        specs = {**signature.structured_input_signature[1], **signature.structured_outputs}
        assert set(signature.structured_input_signature[1]) == inputs
        assert set(signature.structured_outputs) == outputs
        for tensor, spec in specs.items():
            assert spec.dtype == types.get(tensor, tf.float32), tensor
            assert spec.shape.rank == (2 if tensor == c.STEPS else 4 if spec.shape.rank != 1 else 1)
    assert loaded.signatures[c.ENCODE].structured_input_signature[1][c.IMAGES].shape[3] == channels


def test_images_of_odd_sizes_are_reconstructed_at_their_size_with_correct_scores(
    exported, photographs, encode
):
    loaded, _, channels = exported
    first, second = photographs[0][:101, :77, :channels], photographs[1][:33, :250, :channels]
    request = [encode(first, "PNG"), encode(second, "JPEG", quality=95)]
    outputs = loaded.signatures[c.SERVING_DEFAULT](image_bytes=tf.constant(request))
    assert outputs[c.STATUS].numpy().tolist() == [b"", b""]
    originals = [first, decode(request[1])]
    for i, original in enumerate(originals):
        reconstruction = decode(outputs[c.RECONSTRUCTION_PNG_BYTES].numpy()[i])
        assert reconstruction.shape == original.shape
        # JPEG decoders may differ by a grey level.
        tolerance = {"abs": 1e-9} if i == 0 else {"rel": 0.05}
        mse = float(metrics.mse(original[None], reconstruction[None])[0])
        assert float(outputs[c.MSE][i]) == pytest.approx(mse, **tolerance)
        assert float(outputs[c.PSNR][i]) == pytest.approx(10 * np.log10(1 / mse), abs=0.2)
        ssim = float(metrics.ssim_and_ms_ssim(original[None], reconstruction[None])[0][0])
        assert float(outputs[c.SSIM][i]) == pytest.approx(ssim, abs=5e-3)
        below = np.sum(np.array(VAL_MSE) < float(outputs[c.MSE][i]))
        assert float(outputs[c.PERCENTILE][i]) == pytest.approx(below / (len(VAL_MSE) + 1))
    assert outputs[c.VAL_IMAGES].numpy().tolist() == [len(VAL_MSE)] * 2


def test_a_bad_image_gets_a_status_and_does_not_affect_the_others(exported, photographs, encode):
    loaded, _, channels = exported
    good = encode(photographs[0][:40, :48, :channels], "PNG")
    jpeg = encode(photographs[0][:40, :48], "JPEG")
    size_field = jpeg.index(b"\xff\xc0") + 5
    bad = {
        b"": b"empty",
        b"some text": b"not a PNG",
        good[: len(good) // 2]: b"cannot be decoded",
        good[:20]: b"declares no pixels",
        good[:16] + bytes(8) + good[24:]: b"declares no pixels",
        jpeg[:size_field] + b"\xff\0\xff\0" + jpeg[size_field + 4 :]: b"more than 64,000,000",
        jpeg[: size_field - 8]: b"cannot be decoded",
        good[:16] + (23170).to_bytes(4, "big") * 2 + good[24:]: b"more than 64,000,000",
        encode(photographs[0], "TIFF"): b"not a PNG, JPEG, BMP, GIF or WebP image",
    }  # fmt: skip
    outputs = loaded.signatures[c.SERVING_DEFAULT](image_bytes=tf.constant([good, *bad, good]))
    statuses = outputs[c.STATUS].numpy()
    assert statuses[0] == statuses[-1] == b""
    for status, expected in zip(statuses[1:-1], bad.values()):
        assert expected in status
    scores = outputs[c.PSNR].numpy()
    assert np.isnan(scores[1:-1]).all()
    assert scores[0] == scores[-1]
    reconstructions = outputs[c.RECONSTRUCTION_PNG_BYTES].numpy()
    assert all(png == b"" for png in reconstructions[1:-1])
    assert reconstructions[0] == reconstructions[-1] != b""


def test_a_request_with_corrupt_images_never_fails(exported, photographs, encode):
    loaded, _, channels = exported
    rng = np.random.default_rng(channels)
    request = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP"):
        good = np.frombuffer(encode(photographs[0][:24, :30], kind), np.uint8)
        for _ in range(40):
            bad = good[: rng.choice([len(good), rng.integers(1, len(good))])].copy()
            bad[rng.integers(0, len(bad), 2)] = rng.integers(0, 256, 2)
            request.append(bad.tobytes())
    outputs = loaded.signatures[c.SERVING_DEFAULT](image_bytes=tf.constant(request))
    is_good = outputs[c.STATUS].numpy() == b""
    assert 0 < is_good.sum() < len(request)
    assert np.array_equal(np.isfinite(outputs[c.MSE].numpy()), is_good)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16"])
def test_every_format_and_mode_is_reconstructed(exported, photographs, encode, kind, mode):
    allowed = {
        "PNG": ("RGB", "L", "P", "RGBA", "I;16"),
        "JPEG": ("RGB", "L", "CMYK"),
        "BMP": ("RGB", "L", "P"),
        "GIF": ("RGB", "L", "P"),
        "WEBP": ("RGB", "L", "RGBA"),
    }
    if mode not in allowed[kind]:
        return
    loaded, _, channels = exported
    rgb = Image.fromarray(photographs[0][:50, :70])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    else:
        image = rgb.quantize(64) if mode == "P" else rgb.convert(mode)
    outputs = loaded.signatures[c.SERVING_DEFAULT](image_bytes=tf.constant([encode(image, kind)]))
    assert outputs[c.STATUS].numpy()[0] == b""
    pixels = decode(outputs[c.RECONSTRUCTION_PNG_BYTES].numpy()[0])
    assert pixels.shape == (50, 70, channels)
    original = np.asarray(rgb.convert("L"), float)
    reconstruction = np.asarray(Image.fromarray(np.squeeze(pixels)).convert("L"), float)
    assert np.abs(reconstruction - original).mean() < 12


def test_images_of_one_size_have_the_same_scores_in_a_batch_as_alone(
    exported, photographs, encode, optimized_graphs
):
    loaded, _, channels = exported
    images = [p[:64, :80, :channels] for p in photographs]
    records = [make_example(encode(image, "PNG")) for image in images]
    batch = loaded.signatures[c.SCORE](examples=tf.constant(records))
    for i, record in enumerate(records):
        alone = loaded.signatures[c.SCORE](examples=tf.constant([record]))
        for name, values in alone.items():
            if name != c.STATUS:
                assert float(batch[name][i]) == pytest.approx(float(values[0]), rel=1e-4)


def test_before_training_the_model_has_the_psnr_of_its_floor(exported, photographs, encode):
    loaded, _, channels = exported
    record = make_example(encode(photographs[1][..., :channels], "PNG"))
    outputs = loaded.signatures[c.SCORE](examples=tf.constant([record]))
    assert float(outputs[c.PSNR][0]) == pytest.approx(float(outputs[c.FLOOR_PSNR][0]), abs=1e-2)


def test_encode_and_decode_compute_the_same_as_the_model(exported, photographs):
    loaded, model, channels = exported
    images = photographs[0][None, :60, :90, :channels]
    latents = loaded.signatures[c.ENCODE](images=tf.constant(images))[c.LATENTS]
    assert latents.shape == (1, 8, 12, 8)
    np.testing.assert_allclose(latents, model.encode(images.astype("float32") / 255), atol=1e-5)
    pixels = loaded.signatures[c.DECODE](latents=latents)[c.IMAGES]
    assert pixels.shape == (1, 64, 96, channels)
    outputs = loaded.signatures[c.RECONSTRUCT](images=tf.constant(images))
    np.testing.assert_array_equal(pixels[:, :60, :90], outputs[c.RECONSTRUCTIONS])


def test_a_request_without_images_has_empty_outputs(exported):
    loaded, _, _ = exported
    outputs = loaded.signatures[c.SERVING_DEFAULT](image_bytes=tf.constant([], tf.string))
    assert all(len(values) == 0 for values in outputs.values())


EXPORT_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from keras_ae.models import linear
from keras_ae.saved_model.export import export
from keras_ae.models.autoencoder import ConvAutoencoder, load_model
from keras_ae.models.layers import to_float, to_uint8
from tests.tiny import TINY

folder = Path(sys.argv[1])
images = list(np.load(folder / "images.npy"))
floor = linear.fit(linear.patch_moments(images, 8), 8)
trained = load_model(sys.argv[2])
model = ConvAutoencoder(TINY, precision="bfloat16")
model.set_weights(trained.get_weights())
export(model, folder / "exported", floor=floor, val_mse=[0.0, 1.0])
for name, each in (("float32", trained), ("bfloat16", model)):
    pixels = np.asarray(to_uint8(each(to_float(np.stack(images)))).tolist(), np.uint8)
    np.save(folder / f"{name}.npy", pixels)
# Makes the process with the TensorFlow backend fail.
(folder / "keras.py").write_text("raise ImportError('broken installation')")
sys.path.insert(0, str(folder))
try:
    export(model, folder / "model", floor=floor)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason="not installed"))
        for name in ("jax", "torch")
    ],
)
def test_an_exported_model_of_another_backend_computes_the_same(
    backend, tiny_model, photographs, tmp_path
):
    """It computes in float32, as does the model on the other backend that it has the weights of."""
    images = np.stack([photograph[:96, :64] for photograph in photographs])
    np.save(tmp_path / "images.npy", images)
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            EXPORT_PROGRAM,
            str(tmp_path),
            tiny_model("residual") / "model.keras",
        ],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    outputs = loaded.signatures[c.RECONSTRUCT](images=tf.constant(images))
    served = outputs[c.RECONSTRUCTIONS].numpy().astype(int)
    for precision, levels in (("float32", 1), ("bfloat16", 3)):
        trained = np.load(tmp_path / f"{precision}.npy").astype(int)
        assert np.abs(served - trained).max() <= levels
    assert set(outputs[c.PERCENTILE].numpy()) == {np.float32(1 / 3)}
    assert not np.array_equal(served, images)
    assert process.stdout.startswith(f"StorageError cannot export {tmp_path}/model with TensorFlow")
    assert "ImportError: broken installation" in process.stdout


def warmup_requests(path: Path) -> list:
    """Reads the PredictRequests of a SavedModel's warm-up file."""
    from tensorflow_serving.apis import prediction_log_pb2

    records = tf.data.TFRecordDataset(str(path / c.WARMUP_FILE)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    return [log.predict_log.request for log in logs]


def test_every_signature_has_valid_warm_up_requests(written, exported, tmp_path):
    path, model, channels = written
    loaded, _, _ = exported
    requests = warmup_requests(path)
    assert {request.model_spec.signature_name for request in requests} == set(loaded.signatures)
    shapes = set()
    for request in requests:
        assert request.model_spec.name == "keras_ae"
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        shapes |= {value.shape for value in inputs.values()}
        signature = loaded.signatures[request.model_spec.signature_name]
        outputs = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        assert set(outputs.get(c.STATUS, tf.constant([b""])).numpy()) == {b""}
    assert {(1, 64, 64, channels), (32, 64, 64, channels), (32, 8, 8, 8), (1,)} <= shapes
    write_warmup(model, tmp_path / "other")
    assert (tmp_path / "other" / c.WARMUP_FILE).read_bytes() == (path / c.WARMUP_FILE).read_bytes()


@pytest.mark.parametrize("tile", [0, -16, 8, 100])
def test_an_invalid_tile_size_is_refused(tile, tmp_path):
    pca = linear.fit(np.eye(193), 8)
    with pytest.raises(ConfigurationError, match=f"multiple of 16 pixels; got {tile}"):
        export(ConvAutoencoder(TINY), tmp_path / "model", floor=pca, tile=tile)
    assert not (tmp_path / "model").exists()
