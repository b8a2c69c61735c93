import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_ae.contract import SPLITS
from keras_ae.datasets.images.normalize import decode
from keras_ae.datasets.sources import base, sample_photos
from keras_ae.datasets.sources.open import open_source
from keras_ae.errors import DataError


class _Shapes(tfds.core.GeneratorBasedBuilder):
    """Five images in the splits train and test, with labels."""

    VERSION = tfds.core.Version("1.2.0")
    SPLITS = ("train", "test")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 9, 3)),
            "label": tfds.features.ClassLabel(names=["dark", "bright", "brighter"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(label) for label, split in enumerate(self.SPLITS)}

    def _generate_examples(self, label):
        for i in range(3 - label):
            yield i, {"image": np.full((8, 9, 3), 100 * label + i, np.uint8), "label": label}


class LocalShapes(_Shapes):
    """Two splits."""


class LocalShapesInThree(_Shapes):
    """All three splits, under TensorFlow's name of val."""

    SPLITS = ("train", "validation", "test")


class LocalShapesWithMore(_Shapes):
    """Two splits that are kept and one that is none of ingest's."""

    SPLITS = ("train", "test", "extra")


class LocalOtherShapes(_Shapes):
    """A lone train beside a split that is none of ingest's."""

    SPLITS = ("train", "extra")


class LocalSounds(_Shapes):
    """No image."""

    def _info(self):
        features = tfds.features.FeaturesDict({"sound": tfds.features.Audio()})
        return self.dataset_info_from_configs(features=features)


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    return tmp_path


def read_all(source):
    return list(itertools.chain.from_iterable(map(source.read, source.shards())))


@pytest.mark.parametrize("name", ["tfds:local_shapes", "tfds:local_shapes:1.2.0"])
def test_a_dataset_by_name_gives_its_images_and_labels(name):
    source = open_source(name)
    records = read_all(source)
    assert sorted(r.key for r in records) == [
        "test/0", "test/1", "train/0", "train/1", "train/2",
    ]  # fmt: skip
    for record in records:
        level = decode(record.data, 3)
        assert level.shape == (8, 9, 3)
        assert record.label == ("bright" if level[0, 0, 0] >= 100 else "dark")
        assert record.split == record.key.split("/")[0]
    assert source.fingerprint() == open_source(name).fingerprint()


@pytest.mark.parametrize("name", ["local_shapes", "local_shapes_with_more", "local_other_shapes"])
def test_splits_are_kept_if_train_is_among_them_and_others_are_not_read(name):
    source = open_source(f"tfds:{name}")
    splits = {record.key.split("/")[0]: record.split for record in read_all(source)}
    if name == "local_other_shapes":
        assert splits == {"train": None, "extra": None}
        assert not source.findings().not_read
    else:
        assert splits == {"train": "train", "test": "test"}
        more = {"in extra": 1} if name == "local_shapes_with_more" else {}
        assert source.findings().not_read == more


def test_splits_of_a_dataset_can_be_ignored_but_are_no_folders():
    records = read_all(open_source("tfds:local_shapes_in_three", splits="hash"))
    assert {record.split for record in records} == {None}
    with pytest.raises(
        DataError, match="--splits folders needs a folder or an archive of pictures; got tfds"
    ):
        open_source("tfds:local_shapes", splits="folders")
    with pytest.raises(DataError, match="--exclude needs a folder"):
        open_source(base.SAMPLE, exclude=["*.jpg"])


def test_a_dataset_with_all_three_splits_keeps_them():
    records = read_all(open_source("tfds:local_shapes_in_three"))
    assert {record.key.split("/")[0]: record.split for record in records} == {
        "train": "train",
        "validation": "val",
        "test": "test",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tfds:cifar11", "no TensorFlow dataset 'cifar11'.*did you mean.*cifar10"),
        ("tfds:local_shapes:9.9.9", "no TensorFlow dataset 'local_shapes:9.9.9'"),
        ("tfds:local_sounds", "has no image in an example"),
    ],
)
def test_a_dataset_that_does_not_exist_or_has_no_image_is_reported(name, text):
    with pytest.raises(DataError, match=text):
        open_source(name).shards()


def test_the_sample_photographs_have_splits_and_need_no_download(tmp_path):
    records = read_all(open_source(base.SAMPLE, tmp_path))
    by_split = {s: {r.key for r in records if r.split == s} for s in SPLITS}
    assert {split: len(keys) for split, keys in by_split.items()} == {
        "train": 10,
        "val": 3,
        "test": 4,
    }
    stereo = {"skimage/motorcycle_left.png", "skimage/motorcycle_right.png"}
    assert stereo <= by_split["train"]
    for record in records:
        assert record.data == sample_photos.path_of(record.key).read_bytes()
        assert min(decode(record.data, 3).shape[:2]) > 200
