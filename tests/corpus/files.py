"""A folder with the files of `images`, special files, and files with unusual names."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.corpus.entries import ACCEPTED, SKIPPED, File
from tests.corpus.images import images
from tests.corpus.pictures import encoded, picture

OUTSIDE = "outside"
"""Name of a folder next to that of the files, with an image that must not become an example."""
OUTSIDE_LINK = "a link out of the folder"
FOLDER_LINK = "a link to a folder"
SPECIAL = "not a regular file"


def files() -> list[File]:
    """All files; the device only for root, who alone can create it."""
    entries = [
        File(name, name, _writer(content), expected)
        for name, (content, expected) in images().items()
    ]
    entries += [File(*name, _writer(_png(i)), ACCEPTED) for i, name in enumerate(_NAMES)]
    entries += [
        File(name, name.rstrip("/"), write, expected) for name, write, expected in _special()
    ]
    return entries


_LONG = "n" * 251 + ".png"
_NAMES = [
    ("new\nline.png", "new\\x0aline.png"),
    ("tab\t.png", "tab\\x09.png"),
    ("escape\x1b[2J.png", "escape\\x1b[2J.png"),
    ("right-to-left\u202egnp.png", "right-to-left\\u202egnp.png"),
    ("line\u2028separator.png", "line\\u2028separator.png"),
    (os.fsdecode(b"latin\xe9.png"), "latin\\xe9.png"),
    ("latin\\xe9.png", "latin\\\\xe9.png"),
    ("back\\slash.png", "back\\slash.png"),
    ("composed-\u00e9.png", "composed-\u00e9.png"),
    ("composed-e\u0301.png", "composed-e\u0301.png"),
    ("\u5199\u771f.png", "\u5199\u771f.png"),
    ("\U0001f600.png", "\U0001f600.png"),
    (_LONG, _LONG),
    ("\u00e9" * 125 + "n.png", "\u00e9" * 125 + "n.png"),
    ("-rf.png", "-rf.png"),
    ("a..b...png", "a..b...png"),
    ("CON.png", "CON.png"),
    ("star*?[].png", "star*?[].png"),
    ("$(reboot)`.png", "$(reboot)`.png"),
    ("quote'\".png", "quote'\".png"),
    ("<b>.png", "<b>.png"),
    (" .png", " .png"),
    ("%s%n{0}.png", "%s%n{0}.png"),
    ("folder.png/inside.png", "folder.png/inside.png"),
    ("d/" * 200 + "deep.png", "d/" * 200 + "deep.png"),
]


def _special() -> list[tuple[str, Callable[[Path], None], str]]:
    entries = [
        ("trailing-dot.png.", _writer(_png(90)), ACCEPTED),
        ("empty-folder.png/", lambda path: path.mkdir(), SKIPPED),
        ("pipe.png", os.mkfifo, SPECIAL),
        ("socket.png", _socket, SPECIAL),
        ("link-to-an-image.png", _link("plain.png"), ACCEPTED),
        ("link-to-a-link.png", _link("link-to-an-image.png"), ACCEPTED),
        ("link-out.png", _link(f"../{OUTSIDE}/secret.png"), OUTSIDE_LINK),
        ("link-to-a-link-out.png", _link("link-out.png"), OUTSIDE_LINK),
        ("link-to-a-file-of-the-system.png", _link("/etc/passwd"), OUTSIDE_LINK),
        ("link-to-a-device.png", _link("/dev/zero"), OUTSIDE_LINK),
        ("link-to-memory.png", _link("/proc/self/mem"), OUTSIDE_LINK),
        ("link-to-a-pipe.png", _link("pipe.png"), SPECIAL),
        ("link-to-nothing.png", _link("missing.png"), "No such file"),
        ("link-to-itself.png", _link("link-to-itself.png"), "levels of symbolic links"),
        ("link-in-a-circle.png", _link("link-in-the-circle.png"), "levels of symbolic links"),
        ("link-in-the-circle.png", _link("link-in-a-circle.png"), "levels of symbolic links"),
        ("link-to-a-folder-out", _link(f"../{OUTSIDE}"), FOLDER_LINK),
        ("link-to-a-folder-out.png", _link(f"../{OUTSIDE}"), FOLDER_LINK),
        ("link-to-the-folder", _link("."), FOLDER_LINK),
        ("link-above", _link(".."), FOLDER_LINK),
        (".hidden-link", _link(".."), SKIPPED),
        ("link-to-nothing", _link("missing"), SKIPPED),
        (".thumbnails/image.png", _writer(_png(91)), SKIPPED),
    ]
    if os.geteuid() == 0:
        entries.append(("device.png", _device, SPECIAL))
    return entries


def _png(seed: int) -> bytes:
    return encoded(picture(1000 + seed), "PNG")


def _writer(content: bytes | None) -> Callable[[Path], None]:
    return lambda path: _sparse(path) if content is None else _write(path, content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(250 * 2**20)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        # The full path may exceed the length limit of socket paths.
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def _device(path: Path) -> None:
    os.mknod(path, 0o020666, os.makedev(1, 5))
