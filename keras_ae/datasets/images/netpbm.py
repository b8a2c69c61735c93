"""The headers of PBM, PGM and PPM files, binary and plain.

See https://netpbm.sourceforge.net/doc/ppm.html and its neighbours.
"""

import re
from typing import NamedTuple

from keras_ae.errors import DataError

MAX_PLAIN_SAMPLES = 50_000_000
"""Maximum for a plain file, whose numbers are read by Python, about ten million in a second."""

_MAGIC = re.compile(rb"P[1-6][\s#]")
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d{1,10})(?=[\s#])")


class NetpbmHeader(NamedTuple):
    """The header of a file.

    Attributes:
        kind: 1 to 6, the digit of its magic bytes.
        maximum: level of white, 1 to 65535.
        offset: offset of the first pixel.
    """

    kind: int
    height: int
    width: int
    maximum: int
    offset: int

    @property
    def samples(self) -> int:
        """Number of samples of a pixel, 1 or 3."""
        return 3 if self.kind in (3, 6) else 1


def is_netpbm(data: bytes) -> bool:
    """Whether data starts with the magic bytes of one of the six kinds."""
    return _MAGIC.match(data) is not None


def read_netpbm_header(data: bytes) -> NetpbmHeader:
    """Reads the header of a file with its magic bytes.

    Raises:
        DataError: if it is truncated or invalid.
    """
    kind, offset, numbers = data[1] - ord("0"), 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        match = _TOKEN.match(data, offset)
        if match is None:
            raise DataError("the header is truncated")
        numbers.append(int(match[1]))
        offset = match.end()
    width, height, maximum = (*numbers, 1)[:3]
    if not 0 < maximum < 2**16:
        raise DataError(f"the header declares a level of white of {maximum}; expected 1 to 65535")
    return NetpbmHeader(kind, height, width, maximum, offset + 1)


def check_netpbm(data: bytes) -> None:
    """Rejects a file that has not enough bytes for its pixels, or too many plain numbers.

    Raises:
        DataError: if the file is rejected.
    """
    header = read_netpbm_header(data)
    samples = header.height * header.width * header.samples
    if header.kind in (2, 3) and samples > MAX_PLAIN_SAMPLES:
        raise DataError(f"a plain PGM or PPM of more than {MAX_PLAIN_SAMPLES:,} samples")
    needed = {1: samples, 2: 2 * samples - 1, 3: 2 * samples - 1}.get(header.kind)
    if needed is None:
        row_bytes = header.width * header.samples * (1 if header.maximum < 256 else 2)
        needed = header.height * ((header.width + 7) // 8 if header.kind == 4 else row_bytes)
    if len(data) - header.offset < needed:
        raise DataError("cannot be decoded: truncated")
