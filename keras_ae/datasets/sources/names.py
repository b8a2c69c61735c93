"""Names of image files: which are looked at, and how they are shown."""

import re

from keras_ae.contract import IMAGE_SUFFIXES

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LIKE_ESCAPES = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def is_image(name: str) -> bool:
    """Whether a name is that of an image which is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(name)


def printable(name: str) -> str:
    """A file's name as one line of UTF-8, whatever its bytes are; different ones stay different.

    Bytes that are no UTF-8, control characters and those that turn the direction of writing become
    escapes of Python, such as \\x0a. Where a name has one, or looks as if it had, a backslash is
    doubled.
    """
    if not _UNPRINTABLE.search(name) and not _LIKE_ESCAPES.search(name):
        return name
    return _UNPRINTABLE.sub(_escape, name.replace("\\", "\\\\"))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    # Python keeps a byte that is no UTF-8 as a surrogate.
    is_byte = code < 0x80 or 0xDC80 <= code <= 0xDCFF
    return f"\\x{code & 0xFF:02x}" if is_byte else f"\\u{code:04x}"


def unescaped(shown: str) -> str:
    """The name that `printable` made this of."""
    return _LIKE_ESCAPES.sub(_unescape, shown)


def _unescape(found: re.Match[str]) -> str:
    if found[1] == "\\":
        return "\\"
    code = int(found[1][1:], 16)
    return chr(code + 0xDC00 if found[1][0] == "x" and code >= 0x80 else code)


def is_looked_at(name: str) -> bool:
    """Whether a file is an image by its name, or stands for a folder that was not entered."""
    return is_image(name) or (name.endswith("/") and not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return any(
        (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"
        for part in name.split("/")
    )
