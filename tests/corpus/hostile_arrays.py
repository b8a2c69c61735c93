"""Files of arrays and of tables that are damaged, of a wrong kind, or costly to read."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.entries import ACCEPTED, Archive
from tests.corpus.images import NOT_AN_IMAGE
from tests.corpus.pictures import encoded, picture

IMAGES = np.stack([np.asarray(picture(seed, 8, 8)) for seed in range(3)])
_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def hostile_arrays() -> list[Archive]:
    """Files of NumPy, with the expected outcome of each image."""
    good = _zipped({"x.npy": _npy(IMAGES), "extra.npy": _npy(_objects())})
    compressed = _saved(np.savez_compressed, x=IMAGES, extra=np.arange(3))
    return [
        _entry("objects.npy", _npy(_objects()), refused="Python objects are never loaded"),
        _entry("objects-among-others.npz", good, _outcomes("x", 3)),
        _entry("objects.npz", _zipped({"x.npy": _npy(_objects())}), refused="are never loaded"),
        _entry("cut-in-half.npy", _npy(IMAGES)[:200], refused="truncated"),
        _entry("cut-in-half.npz", good[:200], refused="as a .npz"),
        _entry("text.npy", b"text", refused="as a .npy"),
        _entry("text.npz", b"text", refused="as a .npz"),
        _entry("claims-4-pb.npy", _header((10**12, 64, 64)) + bytes(99), refused="truncated"),
        _entry("claims-2-gb.npz", _claiming(2**31), refused="more than can be compressed"),
        _entry("encrypted.npz", _encrypted(compressed), refused="encrypted"),
        _entry(
            "lzma.npz",
            _zipped({"x.npy": _npy(IMAGES)}, zipfile.ZIP_LZMA),
            refused="another compression than",
        ),
        _entry("wrong-checksum.npz", _wrong_checksum(), refused="Bad CRC-32 for file 'x.npy'"),
        Archive("header-of-2-gb.npy", _write_sparse, refused="reading array header"),
        _large("header-of-300-mb.npz", {"x.npy": (_long_header(300), 301)}, "reading array header"),
        _large(
            "labels-of-256-mb.npz",
            {
                "x_train.npy": (_header((4, 512, 512)), 1),
                "y_train.npy": (_header((4,), "<U16777216"), 256),
                "x_test.npy": (_header((4, 512, 512)), 1),
            },
            "is not an array of labels",
        ),
        _large("20-mb-of-zeros.npz", {"x.npy": (_header((20, 1024, 1024)), 20)}, "", 20),
        _entry(
            "100000-arrays.npz",
            _zipped({f"{number}.npy": b"" for number in range(100_000)}),
            refused="100,000 arrays, more than the limit of 10,000",
        ),
        _entry(
            "100000-others.npz",
            _zipped({f"{number}.txt": b"" for number in range(100_000)}),
            refused="no images in",
        ),
    ]


def hostile_tables() -> list[Archive]:
    """Parquet files, with the expected outcome of each row."""
    png = encoded(picture(103), "PNG")
    good = _parquet([png] * 3)
    paths = pa.array([{"bytes": None, "path": "a.png"}, None, {"bytes": png, "path": ""}], _STRUCT)
    zeros = pa.DictionaryArray.from_arrays(
        pa.array([0] * 30, pa.int32()), pa.array([bytes(20_000_000)], pa.binary())
    )
    large = {"use_dictionary": False, "compression": "zstd"}
    return [
        _entry("text.parquet", b"text", refused="as a .parquet"),
        _entry("cut-in-half.parquet", good[: len(good) // 2], refused="as a .parquet"),
        _entry(
            "footer-of-2-gb.parquet",
            good[:-8] + struct.pack("<I", 2**31 - 1) + good[-4:],
            refused="as a .parquet",
        ),
        _entry("texts.parquet", _parquet(["a.png", "b.png"]), refused="no images in"),
        _entry("lists.parquet", _parquet([[png], [png]]), refused="no images in"),
        _entry("paths-and-nulls.parquet", _parquet(paths), {"paths-and-nulls/000002": ACCEPTED}),
        _entry(
            "damaged-page.parquet",
            _damaged_page([encoded(picture(i), "PNG") for i in range(9)]),
            {
                **_outcomes("damaged-page", 9),
                **_outcomes("damaged-page", 6, "as a .parquet", first=3),
            },
        ),
        _entry(
            "100000-nulls.parquet",
            _parquet(pa.array([None] * 100_000, pa.binary())),
            refused="it claims 100,000 rows",
        ),
        _entry(
            "260-mb-in-a-row.parquet",
            _parquet([bytes(260_000_000)], **large),
            refused="it unpacks to more than 100 times",
        ),
        _entry(
            "30-times-20-mb.parquet",
            _parquet(zeros, compression="zstd", dictionary_pagesize_limit=2**30),
            _outcomes("30-times-20-mb", 30, NOT_AN_IMAGE),
        ),
        _entry(
            "2000-row-groups.parquet",
            _parquet([png] * 2000, row_group_size=1),
            _outcomes("2000-row-groups", 2000),
        ),
    ]


def _entry(
    name: str, data: bytes, members: Mapping[str, str] | None = None, refused: str = ""
) -> Archive:
    return Archive(name, lambda path: _write(path, data), members or {}, refused)


def _large(
    name: str, members: Mapping[str, tuple[bytes, int]], refused: str, count: int = 0
) -> Archive:
    """A compressed .npz of arrays that are a header and so many MiB of zeros."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, (header, size) in members.items():
                with archive.open(member, "w") as file:
                    file.write(header)
                    for _ in range(size):
                        file.write(bytes(2**20))

    return Archive(name, write, _outcomes("x", count), refused)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _outcomes(stem: str, stop: int, outcome: str = ACCEPTED, first: int = 0) -> dict[str, str]:
    return {f"{stem}/{index:06d}": outcome for index in range(first, stop)}


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was loaded')",)


