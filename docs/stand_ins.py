"""Small things under the names of large ones, for the time in which examples run.

A net, its published weights or a data set of a name is small, so that a command runs as the page
has it. What an example takes for granted is written where its page names it.
"""

import random
import re
import socket
import sys
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flaxzoo import cli
from flaxzoo.commands import compile as compile_command
from flaxzoo.convert import to_torch
from flaxzoo.data import archives
from flaxzoo.models import VARIANTS, create_model
from flaxzoo.step_cost import Core
from flaxzoo.training.parallel import Devices, all_devices
from flaxzoo.weight_writing import write_state_dict
from tests.data import fake_hub, small_originals

ROOT = Path(__file__).parents[1]
IMAGE_SIZE = 24  # pixels, which all of these models take
MODELS = {  # what is built under the name of another
    "resnet18": "resnet_tiny",
    "resnet20": "resnet_tiny",
    "resnet50": "resnet_tiny",
    "resnet56": "resnet_tiny",
    "resnext29_8x64d": "resnet_tiny",
    "resnext50_32x4d": "resnet_tiny",
    "swin_t": "resnet_tiny",
    "vgg16": "test_vgg",
    "vit_b_16": "test_vit",
}
WEIGHTS = {  # untrained, in published files, by a pattern of how pages name them
    r"resnet18-f37072fd\.pth": "resnet18",
    r"resnet50-0676ba61\.pth|resnet50\.IMAGENET1K_V1": "resnet50",
    r"resnet50-11ad3fa6\.pth|init_from=imagenet|evaluate resnet50": "resnet50",
    r"resnext50_32x4d-7cdf4587\.pth": "resnext50_32x4d",
    r"vgg16-397923af\.pth": "vgg16",
}
CLASSES = 10  # of ImageNet; the published weights have as many
BLOCKS = (1, 1, 1, 1)
CHIP = Core(memory=2.0**34, flops=2e14, bandwidth=8e11)
PORTS = range(61440, 65536)  # those among which JAX chooses by the number of a job of Slurm


def small_models(patch: pytest.MonkeyPatch) -> None:
    """Builds small nets under the names of large ones, and leaves plots blank, until undone."""
    patch.setattr(Figure, "draw", lambda *_: None)
    for large, small in MODELS.items():
        patch.setitem(VARIANTS, large, VARIANTS[small])


def small_twins(patch: pytest.MonkeyPatch) -> None:
    """Does the same to the twins of torch_ref, and has torch.compile do nothing."""
    import torch

    import torch_ref

    for large, small in MODELS.items():
        patch.setitem(torch_ref.VARIANTS, large, torch_ref.VARIANTS[small])
    patch.setattr(torch, "compile", lambda model: model)


def small_torchvision(patch: pytest.MonkeyPatch) -> None:
    """Builds resnet50 with a basic block a stage, in torchvision's own class, too."""
    from flaxzoo.parity.twins import import_library

    library, whole = import_library("torchvision").models, VARIANTS["resnet34"]
    patch.setitem(VARIANTS, "resnet50", partial(whole.func, whole.args[0], BLOCKS))
    small = partial(library.ResNet, library.resnet.BasicBlock, BLOCKS)
    patch.setitem(vars(library)["_api"].BUILTIN_MODELS, "resnet50", small)


