"""Runs of the whole pipeline on a folder of small photographs, as a user starts them.

The first run is the command itself, with the server of ServingCheck. Later runs in the same root
are forked, and their ServingCheck compares in process.
"""

import json
import pickle
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from keras_ae.datasets.sources.sample_photos import path_of
from tests.e2e.runs import LONG, MODEL, ROOT, Run
from tests.e2e.workers import FORKED_WORKERS
from tests.listening import is_loopback

SCHEMA = ROOT / "keras_ae" / "comparison" / "comparison.schema.json"


@pytest.fixture(scope="module")
def first(finished) -> Run:
    return pickle.loads((finished / "run.pickle").read_bytes())


@pytest.fixture(scope="module")
def folder(finished) -> Path:
    """The folder of the first run and of the later ones."""
    return finished.with_name("first")


def versions(folder: Path) -> list[Path]:
    return sorted((folder / "root" / "serving" / "keras_ae").iterdir())


def test_a_run_prints_its_own_lines_only(first, finished):
    nodes = ["ImageExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform"]
    nodes += ["Trainer_1", f"Trainer_{LONG}", "BudgetComparison", "Evaluator", "ServingCheck"]
    nodes += ["Pusher", "Report"]
    assert list(first.nodes) == nodes
    assert first.errors == ""
    for text in (
        "floor",
        "<- chosen",
        "latent: 8 channels at stride 8: 0.125 values per pixel, 4.2 % of the image's values",
        "chosen: ",
        "report: ",
        "blessed: its mean test PSNR is +",
        "\npushed: ",
        " -m serving.server --rest_api_port=8501",
        "done in",
    ):
        assert text in first.out
    assert not re.search(r"WARNING|absl|tensorflow/core|Traceback", first.out)
    (log,) = (finished / "root" / "logs").iterdir()
    assert log.stat().st_size > 1000


def test_the_server_that_checks_a_model_is_reached_from_this_machine_only(first):
    assert first.listened
    assert {address for address, _ in first.listened if not is_loopback(address)} == set()


def test_a_broken_image_is_quarantined_and_listed(first):
    match = re.search(r"quarantined: 1 image, see (.*)", first.out)
    assert match
    (line,) = Path(match[1]).read_text().splitlines()
    assert json.loads(line)["source"] == "broken.png"


def test_the_comparison_and_the_report_are_in_the_root(first, finished):
    root = finished / "root"
    comparison = json.loads((root / "comparison.json").read_text())
    assert [entry["epochs"] for entry in comparison["budgets"]] == [1, LONG]
    assert comparison["run"]["backend"] == "tensorflow"
    images = [comparison["budgets"][0]["splits"][s]["images"] for s in ("train", "val", "test")]
    assert sum(images) == 17
    assert min(images) >= 1
    global_pca = comparison["floors"]["global_pca"]
    assert global_pca["splits"] is None
    assert "larger than a tile" in global_pca["reason"]
    jsonschema.validate(comparison, json.loads(SCHEMA.read_text()))
    assert comparison["answer"]["sentence"] in first.out
    assert {row["key"] for row in comparison["codecs"]["rows"]} >= {"model_8bit", "jpeg", "webp"}
    lines = (root / "images.jsonl").read_text().splitlines()
    assert len(lines) == 17
    assert set(json.loads(lines[0])["slices"]) == {
        "label", "source", "size", "brightness", "detail"}  # fmt: skip
    for entry in comparison["budgets"]:
        assert f"{entry['splits']['test']['psnr']['mean']:.2f}" in first.out
    assert "data:image/webp" in (root / "report.html").read_text()


