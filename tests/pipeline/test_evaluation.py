import functools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from keras_ae import contract as c
from keras_ae.comparison.records import Check, Verdict
from keras_ae.datasets.sources.base import Record
from keras_ae.models import linear
from keras_ae.models.autoencoder import ConvAutoencoder
from keras_ae.presets import SERVING_TILE
from keras_ae.saved_model.calibration import Calibration
from keras_ae.saved_model.signatures import Signatures
from pipeline import evaluation
from pipeline.components.image_example_gen.writing import to_example
from pipeline.components.report.verdict import _db, read_verdict, reasons
from pipeline.evaluation import MEAN, Limits, OutputMetric, eval_config
from pipeline.runners.beam import engines
from pipeline.runtime import versions
from tests.tiny import TINY

ANY = 100.0
FLOOR, SERVICE, SLICE = "gain_over_floor", "mean_psnr", "slice_psnr"


def textures(kind: int, count: int, side: int = 16) -> list[np.ndarray]:
    """Images whose patches are mixtures of six patterns, which another kind does not have."""
    patterns = np.random.default_rng(kind).normal(size=(6, 192))
    images = []
    for seed in range(count):
        weights = np.random.default_rng(100 * kind + seed).normal(size=((side // 8) ** 2, 6))
        patches = (weights @ patterns).reshape(side // 8, side // 8, 8, 8, 3)
        image = 128 + 15 * patches.transpose(0, 2, 1, 3, 4).reshape(side, side, 3)
        images.append(image.clip(0, 255).round().astype(np.uint8))
    return images


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Model artifacts with eight latent channels, too few for both kinds of texture.

    The model for few is its own floor, and that of the other: their graph is traced only once.
    """
    folder = tmp_path_factory.mktemp("models")
    many, few = textures(1, 30), textures(2, 30)
    pcas = {
        "for many": linear.fit(linear.patch_moments(many + few[:3], 8), 8),
        "for few": linear.fit(linear.patch_moments(few + many[:3], 8), 8),
    }
    model, calibration = ConvAutoencoder(TINY), Calibration()
    signatures = Signatures(model, pcas["for few"], calibration, SERVING_TILE)
    module, functions = tf.Module(), evaluated(signatures)
    module.variables_of_the_model = [v.value for v in model.variables] + calibration.variables
    for name, pca in pcas.items():
        linear.set_linear_path(model, pca)
        tf.saved_model.save(module, str(folder / name / "Format-Serving"), signatures=functions)
    model = ConvAutoencoder(TINY, stride=4, latent_channels=2)
    pca = linear.fit(linear.patch_moments(many, 4), 2)
    linear.set_linear_path(model, pca)
    signatures = Signatures(model, pca, calibration, SERVING_TILE)
    module.variables_of_the_model = [v.value for v in model.variables] + calibration.variables
    path, functions = folder / "other size" / "Format-Serving", evaluated(signatures)
    tf.saved_model.save(module, str(path), signatures=functions)
    damaged = shutil.copytree(folder / "for many", folder / "damaged") / "Format-Serving"
    (damaged / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    return {name: folder / name for name in (*pcas, "other size", "damaged")}


def evaluated(signatures: Signatures) -> dict:
    """What an evaluation needs of the signatures that `export` writes: a fifth of the time."""
    pixels = tf.TensorSpec((None, None, None, 3), tf.uint8, name=c.IMAGES)
    # Its input says how many channels the images have.
    encode = tf.function(lambda images: {c.LATENTS: images}, input_signature=[pixels])
    return {c.SCORE: signatures.functions[c.SCORE].get_concrete_function(), c.ENCODE: encode}


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory, models, encode):
    """Runs the Evaluator on 24 images of one texture, and 8 and 7 of another; gives its verdict.

    One of the last has four smaller copies, which must not count.
    """
    few = textures(2, 15)
    images = [("many", image) for image in textures(1, 23) + textures(1, 1, side=8)]
    images += [("few", image) for image in few[:8]] + [("fewer", image) for image in few[8:]]
    images += [("fewer", few[-1][k:, ::2]) for k in range(4)]
    copied = range(len(images) - 5, len(images))

    @functools.cache
    def run(model: str, in_service: str | None = None, limits=Limits()):  # noqa: B008
        folder = tmp_path_factory.mktemp("evaluated")
        (folder / "Split-test").mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / "Split-test" / "data.gz"), options="GZIP") as writer:
            for i, (label, image) in enumerate(images):
                record = Record(f"{i}.png", encode(image, "PNG"), label=label)
                picture = "a picture" if i in copied else None
                quartiles = ("1 smallest", "2", "3")
                writer.write(to_example(record, 3, quartiles, picture=picture))
        examples = artifact(standard_artifacts.Examples, folder)
        examples.split_names = '["test"]'
        examples.set_string_custom_property("fingerprint", "0123")
        examples.set_int_custom_property("test", len(images))
        inputs = {
            "examples": [examples],
            "model": [artifact(standard_artifacts.Model, models[model])],
        }
        if in_service:
            # A version folder, which has no other files than a SavedModel.
            version = models[in_service] / "Format-Serving"
            inputs["baseline_model"] = [artifact(standard_artifacts.Model, version)]
        outputs = {
            "evaluation": [artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")],
            "blessing": [artifact(standard_artifacts.ModelBlessing, folder / "blessing")],
        }
        properties = {
            "eval_config": proto_utils.proto_to_json(eval_config(limits, "code")),
            "example_splits": json.dumps([c.TEST]),
        }
        context = evaluation.Executor.Context(
            beam_pipeline_args=engines.beam_arguments(engines.DIRECT, 1, []),
            tmp_dir=str(folder),
            unique_id="1",
        )
        evaluation.Executor(context).Do(inputs, outputs, properties)
        (blessing,) = outputs["blessing"]
        refusal = blessing.get_string_custom_property(versions.REFUSAL)
        result = read_verdict(str(folder / "evaluation"), limits, refusal=refusal)
        assert result.blessed == blessing.get_int_custom_property("blessed")
        assert result.blessed == all(check.ok in (True, None) for check in result.checks)
        files = [path.name for path in (folder / "blessing").iterdir()]
        assert files == ["BLESSED" if result.blessed else "NOT_BLESSED"]
        facts = json.loads(blessing.get_string_custom_property(versions.DATA))
        assert facts == {"fingerprint": "0123", "train": 0, "val": 0, "test": len(images)}
        compared = in_service not in (None, model)
        digest = versions.digest(models[in_service]) if compared else ""
        assert blessing.get_string_custom_property(versions.COMPARED) == digest
        return result

    return run


def artifact(kind, uri: Path):
    artifact = kind()
    artifact.uri = str(uri)
    return artifact


def by_name(result: Verdict) -> dict[tuple[str, str | None], Check]:
    return {(check.name, check.slice): check for check in result.checks}


def test_a_model_above_the_floor_is_blessed_if_no_other_is_in_service(evaluate):
    result = evaluate("for many", in_service="for many")
    assert result == evaluate("for many")
    assert result.blessed
    checks = by_name(result)
    assert set(checks) == {(FLOOR, None), (SERVICE, None), (SLICE, None)}
    floor = checks[FLOOR, None]
    assert floor.ok
    assert floor.value > floor.limit == 0
    assert floor.text == (
        f"its mean test PSNR is {floor.value:+.2f} dB relative to the linear floor "
        "(required: more than 0 dB)"
    )
    for name in (SERVICE, SLICE):
        assert checks[name, None].ok is checks[name, None].value is None
        assert "no other model is in service" in checks[name, None].text
    assert reasons(result) == [floor.text]
    assert result.not_judged == ()


def test_slices_are_in_the_verdict_with_their_metrics(evaluate):
    result = evaluate("for many")
    assert [(s.by, s.value, s.images) for s in result.slices] == [
        ("label", "few", 8),
        ("label", "fewer", 7),
        ("label", "many", 24),
    ]
    few, fewer, many = result.slices
    assert many.psnr > few.psnr + 3
    gain = (8 * few.gain + 7 * fewer.gain + 24 * many.gain) / 39
    assert gain == pytest.approx(by_name(result)[FLOOR, None].value)
    # One image is smaller than the window of SSIM.
    assert result.skipped_ssim == 1
    assert 0 < few.ssim < many.ssim < 1
    assert all(s.change is None for s in result.slices)


def test_a_model_that_does_not_exceed_the_floor_and_is_below_the_one_in_service(evaluate):
    # The floor's own model differs from the floor by rounding.
    limits = Limits(min_gain=1e-3, max_slice_drop=ANY)
    result = evaluate("for few", in_service="for many", limits=limits)
    assert not result.blessed
    checks = by_name(result)
    floor, service = checks[FLOOR, None], checks[SERVICE, None]
    assert floor.value == pytest.approx(0, abs=1e-4)
    assert floor.ok is False
    assert service.ok is False
    assert service.value < -1
    assert service.text == (
        f"its mean test PSNR is {service.value:.2f} dB relative to the model in service "
        "(allowed: a drop of at most 0.1 dB)"
    )
    assert reasons(result) == [floor.text, service.text]
    many = checks[SLICE, "label: many"]
    assert many.ok
    assert many.value < service.value
    assert many.text.endswith("(allowed: a drop of at most 100 dB)")


def test_a_slice_that_got_worse_blocks_a_model_that_got_better(evaluate):
    result = evaluate("for many", in_service="for few")
    assert not result.blessed
    checks = by_name(result)
    assert checks[SERVICE, None].ok
    assert checks[SERVICE, None].value > 0
    few, many = checks[SLICE, "label: few"], checks[SLICE, "label: many"]
    assert many.ok
    assert few.ok is False
    assert few.value < few.limit == -0.5
    assert reasons(result) == [few.text]
    assert few.text == (
        f"its PSNR on label: few (8 images) is {few.value:.2f} dB relative to the model in service "
        "(allowed: a drop of at most 0.5 dB)"
    )
    changes = {s.value: s.change for s in result.slices if s.by == "label"}
    assert (changes["few"], changes["many"]) == (few.value, many.value)


def test_a_slice_of_seven_images_does_not_affect_the_blessing(evaluate):
    result = evaluate("for many", in_service="for few")
    assert (SLICE, "label: fewer") not in by_name(result)
    assert result.not_judged == (
        "label: fewer: not judged, because it has 7 images and 8 are needed",
    )
    (fewer,) = (s for s in result.slices if s.value == "fewer")
    assert fewer.change < -0.5
    assert fewer.images == 7
    assert not any("fewer" in reason for reason in reasons(result))


def test_a_model_is_compared_with_one_of_another_latent_size(evaluate):
    result = evaluate("for many", in_service="other size")
    assert result.blessed
    service = by_name(result)[SERVICE, None]
    assert service.ok
    assert service.value > 1
    assert by_name(result)[FLOOR, None] == by_name(evaluate("for many"))[FLOOR, None]


def test_a_model_that_cannot_be_compared_with_the_one_in_service_is_not_blessed(evaluate, models):
    result = evaluate("for many", in_service="damaged")
    assert not result.blessed
    (reason,) = reasons(result)
    version = models["damaged"] / "Format-Serving"
    assert reason.startswith(
        f"it cannot be compared with the model in service, {version}, which cannot be loaded: "
    )
    assert reason.endswith("; to push it without this comparison, add --replace")
    checks = by_name(result)
    assert checks[FLOOR, None] == by_name(evaluate("for many"))[FLOOR, None]
    assert (checks[SERVICE, None].value, checks[SERVICE, None].ok) == (None, False)
    assert checks[SLICE, None].text.endswith("because the models cannot be compared")


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        (1.234, 0.0, "+1.23 dB"),
        (-0.5004, -0.5, "-0.5004 dB"),
        (-0.003, -0.0, "-0.003 dB"),
        (0.0, 0.0, "+0.00 dB"),
        (-0.1, -0.1, "-0.10 dB"),
        (2**-40, 0.0, "+0.0000000000 dB"),
    ],
)
def test_a_number_has_the_digits_that_distinguish_it_from_the_limit(value, limit, shown):
    assert _db(value, limit) == shown


class _Prediction:
    features: dict[str, np.ndarray] = {}  # noqa: RUF012

    def __init__(self, value: float):
        self.predictions = {c.PSNR: np.asarray([value], np.float32)}


def test_means_have_the_same_bits_in_any_order():
    rng = random.Random(0)
    values = [rng.uniform(0, 100) for _ in range(300)] + [float("nan"), 1e-6]
    (computation,) = OutputMetric("m", c.PSNR, MEAN).computations()
    combiner = computation.combiner
    means = set()
    for size in (1, 7, 400):
        rng.shuffle(values)
        parts = []
        for start in range(0, len(values), size):
            part = combiner.create_accumulator()
            for value in values[start : start + size]:
                part = combiner.add_input(part, _Prediction(value))
            parts.append(part)
        means |= set(combiner.extract_output(combiner.merge_accumulators(parts)).values())
    (mean,) = means
    assert mean == pytest.approx(np.nanmean(np.float32(values), dtype=np.float64), rel=1e-10)
