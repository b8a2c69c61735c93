"""The locks against the bundled advisories, without a network."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-gpu.lock")
ADVISORIES = Path(__file__).with_name("advisories.json")
ACCEPTED = Path(__file__).with_name("accepted.json")


def locked(name: str) -> dict[str, str]:
    """The versions in a lock file; a package without a hash is left out."""
    lock = (ROOT / name).read_text()
    return dict(re.findall(r"^(\S+)==(\S+) \\$\n    --hash=sha256:", lock, re.MULTILINE))


def all_locked() -> dict[str, set[str]]:
    """The versions of each package in any lock."""
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in locked(lock).items():
            versions.setdefault(name, set()).add(version)
    return versions


def affects(advisory: Mapping[str, Any], version: str) -> bool:
    """Whether a version lies in one of an advisory's ranges; an empty one is every version."""
    ranges = map(SpecifierSet, advisory["affected"])
    return any(known.contains(version, prereleases=True) for known in ranges)


def found(
    advisories: Iterable[Mapping[str, Any]], versions: Mapping[str, Iterable[str]]
) -> dict[tuple[str, str], str]:
    """What is known against the versions: a line for each package and advisory."""
    return {
        (advisory["package"], advisory["id"]): f"{advisory['package']} {version}: "
        f"{advisory['id']}: {advisory['summary']}"
        for advisory in advisories
        for version in versions.get(canonicalize_name(advisory["package"]), ())
        if affects(advisory, version)
    }


def read(path: Path) -> Any:
    """A file of advisories or acceptances."""
    return json.loads(path.read_text())
