"""Headers of JPEG files, and decoding that stops early."""

import io
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from flaxzoo.data.jpeg import read_header
from flaxzoo.data.random_crop import random_resized_crop, random_resized_crop_of_file
from flaxzoo.data.transforms import decode

HEIGHT, WIDTH = 61, 43


def file(**options) -> bytes:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x * 5 + y, y * 4 - x, 99 + 80 * np.sin(x * y / 99)], 2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(options.pop("mode", "RGB")).save(buffer, "JPEG", **options)
    return buffer.getvalue()


FILES = {
    "4:4:4": file(subsampling=0, quality=95),
    "4:2:2": file(subsampling=1, quality=95),
    "4:2:0": file(subsampling=2, quality=95),
    "grey": file(mode="L"),
    "progressive": file(progressive=True, subsampling=2),
    "restart markers": file(restart_marker_rows=1),
}


@pytest.mark.parametrize("size", [64, 9])
@pytest.mark.parametrize("kind", FILES)
def test_a_box_has_its_pixels_wherever_it_ends(monkeypatch, kind, size):
    """At 9 pixels, libjpeg decodes a quarter, and rows are those of the quarter of it all."""
    shapes = []
    whole = decode(FILES[kind])
    original = simplejpeg.decode_jpeg
    scaled: Any = {"min_height": -(-HEIGHT // 4), "min_width": -(-WIDTH // 4)} if size == 9 else {}
    n = 4 if scaled else 1
    expected = original(FILES[kind], "RGB", **scaled) if scaled else whole

    def spy(*args, **options):
        shapes.append((found := original(*args, **options)).shape[0])
        np.testing.assert_array_equal(found[:-2], expected[: len(found) - 2])
        return found

    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    for height in range(36, HEIGHT - 2 * n):
        monkeypatch.setattr(
            "flaxzoo.data.random_crop.random_box", lambda *_, h=height: (0, 0, h, WIDTH)
        )
        crop = random_resized_crop_of_file(FILES[kind], size, np.random.default_rng(0))
        assert crop.shape == (size, size, 3)
    assert shapes == [
        -(-h // n) + 2 if -(-h // n) * n + 2 * n < HEIGHT else len(expected)
        for h in range(36, HEIGHT - 2 * n)
    ]


@pytest.mark.parametrize("cut", [2, 300])
def test_a_file_without_its_end_is_refused_whatever_its_box(monkeypatch, cut):
    monkeypatch.setattr("flaxzoo.data.random_crop.random_box", lambda *_: (0, 0, 8, 8))
    with pytest.raises(Exception, match="cannot read image photo"):
        random_resized_crop_of_file(
            FILES["4:4:4"][:-cut], 8, np.random.default_rng(0), name="photo"
        )


def test_damage_gives_the_pixels_that_pillow_gives(monkeypatch):
    damaged = bytearray(FILES["4:4:4"])
    damaged[-900:-898] = b"\xff\xd3"
    box = 0, 0, 50, WIDTH
    monkeypatch.setattr("flaxzoo.data.random_crop.random_box", lambda *_: box)
    crop = random_resized_crop_of_file(bytes(damaged), 64, np.random.default_rng(0))
    whole, damaged = (decode(bytes(f)) for f in (FILES["4:4:4"], damaged))
    assert (damaged[:50] != whole[:50]).any()
    pillows = random_resized_crop(damaged, 64, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, pillows)


# ----------------------------------------------------------------------------------------- headers


def segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2, "big") + content


FRAME = segment(0xC0, b"\x08" + bytes([0, HEIGHT, 0, WIDTH, 1, 1, 0x11, 0]))
SCAN = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")


def test_exif_is_found_behind_other_segments_of_its_kind():
    xmp, exif = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"), segment(0xE1, b"Exif\0\0II*\0")
    again = segment(0xE1, b"Exif\0\0MM\0*")
    header = read_header(b"\xff\xd8" + xmp + b"\xff\xff" + exif + again + FRAME + SCAN)
    assert header is not None
    assert header.exif == b"Exif\0\0II*\0"


def test_exif_in_the_pixels_is_none():
    header = read_header(FILES["grey"] + segment(0xE1, b"Exif\0\0II*\0"))
    assert header is not None
    assert header.exif == b""


def test_the_height_is_where_the_header_says():
    for encoded in FILES.values():
        header = read_header(encoded)
        assert header is not None
        assert int.from_bytes(encoded[header.height_at :][:2], "big") == HEIGHT
        with Image.open(io.BytesIO(header.first_rows(encoded, 300))) as image:
            assert image.size == (WIDTH, 300)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n",
        b"\xff\xd8" + FRAME,  # ends before its scan
        b"\xff\xd8" + SCAN,
        b"\xff\xd8" + FRAME.replace(b"\xc0", b"\xc9") + SCAN,  # arithmetic codes
        b"\xff\xd8" + FRAME + b"rubbish" + SCAN,
    ],
)
def test_without_a_complete_header_there_is_none(encoded):
    assert read_header(encoded) is None
