"""What stands at the beginning of a JPEG file, and how to have libjpeg stop before its end."""

import dataclasses

START, END = b"\xff\xd8", b"\xff\xd9"

_EXIF = 0xE1
_FRAMES = 0xC0, 0xC1, 0xC2  # Huffman codes: baseline, extended, progressive
_SCAN = 0xDA


@dataclasses.dataclass(frozen=True)
class Header:
    """Attributes:
    exif: the first block of EXIF data, empty if there is none.
    height_at: which byte of the file is the first of the two that give the number of rows.
    """

    exif: bytes
    height_at: int

    def first_rows(self, encoded: bytes, rows: int) -> bytearray:
        """Returns the file with another number of rows in its header.

        A decoder stops after as many, which are those of the whole image, but for the last, where
        colours are subsampled. It skips what follows, with a warning.
        """
        shorter = bytearray(encoded)
        shorter[self.height_at : self.height_at + 2] = rows.to_bytes(2, "big")
        return shorter


def read_header(encoded: bytes) -> Header | None:
    """Returns None for what is no JPEG, is damaged before its first scan, or of a rare kind."""
    if not encoded.startswith(START):
        return None
    exif, height_at, at = b"", None, 2
    try:
        while encoded[at] == 0xFF:
            kind = encoded[at + 1]
            if kind == 0xFF:  # any number of these may come before a segment
                at += 1
                continue
            if kind == _SCAN:
                return None if height_at is None else Header(exif, height_at)
            end = at + 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
            if kind in _FRAMES:
                height_at = at + 5
            elif kind == _EXIF and not exif and encoded.startswith(b"Exif\0\0", at + 4):
                exif = encoded[at + 4 : end]
            at = end
    except IndexError:
        pass
    return None
