"""Files of weights are written whole, to the bit, or not at all."""

import ml_dtypes
import numpy as np
import pytest

from flaxzoo import weight_writing
from flaxzoo.errors import UserError
from flaxzoo.weight_files import read_state_dict
from flaxzoo.weight_writing import WRITERS, write_state_dict

BASE = np.arange(12, dtype=np.float32).reshape(3, 4)
ARRAYS = {
    "plain": BASE,
    "transposed": BASE.T,
    "every other": BASE[::2, 1:],
    "reversed": BASE[::-1],
    "big-endian": BASE.astype(">f4"),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
    "one": np.ones((1, 1, 3), np.float64),
    "half": BASE.astype(np.float16),
    "brain": BASE.astype(ml_dtypes.bfloat16),
    "bytes": np.array([1, 255], np.uint8),
    "truth": np.array([True, False]),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_array_comes_back_to_the_bit(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    write_state_dict(path, ARRAYS)
    read = read_state_dict(path)
    assert set(read) == set(ARRAYS)
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(
            np.asarray(read[key], np.float64), np.asarray(value, np.float64), err_msg=key
        )
        wide = suffix == ".npz" and key == "brain"
        expected = "float32" if wide else value.dtype.newbyteorder("=").name
        assert (read[key].shape, read[key].dtype.name) == (value.shape, expected), key
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_torch_keeps_beside_weights_is_kept(tmp_path, suffix):
    metadata = {"": {"version": 1}, "fc": {"version": 2}}
    write_state_dict(tmp_path / f"w{suffix}", {"x": BASE}, metadata)
    assert read_state_dict(tmp_path / f"w{suffix}").metadata == metadata


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"w{suffix}"
    path.write_text("before")

    def full(part, *_):
        part.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(weight_writing.WRITERS, suffix, full)
    with pytest.raises(UserError, match=rf"cannot write .*w{suffix}: No space left on device"):
        write_state_dict(path, {"x": BASE})
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_folder_that_is_not_there_is_told(tmp_path, suffix):
    with pytest.raises(UserError, match=r"cannot write .*: .*[Nn]o such file or directory"):
        write_state_dict(tmp_path / "none" / f"w{suffix}", {"x": BASE})


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"unknown suffix .* '.safetensor'; did you mean '.safeten"):
        write_state_dict(tmp_path / "w.safetensor", {"x": BASE})


def test_an_array_that_torch_does_not_know_is_refused(tmp_path):
    with pytest.raises(UserError, match="x is of complex64"):
        write_state_dict(tmp_path / "w.npz", {"x": BASE.astype(np.complex64)})
