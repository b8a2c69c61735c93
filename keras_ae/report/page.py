"""Writes the report: a comparison as one HTML page that needs no network."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from keras_ae.comparison.records import Check, Comparison, NoteKind, Run
from keras_ae.contract import SPLITS
from keras_ae.report import card, figures, slices
from keras_ae.report.formatting import FILTERS
from keras_ae.report.pictures import Pictures, colours, load, viewer_data

MAX_BYTES = 12_000_000
"""Size of a page; images other than the best, the median and the worst are left out above it."""

NOTES: Mapping[NoteKind, str] = {
    "few_images": "few images",
    "copies": "copies",
    "in_train": "in train too",
    "lossless": "latent size",
    "no_difference": "val and test",
    "overfitting": "overfitting",
    "falls": "val PSNR falls",
    "longer": "longer ladder",
    "slice": "slice",
    "worst_decile": "hardest images",
    "skipped": "SSIM",
    "wilcoxon": "Wilcoxon's test",
    "seeds": "seeds",
    "sampled": "sample",
    "data": "data",
}
"""Label of a note by its kind."""
WARNINGS = ("few_images", "in_train", "overfitting", "falls", "slice")


def write_report(comparison: Comparison, pictures: Path | None, path: Path) -> None:
    """Writes the report.

    Args:
        comparison: the comparison.
        pictures: folder with `pictures.json` and the WebP files that it names, or None for a page
            without pictures. The file has `error_top`, the error in grey levels at the top of the
            colour scale, and `images`: each with `name`, `rank`, `height`, `width`, the size
            `shown` in pixels, the files `original` and `floor`, `floor_psnr`, and by epochs the
            files `image` and `error` with `psnr` and `ssim`.
        path: file to write.
    """
    template = environment().get_template("page.html")
    context = _context(comparison)
    empty = template.render(context, pictures=load(None, 0), viewer=None)
    embedded = load(pictures, MAX_BYTES - len(empty.encode()))
    page = template.render(context, **_pictures(embedded, comparison.chosen.epochs))
    path.write_text(page, encoding="utf-8")


@cache
def environment() -> Environment:
    """The Jinja environment of the templates of this package, with escaping."""
    templates = Environment(
        loader=PackageLoader("keras_ae.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters |= FILTERS
    templates.globals |= {
        "source": source,
        "digest": digest,
        "splits": SPLITS,
        "scale": slices.scale,
    }
    return templates


def source(name: str) -> str:
    """Reads a style sheet or a script of this package."""
    return (resources.files("keras_ae.report") / name).read_text(encoding="utf-8")


def digest(name: str) -> str:
    """The SHA-256 by which a Content-Security-Policy allows an inline script."""
    return base64.b64encode(hashlib.sha256(source(name).encode()).digest()).decode()


def _context(comparison: Comparison) -> dict[str, Any]:
    claim, colon, rest = comparison.answer.sentence.partition(": ")
    run = comparison.run or Run()
    checks, more_checks = _ordered(comparison.verdict.checks if comparison.verdict else ())
    return {
        "c": comparison,
        "run": run,
        "claim": claim + colon.strip(),
        "numbers": rest,
        "note_names": NOTES,
        "warnings": WARNINGS,
        "checks": checks,
        "more_checks": more_checks,
        "curve": figures.psnr_curve(comparison),
        "losses": figures.loss_curves(comparison) if comparison.losses else None,
        "codecs": figures.codec_dots(comparison.codecs) if comparison.codecs else None,
        "slices": slices.order_slices(comparison),
        "card": card.card(run),
    }


def _ordered(checks: Sequence[Check]) -> tuple[list[Check], list[Check]]:
    """Checks that are always visible, and folded ones: those of all images come first, then the
    failed slices, or the worst slice."""
    overall = [check for check in checks if not check.slice]
    by_slice = [check for check in checks if check.slice]
    by_slice.sort(key=lambda check: (check.ok is not False, check.value or 0.0))
    visible = max(1, min(sum(check.ok is False for check in by_slice), 5))
    return overall + by_slice[:visible], by_slice[visible:]


def _pictures(pictures: Pictures, chosen: int) -> dict[str, Any]:
    return {
        "pictures": pictures,
        "viewer": viewer_data(pictures, chosen) if pictures.images else None,
        "gradient": ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours(12)),
        "tables": [" ".join(f"{c[i] / 255:.3f}" for c in colours(32)) for i in range(3)],
    }
