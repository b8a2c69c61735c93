"""Archives that are bad as a whole or have bad members, each with a good image where it can."""

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

from tests.corpus.entries import ARRIVES, Archive
from tests.corpus.pictures import PNG, encoded, ihdr, picture

LINK = "a link, which is not followed"
GOOD = "good.png"
ONLY_GOOD = {GOOD: ARRIVES}
NAMES = ("../out.png", "../../../../etc/out.png", "/etc/out.png", "C:\\out.png", "a/../../b.png")


@functools.cache
def archives() -> list[Archive]:
    """All archives."""
    return [*_zips(), *_broken_zips(), *_tars(), *_broken_tars(), *_packed_tars()]


def _good() -> bytes:
    return encoded(picture(100), "PNG")


def _zipped(*members: tuple[str | zipfile.ZipInfo, bytes], packing: int = zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr(GOOD, _good())
        for name, data in members:
            archive.writestr(name, data, packing)
    return buffer.getvalue()


def _zip(name: str, data: bytes, members: dict[str, str] | None = None, refused: str = ""):
    found = {} if refused else {GOOD: ARRIVES, **(members or {})}
    return Archive(f"{name}.zip", lambda path: _save(path, data), found, refused)


def _zips() -> list[Archive]:
    png = encoded(picture(101), "PNG")
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    nested = _zipped(("inside.png", png))
    for _ in range(20):
        nested = _zipped(("nested.zip", nested))
    zeros = bytes(60_000_000)
    flat, folded = (_one_in_many(count, png) for count in (5000, 2))
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    bombs = [
        _zip(
            f"100-mb-of-zeros-{method}", _zipped(("x.png", zeros), packing=method), {"x.png": NONE}
        )
        for method in methods
    ]
    marked = PNG + ihdr(2, 2) + zeros
    bombs += [
        _zip(f"png-of-60-mb-{m}", _zipped(("x.png", marked), packing=m), {"x.png": "20,000 chunks"})
        for m in methods[:2]
    ]
    return [
        _zip("names", _zipped(*((name, png) for name in NAMES)), dict.fromkeys(NAMES, ARRIVES)),
        _zip("newline", _zipped(("new\nline.png", png)), {"new\\x0aline.png": ARRIVES}),
        _zip("long-name", _zipped(("n" * 60_000 + ".png", png)), {"n" * 60_000 + ".png": ARRIVES}),
        _zip("zero-in-name", _zipped(("x.png\0.txt", png)), {"x.png": ARRIVES}),
        _zip("link", _zipped((link, b"/etc/passwd")), {"link.png": LINK}),
        _zip("folder", _zipped(("folder.png/", b"")), {}),
        _zip("nested", nested, {}),
        _zip("nested-as-image", _zipped(("nested.png", nested)), {"nested.png": NONE}),
        _zip("100000-entries", _many(100_000), {}),
        Archive("one-in-5000.zip", lambda path: _save(path, flat), _all_overlap(5000)),
        Archive("one-in-2.zip", lambda path: _save(path, folded), _all_overlap(2)),
        *bombs,
    ]


NONE = "not a PNG, JPEG, BMP, GIF or WebP image"
OVERLAPS = "overlaps another member"


def _all_overlap(count: int) -> dict[str, str]:
    return {f"{i}.png": OVERLAPS for i in range(count)}


def _many(count: int) -> bytes:
    """A good image and many empty files, put together by hand: zipfile takes seconds."""
    with zipfile.ZipFile(io.BytesIO(_zipped())) as archive:
        start = archive.start_dir
    whole = _zipped()
    local, central = [whole[:start]], [whole[start : whole.index(b"PK\5\6")]]
    at = start
    for i in range(count):
        name = b"%06d.txt" % i
        common = struct.pack("<HHHHIIIHH", 0, 0, 0, 0, 0, 0, 0, len(name), 0)
        local.append(b"PK\3\4\x14\0" + common + name)
        central.append(
            b"PK\1\2\x14\0\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, at) + name
        )
        at += len(local[-1])
    directory = b"".join(central)
    # So many are counted in the form for large archives only.
    end = struct.pack(
        "<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, *[count + 1] * 2, len(directory), at
    )
    locator = struct.pack("<IIQI", 0x07064B50, 0, at + len(directory), 1)
    last = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, len(directory), at, 0)
    return b"".join([*local, directory, end, locator, last])


