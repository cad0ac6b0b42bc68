"""python -m flaxzoo data SPEC: counts, sizes, pixels, what is stored strangely, what is wrong."""

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flaxzoo import __main__ as command_line
from flaxzoo import data
from flaxzoo.config import PIXEL_STATISTICS
from flaxzoo.data import ArraySplit, Dataset, gallery, look
from flaxzoo.data.survey import copies, survey

RNG = np.random.default_rng(0)


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["flaxzoo", "data", *arguments])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    return stop.value.code, *capsys.readouterr()


def looked_at(dataset: Dataset, tmp_path: Path, capsys, **options) -> str:
    look.look(dataset, tmp_path / "out.png", **options)
    return capsys.readouterr().out


def warnings(output: str) -> list[str]:
    return [line.removeprefix("warning: ") for line in output.splitlines() if "warning: " in line]


def noise(*labels: int, first: int = 0, size: int = 4) -> ArraySplit:
    """Images that differ, from number `first` on."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (1000, size, size, 1), np.uint8)[first:][: len(labels)]
    return ArraySplit(images, np.array(labels, np.int32))


def test_the_command_tells_of_a_whole_set_and_draws_it(monkeypatch, capsys, tmp_path):
    out = tmp_path / "digits.png"
    code, output, error = call(monkeypatch, capsys, "digits", f"--output={out}")
    assert (code, error) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "digits: 10 classes, grey"
    counts = np.bincount(data.load("digits", validation=0).train.labels)
    (row,) = [line.split() for line in lines if line.split()[:1] == ["train"]]
    small, large = int(counts.argmin()), int(counts.argmax())
    median = f"{np.median(counts):.0f}"
    assert row == [
        "train", "1,437", "10", str(counts[small]), f"({small})", median, str(counts[large]),
        f"({large})",
    ]  # fmt: skip
    assert "looked at     1,437 of 1,437 train, 360 of 360 test images" in lines
    assert "height        8 to 8 pixels, median 8" in lines
    ((mean,), (std,)) = PIXEL_STATISTICS["digits"]
    figures = [float(line.split()[1]) for line in lines if line.startswith(("mean ", "std "))]
    assert figures == [pytest.approx(mean, abs=5e-4), pytest.approx(std, abs=5e-4)]
    assert lines[-1] == f"wrote {out}"
    with Image.open(out) as drawn:
        size = drawn.size
    assert size == (
        gallery.LABEL + gallery.IMAGES * (gallery.TILE + gallery.GAP),
        gallery.GAP + 10 * (gallery.TILE + gallery.GAP),
    )


def test_a_slip_is_one_line(monkeypatch, capsys, tmp_path):
    code, _, error = call(monkeypatch, capsys, "digit")
    assert code == 2
    assert error.startswith("error: unknown data set 'digit'; did you mean 'digits'")
    code, _, error = call(monkeypatch, capsys, "digits", f"--output={tmp_path / 'a.xyz'}")
    assert code == 2
    assert re.fullmatch(r"error: cannot write .*a\.xyz: .*\n", error)


def test_mean_and_std_are_those_of_the_pixels():
    split = noise(*[0] * 50, size=5)
    found = survey(split, np.arange(50))
    values = split.images / 255
    np.testing.assert_allclose(found.mean, values.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, values.std(axis=(0, 1, 2)), rtol=1e-12)


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Two classes of files that are stored in every way, and some that cannot be read."""
    for name in ("a", "b"):
        (tmp_path / "strange" / name).mkdir(parents=True)
    pixels = RNG.integers(0, 256, (6, 8, 3), np.uint8)
    plain = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    root = tmp_path / "strange" / "a"
    plain.save(root / "plain.png")
    plain.save(root / "turned.jpg", exif=exif)
    plain.convert("L").save(root / "grey.png")
    plain.convert("CMYK").save(root / "cmyk.jpg")
    plain.quantize(16).save(root / "palette.png")
    plain.convert("RGBA").save(root / "alpha.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(root / "deep.png")
    frames = [Image.fromarray(255 - pixels), Image.fromarray(pixels)]
    frames[0].save(root / "film.tif", save_all=True, append_images=frames[1:])
    whole = io.BytesIO()
    plain.save(whole, "JPEG")
    for i in range(12):
        cut = whole.getvalue()[: len(whole.getvalue()) // 2] if i else b"text"
        (tmp_path / "strange" / "b" / f"{i:02}.jpg").write_bytes(cut)
    plain.save(tmp_path / "strange" / "b" / "plain.bmp")
    return tmp_path / "strange"


def test_what_is_stored_strangely_is_counted_and_what_is_unreadable_named(
    strange, tmp_path, capsys
):
    output = looked_at(data.load(f"folder={strange}", validation=0), tmp_path, capsys)
    (stored,) = re.findall(r"^stored as +(.*)$", output, re.MULTILINE)
    assert stored == "4 RGB, 2 grey, 1 alpha, 1 CMYK, 1 palette"
    (special,) = re.findall(r"^of these +(.*)$", output, re.MULTILINE)
    assert set(special.split(", ")) == {
        "1 turned by EXIF", "1 16 bits a channel", "1 several frames"
    }  # fmt: skip
    assert "\nunreadable    12\n" in output
    named = re.findall(r"^ +cannot read image .*/b/(\d\d)\.jpg: (.*)$", output, re.MULTILINE)
    assert [number for number, _ in named] == [f"{i:02}" for i in range(10)]
    assert named[0][1] == "not an image"
    assert "truncated" in named[1][1].lower()
    assert "\n              ... and 2 more\n" in output


def test_equal_pixels_in_other_files_are_found(strange, tmp_path, capsys):
    """plain.bmp has the pixels of plain.png and alpha.png, and another label."""
    output = looked_at(data.load(f"folder={strange}", validation=0), tmp_path, capsys)
    where = f"{strange}/a/alpha.png (train, a) = {strange}"
    assert (
        "warning: images with more than one label: 1 (all pixels compared)\n"
        f"    {where}/b/plain.bmp (train, b)\n"
        "warning: images more than once in a split: 1 (all pixels compared)\n"
        f"    {where}/a/plain.png (train, a)\n"
    ) in output


def test_copies_between_splits_are_told(tmp_path, capsys):
    toy = Dataset(
        "toy", ("a", "b"), 1, noise(0, 1, 0, 1), test=noise(0, 1, 0, first=2)
    )  # two images in both
    assert (
        "warning: images in more than one split, so that results are too good: 2 (all pixels "
        "compared)\n"
        "    image[2] (train, a) = image[0] (test, a)\n"
        "    image[3] (train, b) = image[1] (test, b)\n"
        "wrote "
    ) in looked_at(toy, tmp_path, capsys)


def test_of_a_larger_set_a_sample_is_decoded_and_all_files_compared(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(look, "SAMPLE", 3)
    cats = folder / "train" / "cat"
    (cats / "9.png").write_bytes((cats / "0.png").read_bytes())
    dataset = data.load(f"folder={folder}", validation=0)
    output = looked_at(dataset, tmp_path, capsys)
    assert "looked at     3 of 13 train, 3 of 4 test images" in output
    # conftest's test images are the first of each class in train.
    assert [line.split(": ")[:2] for line in warnings(output)] == [
        ["images in more than one split, so that results are too good", "4 (all files compared)"],
        ["images more than once in a split", "1 (all files compared)"],
    ]
    monkeypatch.setattr(look, "COMPARED", 5)
    assert "of the 6 looked at; --all compares all" in looked_at(dataset, tmp_path, capsys)
    output = looked_at(dataset, tmp_path, capsys, decode_all=True)
    assert "looked at     13 of 13 train, 4 of 4 test images" in output
    assert "(all pixels compared)" in output


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (
            Dataset("toy", ("a", "b"), 1, noise(*[0] * 22, 1, 1)),
            "'a' has 11 times as many training",
        ),
        (
            Dataset("toy", ("a", "b"), 1, noise(0, 1), test=noise(1, first=9)),
            "no test image of 'a'",
        ),
        (Dataset("toy", ("Train", "dog"), 1, noise(0, 1)), "rather parts .* names: 'Train'"),
    ],
)
def test_what_looks_wrong_is_told(dataset, words, tmp_path, capsys):
    (told,) = warnings(looked_at(dataset, tmp_path, capsys))
    assert re.search(words, told)


def test_an_ordinary_set_gets_no_warning(tmp_path, capsys):
    toy = Dataset("toy", ("a", "b"), 1, noise(*[0] * 20, 1, 1), test=noise(0, 1, first=30))
    assert warnings(looked_at(toy, tmp_path, capsys)) == []


def test_the_picture_has_a_row_a_class_and_leaves_unreadable_images_out(strange):
    split = data.load(f"folder={strange}", validation=0).train
    pixels = np.asarray(gallery.draw(split, ("a", "[b]")))
    row = gallery.TILE + gallery.GAP
    assert pixels.shape == (2 * row + gallery.GAP, gallery.LABEL + 8 * row, 3)
    tiles = [
        [
            pixels[
                gallery.GAP + r * row : r * row + row,
                gallery.LABEL + c * row : gallery.LABEL + c * row + gallery.TILE,
            ]
            for c in range(8)
        ]
        for r in range(2)
    ]
    drawn = [[bool((tile != 255).any()) for tile in line] for line in tiles]
    assert drawn == [[True] * 8, [False] * 7 + [True]]


def test_of_many_classes_some_are_drawn():
    split = noise(*range(100))
    picture = gallery.draw(split, tuple(map(str, range(100))))
    assert picture.height == gallery.GAP + gallery.CLASSES * (gallery.TILE + gallery.GAP)


def test_equal_images_are_grouped_in_the_order_of_the_splits():
    digests = {"train": {0: b"x", 1: b"y", 5: b"x"}, "test": {3: b"y", 4: b"z"}}
    assert copies(digests) == [[("train", 0), ("train", 5)], [("train", 1), ("test", 3)]]
