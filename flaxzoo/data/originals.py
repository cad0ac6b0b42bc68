"""Public sets of photographs from their original archives, without TFDS and without TensorFlow.

`python -m flaxzoo data prepare NAME` unpacks them once, as DIR/NAME/images/SPLIT/CLASS/FILE with a
list of the classes in the order of their labels. Labels are the same as TFDS's and torchvision's.
"""

import dataclasses
import shlex
from pathlib import Path

import numpy as np

from flaxzoo.data import layouts
from flaxzoo.data.archives import Remote
from flaxzoo.data.dataset import Dataset
from flaxzoo.data.folder import load_folder
from flaxzoo.data.options import Options
from flaxzoo.errors import UserError

_LISTED = "classes.txt"


@dataclasses.dataclass(frozen=True)
class Original:
    """Attributes: what there is to know of a set.

    files: the archives, by a key of ours.
    packed: the keys of those that hold images; the others are lists.
    counts: of images in each split, "train", "val" or "test".
    layout: where images belong, from the files.
    tfds: TFDS's name of the same set.
    manual: where files come from that nobody may download without a login.
    instead: another way to the same images.
    """

    files: dict[str, Remote]
    packed: tuple[str, ...]
    counts: dict[str, int]
    layout: layouts.Layout
    tfds: str
    manual: str = ""
    instead: str = ""

    @property
    def unpacked_size(self) -> int:
        """Bytes on the disk: photographs stay compressed, and fill half a last block each."""
        images = sum(self.files[key].size for key in self.packed)
        return images + 2048 * sum(self.counts.values())


def named(value: str) -> str | None:
    """Returns which of `ORIGINALS` a name is: its own, or "NAME[:CONFIG]" of TFDS; or None.

    >>> named("imagenette:160px-v2")
    'imagenette_160px'
    """
    if value in ORIGINALS:
        return value
    tfds = value.replace(":", "/", 1)
    return next((name for name, original in ORIGINALS.items() if original.tfds == tfds), None)


def images_folder(name: str, options: Options) -> Path:
    """Returns where `name` is unpacked; it exists only whole."""
    return options.root / name / "images"


def load(name: str, options: Options) -> Dataset:
    """Loads a set that is unpacked.

    Splits are the original ones, but for the public validation split of ImageNet and of Imagenette,
    on which results are reported: that is `test` here, and the one for choosing a checkpoint is
    held out of train.

    Raises:
        UserError: something of it is gone.
    """
    folder = images_folder(name, options)
    dataset = load_folder(str(folder))
    try:
        classes = (folder / _LISTED).read_text().splitlines()
    except OSError as error:
        raise UserError(f"cannot read {folder / _LISTED}: {error.strerror}") from error
    if sorted(classes) != sorted(dataset.classes):
        lost = sorted({*classes} ^ {*dataset.classes})
        raise UserError(
            f"{folder} does not have the classes of {name} ({', '.join(lost[:3])}); delete it, and "
            f"run {command(name, options)} again"
        )
    order = np.array([classes.index(label) for label in dataset.classes], np.int32)
    for split in (dataset.train, dataset.validation, dataset.test):
        if split is not None:
            split.labels = order[split.labels]
    return dataclasses.replace(dataset, name=name, classes=tuple(classes))


def write_classes(folder: Path, classes: tuple[str, ...] | None) -> None:
    """Writes the list that `load` reads, of what is unpacked in `folder`."""
    names = classes or sorted(path.name for path in (folder / "train").iterdir())
    (folder / _LISTED).write_text("".join(f"{name}\n" for name in names))


def command(name: str, options: Options) -> str:
    """Returns the command that prepares a set."""
    where = "" if options.data_dir is None else f" --data_dir={shlex.quote(str(options.data_dir))}"
    return f"python -m flaxzoo data prepare {name}{where}"


def advice(name: str, options: Options) -> str:
    """Returns how to get a set that is not there, in words that follow "...; "."""
    original, folder = ORIGINALS[name], options.root / name
    if not original.manual:
        return f"{command(name, options)} downloads and unpacks it"
    files = " and ".join(remote.file for remote in original.files.values())
    return (
        f"download {files} from {original.manual}, put them into {folder} and run "
        f"{command(name, options)}"
    )


_FAST_AI = "https://s3.amazonaws.com/fast-ai-imageclas/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
_PETS = "https://thor.robots.ox.ac.uk/~vgg/data/pets/"
_ILSVRC = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"


def _imagenette(file: str, size: int, sha256: str, config: str) -> Original:
    return Original(
        {"archive": Remote(_FAST_AI + file, size, sha256)},
        packed=("archive",),
        counts={"train": 9_469, "test": 3_925},
        layout=layouts.in_folders({"train": "train", "val": "test"}),
        tfds=f"imagenette/{config}",
    )


# Addresses, sizes and checksums are those of TensorFlow Datasets 4.9.10: checksums.tsv in its
# folders datasets/{imagenet2012,imagenette,oxford_flowers102,oxford_iiit_pet,tf_flowers}. Numbers
# of images are those of its catalogue, https://www.tensorflow.org/datasets/catalog/NAME.
ORIGINALS: dict[str, Original] = {
    "imagenet2012": Original(
        {
            "train": Remote(
                "ILSVRC2012_img_train.tar",
                147_897_477_120,
                "b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
            ),
            "val": Remote(
                "ILSVRC2012_img_val.tar",
                6_744_924_160,
                "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
            ),
        },
        packed=("train", "val"),
        counts={"train": 1_281_167, "test": 50_000},
        layout=layouts.imagenet,
        tfds="imagenet2012",
        manual=f"{_ILSVRC}, which needs a login",
        instead="train on folder=PATH with train/ and val/ that hold a folder per class; on Kaggle "
        "they come from: kaggle competitions download -c imagenet-object-localization-challenge",
    ),
    "imagenette": _imagenette(
        "imagenette2.tgz",
        1_557_161_267,
        "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
        "full-size-v2",
    ),
    "imagenette_320px": _imagenette(
        "imagenette2-320.tgz",
        341_663_724,
        "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
        "320px-v2",
    ),
    "imagenette_160px": _imagenette(
        "imagenette2-160.tgz",
        99_003_388,
        "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
        "160px-v2",
    ),
    "tf_flowers": Original(
        {
            "archive": Remote(
                "http://download.tensorflow.org/example_images/flower_photos.tgz",
                228_813_984,
                "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
            )
        },
        packed=("archive",),
        counts={"train": 3_670},
        layout=layouts.in_folders(
            {"flower_photos": "train"}, ("dandelion", "daisy", "tulips", "sunflowers", "roses")
        ),
        tfds="tf_flowers",
    ),
    "oxford_flowers102": Original(
        {
            "archive": Remote(
                _OXFORD + "102flowers.tgz",
                344_862_509,
                "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
            ),
            "labels": Remote(
                _OXFORD + "imagelabels.mat",
                502,
                "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
            ),
            "splits": Remote(
                _OXFORD + "setid.mat",
                14_989,
                "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
            ),
        },
        packed=("archive",),
        counts={"train": 1_020, "val": 1_020, "test": 6_149},
        layout=layouts.flowers,
        tfds="oxford_flowers102",
    ),
    "oxford_iiit_pet": Original(
        {
            "archive": Remote(
                _PETS + "images.tar.gz",
                791_918_971,
                "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            ),
            "lists": Remote(
                _PETS + "annotations.tar.gz",
                19_173_078,
                "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            ),
        },
        packed=("archive",),
        counts={"train": 3_680, "test": 3_669},
        layout=layouts.pets,
        tfds="oxford_iiit_pet",
    ),
}
