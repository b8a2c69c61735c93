"""Which arrays of a .npz are images, and which their labels, by names and shapes."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from keras_ae.datasets.sources.npy import Array
from keras_ae.datasets.sources.parts import list_names
from keras_ae.datasets.sources.splits import split_of
from keras_ae.errors import DataError

EXPECTED: Final = "expected uint8, uint16 or float [N, H, W] or [N, H, W, C] with C 1, 3 or 4"
OBJECTS: Final = (
    "Python objects are never loaded, since they can run code: save np.stack(images) of images of "
    "one size, or a folder of pictures"
)

_IMAGE_WORDS = frozenset(
    (
        *("x", "image", "images", "img", "imgs", "data", "pixels", "picture", "pictures"),
        *("photos", "input", "inputs", "features", "arr", "array", "arrays", "set"),
    )
)
_LABEL_WORDS = frozenset(("y", "label", "labels", "target", "targets", "class", "classes"))
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LABEL_KINDS: Final = "iubUS"


class Role(NamedTuple):
    """What the name of an array says of it.

    Attributes:
        split: train, val or test; None if it says nothing of a split.
        kind: "images", "labels", or empty if it says neither.
    """

    split: str | None
    kind: str


class Chosen(NamedTuple):
    """An array of images that is read.

    Attributes:
        array: the images.
        split: its split; None if it is split by hash.
        labels: the array of their labels; None if there is none.
    """

    array: Array
    split: str | None
    labels: Array | None


def role_of(name: str) -> Role:
    """What the name of an array says of it.

    >>> role_of("X_train"), role_of("testLabels"), role_of("mean")
    (Role(split='train', kind='images'), Role(split='test', kind='labels'), Role(split=None, kind=''))
    """  # noqa: E501
    words = [word.lower() for word in _WORD.findall(name)]
    if len(words) == 1 and words[0][0] in "xy" and split_of(words[0][1:]):
        words = [words[0][0], words[0][1:]]
    splits = {split for word in words if (split := split_of(word)) is not None}
    others = {word for word in words if split_of(word) is None}
    kind = "images" if words and others <= _IMAGE_WORDS else ""
    return Role(
        splits.pop() if len(splits) == 1 else None, "labels" if others & _LABEL_WORDS else kind
    )


def choose(path: str, arrays: Sequence[Array], key: str, keep_splits: bool) -> dict[str, Chosen]:
    """Chooses the arrays of images, by name.

    Args:
        path: of the .npz, for messages.
        arrays: all arrays in it.
        key: name of the array to choose; empty to choose by names and shapes.
        keep_splits: whether arrays that are named after splits are the splits.

    Raises:
        DataError: if there is no array of images, or several without names of splits.
    """
    if key:
        named = [array for array in arrays if array.name == key]
        if not named:
            raise DataError(f"{path} has no array {key!r}; it has {_listed(arrays)}")
        return {key: Chosen(named[0], None, _labels_of(named[0], arrays))}
    candidates = candidates_in(arrays)
    if by_split := _by_split(candidates):
        return {
            array.name: Chosen(array, split if keep_splits else None, _labels_of(array, arrays))
            for split, array in by_split.items()
        }
    if len(candidates) == 1:
        return {a.name: Chosen(a, None, _labels_of(a, arrays)) for a in candidates}
    if candidates:
        raise DataError(
            f"{path} has several arrays that may be images: {_listed(candidates)}; expected one, "
            f"or names such as x_train and x_test; {path}:{candidates[0].name} chooses one"
        )
    hint = f"; {OBJECTS}" if any(array.dtype.hasobject for array in arrays) else ""
    raise DataError(f"no images in {path}: {EXPECTED}; got {_listed(arrays) or 'no array'}{hint}")


def candidates_in(arrays: Sequence[Array]) -> list[Array]:
    """The arrays that may be images: those of three or four dimensions that are no labels."""
    return [
        array
        for array in arrays
        if len(array.shape) in (3, 4)
        and role_of(array.name).kind != "labels"
        and not array.dtype.hasobject
    ]


def _by_split(candidates: Sequence[Array]) -> Mapping[str, Array]:
    """The arrays by split, if at least two splits have an array by name, and none has several."""
    roles = [(role_of(array.name), array) for array in candidates]
    named = [(role.split, array) for role, array in roles if role.split and role.kind == "images"]
    by_split = dict(named)
    return by_split if len(named) == len(by_split) > 1 else {}


def _labels_of(images: Array, arrays: Sequence[Array]) -> Array | None:
    """The only array that is named as labels of the split of an array, with one label for each."""
    split = role_of(images.name).split
    found = [
        array
        for array in arrays
        if role_of(array.name) == (split, "labels")
        and array.shape in ((images.shape[0],), (images.shape[0], 1))
        and array.dtype.kind in _LABEL_KINDS
    ]
    return found[0] if len(found) == 1 else None


def _listed(arrays: Sequence[Array]) -> str:
    return list_names([str(array) for array in arrays])
