"""Decoding of odd files, and crops whose pixels are those of a resize followed by a crop."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from flaxzoo.data.transforms import center_crop, decode, random_resized_crop, resize
from flaxzoo.errors import UserError


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, order: str = "<") -> bytes:
    header = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + header + struct.pack(order + "IH", 8, 1) + entry + b"\0" * 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb_or_luminance(mode, channels):
    image = Image.fromarray(noise(6, 5)).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    decoded = decode(encoded(image, kind), channels)
    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(6, 5, channels)
    np.testing.assert_array_equal(decoded, expected)


def test_sixteen_bit_grey_keeps_its_high_byte():
    deep = np.array([[0, 255, 256, 65535]], np.uint16)
    decoded = decode(encoded(Image.fromarray(deep)), channels=1)
    assert decoded.ravel().tolist() == [0, 0, 1, 255]


def test_a_transparent_palette_decodes_without_a_warning():
    image = Image.fromarray(noise(4, 4)).convert("P")
    assert decode(encoded(image, transparency=bytes(range(256)))).shape == (4, 4, 3)


def test_floating_point_pixels_are_refused():
    image = Image.fromarray(np.zeros((2, 2), np.float32))
    with pytest.raises(UserError, match="floating-point pixels"):
        decode(encoded(image, "TIFF"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation, order):
    from PIL import ImageOps

    file = encoded(Image.fromarray(noise(8, 16)), exif=exif(orientation, order))
    with Image.open(io.BytesIO(file)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode(file), expected)


@pytest.mark.parametrize("block", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"x"])
def test_a_broken_exif_block_is_ignored(block):
    pixels = noise(3, 4)
    file = encoded(Image.fromarray(pixels), exif=block)
    np.testing.assert_array_equal(decode(file), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_a_truncated_file_is_named(tmp_path, kind):
    whole = encoded(Image.fromarray(noise(64, 64)), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"cannot read image .*{path.name}: "):
        decode(path)


def test_an_empty_file_is_no_image(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(UserError, match=r"empty\.jpg: not an image"):
        decode(tmp_path / "empty.jpg")


def test_bytes_are_called_what_the_caller_calls_them():
    with pytest.raises(UserError, match=r"cannot read image shard\[3\]: not an image"):
        decode(b"", name="shard[3]")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(50, 80), (81, 47), (40, 40), (20, 500)])
def test_center_crop_is_resize_then_crop(height, width, channels):
    image = noise(height, width, channels)
    short = min(height, width)
    size = (int(36 * width / short), int(36 * height / short))
    whole = resized(image, size)
    top, left = round((size[1] - 32) / 2), round((size[0] - 32) / 2)
    expected = whole[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(center_crop(image, 32, resize=36), expected)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    whole = Image.fromarray(image.squeeze()).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(whole).reshape(*whole.size[::-1], image.shape[2])


def test_center_crop_of_a_size_that_fits_only_cuts():
    image = noise(20, 31)
    np.testing.assert_array_equal(center_crop(image, 16, resize=20), image[2:18, 8:24])


def test_center_crop_never_pads():
    with pytest.raises(UserError, match="cannot cut 32 pixels from images resized to 31"):
        center_crop(noise(50, 50), 32, resize=31)


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows_and_skips_what_fits(channels):
    image = noise(9, 30, channels)
    np.testing.assert_array_equal(resize(image, 12), resized(image, (12, 12)))
    square = noise(12, 12, channels)
    assert resize(square, 12) is square


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
