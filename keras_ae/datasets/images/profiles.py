"""ICC profiles: whether one describes other colours than sRGB."""

import struct

_COLORANTS = {
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7139),
}
"""Colours of the primaries of sRGB, adapted to D50 (IEC 61966-2-1)."""
_TOLERANCE = 0.01
_MAX_TAGS = 100


def is_wide(profile: bytes | None) -> bool:
    """Whether a profile is for RGB with other primaries than those of sRGB.

    Args:
        profile: an ICC profile (ICC.1:2022); None or empty for an image without one.
    """
    if not profile or profile[16:20] != b"RGB ":
        return False
    try:
        tags = _tags(profile)
        return any(
            abs(actual - expected) > _TOLERANCE
            for name, colour in _COLORANTS.items()
            for actual, expected in zip(_xyz(tags[name]), colour)
        )
    except (struct.error, KeyError):
        return True


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (
        struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, _MAX_TAGS))
    )
    return {name: profile[start : start + size] for name, start, size in entries}


def _xyz(value: bytes) -> tuple[float, ...]:
    return tuple(number / 65536 for number in struct.unpack_from(">3i", value, 8))
