"""The plan for the checked images: their splits, and the quartiles of their slices."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_ae import contract as c
from keras_ae import presets
from keras_ae.datasets.images import quartiles
from keras_ae.datasets.images.levels import DEFAULT_WHITE, FULL_RANGE, White, whole
from keras_ae.datasets.sources.kinds import NO_SPLIT_FOLDER
from pipeline.components.image_example_gen.checks import Check
from pipeline.components.image_example_gen.levels import LevelsAccumulator, scale_measures
from pipeline.components.image_example_gen.pictures import PictureAccumulator, thumbnails_in

TEST_SHARE = 0.1
VAL_SHARE = 0.1
HELD_OUT = (c.TEST, c.VAL)


class SplitPlan(NamedTuple):
    """The split and the slices of every image, as a function of its check.

    Its size does not grow with the number of images, except for the bad ones.

    Attributes:
        bounds: of the quartiles, see `keras_ae.datasets.images.quartiles.compute_bounds`.
        overrides: split by picture, of those that are not in the split of `_default_split`.
        counts: number of good images of each split.
        bad: source and fault of each bad image, in the order of sources.
        refusal: why the run must stop; empty if it can continue.
        by_hash: the splits that a hash of the content fills; the source fixes the others.
        has_fixed: whether the source fixes splits.
        not_read: number of files that are no images, or not used, by kind.
        white: the attributes of a `keras_ae.datasets.images.levels.White`, for all images.
        has_deep: whether there are 16-bit images.
        notes: number of good images by note.
        pictures: see `Pictures.copies`.
        different: number of pictures of each split.
        in_train: number of pictures of val and test that are in train too.
    """

    bounds: list[list[float]]
    overrides: dict[str, str]
    counts: dict[str, int]
    bad: list[tuple[str, str]]
    refusal: str
    by_hash: Sequence[str] = HELD_OUT
    has_fixed: bool = False
    not_read: dict[str, int] = {}  # noqa: RUF012
    white: Sequence[float | None] = DEFAULT_WHITE
    has_deep: bool = False
    notes: dict[str, int] = {}  # noqa: RUF012
    pictures: dict[str, str] = {}  # noqa: RUF012
    different: dict[str, int] = {}  # noqa: RUF012
    in_train: dict[str, int] = {}  # noqa: RUF012

    def assign(self, check: Check) -> tuple[str | None, tuple[str, ...]]:
        """The split of a good image, and its values of the slices size, brightness and detail."""
        measures = check.measures
        if check.white:
            row = np.array([(*measures, check.white)])
            measures = scale_measures(row, whole(self.white[0] or 0))[0].tolist()
        return self.split(check), quartiles.quartile_names(measures, self.bounds)

    def split(self, check: Check) -> str | None:
        """The split of a good image; None if it has none in a source that fixes splits."""
        if self.has_fixed and check.split != c.TRAIN:
            return check.split
        picture = self.pictures.get(check.digest, check.digest)
        return self.overrides.get(picture) or _default_split(picture, self.by_hash)


class SplitAccumulator:
    """Collects the parts of checks that a plan needs; the order of adding and merging is free.

    Args:
        stride: minimum side of at least one training image, in pixels.
    """

    def __init__(self, stride: int = presets.STRIDE) -> None:
        self._stride = stride
        self._images = 0
        self._bad: list[tuple[str, str]] = []
        self._not_read: Counter[str] = Counter()
        self._pictures = PictureAccumulator()
        self._measures: dict[bool, list[np.ndarray]] = {False: [], True: []}
        # The shorter side of each image that has no patch of the linear floor, by digest.
        self._small: dict[str, int] = {}
        self._levels = LevelsAccumulator()

    def add(self, checks: Iterable[Check], shard_index: int = 0) -> None:
        """Adds the checks of a shard, in its order."""
        checks = list(checks)
        self._pictures.add(checks, shard_index)
        self._not_read.update(check.not_read for check in checks if check.not_read)
        checks = [check for check in checks if not check.not_read]
        good = [check for check in checks if not check.fault]
        self._images += len(checks)
        self._bad += [(check.source, check.fault) for check in checks if check.fault]
        self._small |= {each.digest: each.side for each in good if 0 < each.side < self._stride}
        for is_fixed, measures in self._measures.items():
            chosen = [check for check in good if bool(check.split) == is_fixed]
            rows = [(*check.measures, check.white) for check in chosen]
            if rows:
                measures.append(np.array(rows))
        self._levels.add(good)

    def merge(self, other: "SplitAccumulator") -> None:
        """Adds the contents of another accumulator."""
        self._images += other._images
        self._bad += other._bad
        self._not_read.update(other._not_read)
        self._pictures.merge(other._pictures)
        for is_fixed, measures in other._measures.items():
            self._measures[is_fixed] += measures
        self._small |= other._small
        self._levels.merge(other._levels)

    def plan(
        self, max_bad_share: float, white: float | None = None, work_folder: str = ""
    ) -> SplitPlan:
        """Creates the plan for all images.

        Args:
            max_bad_share: maximum share of bad images; the run must stop above it.
            white: level that becomes 255 in all images with more than 8 bits, by which they were
                measured; None for that of the smallest range.
            work_folder: folder with the thumbnails of the images that are compared.
        """
        bad = sorted(self._bad)
        pictures = self._pictures.group(thumbnails_in(work_folder))
        files = pictures.files
        has_fixed = any(files[split] for split in c.SPLITS)
        by_hash = [s for s in HELD_OUT if not files[s]] if has_fixed else list(HELD_OUT)
        pool = files[c.TRAIN if has_fixed else ""]
        not_read = self._not_read.copy()
        if pictures.unused:
            not_read[NO_SPLIT_FOLDER] += pictures.unused
        refusal = _refusal(self._images, len(pool), bad, max_bad_share, by_hash, has_fixed)
        if refusal:
            counts = dict.fromkeys(c.SPLITS, 0)
            return SplitPlan([], {}, counts, bad, refusal, by_hash, has_fixed, dict(not_read))
        splits = assign_splits(pool, by_hash)
        overrides = {
            picture: split
            for picture, split in splits.items()
            if split != _default_split(picture, by_hash)
        }
        counts = {split: sum(files[split].values()) for split in c.SPLITS}
        counts[c.TRAIN] = 0
        for picture, copies in pool.items():
            counts[splits[picture]] += copies
        different, in_train = pictures.count_in(splits)
        plan = SplitPlan([], overrides, counts, bad, "", by_hash, has_fixed, dict(not_read))
        plan = plan._replace(pictures=pictures.copies, different=different, in_train=in_train)
        train = [picture for picture, split in splits.items() if split == c.TRAIN]
        if refusal := _size_refusal(train, self._small, self._stride):
            return plan._replace(refusal=refusal)
        range_white = self._levels.white(plan.split)
        measures = scale_measures(np.concatenate(self._measures[has_fixed]), range_white)
        return plan._replace(
            bounds=quartiles.compute_bounds(measures.tolist()),
            white=White(white or range_white or FULL_RANGE, white),
            has_deep=range_white > 0,
            notes=self._levels.notes(has_fixed, range_white),
        )


def assign_splits(digests: Collection[str], by_hash: Sequence[str] = HELD_OUT) -> dict[str, str]:
    """Assigns pictures to splits by a hash of their content, independently of their order.

    A tenth goes to test, a tenth to val and the rest to train. If there are enough images, each
    split gets at least one: the images with the lowest hashes go to test and val first.

    Args:
        digests: of the pictures.
        by_hash: test, val or both, if only these are to be filled beside train.

    Returns:
        The split of each digest.
    """
    by_digest = {digest: _default_split(digest, by_hash) for digest in digests}
    if len(by_digest) > len(by_hash) >= len(set(by_digest.values())):
        lowest = sorted(by_digest)
        for split, order in ((c.TEST, lowest), (c.VAL, lowest), (c.TRAIN, lowest[::-1])):
            counts = Counter(by_digest.values())
            if not counts[split] and split in (*by_hash, c.TRAIN):
                # Take an image from a split that has another one.
                by_digest[next(d for d in order if counts[by_digest[d]] > 1)] = split
    return by_digest


def _default_split(digest: str, by_hash: Sequence[str]) -> str:
    """The split of an image that depends only on the image itself."""
    share = int(digest[:16], 16) / 2**64
    if share < TEST_SHARE:
        split = c.TEST
    else:
        split = c.VAL if share < TEST_SHARE + VAL_SHARE else c.TRAIN
    return split if split in by_hash else c.TRAIN


def _refusal(
    count: int,
    distinct: int,
    bad: list[tuple[str, str]],
    max_bad_share: float,
    by_hash: Sequence[str],
    has_fixed: bool,
) -> str:
    if not count:
        return "no image among the files"
    examples = "; ".join(f"{source}: {fault}" for source, fault in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    details = f" ({examples}{more})" if bad else ""
    if has_fixed and not distinct:
        return (
            f"no good image in the split train among {count} images{details}; expected folders or "
            "files such as train, val and test; --splits hash ignores them"
        )
    if has_fixed and distinct <= len(by_hash):
        missing = "".join(f", of which one is for {split}" for split in by_hash)
        return (
            f"at least {len(by_hash) + 1} different good images are needed in the split train"
            f"{missing}; got {distinct} among {count} images{details}"
        )
    if not has_fixed and distinct < len(c.SPLITS):
        return (
            "at least three different good images are needed, one per split; "
            f"got {distinct} among {count}{details}"
        )
    if len(bad) > max_bad_share * count:
        return (
            f"{len(bad)} of {count} images cannot be used, more than the allowed share of "
            f"{max_bad_share:g}{details}; fix or remove them, or raise --max-bad-share"
        )
    return ""


def _size_refusal(train: Collection[str], small: Mapping[str, int], stride: int) -> str:
    """Why a run must stop whose training images are all smaller than a patch.

    Args:
        train: digests of the training images.
        small: the shorter side of each small image, by digest.
        stride: side of a patch in pixels.
    """
    if not all(digest in small for digest in train):
        return ""
    largest = max((small[digest] for digest in train), default=0)
    return (
        f"all {len(train):,} different training images are too small: expected at least one with "
        f"{stride} pixels or more on each side; the largest has a side of {largest}"
    )
