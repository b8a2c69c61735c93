"""Names of files: those that a user types, and any name as one printable line of UTF-8."""

import argparse
import re
from contextlib import suppress
from pathlib import Path

from keras_ae.errors import ConfigurationError

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LIKE_ESCAPES = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def expand(text: str) -> str:
    """Replaces a leading ~ by the home folder, as a shell does; a URI is returned as it is.

    Raises:
        ConfigurationError: if the text is empty.
    """
    if not text.strip():
        raise ConfigurationError("expected a path; got an empty string")
    # A URI must not become a Path, which would lose a slash.
    with suppress(RuntimeError):  # no such user
        return str(Path(text).expanduser()) if text.startswith("~") else text
    return text


def path_argument(text: str) -> Path:
    """The type of an argument of `argparse` that is a path on this machine; see `expand`."""
    try:
        return Path(expand(text))
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def escape_name(name: str) -> str:
    """Escapes any file name to one printable line of UTF-8; `unescape_name` reverts it.

    Bytes that are not UTF-8, control characters and characters that change the text direction
    become Python escapes such as \\x0a. If a name has such a character, or contains text that looks
    like an escape, its backslashes are doubled.
    """
    if not _UNPRINTABLE.search(name) and not _LIKE_ESCAPES.search(name):
        return name
    return _UNPRINTABLE.sub(_escape, name.replace("\\", "\\\\"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Python represents a byte that is not UTF-8 as a surrogate (PEP 383).
    is_byte = code < 0x80 or 0xDC80 <= code <= 0xDCFF
    return f"\\x{code & 0xFF:02x}" if is_byte else f"\\u{code:04x}"


def unescape_name(escaped: str) -> str:
    """The original of a name that `escape_name` returned."""
    return _LIKE_ESCAPES.sub(_unescape, escaped) if "\\" in escaped else escaped


def _unescape(match: re.Match[str]) -> str:
    if match[1] == "\\":
        return "\\"
    code = int(match[1][1:], 16)
    return chr(code + 0xDC00 if match[1][0] == "x" and code >= 0x80 else code)
