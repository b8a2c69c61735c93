"""Folders as people have them: their own splits, labels, masks, and files of any name."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_ae import contract as c
from keras_ae.errors import DataError
from pipeline.components.image_example_gen import findings
from pipeline.components.image_example_gen.executor import QUARANTINE
from tests.pipeline.components.image_example_gen.test_executor import (
    examples_of,
    ingest,
    slices_of,
)


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def write(folder: Path, names: list[str], first: int = 0, format: str = "PNG") -> Path:
    """Writes a different picture under each name."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(first + i).save(path, format)
    return folder


def lines_of(artifact) -> list[str]:
    """The lines of the terminal."""
    names = (findings.SPLITS, findings.NOT_READ)
    return findings.lines({name: artifact.get_string_custom_property(name) for name in names})


def sources_of(artifact) -> dict[str, list[str]]:
    return {
        split: [example[c.IMAGE_SOURCE].decode() for example in examples]
        for split, examples in examples_of(artifact).items()
    }


def counts_of(artifact) -> dict[str, int]:
    return {name: artifact.get_int_custom_property(name) for name in (*c.SPLITS, "quarantined")}


THREE_SPLITS = [
    f"{split}/{label}/{i}.png"
    for split, count in (("train", 20), ("val", 5), ("test", 5))
    for label in ("cat", "dog")
    for i in range(count)
]


@pytest.mark.parametrize("kind", ["folder", "zip", "gztar"])
def test_folders_that_are_splits_are_kept_with_their_classes(tmp_path, kind):
    data = write(tmp_path / "data", THREE_SPLITS)
    if kind != "folder":
        data = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path, "data"))
    artifact = ingest(data, tmp_path / "out")
    for split, sources in sources_of(artifact).items():
        assert {source.removeprefix("data/").split("/")[0] for source in sources} == {split}
    for source, slices in slices_of(artifact).items():
        assert slices["label"] == source.split("/")[-2]
        assert slices["source"] == ("none" if kind == "folder" else "data")
    assert lines_of(artifact) == ["splits: the folders train (40), val (10), test (10)"]


def test_splits_by_hash_ignore_the_folders(tmp_path):
    data = write(tmp_path / "data", THREE_SPLITS)
    artifact = ingest(data, tmp_path / "out", splits="hash")
    assert {slices["label"] for slices in slices_of(artifact).values()} == {"none"}
    counts = counts_of(artifact)
    assert lines_of(artifact) == [
        f"splits: by hash of the content: train ({counts['train']}), val ({counts['val']}), "
        f"test ({counts['test']})"
    ]
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in THREE_SPLITS:
        shutil.copyfile(data / name, flat / name.replace("/", "-"))
    by_name = {
        split: [source.replace("/", "-") for source in sources]
        for split, sources in sources_of(artifact).items()
    }
    assert {k: sorted(v) for k, v in by_name.items()} == sources_of(ingest(flat, tmp_path / "2"))


INDUSTRIAL = [
    *(f"train/good/{i}.png" for i in range(30)),
    *(f"test/good/{i}.png" for i in range(4)),
    *(f"test/broken/{i}.png" for i in range(6)),
    *(f"ground_truth/broken/{i}_mask.png" for i in range(6)),
]


@pytest.mark.parametrize("categories", [[""], ["bottle/", "cable/"]])
def test_an_industrial_tree_trains_on_good_images_only(tmp_path, categories):
    names = [category + name for category in categories for name in INDUSTRIAL]
    artifact = ingest(write(tmp_path / "data", names), tmp_path / "out")
    sources = sources_of(artifact)
    assert not any("mask" in source for split in sources.values() for source in split)
    slices = slices_of(artifact)
    by_split = {s: Counter(slices[name]["label"] for name in sources[s]) for s in c.SPLITS}
    times = len(categories)
    assert by_split["test"] == {"good": 4 * times, "broken": 6 * times}
    assert set(by_split["train"]) == set(by_split["val"]) == {"good"}
    assert by_split["train"]["good"] + by_split["val"]["good"] == 30 * times
    assert {s["source"] for s in slices.values()} == {x.rstrip("/") or "none" for x in categories}
    train, val = by_split["train"]["good"], by_split["val"]["good"]
    suffix = " of 2 folders" if times == 2 else ""
    assert lines_of(artifact) == [
        f"splits: the folders train ({train}), test ({10 * times}){suffix}; val ({val}) by hash "
        "from train",
        f"not read: {6 * times} in ground_truth",
    ]


