"""Which split and class each image of an original archive belongs to: by its name, or by lists."""

import importlib.util
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from flaxzoo.data.flower_names import FLOWERS
from flaxzoo.errors import UserError

Files = Mapping[str, Path]  # the archives of a set, by the keys of Original.files
# (split, class) of an image by its name in the archive, or None if the set does not have it. The
# name of what lies in an archive inside an archive is "INNER.tar/NAME".
Place = Callable[[str], tuple[str, str] | None]
# Returns (the classes in the order of their labels, or None if they are sorted; their places).
Layout = Callable[[Files], tuple[tuple[str, ...] | None, Place]]


def in_folders(splits: Mapping[str, str], classes: tuple[str, ...] | None = None) -> Layout:
    """Returns the layout of .../SPLIT/CLASS/FILE; `splits` says what the archive calls them."""

    def place(name: str) -> tuple[str, str] | None:
        *_, split, label, _ = ["", "", *PurePosixPath(name).parts]
        return (splits[split], label) if split in splits else None

    return lambda _: (classes, place)


def imagenet(_: Files) -> tuple[None, Place]:
    """Lays out ImageNet's two archives; of the training images, each class is one of its own."""
    labels = _validation_labels()

    def place(name: str) -> tuple[str, str] | None:
        folder, file = PurePosixPath(name).parent.name, PurePosixPath(name).stem
        if folder.endswith(".tar"):
            return "train", folder.removesuffix(".tar")
        return "test", labels[int(file.rpartition("_")[2]) - 1]  # ILSVRC2012_val_00000001

    return None, place


def _validation_labels() -> list[str]:
    """Returns the classes of ImageNet's 50,000 validation images, in the order of their names.

    The archive has none. They are in the development kit, behind the login, and in TFDS's package.
    """
    found = importlib.util.find_spec("tensorflow_datasets")  # not imported: it takes a second
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder, "datasets", "imagenet2012", "validation_labels.txt")
        if path.is_file():
            return path.read_text().split()
    raise UserError(
        "imagenet2012 has its validation labels from the package tensorflow_datasets; expected "
        "datasets/imagenet2012/validation_labels.txt in it: pip install tensorflow-datasets==4.9.10"
    )


def flowers(files: Files) -> tuple[tuple[str, ...], Place]:
    """Lays out jpg/image_00001.jpg by "labels" and "splits", matrices of MATLAB."""
    from scipy.io import loadmat  # jax needs scipy, too

    labels = loadmat(files["labels"])["labels"][0]
    numbers = loadmat(files["splits"])
    splits = {
        int(number): split
        for key, split in (("trnid", "train"), ("valid", "val"), ("tstid", "test"))
        for number in numbers[key][0]
    }

    def place(name: str) -> tuple[str, str] | None:
        number = int(PurePosixPath(name).stem.removeprefix("image_"))
        return splits[number], FLOWERS[labels[number - 1] - 1]

    return FLOWERS, place


def pets(files: Files) -> tuple[tuple[str, ...], Place]:
    """Lays out images/Abyssinian_100.jpg by two lists in an archive of their own.

    Their lines are "Abyssinian_100 1 1 1": name, class, species, breed. Some images are in none.
    """
    classes, splits = {}, {}
    with tarfile.open(files["lists"]) as archive:
        for split, file in (("train", "trainval.txt"), ("test", "test.txt")):
            stream = archive.extractfile(f"annotations/{file}")
            for line in stream.read().decode().splitlines() if stream else ():
                image, label, *_ = line.split()
                classes[int(label)] = image.rpartition("_")[0]
                splits[image] = split

    def place(name: str) -> tuple[str, str] | None:
        image = PurePosixPath(name).stem
        return (splits[image], image.rpartition("_")[0]) if image in splits else None

    return tuple(classes[label] for label in sorted(classes)), place
