"""What becomes of the images that were checked: their splits, and the quarters they lie in."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae.datasets.images import quartiles
from pipeline.components.image_example_gen.checks import Check

TEST_SHARE = 0.1
VAL_SHARE = 0.1


class Plan(NamedTuple):
    """What tells the place of every image from its own check; small, but for the bad images.

    Attributes:
        cuts: between the quarters, see `keras_ae.datasets.images.quartiles.cuts`.
        moved: split by digest, of images that do not go where their check alone would put them.
        counts: good images of each split.
        bad: source of each image that cannot be used, and why, in the order of sources.
        refusal: why the run must stop; empty if it may go on.
    """

    cuts: list[list[float]]
    moved: dict[str, str]
    counts: dict[str, int]
    bad: list[tuple[str, str]]
    refusal: str

    def place(self, check: Check) -> tuple[str, tuple[str, ...]]:
        """Split of a good image, and the values of its slices size, brightness and detail."""
        split = self.moved.get(check.digest) or _own(check.digest, check.split)
        return split, quartiles.quarters(check.measured, self.cuts)


class SplitAccumulator:
    """Checks of some images, as far as a plan needs them; they are merged in any order."""

    def __init__(self) -> None:
        self._images = 0
        self._bad: list[tuple[str, str]] = []
        self._fixed: dict[str, str] = {}
        self._copies: Counter[str] = Counter()
        self._measured: list[np.ndarray] = []

    def add(self, checks: Iterable[Check]) -> None:
        """Takes in what was found of a shard."""
        checks = list(checks)
        good = [check for check in checks if not check.fault]
        self._images += len(checks)
        self._bad += [(check.source, check.fault) for check in checks if check.fault]
        for check in good:
            self._add(check.digest, check.split or "")
        if good:
            self._measured.append(np.array([check.measured for check in good]))

    def merge(self, other: "SplitAccumulator") -> None:
        """Takes in what was found of other images."""
        self._images += other._images
        self._bad += other._bad
        for digest, split in other._fixed.items():
            self._add(digest, split)
        self._copies += other._copies
        self._measured += other._measured

    def plan(self, max_bad_share: float) -> Plan:
        """What becomes of all images.

        Args:
            max_bad_share: share of images that cannot be used above which the run must stop.
        """
        bad = sorted(self._bad)
        refusal = _refusal(self._images, len(self._fixed), bad, max_bad_share)
        if refusal:
            return Plan([], {}, dict.fromkeys(c.SPLITS, 0), bad, refusal)
        splits = assign_splits(self._fixed)
        moved = {d: split for d, split in splits.items() if split != _own(d, self._fixed[d])}
        # Of an image with several names in different splits all go where one does.
        moved |= {d: splits[d] for d in self._copies if self._fixed[d]}
        counts = Counter(splits.values())
        for digest, copies in self._copies.items():
            counts[splits[digest]] += copies
        cut = quartiles.cuts(np.concatenate(self._measured).tolist())
        return Plan(cut, moved, {split: counts[split] for split in c.SPLITS}, bad, "")

    def _add(self, digest: str, split: str) -> None:
        if digest in self._fixed:
            self._copies[digest] += 1
            split = max(split, self._fixed[digest])
        self._fixed[digest] = split


def assign_splits(fixed: Mapping[str, str]) -> dict[str, str]:
    """Splits different images by a hash of their content, whatever their order.

    A tenth goes to test, a tenth to val, the rest to train; where there are three images, each
    split gets one: low hashes go to test and val first.

    Args:
        fixed: by digest, the split where the source fixes it, which is followed; else empty.

    Returns:
        The split of each digest.
    """
    by_digest = {digest: _own(digest, split) for digest, split in fixed.items()}
    held = Counter(by_digest.values())
    if len(by_digest) >= len(c.SPLITS) and len(held) < len(c.SPLITS):
        lowest = sorted(by_digest)
        for split, order in ((c.TEST, lowest), (c.VAL, lowest), (c.TRAIN, lowest[::-1])):
            held = Counter(by_digest.values())
            if not held[split]:
                # From a split that keeps another one.
                by_digest[next(d for d in order if held[by_digest[d]] > 1)] = split
    return by_digest


def _own(digest: str, fixed: str | None) -> str:
    """The split that an image has whatever the others are."""
    if fixed:
        return fixed
    share = int(digest[:16], 16) / 2**64
    if share < TEST_SHARE:
        return c.TEST
    return c.VAL if share < TEST_SHARE + VAL_SHARE else c.TRAIN


def _refusal(count: int, different: int, bad: list[tuple[str, str]], max_bad_share: float) -> str:
    examples = "; ".join(f"{source}: {fault}" for source, fault in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    listed = f" ({examples}{more})" if bad else ""
    if different < len(c.SPLITS):
        return (
            "at least three different good images are needed, one per split; "
            f"got {different} among {count}{listed}"
        )
    if len(bad) > max_bad_share * count:
        return (
            f"{len(bad)} of {count} images cannot be used, more than the share of "
            f"{max_bad_share:g} that is allowed{listed}; mend them (the log lists all) or raise "
            "--max-bad-share"
        )
    return ""
