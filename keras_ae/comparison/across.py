"""Several runs side by side, with paired statistics where their test images are the same ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_ae.comparison import records, statistics
from keras_ae.comparison.records import (
    Budget,
    Comparison,
    CurvePoint,
    Paired,
    Run,
    RunPair,
    RunRow,
    Runs,
)
from keras_ae.comparison.split import number
from keras_ae.contract import TEST
from keras_ae.errors import DataError
from keras_ae.scores import COMPARISON, MODEL

METRICS = ("psnr", "ssim")


class LoadedRun(NamedTuple):
    """A run as it was left on disk.

    Attributes:
        name: told apart from those of other runs.
        comparison: its `comparison.json`.
        scores: by digest of each test image, float [2]: PSNR and SSIM at the chosen budget, means
            over the seeds. Empty if there is no `images.jsonl`.
        seen: digests of the images that it was trained or chosen on.
    """

    name: str
    comparison: Comparison
    scores: dict[str, np.ndarray]
    seen: frozenset[str]


def load(paths: Sequence[Path]) -> list[LoadedRun]:
    """Reads runs.

    Args:
        paths: folders with `comparison.json`, and `images.jsonl` beside it; or that file itself.

    Raises:
        DataError: if there are fewer than two, or one cannot be read or is of another version.
    """
    if len(paths) < 2:
        raise DataError(f"two or more runs are compared; got {len(paths)}")
    files = [path / COMPARISON if path.is_dir() else path for path in paths]
    return [_load(file, name) for file, name in zip(files, _names(files))]


def _names(files: Sequence[Path]) -> list[str]:
    """As few of the last folders' names as tell the runs apart."""
    folders = [file.resolve().parent.parts for file in files]
    for count in range(1, max(map(len, folders)) + 1):
        names = ["/".join(parts[-count:]) for parts in folders]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"{files[0]} is named more than once; a run is compared with others")


def _load(file: Path, name: str) -> LoadedRun:
    try:
        comparison = records.read(file)
    except OSError as error:
        raise DataError(
            f"cannot read {file}: {error.strerror}; a run is the --root of run_local.py after it "
            f"ended, or its {COMPARISON}"
        ) from error
    scores, seen = _images(file.with_name(comparison.images.file), comparison)
    return LoadedRun(name, comparison, scores, seen)


def _images(file: Path, comparison: Comparison) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    if not file.exists():
        return {}, frozenset()
    at = comparison.budgets.index(comparison.chosen_budget)
    scores, seen = {}, set()
    with file.open() as lines:
        for line in lines:
            row = json.loads(line)
            if row["split"] != TEST:
                seen.add(row["digest"])
                continue
            of_model = row["scores"][MODEL]
            values = [[_value(seed[at]) for seed in of_model[metric]] for metric in METRICS]
            scores[row["digest"]] = np.mean(values, axis=1)
    return scores, frozenset(seen)


def _value(score: float | None) -> float:
    return float("nan") if score is None else score


def compare_runs(runs: Sequence[LoadedRun]) -> Runs:
    """Puts runs side by side, each at its chosen budget; the first is what others are held against.

    Args:
        runs: two or more.
    """
    return Runs(
        runs=tuple(_row(run) for run in runs),
        pairs=tuple(_pair(runs[0], other) for other in runs[1:]),
    )


def _row(run: LoadedRun) -> RunRow:
    comparison = run.comparison
    facts = comparison.run or Run()
    entry = comparison.chosen_budget
    floor = comparison.floors.patch_pca.splits
    return RunRow(
        name=run.name,
        preset=facts.preset,
        parameters=facts.parameters,
        data=facts.data,
        seeds=tuple(seed.seed for seed in entry.seeds),
        epochs=entry.epochs,
        seconds=entry.total_seconds,
        test=entry.splits.test,
        curve=tuple(_point(budget) for budget in comparison.budgets),
        floor=floor.test.mean if floor else None,
    )


def _point(budget: Budget) -> CurvePoint:
    psnr = budget.splits.test.psnr
    return CurvePoint(epochs=budget.epochs, mean=psnr.mean, interval=psnr.interval)


def _pair(first: LoadedRun, other: LoadedRun) -> RunPair:
    both = sorted(first.scores.keys() & other.scores.keys())
    # An image that one was trained on is no test of it: the splits of the runs may differ.
    leaked = [d for d in both if d in first.seen or d in other.seen]
    both = [digest for digest in both if digest not in set(leaked)]
    gains = np.array([other.scores[d] - first.scores[d] for d in both]).reshape(-1, len(METRICS))
    psnr, ssim = map(_difference, gains.T)
    return RunPair(
        run=other.name,
        against=first.name,
        psnr=psnr,
        ssim=ssim,
        text=_text(first, other, len(both), len(leaked)),
    )


def _difference(gains: np.ndarray) -> Paired:
    known = gains[np.isfinite(gains)]
    return Paired(
        mean=number(known.mean()) if len(known) else None,
        interval=statistics.Bootstrap(gains[:, None]).interval([1.0]) if len(gains) else None,
        wilcoxon_p=statistics.wilcoxon(gains),
        images=len(known),
    )


def _text(first: LoadedRun, other: LoadedRun, both: int, leaked: int) -> str:
    missing = [run.name for run in (first, other) if not run.scores]
    if missing:
        return f"not paired: there is no images.jsonl beside {missing[0]}'s {COMPARISON}"
    left_out = (
        f"; {leaked} are left out that the other run was trained or chosen on" if leaked else ""
    )
    if not both:
        return f"not paired: the runs have no test image in common{left_out}"
    sizes = {len(first.scores), len(other.scores)}
    if sizes == {both}:
        return f"paired over the {both:,} test images, which are the same ones"
    return (
        f"paired over the {both:,} images that are test images of both, of {len(other.scores):,} "
        f"and of {len(first.scores):,}{left_out}"
    )