def small_data(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Has data and published weights be looked for in `folder`, until `patch` is undone.

    Archives that `data prepare` is to unpack lie there, and `hf=beans` is known. So that nothing
    else is needed, `compile` has the devices of this machine for a TPU's, and this process is a job
    of Slurm with one task.
    """
    patch.setenv("TORCH_HOME", str(folder / "torch"))
    patch.setenv("FLAXZOO_DATA", str(folder / "data"))
    patch.setenv("TFDS_DATA_DIR", str(folder / "data"))
    patch.setitem(archives.COUNTS, "cifar10", {"train": 100, "test": 20})
    for name, place in (("imagenette_160px", "data"), ("imagenet2012", "archives")):
        small_originals.plant(name, folder / place / name, "http://localhost:9", patch)
    hub = fake_hub.library()
    hub.kept["beans", None] = {"train": fake_hub.pets(40), "test": fake_hub.pets(4)}
    patch.setitem(sys.modules, "datasets", hub)
    patch.setattr(compile_command, "described_devices", _described_devices)
    job = {"JOB_ID": free_port() - PORTS.start, "STEP_NODELIST": "localhost"}
    for name, value in (job | {"NTASKS": 1, "PROCID": 0, "LOCALID": 0}).items():
        patch.setenv(f"SLURM_{name}", str(value))


def _described_devices(_: str, parallel: str, shard_params: bool) -> tuple[Devices, Core]:
    return all_devices(parallel, shard_params), CHIP


def write_named(text: str, folder: Path) -> None:
    """Writes into `folder` what a page names and takes for granted."""
    for name, write in GRANTED.items():
        if re.search(name, text):
            write(folder)


def write_photographs(folder: Path) -> None:
    """Writes cat.jpg, and photos/CLASS/NUMBER.jpg, 20 of each of two classes."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 260, 3), np.uint8)).save(folder / "cat.jpg")
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (48, 56, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.jpg")


def _photographs(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in sorted(folder.glob("photos/*/*.jpg"))]


def _write_zip(name: str, folder: Path) -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path in _photographs(folder):
            archive.write(folder / path, path)


def _write_csv(folder: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in _photographs(folder)]
    (folder / "train.csv").write_text("\n".join(["file,breed", *rows]))
    _write_zip("images.zip", folder)


def _write_npz(folder: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 40), ("val", 10), ("test", 10)):  # as MedMNIST has them
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 3), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 9
    np.savez(folder / "pathmnist.npz", **arrays)


def _write_cifar10(folder: Path) -> None:
    rng, place = np.random.default_rng(0), folder / "data" / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        records = rng.integers(0, 256, (20, 1 + 3 * 32 * 32), np.uint8)
        records[:, 0] = np.arange(20) % 10
        (place / f"{name}.bin").write_bytes(records.tobytes())
    (place / "batches.meta.txt").write_text("".join(f"{i}\n" for i in range(10)))


def _write_imagenet(folder: Path) -> None:
    """As `data prepare` unpacks it."""
    images, names = folder / "data" / "imagenet2012" / "images", set()
    for i, path in enumerate(_photographs(folder)):
        name = f"n{i % CLASSES:08}"
        place = images / ("train" if i < 30 else "test") / name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.JPEG").symlink_to(folder / path)
        names.add(name)
    (images / "classes.txt").write_text("".join(f"{name}\n" for name in sorted(names)))


def _write_cars(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TFDS warns about while preparing is its own affair
        from tests.data.tiny_tfds import Cars196

        Cars196(data_dir=folder / "data", file_format="array_record").download_and_prepare()


def _write_published(pattern: str, model: str, folder: Path) -> None:
    """Writes a file of weights where torch keeps it, and a link in the working directory."""
    file = pattern.partition("|")[0].replace("\\", "")
    cache = folder / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True, exist_ok=True)
    write_state_dict(cache / file, to_torch(create_model(model)))
    (folder / file).symlink_to(cache / file)


GRANTED: dict[str, Callable[[Path], None]] = {  # by a pattern of how pages name it
    r"photos\.zip": lambda folder: _write_zip("photos.zip", folder),
    r"train\.csv": _write_csv,
    r"pathmnist\.npz": _write_npz,
    r"cifar10": _write_cifar10,
    r"imagenet2012": _write_imagenet,
    r"tfds=cars196": _write_cars,
    **{pattern: partial(_write_published, pattern, model) for pattern, model in WEIGHTS.items()},
}


def free_port() -> int:
    """Returns one of PORTS on which nothing listens."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)):
                return port
    raise OSError("no port is free")


def main() -> None:
    """Trains as train.py does, but small nets: for processes that an example starts."""
    with pytest.MonkeyPatch.context() as patch:
        small_models(patch)
        sys.exit(cli.run_command(lambda: cli.train_command(sys.argv[1:])))


if __name__ == "__main__":
    main()
