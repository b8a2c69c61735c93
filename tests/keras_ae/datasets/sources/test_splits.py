"""Split folders, labels and masks by the names of folders."""

import pytest

from keras_ae.datasets.sources.splits import (
    AUTO,
    FOLDERS,
    HASH,
    Layout,
    find_layout,
    split_folders,
    split_of,
)


def places(names: list[str], mode: str = AUTO) -> dict[str, tuple]:
    layout = find_layout(names, mode)
    return {name: tuple(layout.place(name)) for name in names}


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "TRAIN", "Training", "train2017", "train_2014"]),
        ("val", ["val", "valid", "Validation", "dev", "val2017"]),
        ("test", ["test", "Testing", "test-2015"]),
        (None, ["trains", "tests", "train2", "train20171", "images", "", "2017", "testset"]),
    ],
)
def test_names_of_splits(split, names):
    assert {split_of(name) for name in names} == {split}


@pytest.mark.parametrize(
    "prefix",
    ["", "data/", "data/v1/", "./", "/absolute/", "images/", "data/images/", "data/Images/"],
)
def test_split_folders_are_found_below_a_single_folder_and_images(prefix):
    names = [f"{prefix}{split}/{i}/a.png" for split in ("Train", "valid", "test") for i in range(3)]
    found = places(names)
    assert [found[name][0] for name in names] == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    assert {found[name][1] for name in names} == {"0", "1", "2"}
    assert split_folders(find_layout(names), names) == {
        "train": ["Train"],
        "val": ["valid"],
        "test": ["test"],
    }


INDUSTRIAL = [
    "train/good/1.png",
    "test/good/2.png",
    "test/broken/3.png",
    "ground_truth/broken/3_mask.png",
]


@pytest.mark.parametrize("categories", [[""], ["bottle/"], ["bottle/", "cable/"]])
def test_an_industrial_tree_has_labels_and_leaves_masks_out(categories):
    names = [category + name for category in categories for name in INDUSTRIAL]
    found = places(["readme", *names])
    for category in categories:
        assert [found[category + name] for name in INDUSTRIAL] == [
            ("train", "good", ""),
            ("test", "good", ""),
            ("test", "broken", ""),
            (None, None, "in ground_truth"),
        ]
    assert found["readme"] == (None, None, "in no split folder")


def test_files_beside_categories_with_split_folders_are_in_no_split_folder():
    names = [f"bottle/{name}" for name in INDUSTRIAL]
    names += ["cable/good/1.png", "previews/x.png", "nut/train/good/1.png"]
    found = places(names)
    assert found["bottle/test/broken/3.png"] == ("test", "broken", "")
    assert found["nut/train/good/1.png"] == ("train", "good", "")
    assert found["cable/good/1.png"][2] == found["previews/x.png"][2] == "in no split folder"
    assert found == places(names, FOLDERS)


def test_split_folders_of_few_files_are_ignored_but_not_their_masks():
    names = [f"bottle/{name}" for name in INDUSTRIAL] + [f"cable/good/{i}.png" for i in range(9)]
    for mode in (AUTO, HASH):
        found = places(names, mode)
        assert found.pop("bottle/ground_truth/broken/3_mask.png")[2] == "in ground_truth"
        assert set(found.values()) == {(None, None, "")}
    assert places(names, FOLDERS)["bottle/test/broken/3.png"][0] == "test"


def test_masks_are_left_out_beside_images_and_stay_classes_elsewhere():
    names = ["a/images/1.png", "a/masks/1.png", "a/labels/1.png", "b/mask/1.png", "b/face/1.png"]
    assert [place[2] for place in places(names).values()] == ["", "in masks", "in labels", "", ""]
    assert places(names) == places(names, HASH)
    assert not places(["train/mask/1.png", "test/face/1.png"])["train/mask/1.png"][2]


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["images/train/1.png", "images/val2017/2.png", "labels/train/1.png"], None),
        (["train/images/1.png", "train/labels/1.png", "valid/images/2.png"], None),
        (["train/images/cat/1.png", "train/masks/cat/1.png", "valid/images/cat/2.png"], "cat"),
    ],
)
def test_images_beside_annotations(names, label):
    found = places(names)
    splits = [(place[0], place[1]) for place in found.values() if not place[2]]
    assert splits == [("train", label), ("val", label)]


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.png", "bus/2.png", "car/3.png"],
        ["train/1.png", "training/2.png"],
        ["train.png", "test.png"],
        ["1.png", "2.png", "3.png", "experiment/train/4.png", "experiment/test/5.png"],
        ["/".join("d" * 1100) + "/1.png", "a//b.png", "//c.png", ""],
        [],
    ],
)
def test_trees_without_split_folders(names):
    assert find_layout(names) == Layout()
    assert find_layout([f"train/{n}" for n in "12"] + ["test/1"], HASH) == Layout()


def test_everything_beside_split_folders_at_the_top_is_left_out():
    names = ["train/1.png", "test/2.png", *(f"unlabeled/{i}.png" for i in range(9))]
    assert places(names)["unlabeled/3.png"] == (None, None, "in no split folder")


def test_a_single_split_folder_is_enough_if_it_is_asked_for():
    assert places(["train/1.png", "other/2.png"], FOLDERS)["train/1.png"][0] == "train"
