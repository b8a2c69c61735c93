"""Protobuf's encoding of packed values, by NumPy.

protobuf's Python API converts every value to a Python object: a photograph would take seconds.
"""

import numpy as np


def varints(values: np.ndarray) -> bytes:
    """Encodes integers [N], 7 bits in a byte, whose 8th bit says that more follow."""
    if not values.size:
        return b""
    if values.dtype.kind == "i":
        values = values.astype(np.int64).view(np.uint64)
    count = max(1, -(-int(values.max()).bit_length() // 7))
    encoded = np.empty((len(values), count), np.uint8)
    is_sent = np.ones(encoded.shape, bool)
    # By columns: NumPy is slow along an axis of a few values.
    for i in range(count):
        encoded[:, i] = values & 0x7F
        values = values >> 7
        encoded[:, i] |= (values != 0).view(np.uint8) << 7
        is_sent[:, i + 1 :] = (values != 0)[:, None]
    return encoded[is_sent].tobytes()


def delimited(number: int, *payload: bytes) -> bytes:
    """Encodes a field of bytes, of a message or of packed values, in several parts."""
    return b"".join((_varint(number << 3 | 2), _varint(sum(map(len, payload))), *payload))


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*groups, value))