def _one_in_many(count: int, png: bytes) -> bytes:
    """Many names for the same bytes: a bomb where these unpack to much."""
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
    whole = _zipped(("x.png", png))
    directory = whole.index(b"PK\1\2")
    second = whole.index(b"PK\1\2", directory + 1)
    end = whole.index(b"PK\5\6")

    def changed(at: int, data: bytes) -> bytes:
        return whole[:at] + data + whole[at + len(data) :]

    def member(at: int, data: bytes, why: str, name: str) -> Archive:
        return _zip(name, changed(second + at, data), {"x.png": why})

    far = struct.pack("<I", 2**31)
    unread = "cannot be read from the archive"
    return [
        _zip("empty-file", b"", refused="cannot open"),
        _zip("no-members", b"PK\5\6" + bytes(18), refused="no image in"),
        _zip("html", b"<html>", refused="cannot open"),
        _zip("cut-in-directory", whole[: directory + 20], refused="cannot open"),
        _zip("cut-in-end", whole[:-5], refused="cannot open"),
        _zip("directory-of-4-gb", changed(end + 12, b"\xff" * 4), refused="cannot open"),
        _zip("directory-nowhere", changed(end + 16, far), refused="cannot open"),
        _zip("broken-directory", changed(directory, b"XXXX"), refused="cannot open"),
        _zip("version-99", changed(directory + 6, b"\x63"), refused="cannot open"),
        member(8, b"\1", "encrypted", "encrypted"),
        member(10, b"\x63", unread, "method-99"),
        member(16, b"\0\0\0\0", "CRC", "wrong-crc"),
        member(24, b"\xff\xff\xff\x7f", "more than the limit", "claims-2-gb"),
        member(24, b"\xff\xff\0\0", unread, "claims-64-kb"),
        member(42, far, unread, "begins-nowhere"),
        member(42, b"\0\0\0\0", OVERLAPS, "begins-in-the-first")._replace(
            members={GOOD: OVERLAPS, "x.png": OVERLAPS}
        ),
        # Its name becomes its comment.
        _zip("no-name", changed(second + 28, b"\0\0\0\0\5\0"), {}),
        _zip("bad-utf-8", _marked_utf8(whole, second), refused="cannot open"),
        _zip("zip64-lies", _zip64(whole, second), refused="cannot open"),
        Archive("pipe.zip", os.mkfifo, refused="not a regular file"),
    ]


def _marked_utf8(whole: bytes, at: int) -> bytes:
    name = at + 46
    return whole[: at + 8] + b"\0\x08" + whole[at + 10 : name] + b"\xff" + whole[name + 1 :]


def _zip64(whole: bytes, at: int) -> bytes:
    """A member whose sizes stand in an extra field that is too short for them."""
    extra = struct.pack("<HHI", 1, 4, 7)
    head = bytearray(whole[at : at + 46])
    head[20:28] = b"\xff" * 8
    head[30:32] = struct.pack("<H", len(extra))
    name_end = at + 46 + len("x.png")
    parts = whole[:at] + bytes(head) + whole[at + 46 : name_end] + extra
    end = bytearray(whole[name_end:])
    end[12:16] = struct.pack("<I", int.from_bytes(end[12:16], "little") + len(extra))
    return parts + bytes(end)


