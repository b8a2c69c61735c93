"""Files of one picture share a split and are known as copies in the examples."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_ae import contract as c
from keras_ae.datasets.images.looks import THUMBNAIL_BYTES, look_at, thumbnail
from keras_ae.datasets.images.quartiles import measure
from keras_ae.datasets.sources.base import Record, Source
from pipeline.components.image_example_gen import checks
from pipeline.components.image_example_gen.checks import Check, check_shard
from pipeline.components.image_example_gen.splits import SplitAccumulator
from tests.pipeline.components.image_example_gen.test_executor import examples_of, ingest


def picture(seed: int, side: int = 64) -> Image.Image:
    """A smooth picture that no other seed gives."""
    levels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(levels).resize((side, side), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


class Memory(Source):
    """Records in memory, in one shard of each size."""

    def __init__(self, records: list[Record]):
        self._records = {record.key: record for record in records}

    def fingerprint(self):
        return "1"

    def shards(self):
        keys = list(self._records)
        return [tuple(keys[begin : begin + 7]) for begin in range(0, len(keys), 7)]

    def read(self, shard):
        return (self._records[key] for key in shard)


def plan_of(source: Source, folder, *, compare: bool = True):
    """The plan for a source, and the checks of its images by key."""
    accumulator, by_key = SplitAccumulator(), {}
    for index, shard in enumerate(source.shards()):
        results = check_shard(index, shard, source, 3, str(folder), compare=compare)
        by_key |= {check.source: check for check in results}
        part = SplitAccumulator()
        part.add(results, index)
        accumulator.merge(part)
    return accumulator.plan(0.1, work_folder=str(folder)), by_key


def write(folder, number: int) -> None:
    image = picture(number)
    folder.mkdir(exist_ok=True)
    (folder / f"{number}.png").write_bytes(encoded(image))
    (folder / f"{number}.jpg").write_bytes(encoded(image, "JPEG", quality=75))
    (folder / f"{number}-small.png").write_bytes(encoded(image.resize((32, 32))))


def test_png_jpeg_and_thumbnail_share_the_split_of_the_largest(tmp_path):
    for number in range(30):
        write(tmp_path / "images", number)
    artifact = ingest(tmp_path / "images", tmp_path / "out")
    splits: dict[str, set[str]] = {}
    pictures: dict[str, set[bytes]] = {}
    for split, examples in examples_of(artifact).items():
        for example in examples:
            number = example[c.IMAGE_SOURCE].decode().partition(".")[0].partition("-")[0]
            splits.setdefault(number, set()).add(split)
            pictures.setdefault(number, set()).add(example[c.IMAGE_PICTURE])
    assert len(splits) == 30
    assert all(len(each) == 1 for each in (*splits.values(), *pictures.values()))
    assert len(set.union(*pictures.values())) == 30
    assert artifact.get_int_custom_property("copies") == 60
    largest = checks.digest(Record("", (tmp_path / "images" / "3.png").read_bytes()))
    assert pictures["3"] == {largest.encode()}
    alone = plan_of(Memory([Record(str(i), encoded(picture(i))) for i in range(30)]), tmp_path)[0]
    assert splits["3"] == {alone.split(Check("3", largest, 1, "", None))}


def test_equal_files_count_once_and_content_turns_the_hash_off(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(20):
        for copy in range(12):
            (images / f"{number}-{copy}.png").write_bytes(encoded(picture(number)))
        (images / f"{number}.jpg").write_bytes(encoded(picture(number), "JPEG"))
    by_content = ingest(images, tmp_path / "content", copies="content")
    assert by_content.get_int_custom_property("copies") == 220
    assert not list((tmp_path / "content").rglob("thumbnails*"))
    by_look = ingest(images, tmp_path / "look")
    assert by_look.get_int_custom_property("copies") == 240
    assert sum(map(len, examples_of(by_look).values())) == 260
    jpeg = [
        example
        for examples in examples_of(by_content).values()
        for example in examples
        if example[c.IMAGE_SOURCE].endswith(b".jpg")
    ]
    assert len(jpeg) == 20
    assert not any(c.IMAGE_PICTURE in example for example in jpeg)


def test_images_without_copies_have_the_examples_that_they_had(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        (images / f"{number}.png").write_bytes(encoded(picture(number)))
    by_look = examples_of(ingest(images, tmp_path / "look"))
    assert by_look == examples_of(ingest(images, tmp_path / "content", copies="content"))
    assert all(c.IMAGE_PICTURE not in e for examples in by_look.values() for e in examples)


def test_pictures_in_several_splits_of_the_user_stay_and_are_counted(tmp_path):
    def record(split: str, number: int, data: bytes) -> Record:
        return Record(f"{split}/{number}", data, split=split)

    records = [record("train", n, encoded(picture(n), "JPEG", quality=75)) for n in range(20)]
    records += [record("test", n, encoded(picture(n))) for n in range(9)]
    records += [record("val", n, encoded(picture(n))) for n in (18, 30, 31)]
    plan, by_key = plan_of(Memory(records), tmp_path)
    assert {key: plan.split(check) for key, check in by_key.items()} == {
        key: key.partition("/")[0] for key in by_key
    }
    assert plan.counts == plan.different == {"train": 20, "val": 3, "test": 9}
    assert plan.in_train == {"val": 1, "test": 9}
    content, _ = plan_of(Memory(records), tmp_path, compare=False)
    assert content.in_train == {"val": 0, "test": 0}


def test_a_source_of_blocks_is_not_compared(tmp_path):
    class Blocks(Memory):
        has_whole_pictures = False

    records = [Record(f"{n}.{f}", encoded(picture(n), f)) for n in range(4) for f in ("PNG", "BMP")]
    assert sum(plan_of(Blocks(records), tmp_path)[0].different.values()) == 8
    assert sum(plan_of(Memory(records), tmp_path)[0].different.values()) == 4


def test_copies_of_fewer_than_three_pictures_stop_the_run(tmp_path):
    records = [Record(f"{n}.{f}", encoded(picture(n), f)) for n in range(2) for f in ("PNG", "BMP")]
    plan, _ = plan_of(Memory(records), tmp_path)
    assert "at least three different good images" in plan.refusal
    assert "got 2 among 4" in plan.refusal


def test_constant_pictures_are_copies_by_content_only(tmp_path):
    def constant(level: int) -> Image.Image:
        return Image.new("RGB", (64, 64), (level,) * 3)

    records = [
        Record(f"{n}.{f}", encoded(constant(n), f)) for n in range(9) for f in ("PNG", "BMP")
    ]
    assert sum(plan_of(Memory(records), tmp_path)[0].different.values()) == 18


@pytest.mark.parametrize("size", [(40, 20), (2000, 1200)])
def test_thumbnails_are_stored_by_row(tmp_path, size):
    image = picture(1).resize(size)
    bad, good = Record("bad", b"text"), Record("good", encoded(image))
    (_, check) = check_shard(3, ("bad", "good"), Memory([bad, good]), 3, str(tmp_path))
    stored = (tmp_path / "thumbnails-00003").read_bytes()
    pixels = np.asarray(image)
    small = thumbnail(pixels)
    assert len(stored) == 2 * THUMBNAIL_BYTES
    assert stored[THUMBNAIL_BYTES:].startswith(small.tobytes())
    assert tuple(check.look) == look_at(pixels, good.data)[0]
    assert check.measures == measure(pixels)
