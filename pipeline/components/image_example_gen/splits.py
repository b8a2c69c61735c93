"""The plan for the checked images: their splits, and the quartiles of their slices."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae.datasets.images import quartiles
from pipeline.components.image_example_gen.checks import Check
from pipeline.components.image_example_gen.pictures import (
    PictureAccumulator,
    picture_of,
    place_of,
    thumbnails_in,
)

TEST_SHARE = 0.1
VAL_SHARE = 0.1


class Plan(NamedTuple):
    """The split and the slices of every image, as a function of its check.

    Its size does not grow with the number of images, except for the bad ones.

    Attributes:
        bounds: of the quartiles, see `keras_ae.datasets.images.quartiles.compute_bounds`.
        overrides: split by place (see `Pictures`), of those not in the split of `_default_split`.
        counts: number of good images of each split.
        bad: source and fault of each bad image, in the order of sources.
        refusal: why the run must stop; empty if it can continue.
        pictures: see `Pictures.copies`.
        different, in_train: numbers of pictures, see `Counts.pictures` and `Counts.in_train`.
    """

    bounds: list[list[float]]
    overrides: dict[str, str]
    counts: dict[str, int]
    bad: list[tuple[str, str]]
    refusal: str
    pictures: dict[str, str]
    different: dict[str, int]
    in_train: dict[str, int]

    def assign(self, check: Check) -> tuple[str, tuple[str, ...]]:
        """The split of a good image, and its values of the slices size, brightness and detail."""
        place = place_of(self.pictures.get(check.digest, check.digest), check.split)
        split = self.overrides.get(place) or _default_split(place, check.split)
        return split, quartiles.quartile_names(check.measures, self.bounds)


class SplitAccumulator:
    """Collects the parts of checks that a plan needs; the order of adding and merging is free."""

    def __init__(self) -> None:
        self._images = 0
        self._bad: list[tuple[str, str]] = []
        self._pictures = PictureAccumulator()
        self._measures: list[np.ndarray] = []

    def add(self, checks: Iterable[Check], shard_index: int = 0) -> None:
        """Adds the checks of a shard, in its order."""
        checks = list(checks)
        good = [check for check in checks if not check.fault]
        self._images += len(checks)
        self._bad += [(check.source, check.fault) for check in checks if check.fault]
        self._pictures.add(checks, shard_index)
        if good:
            self._measures.append(np.array([check.measures for check in good]))

    def merge(self, other: "SplitAccumulator") -> None:
        """Adds the contents of another accumulator."""
        self._images += other._images
        self._bad += other._bad
        self._pictures.merge(other._pictures)
        self._measures += other._measures

    def plan(self, max_bad_share: float, work_folder: str = "") -> Plan:
        """Creates the plan for all images.

        Args:
            max_bad_share: maximum share of bad images; the run must stop above it.
            work_folder: folder with the thumbnails of the images that are compared.
        """
        bad = sorted(self._bad)
        pictures = self._pictures.group(thumbnails_in(work_folder))
        fixed = pictures.fixed
        different = len({picture_of(place) for place in fixed})
        refusal = _refusal(self._images, different, bad, max_bad_share)
        if refusal:
            return Plan([], {}, dict.fromkeys(c.SPLITS, 0), bad, refusal, {}, {}, {})
        splits = assign_splits(fixed)
        overrides = {
            place: split
            for place, split in splits.items()
            if split != _default_split(place, fixed[place])
        }
        files, different_in, in_train = pictures.count_in(splits)
        bounds = quartiles.compute_bounds(np.concatenate(self._measures).tolist())
        return Plan(bounds, overrides, files, bad, "", pictures.copies, different_in, in_train)


def assign_splits(fixed: Mapping[str, str]) -> dict[str, str]:
    """Assigns pictures to splits by a hash of their content, independently of their order.

    A tenth goes to test, a tenth to val and the rest to train. With three or more images, each
    split gets at least one: the images with the lowest hashes go to test and val first.

    Args:
        fixed: for each place (see `Pictures`), the split that the source fixes, or an empty string.

    Returns:
        The split of each place.
    """
    by_digest = {digest: _default_split(digest, split) for digest, split in fixed.items()}
    if len(by_digest) >= len(c.SPLITS) > len(set(by_digest.values())):
        lowest = sorted(by_digest)
        for split, order in ((c.TEST, lowest), (c.VAL, lowest), (c.TRAIN, lowest[::-1])):
            counts = Counter(by_digest.values())
            if not counts[split]:
                # Take an image from a split that has another one.
                by_digest[next(d for d in order if counts[by_digest[d]] > 1)] = split
    return by_digest


def _default_split(digest: str, fixed: str | None) -> str:
    """The split of an image that depends only on the image itself."""
    if fixed:
        return fixed
    share = int(digest[:16], 16) / 2**64
    if share < TEST_SHARE:
        return c.TEST
    return c.VAL if share < TEST_SHARE + VAL_SHARE else c.TRAIN


def _refusal(count: int, distinct: int, bad: list[tuple[str, str]], max_bad_share: float) -> str:
    examples = "; ".join(f"{source}: {fault}" for source, fault in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    details = f" ({examples}{more})" if bad else ""
    if distinct < len(c.SPLITS):
        return (
            "at least three different good images are needed, one per split; "
            f"got {distinct} among {count}{details}"
        )
    if len(bad) > max_bad_share * count:
        return (
            f"{len(bad)} of {count} images cannot be used, more than the allowed share of "
            f"{max_bad_share:g}{details}; fix or remove them (the log lists all), or raise "
            "--max-bad-share"
        )
    return ""
