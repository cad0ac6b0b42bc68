"""Files that torch writes are read without torch, bit for bit, and torch takes what we export."""

import contextlib
import io
import pickle
import struct
import tarfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.torch
import torch

import torch_ref
from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.weight_files import read_state_dict
from parity_tests.comparing import installed


def base(*shape) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape))


TENSORS = {
    "float32": base(2, 3).float(),
    "float64": base(2, 3),
    "float16": base(2, 3).half(),
    "bfloat16": base(2, 3).bfloat16(),
    "int64": torch.tensor([1, -(2**40)]),
    "int32": torch.tensor([1, -2], dtype=torch.int32),
    "int16": torch.tensor([1, -2], dtype=torch.int16),
    "int8": torch.tensor([1, -2], dtype=torch.int8),
    "uint8": torch.tensor([1, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 3),
    "transposed": base(2, 3, 4).permute(2, 0, 1),
    "view": base(6, 4)[1::2, 2:],
    "expanded": torch.arange(3.0).expand(2, 3),
    "parameter": torch.nn.Parameter(base(3)),
    "negated parameter": torch.nn.Parameter(-base(3), requires_grad=False),
}


def as_numpy(value: torch.Tensor) -> np.ndarray:
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    """As torch 0.2 to 1.5 did, and as 20 of torchvision's files still are."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_tar(content, path):
    """As torch 0.1 did, which no torch does any more; that torch reads it is asserted below."""

    class Pickler(pickle._Pickler):
        def persistent_id(self, obj):
            return ids[id(obj)] if isinstance(obj, torch.Tensor) else None

    tensors = {id(t): t.detach() for t in content.values()}
    ids = {key: str(i) for i, key in enumerate(tensors)}
    names = {torch.float32: "Float", torch.float64: "Double", torch.int64: "Long"}
    storages, views = [io.BytesIO() for _ in range(2)]
    pickle.dump(len(tensors), storages, 2)
    pickle.dump(len(tensors), views, 2)
    for number, tensor in zip(ids.values(), tensors.values(), strict=True):
        kind = names[tensor.dtype]
        flat = torch.as_strided(
            tensor, (tensor.untyped_storage().nbytes() // tensor.itemsize,), (1,), 0
        )
        key = 1000 + int(number)
        pickle.dump((key, "cpu", getattr(torch, f"{kind}Storage")), storages, 2)
        storages.write(struct.pack("<q", len(flat)) + flat.numpy().tobytes())
        pickle.dump((int(number), key, getattr(torch, f"{kind}Tensor")), views, 2)
        views.write(struct.pack("<ii", tensor.ndim, 0))
        views.write(struct.pack(f"<{tensor.ndim}q", *tensor.shape))
        views.write(struct.pack(f"<{tensor.ndim}q", *tensor.stride()))
        views.write(struct.pack("<q", tensor.storage_offset()))
    pickle.dump([], storages, 2)
    pickled = io.BytesIO()
    Pickler(pickled, 2).dump(content)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        members = {
            "sys_info": io.BytesIO(),
            "pickle": pickled,
            "tensors": views,
            "storages": storages,
        }
        for name, file in members.items():
            member = tarfile.TarInfo(name)
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)


IN_TAR = {
    key: tensor
    for key, tensor in TENSORS.items()
    if tensor.dtype in (torch.float32, torch.float64, torch.int64)
    and tensor.ndim
    and tensor.numel()
}
FORMATS = {
    "zip": (save_zip, TENSORS),
    "legacy": (save_legacy, TENSORS),
    "tar": (save_tar, IN_TAR),
}


@pytest.mark.parametrize("make", [dict, OrderedDict])
@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_of_tensor_is_read_bit_for_bit(tmp_path, kind, make):
    save, tensors = FORMATS[kind]
    save(make(tensors), tmp_path / "w.pth")
    theirs = torch.load(tmp_path / "w.pth", weights_only=False)
    read = read_state_dict(tmp_path / "w.pth")
    assert list(read) == list(theirs) == list(tensors)
    for key, tensor in theirs.items():
        assert str(read[key].dtype) == str(tensor.dtype).removeprefix("torch."), key
        ours = read[key].astype(np.float32) if key == "bfloat16" else read[key]
        np.testing.assert_array_equal(ours, as_numpy(tensor), err_msg=key)


def test_tensors_may_share_a_storage(tmp_path):
    whole = base(4, 4)
    torch.save({"whole": whole, "row": whole[2]}, tmp_path / "w.pth")
    read = read_state_dict(tmp_path / "w.pth")
    np.testing.assert_array_equal(read["whole"], whole)
    np.testing.assert_array_equal(read["row"], whole[2])


@pytest.mark.parametrize("kind", ["state_dict", ".pth", ".safetensors"])
def test_weights_travel_from_torch(tmp_path, kind):
    state_dict = torch_ref.create_model("resnext_tiny").state_dict()
    source, path = state_dict, tmp_path / f"w{kind}"
    if kind == ".pth":
        torch.save(state_dict, path)
        source = path
    elif kind == ".safetensors":
        safetensors.torch.save_file(state_dict, path)
        source = str(path)
    model = create_model("resnext_tiny")
    load_torch(model, source)
    for key, value in to_torch(model).items():
        np.testing.assert_array_equal(value, state_dict[key], err_msg=key)


def test_a_twin_that_trains_on_leaves_the_model_alone():
    twin, model = torch_ref.create_model("resnet_tiny"), create_model("resnet_tiny", abstract=True)
    load_torch(model, twin.state_dict())
    before = to_torch(model)
    with torch.no_grad():
        for value in [*twin.parameters(), *twin.buffers()]:
            value.add_(1)
    for key, value in to_torch(model).items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_dtypes_become_the_models(dtype):
    state_dict = torch_ref.create_model("resnet_tiny").to(dtype).state_dict(keep_vars=True)
    model = create_model("resnet_tiny")
    load_torch(model, state_dict)
    expected = as_numpy(state_dict["fc.bias"]).astype(np.float32)
    np.testing.assert_array_equal(model.fc.bias[...], expected)


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_torch_takes_the_export_strictly(param_dtype):
    model = create_model("resnext_tiny", seed=5, param_dtype=param_dtype)
    twin = torch_ref.create_model("resnext_tiny")
    exported = to_torch(model)
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in exported.items()}, strict=True)
    for key, value in twin.state_dict().items():
        np.testing.assert_array_equal(value, exported[key], err_msg=key)


@pytest.mark.parametrize(
    ("name", "version"), [("mnasnet0_5", 2), ("mnasnet1_3", 2), ("mnasnet0_5", 1)]
)
def test_torchvision_takes_the_export_of_a_model_with_versions(tmp_path, name, version):
    models = installed("torchvision").models
    exported = to_torch(create_model(name, version=version, seed=3))
    exported.update({key: torch.from_numpy(value) for key, value in exported.items()})
    torch.save(exported, tmp_path / "w.pth")
    twin = models.get_model(name)
    old = pytest.warns(UserWarning, match="saved using the previous version")
    with old if version == 1 else contextlib.nullcontext():
        twin.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))

    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
    with torch.no_grad():
        theirs = twin.double().eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    doubles = {"dtype": "float64", "param_dtype": "float64"}
    back = create_model(name, pretrained=tmp_path / "w.pth", **doubles)
    back.eval()
    ours = jax.jit(lambda x: back(x))(images)
    assert back.version == version
    assert np.abs(ours - theirs.numpy()).max() < 1e-12 * theirs.abs().max()


def test_versions_of_modules_are_kept(tmp_path):
    """MNASNet's files tell their version there."""
    state_dict = torch.nn.Sequential(torch.nn.BatchNorm2d(2)).state_dict()
    for save in (save_zip, save_legacy):
        save(state_dict, tmp_path / "w.pth")
        assert read_state_dict(tmp_path / "w.pth").metadata["0"] == {"version": 2}


AVERAGED = {"x": torch.ones(2)}
RAW = {"x": torch.zeros(2)}


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"state_dict": RAW, "epoch": 3, "arch": "x"}, 0),
        ({"model": RAW, "optimizer": {"state": {0: {"step": 3}}}, "args": Namespace(lr=1)}, 0),
        (
            {"model": RAW, "model_ema": {"n_averaged": torch.tensor(3), "module.x": AVERAGED["x"]}},
            1,
        ),
        ({"state_dict": RAW, "state_dict_ema": AVERAGED}, 1),
        ({"state_dict_ema": None, "state_dict": RAW, "path": Path("/a")}, 0),
        ({"module.x": RAW["x"]}, 0),
        ({"_orig_mod.module.x": RAW["x"]}, 0),
    ],
    ids=["state_dict", "model", "model_ema", "state_dict_ema", "no average", "module", "compiled"],
)
def test_training_checkpoints_are_read(tmp_path, content, expected, save):
    save(content, tmp_path / "w.pth")
    read = read_state_dict(tmp_path / "w.pth")
    assert list(read) == ["x"]
    np.testing.assert_array_equal(read["x"], [expected] * 2)


