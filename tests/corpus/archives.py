"""Archives that are bad or have bad members, with a good image in each if possible."""

import bz2
import functools
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from tests.corpus.entries import ACCEPTED, Archive
from tests.corpus.pictures import PNG, encoded, ihdr, picture

LINK = "a link, which is not followed"
GOOD = "good.png"
ONLY_GOOD = {GOOD: ACCEPTED}
NAMES = ("../out.png", "../../../../etc/out.png", "/etc/out.png", "C:\\out.png", "a/../../b.png")


@functools.cache
def archives() -> list[Archive]:
    """All archives."""
    return [*_zips(), *_broken_zips(), *_tars(), *_broken_tars(), *_compressed_tars()]


def _good() -> bytes:
    return encoded(picture(100), "PNG")


def _make_zip(*members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(GOOD, _good())
        for name, data in members:
            archive.writestr(name, data, compression)
    return buffer.getvalue()


def _zip_entry(name: str, data: bytes, members: dict[str, str] | None = None, refused: str = ""):
    expected = {} if refused else {GOOD: ACCEPTED, **(members or {})}
    return Archive(f"{name}.zip", lambda path: _save(path, data), expected, refused)


def _zip_bomb(name: str, start: bytes, compression: int, reason: str) -> Archive:
    """A zip of 60 MB of zeros, compressed when it is written, which takes a second."""

    def write(path: Path) -> None:
        data = start + bytes(60_000_000)
        _save(path, _make_zip(("x.png", data), compression=compression))

    return Archive(f"{name}.zip", write, {GOOD: ACCEPTED, "x.png": reason}, slow=True)


def _zips() -> list[Archive]:
    png = encoded(picture(101), "PNG")
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    nested = _make_zip(("inside.png", png))
    for _ in range(20):
        nested = _make_zip(("nested.zip", nested))
    many, pair = (_overlapping_zip(count, png) for count in (5000, 2))
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    marked = PNG + ihdr(2, 2)
    bombs = [_zip_bomb(f"100-mb-of-zeros-{m}", b"", m, NOT_AN_IMAGE) for m in methods]
    bombs += [_zip_bomb(f"png-of-60-mb-{m}", marked, m, "20,000 chunks") for m in methods[:2]]
    return [
        _zip_entry(
            "names", _make_zip(*((name, png) for name in NAMES)), dict.fromkeys(NAMES, ACCEPTED)
        ),
        _zip_entry("newline", _make_zip(("new\nline.png", png)), {"new\\x0aline.png": ACCEPTED}),
        _zip_entry(
            "long-name", _make_zip(("n" * 60_000 + ".png", png)), {"n" * 60_000 + ".png": ACCEPTED}
        ),
        _zip_entry("zero-in-name", _make_zip(("x.png\0.txt", png)), {"x.png": ACCEPTED}),
        _zip_entry("link", _make_zip((link, b"/etc/passwd")), {"link.png": LINK}),
        _zip_entry("folder", _make_zip(("folder.png/", b"")), {}),
        _zip_entry("nested", nested, {}),
        _zip_entry(
            "nested-as-image", _make_zip(("nested.png", nested)), {"nested.png": NOT_AN_IMAGE}
        ),
        _zip_entry("100000-entries", _zip_of_empty_files(100_000, b".txt"), {}),
        _zip_entry("100000-unknown-entries", _zip_of_empty_files(100_000, b""), {}),
        _zip_entry(
            "100000-empty-images",
            _zip_of_empty_files(100_000, b".tif"),
            {f"{i:06d}.tif": "empty" for i in range(100_000)},
        ),
        Archive("one-in-5000.zip", lambda path: _save(path, many), _all_overlap(5000)),
        Archive("one-in-2.zip", lambda path: _save(path, pair), _all_overlap(2)),
        *bombs,
    ]


NOT_AN_IMAGE = "not a PNG, JPEG, BMP, GIF, WebP, TIFF, PPM, AVIF or HEIC image"
OVERLAPS = "overlaps another member"


def _all_overlap(count: int) -> dict[str, str]:
    return {f"{i}.png": OVERLAPS for i in range(count)}


def _zip_of_empty_files(count: int, suffix: bytes) -> bytes:
    """A good image and many empty files, assembled here because zipfile would take seconds."""
    with zipfile.ZipFile(io.BytesIO(_make_zip())) as archive:
        start = archive.start_dir
    whole = _make_zip()
    local, central = [whole[:start]], [whole[start : whole.index(b"PK\5\6")]]
    offset = start
    for i in range(count):
        name = b"%06d" % i + suffix
        common = struct.pack("<HHHHIIIHH", 0, 0, 0, 0, 0, 0, 0, len(name), 0)
        local.append(b"PK\3\4\x14\0" + common + name)
        central.append(
            b"PK\1\2\x14\0\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name
        )
        offset += len(local[-1])
    directory = b"".join(central)
    # Only the zip64 format can count so many.
    end = struct.pack(
        "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, *[count + 1] * 2, len(directory), offset
    )
    locator = struct.pack("<IIQI", 0x07064B50, 0, offset + len(directory), 1)
    last = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, len(directory), offset, 0)
    return b"".join([*local, directory, end, locator, last])


