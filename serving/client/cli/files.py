"""Image files of the command line: finding them, naming the output files, sending them."""

import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from keras_ae import contract
from keras_ae.datasets.sources import kinds
from keras_ae.errors import DataError, DeadlineError, LimitError, StorageError

from ..formats import HEAD_BYTES, detect_format
from ..images import measure, split_into_batches

LINKS: Final = "links to folders"
MAX_BATCH_BYTES, MAX_BATCH_IMAGES, IN_FLIGHT = 16_000_000, 8, 4

T = TypeVar("T")


class Found(NamedTuple):
    """The files of a folder: those that may be images, sorted; numbers of others by kind."""

    paths: list[Path]
    not_read: Counter[str]


def find(folder: Path, exclude: Path | None = None, suffix: str = "") -> Found:
    """Finds the images below a folder by suffix or first bytes, and counts all other files.

    Hidden files, and those that operating systems leave, are not counted.

    Args:
        folder: folder that is searched recursively; links to folders are not followed.
        exclude: folder below it that is not searched.
        suffix: of the files to find instead of images.

    Raises:
        DataError: if there is no such file.
    """
    paths: list[Path] = []
    not_read: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not kinds.is_hidden(name) and not _is_same_file(Path(parent, name), exclude)
        ]
        not_read[LINKS] += sum(Path(parent, name).is_symlink() for name in folders)
        for path in (Path(parent, name) for name in names if not kinds.is_hidden(name)):
            if path.suffix.lower() == suffix if suffix else _is_image(path):
                paths.append(path)
            else:
                not_read[kinds.kind_of(path.name)] += 1
    not_read = +not_read
    if not paths:
        others = describe_not_read(not_read) or "it has no files"
        raise DataError(f"no {suffix or 'image'} in {folder}: {others}")
    return Found(sorted(paths), not_read)


def describe_not_read(counts: Counter[str]) -> str:
    """Returns a line with the numbers of files that were not read; empty if there are none."""
    return f"not read: {kinds.format_counts(counts)}" if counts else ""


def plan_folder(
    source: Path, target: Path, *, of: str = "", to: str = ".png"
) -> tuple[list[Path], Counter[str], dict[Path, Path]]:
    """Plans the output files of the files in a folder.

    Args:
        source: folder that is searched; see `find`.
        target: folder of the output files.
        of: suffix of the files to find instead of images.
        to: suffix of the output files.

    Returns:
        The files, numbers of others by kind, and the output file of each.

    Raises:
        DataError: if the folders cannot be used, or there is no file to read.
    """
    if target.exists() and not target.is_dir():
        raise DataError(f"{target} is a file: expected a folder for a folder's files")
    if target.exists() and target.samefile(source):
        raise DataError(f"{target} is the input folder: write to another folder")
    paths, not_read = find(source, target, of)
    return paths, not_read, output_paths(paths, source, target, to)


def output_paths(
    sources: Sequence[Path], folder: Path, target: Path, suffix: str = ".png"
) -> dict[Path, Path]:
    """Returns source -> output file: the same relative path below `target`, with the suffix.

    Sources that would share an output file, such as a.jpg and a.png, get .png appended instead:
    a.jpg.png and a.png.png. A source that is itself called a.jpg.png then gets a.jpg.png.png.

    Raises:
        DataError: if a source would be overwritten.
    """
    outputs = {s: target / s.relative_to(folder).with_suffix(suffix) for s in sources}
    while shared := {path for path, count in Counter(outputs.values()).items() if count > 1}:
        outputs |= {s: p.with_name(f"{s.name}{suffix}") for s, p in outputs.items() if p in shared}
    check_not_overwritten(sources, list(outputs.values()))
    return outputs


def check_not_overwritten(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    """Checks that no target is a source, also through symbolic or hard links.

    Raises:
        DataError: if a target is a source.
    """
    source_ids = {_file_id(source) for source in sources if source.exists()}
    for target in targets:
        if target.exists() and _file_id(target) in source_ids:
            raise DataError(f"{target} is one of the inputs: write to another file")


def write(path: Path, data: bytes) -> None:
    """Writes a file atomically; creates its folder.

    Raises:
        StorageError: if it cannot be written.
    """
    temporary = path.parent / f".{uuid.uuid4().hex}.incoming"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def request_in_batches(
    paths: Sequence[Path],
    request: Callable[[list[bytes]], Sequence[T]],
    in_flight: int = IN_FLIGHT,
) -> Iterator[tuple[Path, T | str]]:
    """Sends files in batches, with several requests in flight.

    Args:
        paths: image files.
        request: returns a result for each encoded image; called in several threads.
        in_flight: number of concurrent requests.

    Yields:
        A file and its result, in the order of `paths`. The result is an error message if the file
        could not be read, or if the request failed although it had this file only.
    """
    sizes = map(_measure, paths)
    batches = split_into_batches(
        sizes, MAX_BATCH_BYTES, contract.MAX_REQUEST_PIXELS, MAX_BATCH_IMAGES
    )
    pool = ThreadPoolExecutor(in_flight)
    pending: deque[Future[list[tuple[Path, T | str]]]] = deque()
    try:
        for batch in batches:
            pending.append(pool.submit(_request_batch, [paths[index] for index in batch], request))
            if len(pending) > in_flight:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _request_batch(
    paths: Sequence[Path], request: Callable[[list[bytes]], Sequence[T]]
) -> list[tuple[Path, T | str]]:
    results: dict[Path, T | str] = {}
    data: dict[Path, bytes] = {}
    for path in paths:
        try:
            data[path] = path.read_bytes()
        except OSError as error:
            results[path] = f"cannot be read: {error.strerror}"
    try:
        if data:
            results |= zip(data, request(list(data.values())))
    except (LimitError, DeadlineError) as error:
        if len(data) == 1:
            results |= dict.fromkeys(data, str(error))
        else:
            # The files one by one may be within the limit that the batch exceeded.
            return [result for path in paths for result in _request_batch([path], request)]
    return [(path, results[path]) for path in paths]


def _is_image(path: Path) -> bool:
    """Whether a file has the suffix of an image, or an unknown one and the first bytes of an image.

    A file that cannot be read counts as an image, so that it is reported.
    """
    if kinds.has_image_suffix(path.name):
        return True
    # A named pipe would block.
    if kinds.is_other(path.name) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return detect_format(file.read(HEAD_BYTES)) is not None
    except OSError:
        return True


def _measure(path: Path) -> tuple[int, int]:
    try:
        return measure(path)
    except DataError:
        return 0, 0


def _file_id(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_same_file(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.exists() and path.samefile(other)
