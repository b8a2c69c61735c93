"""Splits, labels and masks by the names of folders, as image datasets are laid out."""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from keras_ae import contract as c
from keras_ae.datasets.sources.kinds import NO_SPLIT_FOLDER

AUTO, FOLDERS, HASH = "auto", "folders", "hash"
MODES = (AUTO, FOLDERS, HASH)
EXPECTED = (
    "expected folders such as train, val and test side by side (also training, valid, validation, "
    "dev, testing, val2017; in upper or lower case): at the top, below a single folder, below each "
    "category, or below images"
)

_NAMES = {
    **dict.fromkeys(("train", "training"), c.TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), c.VAL),
    **dict.fromkeys(("test", "testing"), c.TEST),
}
_YEAR = re.compile(r"[-_ ]?(?:19|20)\d\d$")
_IMAGES = "images"
_MASKS = frozenset(("ground_truth", "mask", "masks", "annotations"))
_MASKS_BESIDE_IMAGES = _MASKS | {"labels"}
_MAX_DEPTH = 16
"""Maximum depth of split folders."""

Tree = Mapping[str, frozenset[str]]
"""Names of the subfolders of each folder that has any; the top is an empty string."""


class Place(NamedTuple):
    """What the folder of an image says of it.

    Attributes:
        split: train, val or test; None if no split folder contains it.
        label: the class folder below the split folder; None if there is none.
        left_out: the kind by which it is counted if it is not read; empty if it is read.
    """

    split: str | None = None
    label: str | None = None
    left_out: str = ""


_ANYWHERE = Place()


class Layout(NamedTuple):
    """The split folders and the folders of masks in a tree.

    Attributes:
        parents: the folders that contain the split folders: one, or one for each category.
        masks: folders of masks or annotations, which are left out.
    """

    parents: frozenset[str] = frozenset()
    masks: frozenset[str] = frozenset()

    def place(self, name: str) -> Place:
        """The place of a file, by its name relative to the top, with slashes.

        >>> Layout(frozenset(["bottle"])).place("bottle/test/broken/1.png")
        Place(split='test', label='broken', left_out='')
        """
        if not self.parents and not self.masks:
            return _ANYWHERE
        return _place(self, name.rpartition("/")[0])


def split_of(folder: str) -> str | None:
    """The split that the name of a folder stands for; None if it is no such name.

    >>> split_of("Validation"), split_of("val2017"), split_of("trains")
    ('val', 'val', None)
    """
    return _NAMES.get(_YEAR.sub("", folder.lower()))


def find_layout(names: Iterable[str], mode: str = AUTO) -> Layout:
    """Finds the split folders and the folders of masks.

    Split folders count if at least two different ones stand side by side: at the top, below a
    single folder, below folders of categories, or below a folder `images` in one of these places.
    Most files must be inside of them, unless they are at the top. A category beside others may have
    one split folder only.

    Folders of masks or annotations count only beside split folders or beside `images`; then they
    are left out even if split folders are ignored.

    Args:
        names: of all files, relative to the top, with slashes.
        mode: `AUTO`; `FOLDERS` if a single split folder, or one category, is enough; `HASH` for no
            split folders.
    """
    folders = [name.rpartition("/")[0] for name in names]
    tree = _tree(set(folders))
    parents = _with_siblings(tree, _find(tree, "", strict=True))
    if mode == FOLDERS and not parents:
        parents = _find(tree, "", strict=False)
    masks = frozenset(_masks(tree, set(parents)))
    layout = Layout(frozenset(parents), masks)
    if mode == AUTO and parents and parents != [""]:
        places = [layout.place(f"{folder}/") for folder in folders]
        outside = sum(place.left_out == NO_SPLIT_FOLDER for place in places)
        inside = sum(place.split is not None for place in places)
        if outside > inside:
            parents = []
    return Layout(frozenset() if mode == HASH else frozenset(parents), masks)


def split_folders(layout: Layout, names: Iterable[str]) -> dict[str, list[str]]:
    """The names of the folders of each split, as they are written.

    Args:
        layout: the layout of the names.
        names: of the files that are read.
    """
    found: dict[str, set[str]] = {split: set() for split in c.SPLITS}
    for folder in {name.rpartition("/")[0] for name in names}:
        split = layout.place(f"{folder}/").split
        if split is not None:
            below = _below(folder, layout.parents)
            found[split].add(below[0])
    return {split: sorted(folders) for split, folders in found.items() if folders}


@functools.lru_cache(maxsize=2**14)
def _place(layout: Layout, folder: str) -> Place:
    """The place of the files of a folder."""
    ancestors = list(_ancestors(folder))
    mask = next((path for path in ancestors if path in layout.masks), None)
    if mask is not None:
        return Place(left_out=f"in {mask.rpartition('/')[2]}")
    if not layout.parents:
        return _ANYWHERE
    below = _below(folder, layout.parents)
    split = split_of(below[0]) if below else None
    if split is None:
        return Place(left_out=NO_SPLIT_FOLDER)
    return Place(split, next((part for part in below[1:] if part.lower() != _IMAGES), None))


def _parts(folder: str) -> list[str]:
    """The components of a path, which may begin with ./ or / in an archive."""
    return [part for part in folder.split("/") if part not in ("", ".")]


def _ancestors(folder: str) -> Iterable[str]:
    """The top, the folders above a folder, and the folder itself."""
    parts = _parts(folder)
    return ("/".join(parts[:depth]) for depth in range(min(len(parts), _MAX_DEPTH) + 1))


def _below(folder: str, parents: frozenset[str]) -> list[str]:
    """The components of a path below one of the parents; empty if it is below none."""
    for depth, path in enumerate(_ancestors(folder)):
        if path in parents:
            return _parts(folder)[depth:]
    return []


def _tree(folders: Iterable[str]) -> Tree:
    children: dict[str, set[str]] = {}
    for folder in folders:
        parent = ""
        for part in _parts(folder)[:_MAX_DEPTH]:
            children.setdefault(parent, set()).add(part)
            parent = _join(parent, part)
    return {folder: frozenset(names) for folder, names in children.items()}


def _find(tree: Tree, top: str, *, strict: bool) -> list[str]:
    """The folders below `top`, or itself, that contain split folders.

    Args:
        tree: all folders.
        top: where to look.
        strict: whether two splits must be side by side.
    """
    names = sorted(tree.get(top, ()))
    splits = {split_of(name) for name in names} - {None}
    if len(splits) > 1 or (splits and not strict):
        return [top]
    for name in names:
        if name.lower() == _IMAGES and (found := _find(tree, _join(top, name), strict=strict)):
            return found
    parents: list[str] = []
    for name in names:
        if name.lower() not in _MASKS_BESIDE_IMAGES:
            parents += _find(tree, _join(top, name), strict=strict)
    return parents


def _with_siblings(tree: Tree, parents: list[str]) -> list[str]:
    """Categories, and those beside them that contain a split folder."""
    above = {parent.rpartition("/")[0] for parent in parents if parent}
    beside = {_join(folder, name) for folder in above for name in tree[folder]}
    return [*parents, *sorted(p for p in beside if set(map(split_of, tree.get(p, ()))) - {None})]


def _masks(tree: Tree, parents: set[str]) -> Iterable[str]:
    for folder, names in tree.items():
        beside_images = any(name.lower() == _IMAGES for name in names)
        if beside_images or folder in parents:
            masks = _MASKS_BESIDE_IMAGES if beside_images else _MASKS
            yield from (_join(folder, name) for name in names if name.lower() in masks)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