def _objects() -> np.ndarray:
    objects = np.empty(2, object)
    objects[:] = [_Bomb(), _Bomb()]
    return objects


def _saved(save: Callable[..., None], *arguments: object, **named: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arguments, **named)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    return _saved(np.save, array)


def _zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _header(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def _long_header(size: int) -> bytes:
    """The first bytes of a header of so many MiB."""
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", size * 2**20)


def _write_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(_long_header(2047))
        file.truncate(2**31)


def _claiming(size: int) -> bytes:
    """A compressed .npz whose array claims to be so large."""
    data = _npy(IMAGES)
    true_size, claimed = (struct.pack("<I", each) for each in (len(data), size))
    return _zipped({"x.npy": data}, zipfile.ZIP_DEFLATED).replace(true_size, claimed)


def _encrypted(data: bytes) -> bytes:
    """Sets the flag of encryption in the central directory and in the members."""
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.find(magic)
        while start >= 0:
            data = data[: start + offset] + b"\1" + data[start + offset + 1 :]
            start = data.find(magic, start + 4)
    return data


def _wrong_checksum() -> bytes:
    data = _npy(IMAGES)
    other = data[:-1] + bytes([data[-1] ^ 1])
    right, wrong = (struct.pack("<I", zlib.crc32(each)) for each in (data, other))
    return _zipped({"x.npy": data}, zipfile.ZIP_DEFLATED).replace(right, wrong)


def _parquet(rows: Iterable[object] | pa.Array, **options: object) -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"image": rows})
    pq.write_table(table, buffer, **{"compression": "none", "store_schema": False} | options)
    return buffer.getvalue()


def _damaged_page(rows: list[bytes]) -> bytes:
    """Three row groups, the second of which is overwritten."""
    data = bytearray(_parquet(rows, row_group_size=3))
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 100] = b"\xff" * 100
    return bytes(data)
