"""Image files of the command line: which there are, where answers go, how they are asked for."""

import os
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from keras_ae import contract
from keras_ae.errors import DataError, DeadlineError, LimitError, StorageError

from ..images import area, chunks, weight

BATCH_BYTES, BATCH_IMAGES, IN_FLIGHT = 16_000_000, 8, 4

T = TypeVar("T")


def find(folder: Path, leave_out: Path | None = None) -> list[Path]:
    """The image files below a folder, sorted; hidden ones and those below `leave_out` are not.

    Raises:
        DataError: if there is none.
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not _same(Path(place, name), leave_out)
        ]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and name.lower().endswith(contract.IMAGE_SUFFIXES)
        ]
    if not found:
        raise DataError(f"no image in {folder}: looked for {', '.join(contract.IMAGE_SUFFIXES)}")
    return sorted(found)


def outputs(sources: Sequence[Path], folder: Path, into: Path) -> list[Path]:
    """Where each source's PNG goes: the same name below `into`, with the suffix .png.

    Sources that would share a name, a.jpg and a.png, keep their suffix before it, and so does one
    that is called like what they then give, a.jpg.png.

    Raises:
        DataError: if a source would be overwritten.
    """
    made = {s: into / s.relative_to(folder).with_suffix(".png") for s in sources}
    while shared := {path for path, count in Counter(made.values()).items() if count > 1}:
        made |= {s: p.with_name(f"{s.name}.png") for s, p in made.items() if p in shared}
    targets = [made[source] for source in sources]
    check_not_overwritten(sources, targets)
    return targets


def check_not_overwritten(sources: Sequence[Path], targets: Sequence[Path]) -> None:
    """Whatever links lead there, no target is a source.

    Raises:
        DataError: if one is.
    """
    taken = {_identity(source) for source in sources if source.exists()}
    for target in targets:
        if target.exists() and _identity(target) in taken:
            raise DataError(f"{target} is one of the inputs and must stay: write elsewhere")


def write(path: Path, data: bytes) -> None:
    """Writes a file, which appears whole or not at all; makes its folder.

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


def answers(
    paths: Sequence[Path],
    ask: Callable[[list[bytes]], Sequence[T]],
    in_flight: int = IN_FLIGHT,
) -> Iterator[tuple[Path, T | str]]:
    """Asks for each file, some at a time, several requests in flight; in the order of the files.

    Args:
        paths: image files.
        ask: gives one answer for each encoded image; used from several threads.
        in_flight: most requests at a time.

    Yields:
        A file and its answer; or why it could not be read, or not be answered by itself.
    """
    sizes = ((_weight(path), area(path)) for path in paths)
    cut = chunks(sizes, BATCH_BYTES, contract.MAX_REQUEST_PIXELS, BATCH_IMAGES)
    pool = ThreadPoolExecutor(in_flight)
    waiting: deque[Future[list[tuple[Path, T | str]]]] = deque()
    try:
        for rows in cut:
            waiting.append(pool.submit(_answer_some, [paths[row] for row in rows], ask))
            if len(waiting) > in_flight:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _answer_some(
    paths: Sequence[Path], ask: Callable[[list[bytes]], Sequence[T]]
) -> list[tuple[Path, T | str]]:
    found: dict[Path, T | str] = {}
    data: dict[Path, bytes] = {}
    for path in paths:
        try:
            data[path] = path.read_bytes()
        except OSError as error:
            found[path] = f"cannot be read: {error.strerror}"
    try:
        if data:
            found |= zip(data, ask(list(data.values())))
    except (LimitError, DeadlineError) as error:
        if len(data) == 1:
            found |= dict.fromkeys(data, str(error))
        else:
            # Too much together need not be too much one by one.
            return [one for path in paths for one in _answer_some([path], ask)]
    return [(path, found[path]) for path in paths]


def _weight(path: Path) -> int:
    try:
        return weight(path)
    except DataError:
        return 0


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _same(path: Path, other: Path | None) -> bool:
    return other is not None and other.exists() and path.exists() and path.samefile(other)