def test_plain_tensorflow_serves_images_of_odd_sizes_in_one_request(finished, tmp_path, encode):
    photograph = np.asarray(Image.open(path_of("skimage/coffee.png")))
    (tmp_path / "one.png").write_bytes(encode(photograph[:77, :131], "PNG"))
    (tmp_path / "two.jpg").write_bytes(encode(photograph[100:201, 50:99], "JPEG", quality=95))
    program = """
import io, sys
import numpy as np, tensorflow as tf
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
version, *paths = sys.argv[1:]
serve = tf.saved_model.load(version).signatures["serving_default"]
requests = [open(path, "rb").read() for path in paths]
outputs = {name: value.numpy() for name, value in serve(image_bytes=tf.constant(requests)).items()}
for i, request in enumerate(requests):
    original = tf.io.decode_image(request).numpy()
    if request[:2] == b"\\xff\\xd8":
        original = tf.io.decode_jpeg(request, dct_method="INTEGER_ACCURATE").numpy()
    reconstruction = np.asarray(Image.open(io.BytesIO(outputs["reconstruction_png_bytes"][i])))
    assert reconstruction.shape == original.shape, (reconstruction.shape, original.shape)
    assert outputs["status"][i] == b""
    mse = np.mean((reconstruction / 255.0 - original / 255.0) ** 2)
    np.testing.assert_allclose(outputs["mse"][i], mse, rtol=1e-4)
    psnr = peak_signal_noise_ratio(original, reconstruction)
    np.testing.assert_allclose(outputs["psnr"][i], psnr, atol=1e-3)
    ssim = structural_similarity(original, reconstruction, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, channel_axis=-1, data_range=255)
    np.testing.assert_allclose(outputs["ssim"][i], ssim, atol=1e-4)
    assert 0 <= outputs["percentile"][i] <= 1
assert not any(name.startswith(("keras_ae", "pipeline", "tfx")) for name in sys.modules)
print("served", len(requests))
"""
    completed = subprocess.run(
        [sys.executable, "-I", "-c", program, versions(finished)[0], "one.png", "two.jpg"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert completed.stdout == "served 2\n", completed.stderr


def test_transform_computes_the_patch_moments_of_the_training_images(finished):
    from keras_ae.models import linear
    from pipeline.training_data import StoredImages, read_images, read_moments

    (artifacts,) = (finished / "root" / "artifacts").iterdir()
    (train,) = artifacts.glob("ImageExampleGen/examples/*/Split-train")
    (graph,) = artifacts.glob("Transform/transform_graph/*")
    expected = linear.patch_moments(read_images(StoredImages([f"{train}/*.gz"]), 3), 8)
    assert np.array_equal(read_moments(str(graph)), expected)


@pytest.fixture(scope="module")
def longer(folder, start) -> Run:
    """A run with a new stage, which is stopped while that stage trains."""
    return Run(folder, *MODEL, "--budgets", "1,30", start=start, until="epochs 1 to 30")


def test_a_longer_ladder_trains_the_new_stage_only(longer):
    assert longer.is_cached("Trainer_1")
    assert not longer.is_cached("Trainer_30")


def test_a_run_that_is_stopped_prints_the_command_to_resume_it(longer):
    assert longer.status == 128 + signal.SIGTERM
    stopped = (
        r"stopped by SIGTERM; to resume, run: python pipeline/run_local.py .*--budgets 1,30.*\n"
    )
    assert re.fullmatch(stopped, longer.errors)


@pytest.fixture(scope="module")
def extended(longer, folder, start) -> Run:
    """A run with another seed and the baseline, whose models are not good enough."""
    flags = ["--budgets", "1", "--seeds", "2", "--with-baseline"]
    run = Run(folder, *MODEL, *flags, "--min-gain", "9", start=start)
    assert (run.status, run.errors) == (0, "")
    return run


def test_further_seeds_and_a_baseline_extend_an_earlier_run(extended, folder):
    trainers = ["Trainer_1", "Trainer_1_seed_2", "Trainer_baseline_1"]
    assert [node for node in extended.nodes if node.startswith("Trainer")] == trainers
    assert [trainer for trainer in trainers if extended.is_cached(trainer)] == trainers[:1]
    root = folder / "root"
    comparison = json.loads((root / "comparison.json").read_text())
    assert comparison["seeds"]["seeds"] == comparison["run"]["seeds"] == [1, 2]
    assert comparison["baseline"]["preset"] == "baseline"
    assert "--seeds 2 --with-baseline" in comparison["run"]["command"]
    nodes = {entry["node"] for entry in comparison["run"]["lineage"]}
    assert {*trainers, "Evaluator", "ServingCheck"} <= nodes
    assert comparison["verdict"]["blessed"] is False
    assert (root / "images.jsonl").stat().st_size > 0
    assert list(root.glob("artifacts/*/Report/report/*/tensorboard/baseline/val/events*"))


def test_a_model_that_is_not_good_enough_is_not_pushed_and_the_run_says_why(extended, folder):
    (line,) = re.findall("^not pushed: the model is not blessed: (.*)", extended.out, re.MULTILINE)
    assert re.search(
        r"[+-]\d\.\d+ dB relative to the linear floor \(required: more than 9 dB\)", line
    )
    # The best seed is the model that the first run pushed.
    assert "relative to the model in service" not in line
    assert "\npushed: " not in extended.out
    assert len(versions(folder)) == 1


@pytest.fixture(scope="module")
def changed(extended, folder, start) -> Run:
    """A run with a changed image, which is stopped while it trains."""
    path = folder / "images" / "chelsea.png"
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    return Run(folder, *MODEL, "--budgets", "1", start=start, until="epochs 0 to 1")


def test_a_changed_image_is_noticed(changed):
    assert changed.nodes
    assert not any(
        changed.is_cached(node) for node in ("ImageExampleGen", "Transform", "Trainer_1")
    )


SEARCH = ("--tune", "2", "--tune-epochs", "1", "--tune-parameters", "30000")
GREY = (*MODEL, *SEARCH, "--budgets", "1", "--channels", "1", "--min-gain", "-1")
STREAMED = ("--memory-limit", "0.0001")


@pytest.fixture(scope="module")
def tuned(changed, folder, forks) -> Run:
    """A run on streamed grey images by two workers, with a model that is found by a search."""
    before = versions(folder)
    start = partial(forks.start, before=FORKED_WORKERS)
    run = Run(folder, *GREY, *STREAMED, "--workers", "2", "--replace", start=start)
    assert (run.status, run.errors) == (0, "")
    assert len(versions(folder)) == len(before) + 1
    return run


def test_a_model_of_grey_images_replaces_the_rgb_model_in_service_on_request(tuned, folder):
    assert "ModelInService" in tuned.nodes
    assert "note: a new model" not in tuned.out
    assert "\npushed: " in tuned.out
    comparison = json.loads((folder / "root" / "comparison.json").read_text())
    (check,) = (c for c in comparison["verdict"]["checks"] if c["name"] == "mean_psnr")
    assert check["ok"] is None
    assert "--replace skips the comparison" in check["text"]


def test_images_above_the_memory_limit_are_streamed_and_a_line_says_so(first, tuned, folder):
    line = r"^    training images: \d+ kB decoded, more than 100 kB: streamed$"
    assert len(re.findall(line, tuned.out, re.MULTILINE)) == 1
    assert "decoded, streamed" in (folder / "root" / "report.html").read_text()
    assert len(re.findall(r"\d [kM]B decoded, in memory", first.out)) == 1


def test_a_tuned_run_trains_the_best_trial_and_lists_all_trials(tuned, folder):
    nodes = list(tuned.nodes)
    assert nodes.index("Transform") + 1 == nodes.index("Tuner") == nodes.index("Trainer_1") - 1
    assert len(re.findall(r"^    trial \d of 2: width .* dB$", tuned.out, re.MULTILINE)) == 2
    root = folder / "root"
    comparison = json.loads((root / "comparison.json").read_text())
    best, other = comparison["trials"]
    assert best["taken"]
    assert not other["taken"]
    assert best["val_psnr"] >= other["val_psnr"]
    assert best["parameters"] <= 30000
    assert re.search(rf"^tuned: width {best['width']}, .* on val", tuned.out, re.MULTILINE)
    report = (root / "report.html").read_text()
    assert f'{best["trial"]} <span class="ends">chosen' in report
    assert "tiny tuned" in report
    assert f"{best['parameters']:,}" in report
    paths = (root / "artifacts").glob("*/Trainer_*/model/*/*/summary.json")
    summaries = (json.loads(path.read_text()) for path in paths)
    (summary,) = (summary for summary in summaries if summary["preset"] == "tiny tuned")
    assert summary["parameters"] == best["parameters"]
    assert summary["batch_size"] == best["batch_size"]


def test_an_identical_run_neither_trains_nor_pushes_and_says_so(tuned, folder, start):
    before = versions(folder)
    identical = Run(folder, *GREY, *STREAMED, start=start)
    assert identical.status == 0, identical.errors
    for node in ("ImageExampleGen", "Transform", "Tuner", "Trainer_1"):
        assert identical.is_cached(node)
    assert identical.is_cached("BudgetComparison")
    # The model is the one in service by now, which was evaluated before.
    assert identical.is_cached("Evaluator")
    assert "trained nothing" in identical.out
    assert "not pushed" in identical.out
    assert versions(folder) == before
