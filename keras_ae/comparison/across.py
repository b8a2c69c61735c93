"""Compares several runs, with paired statistics over the test images that they share."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_ae.comparison import records, statistics
from keras_ae.comparison.records import (
    Comparison,
    CurvePoint,
    Run,
    RunPair,
    RunRow,
    Runs,
)
from keras_ae.contract import TEST
from keras_ae.errors import DataError
from keras_ae.scores import COMPARISON, MODEL

METRICS = ("psnr", "ssim")


class LoadedRun(NamedTuple):
    """A finished run with a unique name, read from its files.

    Attributes:
        scores: by digest of each test image, float [2]: PSNR and SSIM at the chosen budget, means
            over the seeds. Empty if there is no `images.jsonl`.
        used_digests: digests of the images that it used for training or validation.
    """

    name: str
    comparison: Comparison
    scores: dict[str, np.ndarray]
    used_digests: frozenset[str]


def load(paths: Sequence[Path]) -> list[LoadedRun]:
    """Reads runs: folders with `comparison.json` and `images.jsonl`, or paths of the first file.

    Raises:
        DataError: if there are fewer than two, or one cannot be read or has another version.
    """
    if len(paths) < 2:
        raise DataError(f"expected two or more runs; got {len(paths)}")
    files = [path / COMPARISON if path.is_dir() else path for path in paths]
    return [_load(file, name) for file, name in zip(files, _unique_names(files))]


def _unique_names(files: Sequence[Path]) -> list[str]:
    """Names the runs by as few of their last folders as make the names unique."""
    folders = [file.resolve().parent.parts for file in files]
    for count in range(1, max(map(len, folders)) + 1):
        names = ["/".join(parts[-count:]) for parts in folders]
        if len(set(names)) == len(names):
            return names
    raise DataError(f"{files[0]} is given more than once; give each run once")


def _load(file: Path, name: str) -> LoadedRun:
    try:
        comparison = records.read(file)
    except OSError as error:
        raise DataError(
            f"cannot read {file}: {error.strerror}; expected the --root of a finished run of "
            f"run_local.py, or its {COMPARISON}"
        ) from error
    images = file.with_name(comparison.images.file)
    try:
        scores, used_digests = _read_images(images, comparison)
    except OSError as error:
        raise DataError(f"cannot read {images}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{images} is damaged; copy it again from the run") from error
    return LoadedRun(name, comparison, scores, used_digests)


def _read_images(
    file: Path, comparison: Comparison
) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    if not file.exists():
        return {}, frozenset()
    budget_index = comparison.budgets.index(comparison.chosen_budget)
    scores, used_digests = {}, set()
    largest: dict[str, tuple[int, str, np.ndarray]] = {}
    with file.open() as lines:
        for line in lines:
            row = json.loads(line)
            if row["split"] != TEST:
                used_digests.add(row["digest"])
                continue
            by_metric = row["scores"][MODEL]
            # NumPy reads null as NaN.
            values = np.array([by_metric[metric] for metric in METRICS], np.float64)
            mean = values[..., budget_index].mean(1)
            if picture := row.get("picture"):
                # As in the comparison of each run, the largest file of a picture stands for it.
                key = -row["height"] * row["width"], row["digest"], mean
                largest[picture] = min(key, largest.get(picture, key), key=lambda k: k[:2])
            else:
                scores[row["digest"]] = mean
    scores |= {digest: mean for _, digest, mean in largest.values()}
    return scores, frozenset(used_digests)


def compare_runs(runs: Sequence[LoadedRun]) -> Runs:
    """Compares two or more runs, each at its chosen budget, with the first one."""
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
        latent=facts.latent,
        data=facts.data,
        seeds=tuple(seed.seed for seed in entry.seeds),
        epochs=entry.epochs,
        seconds=entry.total_seconds,
        test=entry.splits.test,
        curve=tuple(
            CurvePoint(epochs=budget.epochs, mean=psnr.mean, interval=psnr.interval)
            for budget in comparison.budgets
            for psnr in [budget.splits.test.psnr]
        ),
        floor=floor.test.mean if floor else None,
    )


def _pair(first: LoadedRun, other: LoadedRun) -> RunPair:
    # The splits of the runs may differ: a test image of one may be a training image of the other.
    used = first.used_digests | other.used_digests
    common = sorted(first.scores.keys() & other.scores.keys())
    shared = [digest for digest in common if digest not in used]
    gains = np.array([other.scores[d] - first.scores[d] for d in shared]).reshape(-1, len(METRICS))
    psnr, ssim = map(statistics.paired, gains.T)
    text = _text(first, other, len(shared), len(common) - len(shared))
    return RunPair(run=other.name, against=first.name, psnr=psnr, ssim=ssim, text=text)


def _text(first: LoadedRun, other: LoadedRun, shared: int, excluded: int) -> str:
    missing = [run.name for run in (first, other) if not run.scores]
    if missing:
        return f"not paired: run {missing[0]} has no images.jsonl next to its {COMPARISON}"
    reason = "because one of the runs used them for training or validation"
    exclusion = f"; {excluded} excluded, {reason}" if excluded else ""
    if not shared:
        return (
            "not paired: the runs have no test image in common, as ingested (runs with different "
            f"--channels share none){exclusion}"
        )
    if len(first.scores) == len(other.scores) == shared:
        return f"paired over the {shared:,} test images, which are the same in both runs"
    return (
        f"paired over the {shared:,} test images of both runs, of {len(other.scores):,} and "
        f"{len(first.scores):,}{exclusion}"
    )
