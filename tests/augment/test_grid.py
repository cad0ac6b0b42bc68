"""python -m flaxzoo augmentations."""

import sys

import numpy as np
import pytest
from PIL import Image

from flaxzoo import __main__ as command_line
from flaxzoo.augment import grid
from flaxzoo.config import AugmentConfig
from flaxzoo.errors import UserError


@pytest.fixture
def two_rows(monkeypatch):
    rows = {"flip": AugmentConfig(flip=True), "mixup": AugmentConfig(mixup=1.0, mix_mode="elem")}
    monkeypatch.setattr(grid, "ROWS", rows)


def test_the_picture_has_a_row_an_augmentation_and_the_original_first(tmp_path, two_rows):
    images = list(np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8))
    grid.write_grid(images, tmp_path / "a.png", seed=0)
    grid.write_grid(images, tmp_path / "b.png", seed=1)
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    step = grid.TILE + grid.MARGIN
    assert one.shape == (3 * step + grid.MARGIN, grid.LABEL + 9 * step, 3)
    for row in range(3):  # the shift's is made for the size of the image
        top = grid.MARGIN + row * step
        tile = one[top : top + grid.TILE, grid.LABEL : grid.LABEL + grid.TILE]
        np.testing.assert_array_equal(tile[8::16, 8::16], images[0])
    assert not np.array_equal(one, two)


def test_all_augmentations_can_be_drawn_on_any_image():
    assert {type(config) for config in grid.ROWS.values()} == {AugmentConfig}
    used = {
        field
        for config in grid.ROWS.values()
        for field in AugmentConfig.__slots__
        if getattr(config, field) != getattr(AugmentConfig(), field)
    }
    assert used >= set(AugmentConfig.__slots__) - {
        "shift", "crop_ratio", "erase_scale", "erase_ratio", "mix_prob", "mix_switch_prob",
        "policy_ops", "policy_magnitude", "off",
    }  # fmt: skip


def test_grey_images_alone_are_mixed_with_their_mirror_image():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 16
    got = grid.results([image], AugmentConfig(mixup=1.0, mix_mode="elem"), seed=0)
    assert got.shape == (grid.COLUMNS, 4, 4, 1)
    both = (image.astype(int) + image[:, ::-1])[None]
    np.testing.assert_allclose(got.astype(int) + got[:, :, ::-1], both + 0 * got, atol=2)


def test_photographs_are_cut_to_squares(tmp_path):
    Image.new("RGB", (200, 150)).save(tmp_path / "wide.png")
    (image,) = grid.read_images([str(tmp_path / "wide.png")])
    assert image.shape == (grid.PHOTOGRAPH, grid.PHOTOGRAPH, 3)
    assert grid.read_images([])[0].shape == (8, 8, 1)


def test_a_picture_without_a_known_ending_is_refused(tmp_path, two_rows):
    with pytest.raises(UserError, match=r"cannot write .*picture\.xyz"):
        grid.write_grid([np.zeros((6, 6, 1), np.uint8)], tmp_path / "picture.xyz")


def test_the_command_writes_the_picture(tmp_path, two_rows, monkeypatch, capsys):
    out = tmp_path / "out.png"
    monkeypatch.setattr(sys, "argv", ["flaxzoo", "augmentations", "--out", str(out), "--seed", "3"])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert np.asarray(Image.open(out)).shape[2] == 3


def test_an_image_that_is_not_there_is_a_slip(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flaxzoo", "augmentations", "--image", "nosuch.jpg"])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    assert stop.value.code == 2
    assert "cannot read image nosuch.jpg: no such file" in capsys.readouterr().err
