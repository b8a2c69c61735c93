"""How much memory the machine has, and how much of it training images may take."""

import os
from collections.abc import Iterator
from pathlib import Path

GB = 10**9


def default_limit() -> int:
    """Half of the memory in whole GB, at least one: the same at each run on a machine."""
    return max(1, total() // 2 // GB) * GB


def total(
    groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """Bytes of memory that the machine has, or its container, whichever is less.

    The container's limit is that of control groups, version 1 or 2, which are mounted at `groups`;
    the file `membership` lists those of this process.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(groups, membership)])


def _limits(groups: Path, membership: Path) -> Iterator[int]:
    lines = membership.read_text().splitlines() if membership.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        # Version 2 has no controllers here.
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = groups / ("memory" if controllers else "") / path.lstrip("/")
        # In a container the path may be the host's, of which only the root is mounted.
        for file in (folder / name for folder in (group, *group.parents)):
            text = file.read_text().strip() if file.is_file() else ""
            if text.isdecimal():
                yield int(text)
