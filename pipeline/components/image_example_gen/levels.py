"""The range of 16-bit images over all images, and notes that were made on images."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from keras_ae import contract as c
from keras_ae.datasets.images.levels import FULL_RANGE
from keras_ae.datasets.images.normalize import PAGES, PROFILE
from pipeline.components.image_example_gen.checks import CONSTANT, Check

_DIGEST_BYTES = 32
_NOTES: Final = {
    PAGES: "{images} {have} more than one page, of which the first is read",
    PROFILE: "{images} {have} a colour profile other than sRGB, which is ignored",
    CONSTANT: "{images} {are} of one colour, which any model reconstructs almost exactly: "
    "{they} do not count in favour of a model",
}


class LevelsAccumulator:
    """Collects the digests of 16-bit images by range, and counts notes; the order is free."""

    def __init__(self) -> None:
        # By white, and by the split that the source fixes.
        self._digests: dict[tuple[int, str], bytearray] = {}
        self._notes: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        # Of 16-bit images, by white, extremes, and whether the source fixes the split.
        self._extremes: Counter[tuple[int, int, int, bool]] = Counter()

    def add(self, checks: Iterable[Check]) -> None:
        """Adds good images."""
        for check in checks:
            if check.white:
                digests = self._digests.setdefault((check.white, check.split or ""), bytearray())
                digests += bytes.fromhex(check.digest)
            if check.extremes and check.extremes[0] < check.extremes[1]:
                low, high = check.extremes
                self._extremes[check.white, low, high, bool(check.split)] += 1
            if check.notes:
                self._notes[bool(check.split)].update(check.notes)

    def merge(self, other: "LevelsAccumulator") -> None:
        """Adds the contents of another accumulator."""
        for key, digests in other._digests.items():
            self._digests.setdefault(key, bytearray()).extend(digests)
        for has_split, notes in other._notes.items():
            self._notes[has_split].update(notes)
        self._extremes.update(other._extremes)

    def white(self, split_of: Callable[[Check], str | None]) -> int:
        """White of the smallest range that contains the levels of all 16-bit training images.

        If all of them are in other splits, it is that of those images.

        Args:
            split_of: returns the split of an image; None if it is not used.

        Returns:
            The level; 0 if no image has 16 bits.
        """
        elsewhere = 0
        for (white, fixed), digests in sorted(self._digests.items(), reverse=True):
            for start in range(0, len(digests), _DIGEST_BYTES):
                digest = digests[start : start + _DIGEST_BYTES].hex()
                split = split_of(Check("", digest, 0, "", fixed or None))
                if split == c.TRAIN:
                    return white
                elsewhere = max(elsewhere, white if split else 0)
        return elsewhere

    def notes(self, has_fixed: bool, white: int = 0) -> dict[str, int]:
        """Number of images by note.

        Args:
            has_fixed: whether the source fixes splits, so that images without one are not used.
            white: white of all 16-bit images, by which darker ones may become constant.
        """
        notes = self._notes[True] + (Counter() if has_fixed else self._notes[False])
        for (own, low, high, has_split), count in self._extremes.items():
            became_constant = round(low * own / (white or own)) == round(
                high * own / (white or own)
            )
            if became_constant and (has_split or not has_fixed):
                notes[CONSTANT] += count
        return dict(notes)


def scale_measures(rows: np.ndarray, white: int) -> np.ndarray:
    """Scales measures of 16-bit images from their own ranges to that of all images.

    Brightness and detail are linear in the levels, but for rounding and clipping.

    Args:
        rows: [N, 4]: `Check.measures` and `Check.white`.
        white: white of all 16-bit images; 0 if there are none.

    Returns:
        Float array [N, 3].
    """
    measures, own = rows[:, :3].astype(np.float64), rows[:, 3]
    deep = own > 0
    factors = own[deep, None] / (white or FULL_RANGE)
    measures[deep, 1:] = np.minimum(measures[deep, 1:] * factors, 255)
    return measures


def describe_notes(notes: Mapping[str, int]) -> list[str]:
    """Sentences without full stops on images of which a note was made.

    >>> describe_notes({"first page": 1})
    ['1 image has more than one page, of which the first is read']
    """
    sentences = []
    for note, text in _NOTES.items():
        if count := notes.get(note, 0):
            one = count == 1
            words = {"have": "has", "are": "is", "they": "it"} if one else {}
            words = {"have": "have", "are": "are", "they": "they"} | words
            images = "1 image" if one else f"{count:,} images"
            text = text.replace("do not", "does not") if one else text
            sentences.append(text.format(images=images, **words))
    return sentences
