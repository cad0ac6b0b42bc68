"""Small copies of the original archives: image number n has n in all its pixels."""

import dataclasses
import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from flaxzoo.data import layouts, originals
from flaxzoo.data.archives import Remote
from flaxzoo.data.flower_names import FLOWERS

CAT, DOG = "n01440764", "n02102040"
VALIDATION_LABELS = [DOG, CAT, DOG]

# What each set is read as: by split, the numbers of the images and their classes.
EXPECTED: dict[str, dict[str, dict[int, str]]] = {
    "imagenet2012": {"train": {1: CAT, 2: CAT, 3: DOG}, "test": {4: DOG, 5: CAT, 6: DOG}},
    "imagenette_160px": {"train": {1: CAT, 2: DOG, 3: DOG}, "test": {4: CAT, 5: DOG}},
    "tf_flowers": {"train": {1: "daisy", 2: "dandelion", 3: "roses", 4: "sunflowers", 5: "tulips"}},
    "oxford_flowers102": {
        "train": {n: FLOWERS[n - 1] for n in range(1, 103)},
        "validation": {103: "rose", 104: "azalea"},
        "test": {105: "azalea", 106: "lotus", 107: "rose"},
    },
    "oxford_iiit_pet": {
        "train": {1: "Abyssinian", 2: "american_bulldog", 3: "Bengal"},
        "test": {4: "american_bulldog", 5: "Bengal"},
    },
}


def image(n: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), n, np.uint8)).save(file, "PNG")  # no pixel changes
    return file.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tgz(files: dict[str, bytes]) -> bytes:
    return gzip.compress(tar(files), mtime=0)  # the same bytes at any time


def imagenet() -> dict[str, bytes]:
    classes = {
        f"{CAT}.tar": tar({f"{CAT}_1.JPEG": image(1), f"{CAT}_7.JPEG": image(2)}),
        f"{DOG}.tar": tar({f"{DOG}_3.JPEG": image(3)}),
    }
    names = {f"ILSVRC2012_val_{i:08d}.JPEG": image(3 + i) for i in (3, 1, 2)}
    return {"train": tar(classes), "val": tar(names)}


def imagenette() -> dict[str, bytes]:
    files = {
        f"train/{CAT}/a.JPEG": image(1),
        f"train/{DOG}/b.JPEG": image(2),
        f"train/{DOG}/c.JPEG": image(3),
        f"val/{CAT}/a.JPEG": image(4),
        f"val/{DOG}/b.JPEG": image(5),
        f"val/{DOG}/._b.JPEG": b"of a Mac",
        "noisy_imagenette.csv": b"path,label",
    }
    return {"archive": tgz({f"imagenette2-160/{name}": c for name, c in files.items()})}


def tf_flowers() -> dict[str, bytes]:
    flowers = EXPECTED["tf_flowers"]["train"]
    files = {f"flower_photos/{name}/{n}.jpg": image(n) for n, name in flowers.items()}
    return {"archive": tgz({"flower_photos/LICENSE.txt": b"CC"} | files)}


def oxford_flowers() -> dict[str, bytes]:
    splits = EXPECTED["oxford_flowers102"]
    all_of_them = {n: name for split in splits.values() for n, name in split.items()}
    labels = [FLOWERS.index(all_of_them[n]) + 1 for n in range(1, 108)]
    return {
        "archive": tgz({f"jpg/image_{n:05d}.jpg": image(n) for n in all_of_them}),
        "labels": mat(labels=labels),
        "splits": mat(
            trnid=list(splits["train"]), valid=list(splits["validation"]), tstid=[107, 105, 106]
        ),
    }


def mat(**arrays: list[int]) -> bytes:
    file = io.BytesIO()
    savemat(file, {name: np.array([values], np.uint8) for name, values in arrays.items()})
    return file.getvalue()


def pets() -> dict[str, bytes]:
    images = {"Abyssinian_1": 1, "american_bulldog_1": 2, "Bengal_9": 3, "american_bulldog_2": 4}
    images |= {"Bengal_1": 5, "Bengal_in_no_list_1": 6}
    lists = {
        "annotations/README": b"#",
        "annotations/trainval.txt": b"Abyssinian_1 1 1 1\nBengal_9 3 1 2\n"
        b"american_bulldog_1 2 2 1\n",
        "annotations/test.txt": b"american_bulldog_2 2 2 1\nBengal_1 3 1 2\n",
    }
    files = {f"images/{name}.jpg": image(n) for name, n in images.items()}
    return {"archive": tgz(files | {"images/Abyssinian_1.mat": b"mat"}), "lists": tgz(lists)}


WRITERS = {
    "imagenet2012": imagenet,
    "imagenette_160px": imagenette,
    "tf_flowers": tf_flowers,
    "oxford_flowers102": oxford_flowers,
    "oxford_iiit_pet": pets,
}


def plant(name: str, folder: Path, url: str, patch) -> originals.Original:
    """Writes the archives of a set to `folder`, and has flaxzoo expect them at `url`.

    Args:
        patch: pytest's monkeypatch, or something with its `setitem` and `setattr`.
    """
    patch.setattr(layouts, "_validation_labels", lambda: VALIDATION_LABELS)
    original, files = originals.ORIGINALS[name], {}
    for key, content in WRITERS[name]().items():
        file = original.files[key].file
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files[key] = Remote(f"{url}/{file}", len(content), digest)
    parts = EXPECTED[name]
    counts = {{"validation": "val"}.get(part, part): len(images) for part, images in parts.items()}
    planted = dataclasses.replace(original, files=files, counts=counts)
    patch.setitem(originals.ORIGINALS, name, planted)
    return planted
