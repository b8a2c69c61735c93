"""What a folder without images holds instead, for messages."""

from collections.abc import Mapping

from keras_ae import storage
from keras_ae.datasets.sources.kinds import ARCHIVE_SUFFIXES, is_hidden, kind_of
from keras_ae.datasets.sources.names import escape_name


def archive_hint(folder: str, not_read: Mapping[str, int]) -> str:
    """Names an archive in a folder without images, after a semicolon; empty if there is none.

    Args:
        folder: a path or URI.
        not_read: number of its files by kind.
    """
    kinds = {kind_of(f"a{suffix}") for suffix in ARCHIVE_SUFFIXES}
    if not kinds & not_read.keys() or not storage.is_folder(folder):
        return ""
    names = (name for name in storage.walk_names(folder) if not is_hidden(name))
    archives = sorted(name for name in names if name.lower().endswith(ARCHIVE_SUFFIXES))
    if not archives:
        return ""
    which = "the archive" if len(archives) == 1 else f"one of the {len(archives):,} archives"
    return f"; to read {which}, point at it: {storage.join(folder, escape_name(archives[0]))}"
