"""CIFAR and MNIST from their original files: found on disk, or downloaded.

Files are looked for under their usual names, in the binary form that is downloaded and in the ones
that torchvision and Keras leave behind.
"""

import dataclasses
from pathlib import Path

from flaxzoo.data import cifar, idx
from flaxzoo.data.arrays import as_split
from flaxzoo.data.dataset import ArraySplit, Dataset
from flaxzoo.data.download import download
from flaxzoo.data.options import Options
from flaxzoo.errors import UserError

DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file to download: where from, and what it must be."""

    url: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


# Sizes and checksums as TensorFlow Datasets publishes them.
REMOTES: dict[str, dict[str, Remote]] = {
    "cifar10": {
        "archive": Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )
    },
    "cifar100": {
        "archive": Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        )
    },
    "mnist": {
        "x_train": Remote(
            "https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "y_train": Remote(
            "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "x_test": Remote(
            "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "y_test": Remote(
            "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
    "fashion_mnist": {
        "x_train": Remote(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "y_train": Remote(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "x_test": Remote(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "y_test": Remote(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
}

# Numbers of images; a set with fewer is a damaged one.
COUNTS = {
    "cifar10": {"train": 50_000, "test": 10_000},
    "cifar100": {"train": 50_000, "test": 10_000},
    "mnist": {"train": 60_000, "test": 10_000},
    "fashion_mnist": {"train": 60_000, "test": 10_000},
}

# Sets of files that `kaggle datasets download` has under names that are looked for.
KAGGLE = {
    "mnist": "hojjatk/mnist-dataset",
    "fashion_mnist": "zalando-research/fashionmnist",
    "cifar10": "pankrzysiu/cifar10-python",
}

# Below the data directory, besides "." and the data set's own name: torchvision's and Keras's.
FOLDERS = {
    "mnist": ("MNIST/raw",),
    "fashion_mnist": ("FashionMNIST/raw", "fashion-mnist"),
    "cifar10": (),
    "cifar100": (),
}


def load_idx(name: str, options: Options) -> Dataset:
    """Loads MNIST or Fashion-MNIST: 28x28, grey, 60,000 training and 10,000 test images.

    Raises:
        UserError: a file cannot be had, or is damaged.
    """
    arrays = {key: idx.read(_idx_file(name, key, options)) for key in REMOTES[name]}
    classes = DIGITS if name == "mnist" else CLOTHES
    parts = {}
    for part in ("train", "test"):
        parts[part] = as_split(arrays[f"x_{part}"], arrays[f"y_{part}"], part, name)
    return _dataset(name, classes, parts)


def load_cifar(name: str, options: Options) -> Dataset:
    """Loads CIFAR-10, or CIFAR-100 with its fine labels: 32x32, RGB, 50,000 and 10,000 images.

    Raises:
        UserError: the archive cannot be had, or is damaged.
    """
    form = cifar.FORMS[name]
    for folder in _search(name, options):
        for place in (*form.folders, *form.archives):
            if (folder / place).exists():
                classes, arrays = cifar.read(folder / place, form)
                parts = {part: as_split(x, y, part, name) for part, (x, y) in arrays.items()}
                return _dataset(name, classes, parts)
    _download(name, "archive", options)
    return load_cifar(name, dataclasses.replace(options, download=False))


def _dataset(name: str, classes: tuple[str, ...], parts: dict[str, ArraySplit]) -> Dataset:
    for part, split in parts.items():
        if len(split) != COUNTS[name][part]:
            raise UserError(
                f"{name} on disk has {len(split):,} {part} images; expected {COUNTS[name][part]:,}"
            )
    channels = parts["train"].channels
    return Dataset(name, classes, channels, **parts)


def _search(name: str, options: Options) -> list[Path]:
    """Returns the folders in which the files of `name` may be."""
    roots = [options.root]
    if options.data_dir is None:
        roots += [Path("data"), Path("~/.keras/datasets").expanduser()]
    folders = [root / below for root in roots for below in (name, ".", *FOLDERS[name])]
    return [folder for folder in folders if folder.is_dir()]


def _idx_file(name: str, key: str, options: Options) -> Path:
    for folder in _search(name, options):
        for candidate in idx.names(REMOTES[name][key].file):
            if (folder / candidate).is_file():
                return folder / candidate
    return _download(name, key, options)


def _download(name: str, key: str, options: Options) -> Path:
    remote = REMOTES[name][key]
    path = options.root / name / remote.file
    advice = "; or train on npz=PATH (Keras's form), folder=PATH or the bundled digits"
    if name in KAGGLE:
        folder = path.parent
        advice = f"; or kaggle datasets download {KAGGLE[name]} --unzip -p {folder}{advice}"
    if not options.download:
        raise UserError(
            f"{name} is not in {options.root} and download is off; fetch "
            f"{remote.url} and put it at {path}{advice}"
        )
    return download(remote.url, path, sha256=remote.sha256, size=remote.size, advice=advice)
