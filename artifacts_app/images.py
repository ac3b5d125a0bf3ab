"""How large a picture says it is, read from its header alone: no decoder comes near it.

Not by Pillow, which is lazy but not safe here: it inflates notes that come first, wants all of a WebP and makes room
for it, and reads a JPEG up to its first scan.
"""

from __future__ import annotations

from struct import error, unpack_from

#: Frame headers, SOF0..SOF15, without DHT, JPG and DAC (ITU-T T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def pixels(start: bytes) -> int | None:
    """Width x height that a PNG, JPEG, GIF or WebP declares in its first bytes.

    None where it is none of them, or says so only further on, as a JPEG may behind its notes: 64 KiB of them are
    usual. What shows pictures had better not show those, since what is not seen may be of any size.
    """
    try:
        width, height = _size(start)
    except error:  # the bytes end before it
        return None
    return width * height


def _size(start: bytes) -> tuple[int, int]:
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return unpack_from(">16x2I", start)
    if start.startswith((b"GIF87a", b"GIF89a")):
        return _gif(start)
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return _webp(start)
    if start.startswith(b"\xff\xd8\xff"):
        return _jpeg(start)
    raise error


def _gif(start: bytes) -> tuple[int, int]:
    """The screen, or the first frame where that is larger: browsers draw all of it (GIF89a, sections 18 and 20)."""
    width, height, flags = unpack_from("<6x2HB", start)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while start[at : at + 1] == b"!":
        at += 2
        while block := unpack_from("B", start, at)[0]:
            at += 1 + block
        at += 1
    introducer, left, top, *frame = unpack_from("<B4H", start, at)
    if introducer != ord(","):
        raise error
    return max(width, left + frame[0]), max(height, top + frame[1])


def _webp(start: bytes) -> tuple[int, int]:
    """Of the three kinds of WebP (RFC 9649, sections 2.5 to 2.7)."""
    kind = start[12:16]
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = unpack_from("<24xHBHB", start)
        return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    if kind == b"VP8L":
        bits = unpack_from("<21xI", start)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = unpack_from("<26x2H", start)
        return width & 0x3FFF, height & 0x3FFF
    raise error


def _jpeg(start: bytes) -> tuple[int, int]:
    """Of the first frame header, from segment to segment, since a thumbnail within one has such a header too."""
    at = 2
    while True:
        at = start.find(b"\xff", at)
        if at < 0:
            raise error
        marker = unpack_from("xB", start, at)[0]
        if marker in _FRAMES:
            height, width = unpack_from(">5x2H", start, at)
            return width, height
        if marker in (0x00, 0xFF):
            at += 1
        else:
            at += 2 if marker in _STANDALONE else 2 + unpack_from(">2xH", start, at)[0]
