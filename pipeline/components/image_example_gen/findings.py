"""What ingest says of the data: how they were split, and what was not read."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from keras_ae import contract as c
from keras_ae.datasets.images.levels import FULL_RANGE, describe_range, whole
from keras_ae.datasets.sources.base import Findings
from keras_ae.datasets.sources.kinds import BEHIND_LINKS, format_counts
from pipeline.components.image_example_gen.levels import describe_notes
from pipeline.components.image_example_gen.splits import SplitPlan
from pipeline.runtime.ingested import Ingested

SPLITS, NOT_READ, LEVELS, PICTURES = "splits", "not_read", "levels", "pictures"
"""Names of the properties of the Examples artifact with the results of this module."""


def describe_splits(plan: SplitPlan, findings: Findings) -> str:
    """How the images were divided, with the number of images of each split and what to note on it.

    >>> plan = SplitPlan([], {}, {"train": 8, "val": 1, "test": 1}, [], "")
    >>> describe_splits(plan, Findings())
    'by hash of the content: train (8), val (1), test (1)'
    """
    return "; ".join((_describe_division(plan, findings), *findings.notes))


def _describe_division(plan: SplitPlan, findings: Findings) -> str:
    folders = findings.split_folders
    fixed: list[str] = []
    hashed: list[str] = []
    for split in c.SPLITS:
        name = " and ".join(folders.get(split, ())) or split
        is_hashed = not plan.has_fixed or split in plan.by_hash
        (hashed if is_hashed else fixed).append(f"{name} ({plan.counts[split]:,})")
    if not plan.has_fixed:
        return f"by hash of the content: {', '.join(hashed)}"
    text = f"{'the folders' if folders else 'those of the data:'} {', '.join(fixed)}"
    if findings.categories > 1:
        text += f" of {findings.categories:,} folders"
    return f"{text}; {', '.join(hashed)} by hash from train" if hashed else text


def facts(plan: SplitPlan, findings: Findings) -> Ingested:
    """What later steps need to know of the images."""
    white = whole(plan.white[0] or FULL_RANGE)
    levels = describe_range(white) if plan.has_deep else ""
    return Ingested(white, levels, (*describe_notes(plan.notes), *findings.notes))


def count_copies(plan: SplitPlan) -> dict[str, int]:
    """The number of files that are copies of others in their split, and those of `in_train`."""
    in_train = {f"{split}_in_train": count for split, count in plan.in_train.items()}
    return {"copies": sum(plan.counts.values()) - sum(plan.different.values()), **in_train}


def describe_copies(plan: SplitPlan) -> str:
    """How many pictures the files of each split are, and which are in train too; or nothing.

    >>> plan = SplitPlan([], {}, {"train": 9, "val": 1, "test": 4}, [], "")
    >>> describe_copies(plan._replace(different={"train": 5, "val": 1, "test": 2}, in_train={}))
    'train (9 files, 5 different), test (4 files, 2 different)'
    """
    parts = [
        f"{split} ({files:,} files, {different:,} different)"
        for split, files in plan.counts.items()
        if (different := plan.different.get(split, files)) < files
    ]
    parts += [
        f"{count:,} of {plan.different[split]:,} {split} pictures are in train too"
        for split, count in plan.in_train.items()
        if count
    ]
    return ", ".join(parts)


def all_not_read(plan: SplitPlan, findings: Findings) -> dict[str, int]:
    """The number of files that were not read, by kind."""
    counts = Counter(findings.not_read)
    counts.update(plan.not_read)
    return dict(counts)


def lines(properties: Mapping[str, str]) -> list[str]:
    """The lines for the terminal.

    Args:
        properties: the texts of the Examples artifact, by name.

    >>> lines({"splits": "by hash of the content: train (8), val (1), test (1)"})
    ['splits: by hash of the content: train (8), val (1), test (1)']
    """
    result = [f"splits: {properties[SPLITS]}"] if properties.get(SPLITS) else []
    if counted := describe_not_read(not_read(properties)):
        result.append(counted)
    if levels := properties.get(LEVELS):
        result.append(f"levels: {levels}")
    if pictures := properties.get(PICTURES):
        result.append(f"copies: {pictures}")
    return result


def describe_not_read(counts: Mapping[str, int]) -> str:
    """The numbers of files that were not read, by kind; empty if all files were read."""
    hint = " (--follow-links reads links)" if counts.get(BEHIND_LINKS) else ""
    return f"not read: {format_counts(counts)}{hint}" if counts else ""


def not_read(properties: Mapping[str, str]) -> dict[str, int]:
    """The number of files that were not read, by kind, from the texts of the artifact."""
    counts: dict[str, Any] = json.loads(properties.get(NOT_READ) or "{}")
    return {str(kind): int(count) for kind, count in counts.items()}
