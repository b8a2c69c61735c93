"""Several runs side by side, with paired statistics where their test images are the same ones."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_ae.comparison import statistics
from keras_ae.comparison.split import number
from keras_ae.contract import TEST
from keras_ae.errors import DataError
from keras_ae.scores import COMPARISON, MODEL, VERSION

METRICS = ("psnr", "ssim")


class Run(NamedTuple):
    """A run as it was left on disk.

    Attributes:
        name: told apart from those of other runs.
        comparison: its `comparison.json`.
        scores: by digest of each test image, float [2]: PSNR and SSIM at the chosen budget, means
            over the seeds. Empty if there is no `images.jsonl`.
        seen: digests of the images that it was trained or chosen on.
    """

    name: str
    comparison: dict[str, Any]
    scores: dict[str, np.ndarray]
    seen: frozenset[str]


def load(paths: Sequence[Path]) -> list[Run]:
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


def _load(file: Path, name: str) -> Run:
    try:
        comparison = json.loads(file.read_text())
    except OSError as error:
        raise DataError(
            f"cannot read {file}: {error.strerror}; a run is the --root of run_local.py after it "
            f"ended, or its {COMPARISON}"
        ) from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}") from error
    version = comparison.get("version") if isinstance(comparison, dict) else None
    if version != VERSION:
        raise DataError(
            f"{file} is of version {version}; expected {VERSION}: run the pipeline again, which "
            "trains nothing anew"
        )
    scores, seen = _images(file.with_name(comparison["images"]["file"]), comparison)
    return Run(name, comparison, scores, seen)


def _images(file: Path, comparison: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    if not file.exists():
        return {}, frozenset()
    budgets = [entry["epochs"] for entry in comparison["budgets"]]
    at = budgets.index(comparison["chosen"]["epochs"])
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


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Puts runs side by side, each at its chosen budget; the first is what others are held against.

    Args:
        runs: two or more.

    Returns:
        - `runs`: of each `name`, `preset`, `parameters`, `data`, `seeds`, `epochs` (chosen),
          `seconds` of training, `test` (its summary there), `curve` (epochs, test PSNR and
          interval of each budget) and `floor` (mean PSNR of the patch PCA on test).
        - `pairs`: of each later run with the first, `psnr` and `ssim`: what its images gain over
          the first's, `mean`, `interval`, `wilcoxon_p`, `images`, over those that are test images
          of both; and `text`.
    """
    first = runs[0]
    return {
        "runs": [_row(run) for run in runs],
        "pairs": [_pair(first, other) for other in runs[1:]],
    }


def _row(run: Run) -> dict[str, Any]:
    comparison = run.comparison
    facts = comparison["run"] or {}
    chosen = comparison["chosen"]["epochs"]
    entry = next(e for e in comparison["budgets"] if e["epochs"] == chosen)
    return {
        "name": run.name,
        **{key: facts.get(key) for key in ("preset", "parameters", "data")},
        "seeds": [seed["seed"] for seed in entry["seeds"]],
        "epochs": chosen,
        "seconds": entry["total_seconds"],
        "test": entry["splits"][TEST],
        "curve": [
            {"epochs": e["epochs"], **_estimate(e["splits"][TEST]["psnr"])}
            for e in comparison["budgets"]
        ],
        "floor": comparison["floors"]["patch_pca"]["splits"][TEST]["mean"],
    }


def _estimate(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {"mean": metric["mean"], "interval": metric["interval"]}


def _pair(first: Run, other: Run) -> dict[str, Any]:
    both = sorted(first.scores.keys() & other.scores.keys())
    # An image that one was trained on is no test of it: the splits of the runs may differ.
    leaked = [d for d in both if d in first.seen or d in other.seen]
    both = [digest for digest in both if digest not in set(leaked)]
    gains = np.array([other.scores[d] - first.scores[d] for d in both]).reshape(-1, len(METRICS))
    differences = {metric: _difference(gains[:, i]) for i, metric in enumerate(METRICS)}
    return {
        "run": other.name,
        "against": first.name,
        **differences,
        "text": _text(first, other, len(both), len(leaked)),
    }


def _difference(gains: np.ndarray) -> dict[str, Any]:
    interval = statistics.Bootstrap(gains[:, None]).interval([1.0]) if len(gains) else None
    known = gains[np.isfinite(gains)]
    return {
        "mean": number(known.mean()) if len(known) else None,
        "interval": None if interval is None else list(interval),
        "wilcoxon_p": statistics.wilcoxon(gains),
        "images": len(known),
    }


def _text(first: Run, other: Run, both: int, leaked: int) -> str:
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
