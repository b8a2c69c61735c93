import hashlib
import json
import pickle
import shutil
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.types import artifact_utils, standard_artifacts

from keras_ae import contract as c
from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources import base
from keras_ae.datasets.sources.base import Record
from keras_ae.datasets.sources.folder import FolderSource
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError
from pipeline.components.image_example_gen import executor, writing
from pipeline.components.image_example_gen.checks import Check, check_shard
from pipeline.components.image_example_gen.executor import QUARANTINE, Executor
from pipeline.components.image_example_gen.splits import SplitAccumulator, assign_splits
from pipeline.components.image_example_gen.writing import to_example
from pipeline.runners.beam import engines
from pipeline.runtime import ingested


@pytest.fixture
def folder(tmp_path, photographs, encode):
    """Twenty different images, one of them with an EXIF orientation."""
    path = tmp_path / "images"
    path.mkdir()
    for i in range(19):
        (path / f"{i:02}.png").write_bytes(encode(photographs[0][i : i + 20, :30], "PNG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    (path / "19.jpg").write_bytes(encode(photographs[1][:20, :30], "JPEG", exif=exif.tobytes()))
    return path


def ingest(
    data,
    uri: Path | str,
    *beam_arguments: str,
    channels=3,
    stride=8,
    max_bad_share=0.1,
    copies="perceptual",
    fingerprint: str | None = None,
    white=0.0,
    **options,
):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(uri)
    context = Executor.Context(
        beam_pipeline_args=list(beam_arguments or engines.beam_arguments(engines.DIRECT, 1, [])),
        tmp_dir=f"{uri}-temp",
        unique_id="1",
    )
    properties = {
        "data": str(data),
        "channels": channels,
        "stride": stride,
        "max_bad_share": max_bad_share,
        "copies": copies,
        "white": white,
        "fingerprint": open_source(str(data), **options).fingerprint()
        if fingerprint is None
        else fingerprint,
        **options,
        "exclude": json.dumps(options.get("exclude", [])),
    }
    Executor(context).Do({}, {"examples": [artifact]}, properties)
    return artifact


def examples_of(artifact) -> dict[str, list[dict]]:
    """The features of each example, by split, in the order of sources."""
    by_split: dict[str, list[dict]] = {}
    for split in c.SPLITS:
        files = Path(artifact_utils.get_split_uri([artifact], split)).glob("*.gz")
        records = tf.data.TFRecordDataset([str(f) for f in files], compression_type="GZIP")
        examples = []
        for record in records.as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            examples.append(
                {
                    name: (list(f.bytes_list.value) or list(f.int64_list.value))[0]
                    for name, f in features.items()
                }
            )
        by_split[split] = sorted(examples, key=lambda example: example[c.IMAGE_SOURCE])
    return by_split


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_have_the_pixels_and_sizes_of_the_images(folder, tmp_path, channels):
    by_split = examples_of(ingest(folder, tmp_path / "out", channels=channels))
    examples = [example for split in by_split.values() for example in split]
    assert {e[c.IMAGE_SOURCE].decode() for e in examples} == {p.name for p in folder.iterdir()}
    for example in examples:
        name = example[c.IMAGE_SOURCE].decode()
        pixels = decode((folder / name).read_bytes(), channels)
        assert np.array_equal(decode(example[c.IMAGE_ENCODED], channels), pixels)
        assert (example[c.IMAGE_HEIGHT], example[c.IMAGE_WIDTH]) == pixels.shape[:2]
        assert pixels.shape[:2] == ((30, 20) if name == "19.jpg" else (20, 30))
        assert example[c.IMAGE_FORMAT] in (b"png", b"jpeg")
    assert all(by_split.values())


def slices_of(artifact) -> dict[str, dict[str, str]]:
    """The slice features of each example, by source."""
    by_source = {}
    for examples in examples_of(artifact).values():
        for example in examples:
            slices = {name: example[c.SLICE_PREFIX + name].decode() for name in c.SLICES}
            by_source[example[c.IMAGE_SOURCE].decode()] = slices
    return by_source


def test_every_example_has_the_values_of_its_slices(tmp_path, encode):
    path = tmp_path / "images"
    (path / "b" / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        # Brighter, larger and less smooth from one to the next.
        pixels = 20 * i + rng.integers(0, 4 * i + 1, (8 + i, 8, 3), np.uint8)
        name = f"{i}.png" if i < 4 else f"b/{i}.png" if i < 7 else "b/deeper/7.png"
        (path / name).write_bytes(encode(pixels.astype(np.uint8), "PNG"))
    (path / "bad.png").write_text("no image")
    by_source = slices_of(ingest(path, tmp_path / "out", max_bad_share=0.2))
    assert len(by_source) == 8
    for source, slices in by_source.items():
        quartile = int(source[-5]) // 2
        assert slices == {
            "label": "none",
            "source": "b" if "/" in source else "none",
            "size": ("1 smallest", "2", "3", "4 largest")[quartile],
            "brightness": ("1 darkest", "2", "3", "4 brightest")[quartile],
            "detail": ("1 smoothest", "2", "3", "4 finest")[quartile],
        }


@pytest.mark.parametrize(
    ("key", "label", "source"),
    [("./cats/1.png", None, "cats"), ("/a/b/1.png", "", "a"), ("train/7", "dog", "train")],
)
def test_slice_values_are_the_first_folder_and_the_label(photographs, encode, key, label, source):
    record = Record(key, encode(photographs[0][:9, :9], "PNG"), label=label)
    features = tf.train.Example.FromString(to_example(record, 3)).features.feature
    values = {name: features[c.SLICE_PREFIX + name].bytes_list.value[0] for name in c.SLICES}
    assert values["source"].decode() == source
    assert values["label"].decode() == (label or "none")
    assert values["size"] == values["brightness"] == values["detail"] == b"none"


WORKERS = {
    "threads": ("--direct_running_mode=multi_threading", "--direct_num_workers=3"),
    "processes": ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
}


def contents_of(folder: Path) -> dict[str, bytes]:
    """The contents of the files below a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("workers", WORKERS)
def test_any_number_of_workers_writes_the_same_files(folder, tmp_path, monkeypatch, workers):
    (folder / "bad.png").write_text("text")
    monkeypatch.setattr(base, "SHARD_BYTES", 5 * base.IMAGE_OVERHEAD_BYTES)
    ingest(folder, tmp_path / "alone")
    ingest(folder, tmp_path / "many", *WORKERS[workers])
    contents = contents_of(tmp_path / "many")
    assert contents == contents_of(tmp_path / "alone")
    assert len(contents) > 6


def test_images_of_a_bucket_become_examples_in_it(folder, tmp_path, bucket):
    (folder / "bad.png").write_text("text")
    ingest(folder, tmp_path / "local")
    ingest(bucket.put(folder, "images"), f"{bucket.uri}/root/examples")
    assert contents_of(bucket.get("root/examples", tmp_path / "fetched")) == contents_of(
        tmp_path / "local"
    )
    assert not bucket.names("root/examples/unfinished")


def test_files_are_of_bounded_size(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "FILE_BYTES", 4_000)
    artifact = ingest(folder, tmp_path / "out")
    sizes = [p.stat().st_size for p in (tmp_path / "out").rglob("*.gz")]
    assert len(sizes) > 3
    assert max(sizes) < 8_000
    assert sum(map(len, examples_of(artifact).values())) == 20


@pytest.mark.parametrize(("share", "fails"), [(0.1, False), (0.0, True)])
def test_temporary_files_are_removed(folder, tmp_path, share, fails):
    (folder / "bad.png").write_text("text")
    with pytest.raises(DataError, match="1 of 21") if fails else nullcontext():
        ingest(folder, tmp_path / "out", max_bad_share=share)
    assert {path.name for path in (tmp_path / "out").iterdir()} == (
        set() if fails else {QUARANTINE, ingested.FILE, *(f"Split-{split}" for split in c.SPLITS)}
    )


def test_an_image_that_changes_after_its_check_stops_the_run(folder, tmp_path, photographs, encode):
    source = open_source(str(folder))
    (shard,) = source.shards()
    accumulator = SplitAccumulator()
    accumulator.add(check_shard(0, shard, source, 3, str(tmp_path)))
    (folder / "07.png").write_bytes(encode(photographs[2][:9, :9], "PNG"))
    folders = {split: str(tmp_path / split) for split in c.SPLITS}
    plan = accumulator.plan(0.1, work_folder=str(tmp_path))
    with pytest.raises(DataError, match=r"07\.png changed while the images were read; run again"):
        writing.write_shard(0, shard, source, 3, plan, folders, str(tmp_path))
    assert not list(tmp_path.glob("t*/*.gz"))


CHANGES = {
    "added": (lambda folder, new: (folder / "more" / "new.png").write_bytes(new), "more/new.png"),
    "moved in": (lambda folder, new: (folder / ".new").rename(folder / "new.png"), "new.png"),
    "removed": (lambda folder, new: (folder / "more" / "20.png").unlink(), "more/"),
    "replaced": (lambda folder, new: (folder / "05.png").write_bytes(new), "05.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_data_that_changes_before_it_is_read_stops_the_run(
    folder, tmp_path, photographs, encode, change
):
    new = encode(photographs[2][:9, :9], "PNG")
    (folder / "more").mkdir()
    for name in ("more/20.png", "more/21.png", ".new"):
        (folder / name).write_bytes(new)
    (folder / "bad.png").write_text("text")
    fingerprint = open_source(str(folder)).fingerprint()
    time.sleep(0.05)
    changed, name = CHANGES[change]
    changed(folder, new + b"other")
    pattern = rf"the data changed after the run was started \(last changed: {name}\); run again$"
    with pytest.raises(DataError, match=pattern):
        ingest(folder, tmp_path / "out", fingerprint=fingerprint)


def test_examples_are_those_of_the_fingerprint(folder, tmp_path, monkeypatch):
    (folder / "bad.png").write_text("text")
    fingerprint = open_source(str(folder)).fingerprint()
    list_shards = FolderSource.shards

    def change_after_listing(change):
        def shards(source):
            listed = list_shards(source)
            change()
            return listed

        monkeypatch.setattr(FolderSource, "shards", shards)

    change_after_listing(lambda: shutil.copyfile(folder / "00.png", folder / "later.png"))
    artifact = ingest(folder, tmp_path / "out", fingerprint=fingerprint)
    assert artifact.get_string_custom_property("fingerprint") == fingerprint
    assert sum(map(len, examples_of(artifact).values())) == 20
    fingerprint = open_source(str(folder)).fingerprint()
    change_after_listing(lambda: (folder / "03.png").rename(folder / "33.png"))
    with pytest.raises(DataError, match=r"\(added: 33\.png; removed: 03\.png\); run again$"):
        ingest(folder, tmp_path / "again", fingerprint=fingerprint)


def test_an_archive_that_is_replaced_stops_the_run(folder, tmp_path):
    archive = Path(shutil.make_archive(str(tmp_path / "images"), "zip", folder))
    fingerprint = open_source(str(archive)).fingerprint()
    ingest(archive, tmp_path / "out", fingerprint=fingerprint)
    (folder / "03.png").unlink()
    shutil.make_archive(str(tmp_path / "images"), "zip", folder)
    with pytest.raises(
        DataError, match=r"the data changed .* \(the archive was changed or replaced\)"
    ):
        ingest(archive, tmp_path / "again", fingerprint=fingerprint)
    ingest(archive, tmp_path / "more", fingerprint="chosen by the user")


@pytest.mark.parametrize("format", ["zip", "tar", "gztar"])
def test_images_removed_from_an_archive_during_the_run_stop_it(
    folder, tmp_path, monkeypatch, format
):
    archive = Path(shutil.make_archive(str(tmp_path / "images"), format, folder))

    def write_after_change(*arguments) -> None:
        for name in ("03.png", "05.png"):
            (folder / name).unlink(missing_ok=True)
        shutil.make_archive(str(tmp_path / "images"), format, folder)
        writing.write_shard(*arguments)

    monkeypatch.setattr(executor, "write_shard", write_after_change)
    with pytest.raises(DataError, match=r"while (they|the images) were read; run again"):
        ingest(archive, tmp_path / "out", fingerprint="chosen by the user")


def test_an_object_added_to_a_bucket_during_the_run_stops_it(folder, tmp_path, bucket):
    data = bucket.put(folder, "changing")
    fingerprint = open_source(data).fingerprint()
    bucket.write("changing/later.png", (folder / "00.png").read_bytes())
    with pytest.raises(DataError, match=r"the data changed .* \(last changed: later\.png\)"):
        ingest(data, tmp_path / "out", fingerprint=fingerprint)


def test_bad_images_are_quarantined_with_reasons_and_the_others_are_used(folder, tmp_path):
    (folder / "bad.png").write_text("text")
    truncated = (folder / "00.png").read_bytes()[:100]
    (folder / "truncated.png").write_bytes(truncated)
    artifact = ingest(folder, tmp_path / "out")
    lines = (tmp_path / "out" / QUARANTINE).read_text().splitlines()
    reasons = {entry["source"]: entry["reason"] for entry in map(json.loads, lines)}
    assert reasons["bad.png"].startswith("not a PNG, JPEG")
    assert reasons["truncated.png"].startswith("cannot be decoded")
    counts = {n: artifact.get_int_custom_property(n) for n in (*c.SPLITS, "quarantined")}
    assert counts.pop("quarantined") == 2
    assert {split: len(examples) for split, examples in examples_of(artifact).items()} == counts
    assert sum(counts.values()) == 20


def test_an_image_that_only_pillow_decodes_is_quarantined(folder, tmp_path):
    path = folder / "00.png"
    path.write_bytes(path.read_bytes()[:-12])
    assert ingest(folder, tmp_path / "out").get_int_custom_property("quarantined") == 1


def test_too_many_bad_images_stop_the_run(folder, tmp_path):
    for i in range(3):
        (folder / f"bad{i}.png").write_text("text")
    with pytest.raises(DataError, match=r"3 of 23 images cannot be used.*bad0\.png: not a PNG"):
        ingest(folder, tmp_path / "out")
    ingest(folder, tmp_path / "more", max_bad_share=0.2)


def test_an_error_names_the_file_that_lists_all_images_that_cannot_be_used(folder, tmp_path):
    for i in range(4):
        (folder / f"bad{i}.png").write_text("text")
    with pytest.raises(DataError, match="4 of 24 images cannot be used") as caught:
        ingest(folder, tmp_path / "runs" / "1")
    listed = tmp_path / "runs" / QUARANTINE
    assert f"; {listed} lists all of them" in str(caught.value)
    # As TFX does after a failure.
    shutil.rmtree(tmp_path / "runs" / "1")
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [line["source"] for line in lines] == [f"bad{i}.png" for i in range(4)]


@pytest.mark.parametrize("fixed", [False, True])
def test_training_images_that_are_all_smaller_than_a_patch_stop_the_run(
    tmp_path, photographs, encode, fixed
):
    path = tmp_path / "small"
    for i in range(20):
        split = c.SPLITS[min(2, i // 8)] if fixed else ""
        (path / split).mkdir(parents=True, exist_ok=True)
        pixels = photographs[0][i : i + 7, 10 * i :][:, :30]
        (path / split / f"{i}.png").write_bytes(encode(pixels, "PNG"))
    text = r"all \d+ different training images are too small: expected at least one with 8 pixels"
    with pytest.raises(DataError, match=rf"{text} or more on each side; .* has a side of 7$"):
        ingest(path, tmp_path / "out")
    ingest(path, tmp_path / "out", stride=4)
    for i in range(20, 24):
        pixels = photographs[0][i : i + 8, 10 * i :][:, :30]
        (path / (c.TRAIN if fixed else "") / f"{i}.png").write_bytes(encode(pixels, "PNG"))
    ingest(path, tmp_path / "out")
    with pytest.raises(DataError, match=r"one with 16 pixels or more .* has a side of 8$"):
        ingest(path, tmp_path / "out", stride=16)


def test_fewer_than_three_good_images_stop_the_run(tmp_path, photographs, encode):
    path = tmp_path / "few"
    path.mkdir()
    for i in range(2):
        (path / f"{i}.png").write_bytes(encode(photographs[i], "PNG"))
    (path / "bad.png").write_text("")
    (path / "copy.png").write_bytes((path / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"three different .* got 2 among 4 \(bad.png: empty\)"):
        ingest(path, tmp_path / "out", max_bad_share=1.0)


def digests(count: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


def splits_of(digests) -> dict[str, str]:
    return assign_splits(dict.fromkeys(digests, ""))


def check_of(name, digest, split=None, fault="") -> Check:
    return Check(str(name), digest, 9, fault, split, () if fault else (100, 3.0, 1.0))


def test_splits_are_tenths_and_do_not_depend_on_the_order():
    splits = splits_of(digests(5000))
    shares = {split: sum(v == split for v in splits.values()) / 5000 for split in c.SPLITS}
    assert shares == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.02)
    assert splits_of(digests(5000)[::-1]) == splits


def test_an_image_keeps_its_split_when_others_are_added():
    splits = splits_of(digests(500))
    before = splits_of(digests(400))
    assert all(splits[digest] == split for digest, split in before.items())


@pytest.mark.parametrize("count", range(3, 12))
def test_each_split_gets_an_image_if_there_are_three(count):
    for skip in range(200):
        splits = splits_of(digests(count + skip)[skip:])
        assert set(splits.values()) == set(c.SPLITS)


def plan_of(*parts):
    """The plan for checks that are added in parts and merged."""
    merged = SplitAccumulator()
    for part in parts:
        accumulator = SplitAccumulator()
        accumulator.add(part)
        merged.merge(accumulator)
    return merged.plan(max_bad_share=0.5)


def test_a_plan_does_not_depend_on_the_parts_or_their_order():
    checks = [check_of(i, digest) for i, digest in enumerate(digests(40))]
    checks += [check_of(f"copy {i}", digest) for i, digest in enumerate(digests(9))]
    checks += [check_of(f"bad {i}", digest, fault="text") for i, digest in enumerate(digests(5))]
    plan = plan_of(checks)
    assert plan == plan_of(checks[::-1][:20], [], checks[::-1][20:])
    assert sum(plan.counts.values()) == 49
    assert plan.bad == [(f"bad {i}", "text") for i in range(5)]
    assert plan.counts == Counter(plan.assign(check)[0] for check in checks if not check.fault)


def test_copies_of_an_image_are_in_one_split():
    few = [check_of(name, digest) for digest in digests(4) for name in (digest, f"{digest} 2")]
    plan = plan_of(few)
    assert set(plan.counts) == {plan.assign(check)[0] for check in few} == set(c.SPLITS)
    assert all(plan.assign(a) == plan.assign(b) for a, b in zip(few[::2], few[1::2]))


def test_splits_of_the_source_are_kept():
    checks = [check_of(i, digest, c.TRAIN) for i, digest in enumerate(digests(30))]
    checks[3] = checks[3]._replace(split=c.VAL)
    checks[4] = checks[4]._replace(split=c.TEST)
    copy = check_of("copy", digests(4)[3], c.TRAIN)
    stray = check_of("stray", digests(31)[30])
    plan = plan_of(checks, [copy, stray])
    assert [plan.assign(check)[0] for check in checks[3:6]] == [c.VAL, c.TEST, c.TRAIN]
    assert plan.assign(copy)[0] == c.TRAIN
    assert plan.counts == {c.TRAIN: 29, c.VAL: 1, c.TEST: 1}
    assert plan.split(stray) is None
    assert plan.not_read == {"in no split folder": 1}
    assert plan.different == plan.counts
    assert plan.in_train == {c.VAL: 1, c.TEST: 0}


@pytest.mark.parametrize("count", [2, 300])
def test_a_missing_split_is_a_tenth_of_train(count):
    checks = [check_of(i, digest, c.TRAIN) for i, digest in enumerate(digests(count))]
    checks += [check_of(f"test {i}", digest, c.TEST) for i, digest in enumerate(digests(310)[300:])]
    plan = plan_of(checks)
    assert plan.counts == Counter(plan.split(check) for check in checks)
    assert plan.counts[c.TEST] == 10
    assert plan.counts[c.VAL] == pytest.approx(max(1, count / 10), rel=0.3)
    assert plan.by_hash == [c.VAL]


def test_train_must_have_images_for_itself_and_the_splits_that_are_taken_from_it():
    train, test = (
        plan_of([check_of(i, d, split) for i, d in enumerate(digests(2))]).refusal
        for split in (c.TRAIN, c.TEST)
    )
    assert train.startswith("at least 3 different good images are needed in the split train, ")
    assert train.endswith("got 2 among 2 images")
    assert test.startswith("no good image in the split train among 2 images; expected ")


def test_a_plan_does_not_grow_with_the_images():
    large, small = (
        pickle.dumps(plan_of([check_of(i, digest) for i, digest in enumerate(digests(count))]))
        for count in (5000, 500)
    )
    assert len(large) <= len(small) + 10