def _member(name: str, data: bytes = b"", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, data


def _tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in (_member(GOOD, _good()), *members):
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _tar(name: str, data: bytes, members: dict[str, str] | None = None, refused: str = ""):
    found = {} if refused else {GOOD: ARRIVES, **(members or {})}
    file = name if ".t" in name else f"{name}.tar"
    return Archive(file, lambda path: _save(path, data), found, refused)


def _tars() -> list[Archive]:
    png = encoded(picture(103), "PNG")
    nested = _tarred(_member("inside.png", png))
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
    twice = _tarred(_member("x.png", b"text"), _member("x.png", png))
    return [
        _tar("names", _tarred(*(_member(n, png) for n in NAMES)), dict.fromkeys(NAMES, ARRIVES)),
        _tar("newline", _tarred(_member("new\nline.png", png)), {"new\\x0aline.png": ARRIVES}),
        _tar("latin", _tarred(latin, form=tarfile.GNU_FORMAT), {"latin\\xe9.png": ARRIVES}),
        _tar("special", _tarred(*special), {name: why for name, (_, why) in kinds.items()}),
        _tar("twice", twice, {"x.png": ARRIVES}),
        _tar("nested", _tarred(_member("nested.tar", nested))),
        _tar("nested-as-image", _tarred(_member("x.png", nested)), {"x.png": NONE}),
        _tar("holes", _tarred(_member("x.png", b"2" * 512, type=b"S")), {"x.png": "with holes"}),
        _tar("20000-entries", _tarred(*(_member(f"{i}.txt") for i in range(20_000)))),
        _tar("no-end", _tarred(_member("x.png", png))[: 1024 * 3], {"x.png": ARRIVES}),
        _tar("gz-by-another-name", gzip.compress(_tarred()), {}),
    ]


def _broken_tars() -> list[Archive]:
    png = encoded(picture(104), "PNG")
    whole = _tarred(_member("x.png", png), form=tarfile.USTAR_FORMAT)
    second = 1024

    def sized(size: int, at: int = second) -> bytes:
        """The member at `at` with another size, in base 256 as GNU has it."""
        field = struct.pack(">Bxxxq", 0x80 if size >= 0 else 0xFF, size)
        field = field if size >= 0 else b"\xff" * 4 + field[4:]
        head = bytearray(whole[at : at + 512])
        head[124:136] = field
        return whole[:at] + _summed(head) + whole[at + 512 :]

    def long(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
        """An extended header before a member."""
        return _tarred(_member("header", data, type=kind), _member("x.png", png))

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
        "pax-negative": long(negative),
        "pax-of-1-mb": long(b"a" * 2**20),
        "pax-of-digits": long(b"1" * 60_000),
        "pax-of-no-size": long(b"13 size=none\n"),
        "2000-headers": _chain(2000),
        "long-name-of-1-mb": long(b"n" * 2**20, tarfile.GNUTYPE_LONGNAME),
    }
    return [_tar(name, data, refused="cannot read") for name, data in refused.items()]


def _packed_tars() -> list[Archive]:
    png = encoded(picture(105), "PNG")
    whole = _tarred(_member("x.png", png))
    packed = {
        "tar.gz": gzip.compress(whole),
        "tbz2": bz2.compress(whole),
        "txz": lzma.compress(whole),
    }
    found = [
        _tar(f"cut.{kind}", data[:-20], refused="cannot read") for kind, data in packed.items()
    ]
    found += [
        _tar("wrong-crc.tgz", _flipped(packed["tar.gz"]), refused="cannot read"),
        _tar("zeros.tar.gz", gzip.compress(bytes(100_000_000)), refused="no image in"),
        _tar("400-mb-in-a-name.tar.gz", _bomb("x.txt", 400_000_000), refused="unpacks to more"),
        _tar("400-mb-in-an-image.tar.gz", _bomb("x.png", 400_000_000), refused="unpacks to more"),
        _tar("100-mb-of-zeros.tar.gz", _bomb("x.png", 100_000_000), {"x.png": NONE}),
        _tar(
            "pax-of-300-mb.tar.gz", _bomb("x", 300_000_000, tarfile.XHDTYPE), refused="cannot read"
        ),
    ]
    return found


def _summed(head: bytearray) -> bytes:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _chain(count: int) -> bytes:
    """Extended headers one after the other, which a reader may follow by calling itself."""
    record = b"12 comment=\n".ljust(512, b"\0")
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 12
    head = info.tobuf(tarfile.USTAR_FORMAT)
    return (head + record) * count + _tarred()


def _bomb(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A good image and a member of zeros in a gz, of which each MiB is compressed alike."""
    info, _ = _member(name, type=kind)
    info.size = size
    head, zeros, count = _tarred()[:1024] + info.tobuf(tarfile.GNU_FORMAT), bytes(2**20), size >> 20
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = zlib.crc32(head)
    for _ in range(count + 1):
        crc = zlib.crc32(zeros, crc)
    trailer = struct.pack("<II", crc, len(head) + (count + 1) * len(zeros))
    mark = b"\x1f\x8b\x08" + bytes(7)
    return mark + begin + part * (count + 1) + packer.flush() + trailer


def _flipped(data: bytes) -> bytes:
    return data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]


def _save(path: Path, data: bytes) -> None:
    path.write_bytes(data)
