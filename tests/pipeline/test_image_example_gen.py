import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.types import artifact_utils, standard_artifacts

from keras_ae import contract as c
from keras_ae.datasets.images import decode
from keras_ae.datasets.sources import Record
from keras_ae.errors import DataError
from pipeline.components.image_example_gen.executor import QUARANTINE, Executor, to_example
from pipeline.components.image_example_gen.places import Check, assign_places, assign_splits


@pytest.fixture
def folder(tmp_path, photographs, encode):
    """Twenty different images, one of them with an EXIF orientation."""
    place = tmp_path / "images"
    place.mkdir()
    for i in range(19):
        (place / f"{i:02}.png").write_bytes(encode(photographs[0][i : i + 20, :30], "PNG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    (place / "19.jpg").write_bytes(encode(photographs[1][:20, :30], "JPEG", exif=exif.tobytes()))
    return place


def ingest(data, place: Path, *beam_arguments: str, channels=3, max_bad_share=0.1):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(place)
    context = Executor.Context(
        beam_pipeline_args=list(beam_arguments or ["--direct_running_mode=in_memory"]),
        tmp_dir=str(place.parent),
        unique_id="1",
    )
    properties = {"data": str(data), "channels": channels, "max_bad_share": max_bad_share}
    Executor(context).Do({}, {"examples": [artifact]}, properties)
    return artifact


def examples_of(artifact) -> dict[str, list[dict]]:
    """By split, the features of each example, by source."""
    found: dict[str, list[dict]] = {}
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
        found[split] = sorted(examples, key=lambda example: example[c.IMAGE_SOURCE])
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_hold_what_the_images_hold(folder, tmp_path, channels):
    found = examples_of(ingest(folder, tmp_path / "out", channels=channels))
    examples = [example for split in found.values() for example in split]
    assert {e[c.IMAGE_SOURCE].decode() for e in examples} == {p.name for p in folder.iterdir()}
    for example in examples:
        name = example[c.IMAGE_SOURCE].decode()
        pixels = decode((folder / name).read_bytes(), channels)
        assert np.array_equal(decode(example[c.IMAGE_ENCODED], channels), pixels)
        assert (example[c.IMAGE_HEIGHT], example[c.IMAGE_WIDTH]) == pixels.shape[:2]
        assert pixels.shape[:2] == ((30, 20) if name == "19.jpg" else (20, 30))
        assert example[c.IMAGE_FORMAT] in (b"png", b"jpeg")
    assert all(found.values())


def slices_of(artifact) -> dict[str, dict[str, str]]:
    """The slice features of each example, by source."""
    found = {}
    for examples in examples_of(artifact).values():
        for example in examples:
            slices = {name: example[c.SLICE_PREFIX + name].decode() for name in c.SLICES}
            found[example[c.IMAGE_SOURCE].decode()] = slices
    return found


def test_every_example_tells_the_slices_that_it_is_in(tmp_path, encode):
    place = tmp_path / "images"
    (place / "b" / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        # Brighter, larger and less smooth from one to the next.
        pixels = 20 * i + rng.integers(0, 4 * i + 1, (8 + i, 8, 3), np.uint8)
        name = f"{i}.png" if i < 4 else f"b/{i}.png" if i < 7 else "b/deeper/7.png"
        (place / name).write_bytes(encode(pixels.astype(np.uint8), "PNG"))
    (place / "bad.png").write_text("no image")
    found = slices_of(ingest(place, tmp_path / "out", max_bad_share=0.2))
    assert len(found) == 8
    for source, slices in found.items():
        quarter = int(source[-5]) // 2
        assert slices == {
            "label": "none",
            "source": "b" if "/" in source else "none",
            "size": ("1 smallest", "2", "3", "4 largest")[quarter],
            "brightness": ("1 darkest", "2", "3", "4 brightest")[quarter],
            "detail": ("1 smoothest", "2", "3", "4 finest")[quarter],
        }


@pytest.mark.parametrize(
    ("key", "label", "source"),
    [("./cats/1.png", None, "cats"), ("/a/b/1.png", "", "a"), ("train/7", "dog", "train")],
)
def test_a_slice_is_the_first_folder_or_the_label(photographs, encode, key, label, source):
    record = Record(key, encode(photographs[0][:9, :9], "PNG"), label=label)
    features = tf.train.Example.FromString(to_example(record, 3)).features.feature
    values = {name: features[c.SLICE_PREFIX + name].bytes_list.value[0] for name in c.SLICES}
    assert values["source"].decode() == source
    assert values["label"].decode() == (label or "none")
    assert values["size"] == values["brightness"] == values["detail"] == b"none"


def test_any_number_of_workers_gives_the_same_examples(folder, tmp_path):
    alone = examples_of(ingest(folder, tmp_path / "alone"))
    workers = ("--direct_running_mode=multi_threading", "--direct_num_workers=3")
    assert examples_of(ingest(folder, tmp_path / "many", *workers)) == alone


def test_bad_images_are_set_aside_with_their_reasons_and_the_rest_goes_on(folder, tmp_path):
    (folder / "bad.png").write_text("text")
    cut = (folder / "00.png").read_bytes()[:100]
    (folder / "cut.png").write_bytes(cut)
    artifact = ingest(folder, tmp_path / "out")
    lines = (tmp_path / "out" / QUARANTINE).read_text().splitlines()
    reasons = {entry["source"]: entry["reason"] for entry in map(json.loads, lines)}
    assert reasons["bad.png"] == "not a PNG, JPEG, BMP, GIF or WebP image"
    assert reasons["cut.png"].startswith("cannot be decoded")
    counts = {n: artifact.get_int_custom_property(n) for n in (*c.SPLITS, "quarantined")}
    assert counts.pop("quarantined") == 2
    assert {split: len(examples) for split, examples in examples_of(artifact).items()} == counts
    assert sum(counts.values()) == 20


def test_an_image_that_only_pillow_accepts_is_set_aside(folder, tmp_path):
    path = folder / "00.png"
    path.write_bytes(path.read_bytes()[:-12])
    assert ingest(folder, tmp_path / "out").get_int_custom_property("quarantined") == 1


def test_too_many_bad_images_stop_the_run(folder, tmp_path):
    for i in range(3):
        (folder / f"bad{i}.png").write_text("text")
    with pytest.raises(DataError, match=r"3 of 23 images cannot be used.*bad0\.png: not a PNG"):
        ingest(folder, tmp_path / "out")
    ingest(folder, tmp_path / "more", max_bad_share=0.2)


def test_fewer_than_three_good_images_stop_the_run(tmp_path, photographs, encode):
    place = tmp_path / "few"
    place.mkdir()
    for i in range(2):
        (place / f"{i}.png").write_bytes(encode(photographs[i], "PNG"))
    (place / "bad.png").write_text("")
    (place / "copy.png").write_bytes((place / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"three different .* got 2 among 4 \(bad.png: empty\)"):
        ingest(place, tmp_path / "out", max_bad_share=1.0)


def checks_of(digests, split=None) -> list[Check]:
    return [Check(f"{i}", digest, "", split) for i, digest in enumerate(digests)]


def digests(count: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


def test_splits_are_tenths_and_do_not_depend_on_the_order():
    checks = checks_of(digests(5000))
    splits = assign_splits(checks)
    shares = {split: sum(v == split for v in splits.values()) / 5000 for split in c.SPLITS}
    assert shares == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.02)
    assert assign_splits(checks[::-1]) == splits


def test_places_are_shared_by_the_images_that_go_there():
    checks = [check._replace(measured=(100, 3.0, 1.0)) for check in checks_of(digests(200))]
    places = assign_places(checks)
    assert len({id(place) for place in places.values()}) == 3
    assert {place.quarters for place in places.values()} == {
        ("1 smallest", "1 darkest", "1 smoothest")
    }


def test_an_image_keeps_its_split_when_others_come():
    checks = checks_of(digests(500))
    splits = assign_splits(checks)
    before = assign_splits(checks[:400])
    assert all(splits[source] == split for source, split in before.items())


@pytest.mark.parametrize("count", range(3, 12))
def test_each_split_gets_an_image_where_there_are_three(count):
    for skip in range(200):
        splits = assign_splits(checks_of(digests(count + skip)[skip:]))
        assert set(splits.values()) == set(c.SPLITS)


def test_the_same_bytes_under_two_names_stay_in_one_split():
    splits = assign_splits(checks_of([d for d in digests(50) for _ in range(2)]))
    assert all(splits[f"{2 * i}"] == splits[f"{2 * i + 1}"] for i in range(50))


def test_splits_of_the_source_are_kept():
    checks = checks_of(digests(30), c.TRAIN)
    checks[3] = checks[3]._replace(split=c.VAL)
    checks[4] = checks[4]._replace(split=c.TEST)
    splits = assign_splits(checks)
    assert splits["3"] == c.VAL
    assert splits["4"] == c.TEST
    assert sum(split == c.TRAIN for split in splits.values()) == 28