def _overlapping_zip(count: int, png: bytes) -> bytes:
    """Many members that share the same data: a bomb if it is highly compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("0.png", png)
        first = archive.infolist()[0]
        for i in range(1, count):
            info = zipfile.ZipInfo(f"{i}.png")
            info.header_offset, info.CRC = first.header_offset, first.CRC
            info.file_size, info.compress_size = first.file_size, first.compress_size
            archive.filelist.append(info)
    return buffer.getvalue()


def _broken_zips() -> list[Archive]:
    png = encoded(picture(102), "PNG")
    whole = _make_zip(("x.png", png))
    directory = whole.index(b"PK\1\2")
    second = whole.index(b"PK\1\2", directory + 1)
    end = whole.index(b"PK\5\6")

    def changed(offset: int, data: bytes) -> bytes:
        return whole[:offset] + data + whole[offset + len(data) :]

    def member(offset: int, data: bytes, reason: str, name: str) -> Archive:
        return _zip_entry(name, changed(second + offset, data), {"x.png": reason})

    far = struct.pack("<I", 2**31)
    unread = "cannot be read from the archive"
    return [
        _zip_entry("empty-file", b"", refused="cannot open"),
        _zip_entry("no-members", b"PK\5\6" + bytes(18), refused="no image in"),
        _zip_entry("html", b"<html>", refused="cannot open"),
        _zip_entry("cut-in-directory", whole[: directory + 20], refused="cannot open"),
        _zip_entry("cut-in-end", whole[:-5], refused="cannot open"),
        _zip_entry("directory-of-4-gb", changed(end + 12, b"\xff" * 4), refused="cannot open"),
        _zip_entry("directory-nowhere", changed(end + 16, far), refused="cannot open"),
        _zip_entry("broken-directory", changed(directory, b"XXXX"), refused="cannot open"),
        _zip_entry("version-99", changed(directory + 6, b"\x63"), refused="cannot open"),
        member(8, b"\1", "encrypted", "encrypted"),
        member(10, b"\x63", unread, "method-99"),
        member(16, b"\0\0\0\0", "CRC", "wrong-crc"),
        member(24, b"\xff\xff\xff\x7f", "more than the limit", "claims-2-gb"),
        member(24, b"\xff\xff\0\0", unread, "claims-64-kb"),
        member(42, far, unread, "begins-nowhere"),
        member(42, b"\0\0\0\0", OVERLAPS, "begins-in-the-first")._replace(
            members={GOOD: OVERLAPS, "x.png": OVERLAPS}
        ),
        # The name becomes the comment.
        _zip_entry("no-name", changed(second + 28, b"\0\0\0\0\5\0"), {}),
        _zip_entry("bad-utf-8", _with_invalid_utf8(whole, second), refused="cannot open"),
        _zip_entry("zip64-lies", _with_short_zip64_sizes(whole, second), refused="cannot open"),
        Archive("pipe.zip", os.mkfifo, refused="not a regular file"),
    ]


def _with_invalid_utf8(whole: bytes, offset: int) -> bytes:
    name = offset + 46
    return whole[: offset + 8] + b"\0\x08" + whole[offset + 10 : name] + b"\xff" + whole[name + 1 :]


def _with_short_zip64_sizes(whole: bytes, offset: int) -> bytes:
    """A member whose sizes are in an extra field that is too short for them."""
    extra = struct.pack("<HHI", 1, 4, 7)
    head = bytearray(whole[offset : offset + 46])
    head[20:28] = b"\xff" * 8
    head[30:32] = struct.pack("<H", len(extra))
    name_end = offset + 46 + len("x.png")
    parts = whole[:offset] + bytes(head) + whole[offset + 46 : name_end] + extra
    end = bytearray(whole[name_end:])
    end[12:16] = struct.pack("<I", int.from_bytes(end[12:16], "little") + len(extra))
    return parts + bytes(end)


def _member(name: str, data: bytes = b"", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, data


def _make_tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in (_member(GOOD, _good()), *members):
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _tar_entry(name: str, data: bytes, members: dict[str, str] | None = None, refused: str = ""):
    expected = {} if refused else {GOOD: ACCEPTED, **(members or {})}
    file = name if ".t" in name else f"{name}.tar"
    return Archive(file, lambda path: _save(path, data), expected, refused)


def _tars() -> list[Archive]:
    png = encoded(picture(103), "PNG")
    nested = _make_tar(_member("inside.png", png))
    device = "a device or a pipe"
    kinds = {
        "link.png": (tarfile.SYMTYPE, LINK),
        "hard-link.png": (tarfile.LNKTYPE, LINK),
        "device.png": (tarfile.CHRTYPE, device),
        "disk.png": (tarfile.BLKTYPE, device),
        "pipe.png": (tarfile.FIFOTYPE, device),
    }
    special = [
        _member(name, type=kind, linkname="/etc/passwd") for name, (kind, _) in kinds.items()
    ]
    latin = _member(os.fsdecode(b"latin\xe9.png"), png)
    twice = _make_tar(_member("x.png", b"text"), _member("x.png", png))
    return [
        _tar_entry(
            "names", _make_tar(*(_member(n, png) for n in NAMES)), dict.fromkeys(NAMES, ACCEPTED)
        ),
        _tar_entry(
            "newline", _make_tar(_member("new\nline.png", png)), {"new\\x0aline.png": ACCEPTED}
        ),
        _tar_entry(
            "latin", _make_tar(latin, form=tarfile.GNU_FORMAT), {"latin\\xe9.png": ACCEPTED}
        ),
        _tar_entry(
            "special", _make_tar(*special), {name: reason for name, (_, reason) in kinds.items()}
        ),
        _tar_entry("twice", twice, {"x.png": ACCEPTED}),
        _tar_entry("nested", _make_tar(_member("nested.tar", nested))),
        _tar_entry("nested-as-image", _make_tar(_member("x.png", nested)), {"x.png": NOT_AN_IMAGE}),
        _tar_entry(
            "holes", _make_tar(_member("x.png", b"2" * 512, type=b"S")), {"x.png": "a sparse file"}
        ),
        _tar_entry("20000-entries", _make_tar(*(_member(f"{i}.txt") for i in range(20_000)))),
        _tar_entry("20000-tiny", _make_tar(*(_member(f"{i}.dat", b"1") for i in range(20_000)))),
        _tar_entry("no-end", _make_tar(_member("x.png", png))[: 1024 * 3], {"x.png": ACCEPTED}),
        _tar_entry("gz-by-another-name", gzip.compress(_make_tar()), {}),
    ]


def _broken_tars() -> list[Archive]:
    png = encoded(picture(104), "PNG")
    whole = _make_tar(_member("x.png", png), form=tarfile.USTAR_FORMAT)
    second = 1024

    def sized(size: int, offset: int = second) -> bytes:
        """Changes the size of the member at `offset`, in the base-256 encoding of GNU tar."""
        field = struct.pack(">Bxxxq", 0x80 if size >= 0 else 0xFF, size)
        field = field if size >= 0 else b"\xff" * 4 + field[4:]
        head = bytearray(whole[offset : offset + 512])
        head[124:136] = field
        return whole[:offset] + _with_checksum(head) + whole[offset + 512 :]

    def extended(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
        """A tar with an extended header before a member."""
        return _make_tar(_member("header", data, type=kind), _member("x.png", png))

    negative = b"22 size=-1048576000000\n"
    refused = {
        "empty": b"",
        "text": b"text" * 500,
        "cut-in-header": whole[: second + 100],
        "cut-in-file": whole[: second + 600],
        "broken-header": whole[: second + 10] + b"\xff" * 20 + whole[second + 30 :],
        "8-eb": sized(2**62),
        "negative": sized(-512),
        "negative-to-the-start": sized(-1536),
        "very-negative": sized(-(2**40)),
        "pax-negative": extended(negative),
        "pax-of-1-mb": extended(b"a" * 2**20),
        "pax-of-digits": extended(b"1" * 60_000),
        "pax-of-no-size": extended(b"13 size=none\n"),
        "2000-headers": _extended_headers(2000),
        "long-name-of-1-mb": extended(b"n" * 2**20, tarfile.GNUTYPE_LONGNAME),
    }
    return [_tar_entry(name, data, refused="cannot read") for name, data in refused.items()]


def _compressed_tars() -> list[Archive]:
    png = encoded(picture(105), "PNG")
    whole = _make_tar(_member("x.png", png))
    compressed = {
        "tar.gz": gzip.compress(whole),
        "tbz2": bz2.compress(whole),
        "txz": lzma.compress(whole),
    }
    entries = [
        _tar_entry(f"cut.{kind}", data[:-20], refused="cannot read")
        for kind, data in compressed.items()
    ]
    entries += [
        _tar_entry("wrong-crc.tgz", _flipped(compressed["tar.gz"]), refused="cannot read"),
        _tar_entry("zeros.tar.gz", gzip.compress(bytes(100_000_000)), refused="no image in"),
        _tar_entry(
            "400-mb-in-a-name.tar.gz", _bomb("x.txt", 400_000_000), refused="unpacks to more"
        ),
        _tar_entry(
            "400-mb-in-an-image.tar.gz", _bomb("x.png", 400_000_000), refused="unpacks to more"
        ),
        _tar_entry("100-mb-of-zeros.tar.gz", _bomb("x.png", 100_000_000), {"x.png": NOT_AN_IMAGE}),
        _tar_entry(
            "pax-of-300-mb.tar.gz", _bomb("x", 300_000_000, tarfile.XHDTYPE), refused="cannot read"
        ),
    ]
    return entries


def _with_checksum(head: bytearray) -> bytes:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _extended_headers(count: int) -> bytes:
    """A tar of consecutive extended headers, which a reader may follow recursively."""
    record = b"12 comment=\n".ljust(512, b"\0")
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 12
    head = info.tobuf(tarfile.USTAR_FORMAT)
    return (head + record) * count + _make_tar()


def _bomb(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A gzipped tar of a good image and a member of zeros, compressed once and repeated per MiB."""
    info, _ = _member(name, type=kind)
    info.size = size
    head, zeros, count = (
        _make_tar()[:1024] + info.tobuf(tarfile.GNU_FORMAT),
        bytes(2**20),
        size >> 20,
    )
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    begin = compressor.compress(head) + compressor.flush(zlib.Z_FULL_FLUSH)
    part = compressor.compress(zeros) + compressor.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(head)
    for _ in range(count + 1):
        crc = zlib.crc32(zeros, crc)
    trailer = struct.pack("<II", crc, len(head) + (count + 1) * len(zeros))
    mark = b"\x1f\x8b\x08" + bytes(7)
    return mark + begin + part * (count + 1) + compressor.flush() + trailer


def _flipped(data: bytes) -> bytes:
    return data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]


def _save(path: Path, data: bytes) -> None:
    path.write_bytes(data)