def test_a_checkpoint_of_torchs_own_tools_loads(tmp_path):
    twin = torch_ref.create_model("resnet_tiny")
    average = torch.optim.swa_utils.AveragedModel(twin)
    optimizer = torch.optim.AdamW(twin.parameters())
    twin(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    torch.save(
        {"model": twin.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7,
         "lr_scheduler": {"_last_lr": [0.1]}, "args": Namespace(lr=0.1, output=Path("."))},
        tmp_path / "w.pth",
    )  # fmt: skip
    torch.save({"model_ema": average.state_dict(), "epoch": 7}, tmp_path / "ema.pth")
    for file, state_dict in ("w.pth", twin.state_dict()), ("ema.pth", average.module.state_dict()):
        model = create_model("resnet_tiny", pretrained=tmp_path / file)
        np.testing.assert_array_equal(to_torch(model)["fc.weight"], state_dict["fc.weight"])


class Malicious:
    def __reduce__(self):
        return print, ("run by a pickle",)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize("beside", [False, True])
def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys, save, beside):
    save(
        {"state_dict": TENSORS, "x": Malicious()} if beside else {"x": Malicious()},
        tmp_path / "w.pth",
    )
    with pytest.raises(
        UserError, match=r"w\.pth asks for (__builtin__|builtins)\.print when opened"
    ):
        read_state_dict(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_tar])
@pytest.mark.parametrize("left", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path, left, save):
    path = tmp_path / "w.pth"
    state_dict = torch_ref.create_model("resnet_tiny").state_dict()
    save(OrderedDict((k, v) for k, v in state_dict.items() if v.ndim), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(UserError, match=r"w\.pth is damaged or not a file of weights"):
        read_state_dict(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"x": torch.full((1000,), 1.25)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((10,), 1.25).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "weights": TENSORS}, "other things than tensors: epoch, weights; expected a"),
        ([base(3)], "holds a list, not a dict of tensors by name"),
        (base(3), "holds a ndarray, not a dict"),
        ({0: base(3)}, "holds a dict, not a dict of tensors by name"),
        (torch.nn.Linear(2, 2), r"asks for torch\.nn\.modules\.linear\.Linear when opened"),
        ({"x": base(3, 3).to_sparse()}, r"asks for torch\._utils\._rebuild_sparse_tensor"),
    ],
    ids=["unknown wrapper", "list", "tensor", "numbered", "whole module", "sparse"],
)
def test_other_content_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        read_state_dict(tmp_path / "w.pth")
