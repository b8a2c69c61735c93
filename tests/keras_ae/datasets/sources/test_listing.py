"""Which files are read, and how the others are counted."""

import pytest

from keras_ae.datasets.sources.kinds import format_counts, is_hidden, kind_of
from keras_ae.datasets.sources.listing import EVERYTHING, list_files, make_reading
from keras_ae.errors import ConfigurationError, DataError


@pytest.mark.parametrize(
    "name",
    [".a.png", "a/.b/c.png", "__MACOSX/a.png", "a/__macosx/b", "Thumbs.db", "x/desktop.ini",
     ".DS_Store", "a/._b.png", "..a"],
)  # fmt: skip
def test_hidden_files_and_litter_are_silent(name):
    assert is_hidden(name)
    listing = list_files([name, "b.png"], EVERYTHING, "data")
    assert (listing.names, listing.not_read) == (["b.png"], {})


@pytest.mark.parametrize(
    "name", ["./a.png", "../a.png", "a/../b.png", "a.b/c", "athumbs.db", "MACOSX"]
)
def test_files_that_are_not_hidden(name):
    assert not is_hidden(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/b.XYZ", ".xyz"),
        ("a.tar.gz", ".gz"),
        ("a.d/b", "without suffix"),
        (".profile", "without suffix"),
        ("scan.0001", "without suffix"),
        ("a.", "without suffix"),
        ("a.with words", "without suffix"),
        ("a.mp4", ".mp4"),
        ("", "without suffix"),
    ],
)
def test_kinds(name, kind):
    assert kind_of(name) == kind


def test_counts_are_on_one_line_however_many_kinds_there_are():
    counts = {f".k{i}": i for i in range(1, 1001)}
    assert format_counts(counts).startswith("1,000 .k1000, 999 .k999, ")
    assert format_counts(counts).endswith(" .k993, 492,528 of 992 other kinds")


def test_files_of_unknown_suffix_may_be_images_and_known_others_are_counted():
    names = ["a.png", "b.xyz", "c", "d.TXT", "e.zip", "f.nef", "g.mov", "h.mov", "link/"]
    listing = list_files(names, EVERYTHING, "data")
    assert listing.names == ["a.png", "b.xyz", "c", "link/"]
    assert listing.not_read == {".txt": 1, ".zip": 1, ".nef": 1, ".mov": 2}


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.xyz"], ["a/b.png", "a/masks/c.png", "d.png"]),
        (["masks"], ["a/b.png", "a/masks/c.png", "a/e.xyz", "d.png"]),
        (["*/masks"], ["a/b.png", "a/e.xyz", "d.png"]),
        (["a"], ["d.png"]),
        (["a/", "d.*"], None),
        (["a/b.???", "?.png"], ["a/masks/c.png", "a/e.xyz"]),
    ],
)
def test_what_matches_a_pattern_is_excluded_and_counted(patterns, left):
    names = ["a/b.png", "a/masks/c.png", "a/e.xyz", "d.png"]
    listing = list_files(names, make_reading("auto", patterns, False), "data")
    assert listing.names == (left or [])
    assert listing.not_read == {"excluded": 4 - len(left or [])}


def test_folders_of_the_run_itself_are_left_out_silently():
    names = ["a.png", "runs/a/report.png", "runs/a/x.txt", "runs/ab.png", "b/runs/a/c.png"]
    listing = list_files(names, make_reading("auto", [], False, ["runs/a"]), "data")
    assert listing.names == ["a.png", "runs/ab.png", "b/runs/a/c.png"]
    assert listing.not_read == {}


def test_masks_and_files_outside_of_the_splits_are_counted():
    names = ["train/a/1.png", "test/a/2.png", "ground_truth/a/2.png", "3.png", "links/", "x.csv"]
    listing = list_files(names, EVERYTHING, "data")
    assert listing.names == ["train/a/1.png", "test/a/2.png", "links/"]
    found = listing.findings()
    assert found.not_read == {".csv": 1, "in ground_truth": 1, "in no split folder": 1}
    assert found.split_folders == {"train": ["train"], "test": ["test"]}


def test_a_way_to_split_that_is_not_there_is_an_error():
    with pytest.raises(DataError, match=r"no split folders in data: expected .* train, val and"):
        list_files(["a/1.png"], make_reading("folders", [], False), "data")
    with pytest.raises(ConfigurationError, match="splits: expected auto, folders, hash; got 'x'"):
        make_reading("x", [], False)
