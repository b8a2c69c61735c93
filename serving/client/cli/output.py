"""What the commands print: rows of scores, notes on images and failures."""

import csv
import io
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from keras_ae import contract as c
from keras_ae.datasets.sources.names import escape_name
from keras_ae.imports import from_extra

from . import files

SCORES: Final = (c.MSE, c.PSNR, c.SSIM, c.MS_SSIM, c.PERCENTILE, c.FLOOR_PSNR)
COLUMNS: Final = ("path", *SCORES, "unusual", c.STATUS)


class Remarks:
    """What is printed after the results: files that were not read, notes on images, failures.

    Args:
        not_read: number of files that were not read, by kind.
    """

    def __init__(self, not_read: Counter[str]):
        self._not_read = not_read
        self._notes: list[tuple[str, str]] = []
        self.failures: list[tuple[str, str]] = []

    def add(self, path: str, status: str, note: str) -> None:
        """Adds what is known of an image, of which `path` is printable."""
        if status:
            self.failures.append((path, status))
        elif note:
            self._notes.append((path, note))

    def collect(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yields the rows without their notes, and adds what they say."""
        for row in rows:
            self.add(row["path"], row[c.STATUS], row.pop("notes"))
            yield row

    def report(self, image_count: int) -> int:
        """Prints everything to stderr; returns the exit status."""
        for path, note in self._notes:
            print(f"{path}: {note}", file=sys.stderr)
        if line := files.describe_not_read(self._not_read):
            print(line, file=sys.stderr)
        return _report_failures(self.failures, image_count)


def progress(total: int) -> Any:
    """A progress bar of files on stderr, as a context; none if that is no terminal."""
    with from_extra("client", "the progress bar"):
        from tqdm import tqdm

    return tqdm(total=total, unit="file", file=sys.stderr, disable=None)


def csv_lines(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Formats rows of scores as CSV, with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _format_value(value, "") for name, value in row.items()})
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def json_lines(rows: Iterator[dict[str, Any]], not_read: Counter[str]) -> Iterator[str]:
    """Formats rows of scores as JSON, and at the end the numbers of files that were not read."""
    for row in rows:
        yield json.dumps({name: _format_value(value, None) for name, value in row.items()}) + "\n"
    if not_read:
        yield json.dumps({"not_read": dict(not_read.most_common())}) + "\n"


def _format_value(value: Any, missing: str | None) -> Any:
    """Rounds a float to the 7 digits of a float32; NaN becomes `missing`, "" for CSV."""
    if not isinstance(value, float):
        return str(value).lower() if missing == "" and isinstance(value, bool) else value
    return missing if math.isnan(value) else float(f"{value:.7g}")


def _report_failures(failures: list[tuple[str, str]], image_count: int) -> int:
    """Prints the images that could not be used; returns the exit status."""
    if not failures:
        return 0
    for path, reason in failures:
        print(f"{path}: {reason}", file=sys.stderr)
    print_error(f"{len(failures):,} of {image_count:,} images could not be used")
    return 1


def printable(path: Path | str) -> str:
    """A path as one line of UTF-8, escaped as the pipeline escapes the names of images."""
    return escape_name(str(path))


def print_note(path: Path, note: str) -> None:
    """Prints a note on an image."""
    print(f"{printable(path)}: {note}", file=sys.stderr)


def print_error(text: str) -> None:
    """Prints an error on one line."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
