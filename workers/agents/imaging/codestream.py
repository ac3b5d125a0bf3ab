"""The few bytes of a JPEG, JPEG-LS or JPEG 2000 codestream that must be trusted before a decoder sees it.

A codestream declares a size of its own, which is found here wherever a decoder might, and two kinds of damage that
leave no doubt about the intended value are undone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_START = b"\xff\xd8"
#: Marker, length, precision, rows, columns and components of SOF0..SOF15 without DHT, JPG and DAC, of DHP (ITU-T T.81
#: table B.1), and of SOF55 (JPEG-LS, ITU-T T.87). What is coded cannot hold such a marker.
_FRAME_HEADER = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xde\xf7](..)[\x02-\x10](..)(..)(.)", re.DOTALL)
#: What a header leaves open is said after it (DNL, ITU-T T.81 B.2.5; LSE, T.87 C.2.4.1.4), and is this many at most.
_MOST = 0xFFFF
_SEQUENTIAL_DCT = frozenset({0xC0, 0xC1})
_START_OF_SCAN = 0xDA
_SCAN = bytes((0xFF, _START_OF_SCAN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Rows, columns and components the codestream declares."""

    rows: int
    columns: int
    components: int = 1

    @property
    def samples(self) -> int:
        """How many numbers a decoder makes of it."""
        return self.rows * self.columns * self.components


def declared_size(stream: bytes) -> Size | None:
    """The largest size a JPEG, JPEG-LS or JPEG 2000 codestream declares; None where it declares none.

    It is looked for everywhere, since decoders skip what stands between the segments: nothing hides a second one.
    """
    found = [_j2k_size(stream, match.start()) for match in re.finditer(re.escape(_J2K_START), stream)]
    return max(found + _jpeg_sizes(stream), key=lambda size: size.samples, default=None)


def scan_count(stream: bytes) -> int:
    """How many scans a JPEG has, or a few more: each is a pass over all of its pixels, for as little as 10 bytes."""
    return stream.count(_SCAN)


def mended(stream: bytes, *, rows: int, columns: int) -> tuple[bytes, str | None]:
    """The codestream, repaired where its header contradicts DICOM beyond doubt, and a note of what was done.

    * JPEG 2000 whose size exceeds what DICOM can hold (65535, PS3.3 C.7.6.3.1) but agrees with the dataset in its low
      16 bits: the high bits are damage.
    * A sequential JPEG scan must select coefficients 0..63 (ITU-T T.81 B.2.3); some writers put 0..0.
    """
    if stream.startswith(_J2K_START):
        return _mend_j2k_size(stream, rows=rows, columns=columns)
    if stream.startswith(_JPEG_START):
        return _mend_sequential_scan(stream)
    return stream, None


def _j2k_size(stream: bytes, at: int) -> Size:
    x1, y1, x0, y0 = (_u32(stream, at + 8 + 4 * i) for i in range(4))
    return Size(rows=max(0, y1 - y0), columns=max(0, x1 - x0), components=_u16(stream, at + 40))


def _jpeg_sizes(stream: bytes) -> list[Size]:
    sizes: list[Size] = []
    for match in _FRAME_HEADER.finditer(stream):
        length, rows, columns, components = (int.from_bytes(group, "big") for group in match.groups())
        if length == 8 + 3 * components:
            sizes.append(Size(rows=rows or _MOST, columns=columns or _MOST, components=components))
    return sizes


def _mend_j2k_size(stream: bytes, *, rows: int, columns: int) -> tuple[bytes, str | None]:
    x1, y1, x0, y0 = (_u32(stream, 8 + 4 * i) for i in range(4))
    damaged = x1 > 0xFFFF or y1 > 0xFFFF
    if not damaged or (x0, y0) != (0, 0) or (x1 & 0xFFFF, y1 & 0xFFFF) != (columns, rows):
        return stream, None
    size = b"\0\0" + columns.to_bytes(4, "big") + rows.to_bytes(4, "big")
    return stream[:6] + size + stream[16:], "codestream_size_mended"


def _mend_sequential_scan(stream: bytes) -> tuple[bytes, str | None]:
    sequential = False
    for marker, start in _segments(stream):
        sequential = sequential or marker in _SEQUENTIAL_DCT
        if marker == _START_OF_SCAN and sequential:
            selection = start + 3 + 2 * stream[start + 2]
            if stream[selection : selection + 2] == b"\0\0":
                return stream[: selection + 1] + b"\x3f" + stream[selection + 2 :], "codestream_scan_mended"
            return stream, None
    return stream, None


def _segments(stream: bytes) -> list[tuple[int, int]]:
    """(marker, offset of its length field) of each JPEG segment up to the first scan."""
    found: list[tuple[int, int]] = []
    at = 2 if stream.startswith(_JPEG_START) else len(stream)
    while at + 9 < len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        found.append((marker, at + 2))
        if marker == _START_OF_SCAN:
            break
        at += 2 + _u16(stream, at + 2)
    return found


def _u16(stream: bytes, at: int) -> int:
    return int.from_bytes(stream[at : at + 2], "big")


def _u32(stream: bytes, at: int) -> int:
    return int.from_bytes(stream[at : at + 4], "big")
