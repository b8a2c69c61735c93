"""What becomes of an image that was checked: its split, and the quarters that it lies in."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from keras_ae import contract as c
from keras_ae.datasets import quartiles

TEST_SHARE = 0.1
VAL_SHARE = 0.1


class Check(NamedTuple):
    """What is known of an image after it was read once, small enough to be collected.

    Attributes:
        source: its key.
        digest: SHA-256 of its bytes.
        fault: why it cannot be used; empty for a good image.
        split: where the source fixes it.
        measured: what `keras_ae.datasets.quartiles.measure` gave; empty for a bad image.
    """

    source: str
    digest: str
    fault: str
    split: str | None
    measured: Sequence[float] = ()


class Place(NamedTuple):
    """Where an image goes.

    Attributes:
        split: train, val or test.
        quarters: values of the slices size, brightness and detail.
    """

    split: str
    quarters: tuple[str, ...]


def assign_places(checks: list[Check]) -> dict[str, Place]:
    """Gives good images their splits and quarters, by source.

    There are 192 different places: each is held, and sent to workers, once.
    """
    splits = assign_splits(checks)
    cut = quartiles.cuts([check.measured for check in checks])
    known: dict[Place, Place] = {}
    places = {}
    for check in checks:
        place = Place(splits[check.source], quartiles.quarters(check.measured, cut))
        places[check.source] = known.setdefault(place, place)
    return places


def assign_splits(checks: list[Check]) -> dict[str, str]:
    """Splits good images by a hash of their content, whatever their order.

    A tenth goes to test, a tenth to val, the rest to train; where there are three different images,
    each split gets one: low hashes go to test and val first. Where the source fixes the
    splits, it is followed. Images with the same bytes share a split.

    Returns:
        The split of each source.
    """
    by_digest = {check.digest: check.split or _by_hash(check.digest) for check in sorted(checks)}
    lowest = sorted(by_digest)
    if len(lowest) >= len(c.SPLITS):
        for split, order in ((c.TEST, lowest), (c.VAL, lowest), (c.TRAIN, lowest[::-1])):
            held = Counter(by_digest.values())
            if not held[split]:
                # From a split that keeps another one.
                by_digest[next(d for d in order if held[by_digest[d]] > 1)] = split
    return {check.source: by_digest[check.digest] for check in checks}


def _by_hash(digest: str) -> str:
    share = int(digest[:16], 16) / 2**64
    if share < TEST_SHARE:
        return c.TEST
    return c.VAL if share < TEST_SHARE + VAL_SHARE else c.TRAIN
