"""Decoding of odd files, crops of the centre, and what published weights expect of images."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from flaxzoo import model_info
from flaxzoo.data.transforms import INTERPOLATIONS, center_crop, decode, evaluation, resize
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


def test_an_image_that_pillow_would_start_a_program_for_is_refused():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    Image.open(io.BytesIO(postscript))  # Pillow knows it
    with pytest.raises(UserError, match="cannot read image image: not an image"):
        decode(postscript)


def test_bytes_are_called_what_the_caller_calls_them():
    with pytest.raises(UserError, match=r"cannot read image shard\[3\]: not an image"):
        decode(b"", name="shard[3]")


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(50, 80), (81, 47), (40, 40), (20, 500)])
def test_center_crop_is_resize_then_crop(height, width, channels, interpolation):
    image = noise(height, width, channels)
    short = min(height, width)
    size = (int(36 * width / short), int(36 * height / short))
    whole = resized(image, size, interpolation)
    top, left = round((size[1] - 32) / 2), round((size[0] - 32) / 2)
    expected = whole[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(center_crop(image, 32, 36, interpolation), expected)


def resized(image: np.ndarray, size: tuple[int, int], how: str = "bilinear") -> np.ndarray:
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[how]
    whole = Image.fromarray(image.squeeze()).resize(size, method)
    return np.asarray(whole).reshape(*whole.size[::-1], image.shape[2])


def test_center_crop_of_a_size_that_fits_only_cuts():
    image = noise(20, 31)
    np.testing.assert_array_equal(center_crop(image, 16, resize=20), image[2:18, 8:24])


def test_a_crop_larger_than_the_image_is_padded_with_black():
    image = noise(7, 9)
    crop = center_crop(image, 12, resize=7)
    np.testing.assert_array_equal(crop[2:9, 1:10], image)
    crop[2:9, 1:10] = 0
    assert not crop.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_pillows_and_skips_what_fits(channels):
    image = noise(9, 30, channels)
    np.testing.assert_array_equal(resize(image, 12), resized(image, (12, 12)))
    square = noise(12, 12, channels)
    assert resize(square, 12) is square


# --------------------------------------------------------------------------- published preparation


def test_images_are_prepared_as_the_weights_say(tmp_path):
    (weights,) = model_info("swin_t").weights
    prepare, image = evaluation(weights), noise(300, 401)
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = center_crop(image, 224, 232, "bicubic")
    for form in (image, tmp_path / "a.png", (tmp_path / "a.png").read_bytes()):
        np.testing.assert_array_equal(prepare(form), expected)


def test_pixels_are_normalised_as_the_weights_say():
    weights = model_info("vgg16").weights[0]
    assert weights.name == "IMAGENET1K_FEATURES"  # pixels of 0 to 255 less the mean
    unit = evaluation(weights).normalize(np.array([[[0, 128, 255]]], np.uint8))
    assert unit.dtype == np.float32
    expected = [0 - 0.48235 * 255, 128 - 0.45882 * 255, 255 - 0.40784 * 255]
    np.testing.assert_allclose(unit.ravel(), expected, atol=1e-4)
