"""The photographs inside scikit-image and scikit-learn as a TensorFlow dataset."""

from importlib import resources
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from keras_ae.storage import sha256_of_parts

SPLITS = {
    "train": (
        "skimage/astronaut.png",
        "skimage/brick.png",
        "sklearn/china.jpg",
        "skimage/grass.png",
        "skimage/hubble_deep_field.jpg",
        "skimage/ihc.png",
        "skimage/moon.png",
        # A stereo pair is nearly the same image twice, so both are in one split.
        "skimage/motorcycle_left.png",
        "skimage/motorcycle_right.png",
        "skimage/retina.jpg",
    ),
    "val": ("skimage/coins.png", "skimage/gravel.png", "skimage/rocket.jpg"),
    "test": (
        "skimage/camera.png",
        "skimage/chelsea.png",
        "skimage/coffee.png",
        "sklearn/flower.jpg",
    ),
}
_FOLDERS = {"skimage": ("skimage", "data"), "sklearn": ("sklearn", "datasets/images")}


def path_of(name: str) -> Path:
    """The path in the installed package of a photograph such as "skimage/camera.png"."""
    package, file = name.split("/")
    module, folder = _FOLDERS[package]
    return Path(str(resources.files(module))) / folder / file


def fingerprint() -> str:
    """SHA-256 of the splits, names and contents of the photographs."""
    return sha256_of_parts(
        f"{split}/{name}\0".encode() + path_of(name).read_bytes()
        for split, names in SPLITS.items()
        for name in names
    )


class SamplePhotos(tfds.core.GeneratorBasedBuilder):
    """17 photographs of different kinds, without a download, in fixed splits."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "name": tfds.features.Text()}
            ),
            homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(names) for split, names in SPLITS.items()}

    def _generate_examples(self, names: tuple[str, ...]) -> Any:
        for name in names:
            yield name, {"image": path_of(name), "name": name}
