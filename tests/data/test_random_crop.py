"""Random crops: where boxes lie; pixels that are Pillow's, whatever decodes and resizes them."""

import functools
import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from flaxzoo import data
from flaxzoo.data import random_crop
from flaxzoo.data.random_crop import random_resized_crop, random_resized_crop_of_file
from flaxzoo.data.stream import train_batches
from flaxzoo.data.transforms import decode
from flaxzoo.errors import UserError


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@functools.cache
def photograph(height: int, width: int, channels: int = 3) -> Image.Image:
    """Waves of a few pixels and more, which JPEG keeps."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + c) + c) + np.cos(y / (9 - c)) * np.sin(x * y / 999) for c in range(3)]
    pixels = (np.stack(waves[:channels], 2) * 60 + 128).astype(np.uint8)
    return Image.fromarray(pixels.squeeze())


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


FILES = {
    "colour": (encoded(photograph(90, 131), quality=90), 3),
    "subsampled": (encoded(photograph(90, 131), subsampling=2), 3),
    "portrait": (encoded(photograph(133, 71)), 3),
    "grey": (encoded(photograph(90, 131, 1)), 3),
    "luminance": (encoded(photograph(90, 131, 1)), 1),
    "luminance of colours": (encoded(photograph(90, 131)), 1),
    "progressive": (encoded(photograph(90, 131), progressive=True), 3),
    "CMYK": (encoded(photograph(90, 131).convert("CMYK")), 3),
    "stored as RGB": (encoded(photograph(90, 131), keep_rgb=True), 3),
    "turned": (encoded(photograph(90, 131), exif=exif(6)), 3),
    "with EXIF": (encoded(photograph(90, 131), exif=exif(1)), 3),
    "PNG": (encoded(photograph(90, 131), "PNG"), 3),
    "tiny": (encoded(photograph(1, 2)), 3),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_crop_of_a_file_is_that_of_its_pixels(kind):
    """With boxes less than twice the size, nothing is decoded in part."""
    file, channels = FILES[kind]
    crop = random_resized_crop_of_file(file, 66, rng(), channels)
    expected = random_resized_crop(decode(file, channels), 66, rng())
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [(24, (32, 48)), (50, (64, 96)), (100, (127, 191)), (200, (253, 381))],
)
def test_large_boxes_are_decoded_in_part(monkeypatch, size, decoded):
    """Almost all of 253 x 381 pixels: an eighth, a quarter, a half or all, if `size` remain."""
    shapes = []

    def spy(*args, **options):
        shapes.append((found := simplejpeg_decode(*args, **options)).shape[:2])
        return found

    simplejpeg_decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(random_crop.simplejpeg, "decode_jpeg", spy)
    monkeypatch.setattr(random_crop, "_SCALE", (1.0, 1.0))
    y, x = np.mgrid[:253, :381]
    waves = [np.sin(x / (40 + c) + c) + np.cos(y / (60 - c)) for c in range(3)]
    smooth = Image.fromarray((np.stack(waves, 2) * 60 + 128).astype(np.uint8))
    file = encoded(smooth, quality=95, subsampling=0)
    crop = random_resized_crop_of_file(file, size, rng())
    whole = random_resized_crop(decode(file), size, rng(), scale=(1.0, 1.0))
    assert shapes == [decoded]
    assert np.abs(crop.astype(int) - whole).max() <= 8  # a shift by half a pixel would be 12


def test_a_crop_outlives_the_next_one(monkeypatch):
    """Both are the whole image, which is decoded into memory that is used again."""
    monkeypatch.setattr(random_crop, "random_box", lambda *_: (0, 0, 16, 16))
    files = [encoded(photograph(16, 16, channels)) for channels in (3, 1)]
    crops = [random_resized_crop_of_file(file, 16, rng()) for file in files]
    for file, crop in zip(files, crops, strict=True):
        np.testing.assert_array_equal(crop, decode(file))


def test_what_simplejpeg_refuses_is_left_to_pillow():
    """A JPEG with rubbish in its middle: libjpeg warns, and Pillow delivers what there is."""
    file = bytearray(encoded(photograph(120, 120), quality=95))
    file[len(file) // 2 : len(file) // 2 + 2] = b"\xff\xd3"
    with pytest.raises(ValueError):  # noqa: PT011
        simplejpeg.decode_jpeg(bytes(file), "RGB")
    crop = random_resized_crop_of_file(bytes(file), 66, rng())
    np.testing.assert_array_equal(crop, random_resized_crop(decode(bytes(file)), 66, rng()))


@pytest.mark.parametrize("length", [0, 10, 700])
def test_a_file_cut_short_is_named(length):
    file = encoded(photograph(90, 131))
    assert len(file) > 1000
    with pytest.raises(UserError, match=r"cannot read image shard\[3\]: "):
        random_resized_crop_of_file(file[:length], 8, rng(), name="shard[3]")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(90, 131), (30, 45), (20, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_pillows_to_one_grey_level(monkeypatch, height, width, channels, interpolation):
    pytest.importorskip("cykooz_resizer", reason="has no wheel here: Pillow resizes")
    image = np.asarray(photograph(height, width, channels)).reshape(height, width, channels)
    crop = random_resized_crop(image, 40, rng(), interpolation=interpolation)
    monkeypatch.setattr(random_crop, "simd", None)
    expected = random_resized_crop(image, 40, rng(), interpolation=interpolation)
    assert np.abs(crop.astype(int) - expected).max() <= 1


def test_without_simd_the_pixels_are_pillows(monkeypatch):
    monkeypatch.setattr(random_crop, "simd", None)
    image = np.asarray(photograph(90, 131))
    top, left, height, width = random_crop.random_box(90, 131, rng(), (0.08, 1.0), (3 / 4, 4 / 3))
    box = Image.fromarray(image).crop((left, top, left + width, top + height))
    expected = np.asarray(box.resize((40, 40), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(random_resized_crop(image, 40, rng()), expected)


def test_threads_and_processes_crop_alike(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(4):
            photograph(120 + i, 150).save(tmp_path / label / f"{i}.jpg")
    split = data.load(f"folder={tmp_path}", validation=0).train
    streams = []
    for workers in (0, 2):
        options = {"seed": 0, "batch_size": 4, "image_size": 16, "num_steps": 4}
        with train_batches(split, workers=workers, interpolation="bicubic", **options) as batches:
            streams.append(np.stack([batch["image"] for batch in batches]))
    np.testing.assert_array_equal(*streams)


def test_random_crops_lie_within_scale_and_ratio():
    """A ramp tells where each crop was: its mean is the centre, its range the size."""
    ramp = np.arange(200, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:160, None], ramp[None], np.uint8(0)), axis=2)
    rng = np.random.default_rng(0)
    crops = np.stack([random_resized_crop(image, 64, rng) for _ in range(300)]).astype(float)
    # Of a ramp over s pixels, the outermost of 64 samples are s * 63 / 64 apart.
    height = (crops[:, -1, 0, 0] - crops[:, 0, 0, 0]) * 64 / 63
    width = (crops[:, 0, -1, 1] - crops[:, 0, 0, 1]) * 64 / 63
    area, ratio = height * width / (160 * 200), width / height
    assert 0.07 < area.min() < 0.1
    assert 0.9 < area.max() < 1.05
    assert 0.70 < ratio.min() < 0.8
    assert 1.27 < ratio.max() < 1.4
    center = crops[:, :, :, 1].mean((1, 2)) / 199
    assert center.min() < 0.3
    assert center.max() > 0.7


def test_an_extreme_shape_falls_back_to_the_largest_central_box():
    image = np.zeros((10, 200, 3), np.uint8)
    image[:, 94:107] = 255  # 13 = round(10 * 4 / 3) wide
    crop = random_resized_crop(image, 8, np.random.default_rng(0), scale=(1.0, 1.0))
    assert crop.shape == (8, 8, 3)
    assert crop[:, 1:].min() == 255


def test_a_random_crop_is_a_function_of_its_generator():
    crops = [random_resized_crop(noise(50, 60), 16, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(*crops)


def test_a_jpeg_that_claims_gigabytes_is_not_decoded(monkeypatch):
    file = encoded(photograph(9, 11)).replace(b"\x08\x00\x09\x00\x0b", b"\x08\xff\xff\xff\xff")
    monkeypatch.setattr(random_crop, "_decode", None)
    with pytest.raises(UserError, match=r"cannot read image a\.jpg: .*exceeds limit"):
        random_resized_crop_of_file(file, 8, rng(), 3, name="a.jpg")