def test_a_tree_without_train_is_refused(tmp_path):
    data = write(tmp_path / "data", [f"{s}/{i}.png" for s in ("val", "test") for i in range(5)])
    with pytest.raises(
        DataError, match="no good image in the split train among 10 images; expected"
    ):
        ingest(data, tmp_path / "out")


def test_a_lone_train_is_a_class(tmp_path):
    names = [f"{label}/{i}.png" for label in ("train", "bus") for i in range(10)]
    artifact = ingest(write(tmp_path / "data", names), tmp_path / "out")
    assert lines_of(artifact)[0].startswith("splits: by hash")
    assert {slices["source"] for slices in slices_of(artifact).values()} == {"train", "bus"}


def test_images_of_any_name_are_read_and_others_counted_not_quarantined(tmp_path):
    data = write(tmp_path / "data", [f"{i}.png" for i in range(12)])
    write(data, ["a.jfif", "b.jpe", "c.mpo", "no-suffix"], 20, "JPEG")
    pair = [picture(30), picture(31)]
    pair[0].save(data / "d.mpo", "MPO", save_all=True, append_images=pair[1:])
    for i in range(12):
        (data / f"{i}.xyz").write_text("no image")
    for i in range(3):
        (data / f"{i}.mov").write_bytes(picture(0).tobytes())
    artifact = ingest(data, tmp_path / "out")
    sources = {name for names in sources_of(artifact).values() for name in names}
    assert sources == {
        *(f"{i}.png" for i in range(12)), "a.jfif", "b.jpe", "c.mpo", "d.mpo", "no-suffix",
    }  # fmt: skip
    assert counts_of(artifact)["quarantined"] == 0
    assert (tmp_path / "out" / QUARANTINE).read_bytes() == b""
    assert lines_of(artifact)[1] == "not read: 12 .xyz, 3 .mov"
    not_read = json.loads(artifact.get_string_custom_property(findings.NOT_READ))
    assert not_read == {".xyz": 12, ".mov": 3}


def test_a_file_with_the_suffix_of_an_image_that_is_none_is_quarantined(tmp_path):
    data = write(tmp_path / "data", [f"{i}.png" for i in range(20)])
    (data / "bad.jfif").write_text("text")
    (data / "bad").write_text("text")
    artifact = ingest(data, tmp_path / "out")
    assert counts_of(artifact)["quarantined"] == 1
    assert lines_of(artifact)[1:] == ["not read: 1 without suffix"]


def test_files_that_are_all_no_images_are_named_by_kind(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(12):
        (data / f"{i}.xyz").write_text("no image")
    (data / "a.mov").write_bytes(b"")
    with pytest.raises(DataError, match=r"^no image among the files; not read: 12 \.xyz, 1 \.mov$"):
        ingest(data, tmp_path / "out")


def test_what_is_excluded_is_not_read_and_counted(tmp_path):
    names = [f"{folder}/{i}.png" for folder in ("a", "b/thumbs") for i in range(9)]
    data = write(tmp_path / "data", names)
    artifact = ingest(data, tmp_path / "out", exclude=["*/thumbs"])
    assert sum(map(len, sources_of(artifact).values())) == 9
    assert lines_of(artifact)[1] == "not read: 9 excluded"
    with pytest.raises(DataError, match=r"no image in .*: not read: 18 excluded"):
        ingest(data, tmp_path / "again", exclude=["a", "b"])


def test_links_are_counted_on_the_terminal_or_followed(tmp_path):
    data = write(tmp_path / "data", [f"{i}.png" for i in range(15)])
    write(tmp_path / "more", [f"{i}.png" for i in range(7)], 20)
    (data / "link").symlink_to(tmp_path / "more")
    artifact = ingest(data, tmp_path / "out")
    assert counts_of(artifact)["quarantined"] == 1
    assert lines_of(artifact)[1] == "not read: 7 behind links (--follow-links reads links)"
    artifact = ingest(data, tmp_path / "followed", follow_links=True)
    assert sum(map(len, sources_of(artifact).values())) == 22
    assert len(lines_of(artifact)) == 1
