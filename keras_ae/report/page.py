"""The comparison as one HTML page that needs no network."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from keras_ae.comparison.records import Check, Comparison, NoteKind, Run, ServingResult, Verdict
from keras_ae.contract import SPLITS
from keras_ae.report import card, figures, slices
from keras_ae.report.formatting import FILTERS
from keras_ae.report.pictures import Pictures, by_rank, colours, load, viewer_data
from keras_ae.report.slices import scale

LIMIT = 12_000_000
"""Bytes of a page; images beyond the best, the median and the worst are left out above it."""

NOTES: Mapping[NoteKind, str] = {
    "few_images": "few images",
    "no_difference": "not told apart",
    "overfitting": "overfitting",
    "falls": "more hurts",
    "longer": "longer ladder",
    "slice": "slice",
    "worst_decile": "hardest images",
    "skipped": "skipped",
    "wilcoxon": "second test",
    "seeds": "seeds",
    "sampled": "sampled",
}
"""What a note is about, by its kind."""
WARNINGS = ("few_images", "overfitting", "falls", "slice")


def write_report(comparison: Comparison, pictures: Path | None, path: Path) -> None:
    """Writes the report.

    Args:
        comparison: what the page is of.
        pictures: folder with `pictures.json` (`error_top`, grey levels of 255 that the largest
            value of an error map stands for, and `images`: of each its `name`, `rank`, `height`,
            `width` and the size `shown` in pixels, the WebP files `original` and `floor` with its
            `floor_psnr`, and by epochs the files `image` and `error` with `psnr` and `ssim`); or
            None for a page without pictures.
        path: file to write.
    """
    template = environment().get_template("page.html")
    context = _context(comparison)
    empty = template.render(context, pictures=load(None, 0), viewer=None, ranked=[])
    shown = load(pictures, LIMIT - len(empty.encode()))
    page = template.render(context, **_pictures(shown, comparison.chosen.epochs))
    path.write_text(page, encoding="utf-8")


@cache
def environment() -> Environment:
    """The templates of this package, with escaping, the filters of `numbers` and `source`."""
    made = Environment(
        loader=PackageLoader("keras_ae.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters |= FILTERS
    made.globals |= {"source": source, "digest": digest, "splits": SPLITS, "scale": scale}
    return made


def source(name: str) -> str:
    """The text of a style sheet or a script of this package."""
    return (resources.files("keras_ae.report") / name).read_text(encoding="utf-8")


def digest(name: str) -> str:
    """What a Content-Security-Policy calls an inline script: its SHA-256."""
    return base64.b64encode(hashlib.sha256(source(name).encode()).digest()).decode()


def _context(comparison: Comparison) -> dict[str, Any]:
    claim, colon, rest = comparison.answer.sentence.partition(": ")
    run = comparison.run or Run()
    return {
        "c": comparison,
        "run": run,
        "claim": claim + colon.strip(),
        "numbers": rest,
        "note_names": NOTES,
        "warnings": WARNINGS,
        "verdict": comparison.verdict and _order(comparison.verdict),
        "curve": figures.psnr_curve(comparison),
        "losses": figures.loss_curves(comparison) if comparison.losses else None,
        "codecs": figures.codec_dots(comparison.codecs) if comparison.codecs else None,
        "slices": slices.order(comparison),
        "card": card.card(run),
    }


class _Verdict(NamedTuple):
    """A verdict with the checks that a reader should see first, and the others."""

    blessed: bool
    checks: list[Check]
    more: list[Check]
    not_judged: tuple[str, ...]
    served: ServingResult | None


def _order(verdict: Verdict) -> _Verdict:
    """Puts the checks over all images first, then failed ones, or the worst slice."""
    whole = [check for check in verdict.checks if not check.slice]
    of_slices = [check for check in verdict.checks if check.slice]
    of_slices.sort(key=lambda check: (check.ok is not False, check.value or 0.0))
    failed = sum(check.ok is False for check in of_slices)
    first = max(1, min(failed, 5))
    return _Verdict(
        blessed=verdict.blessed,
        checks=whole + of_slices[:first],
        more=of_slices[first:],
        not_judged=verdict.not_judged,
        served=verdict.served,
    )


def _pictures(shown: Pictures, chosen: int) -> dict[str, Any]:
    steps = [f"rgb({r} {g} {b})" for r, g, b in colours(12)]
    return {
        "pictures": shown,
        "viewer": viewer_data(shown, chosen) if shown.images else None,
        "ranked": by_rank(shown.images),
        "gradient": ", ".join(steps),
        "tables": [" ".join(f"{c[i] / 255:.3f}" for c in colours(32)) for i in range(3)],
    }
