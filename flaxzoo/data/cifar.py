"""CIFAR-10 and CIFAR-100 in their two original forms, packed or unpacked: binary and Python."""

import dataclasses
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flaxzoo.errors import UserError
from flaxzoo.pickles import SafeUnpickler

Arrays = tuple[np.ndarray, np.ndarray]
_PIXELS = 3 * 32 * 32
MAX_BYTES = 2**29  # of an unpacked archive: CIFAR's have a third of that


@dataclasses.dataclass(frozen=True)
class Form:
    """File names of one of the two sets; those of the binary form come first.

    Attributes:
        folders, archives: the unpacked and the packed set.
        binary, python: the files of each split in each form.
        names: the file with the class names in each form, and its key in the latter.
        label_bytes: before each image of the binary form; the last of them is the label.
        label_key: of the Python form.
    """

    folders: tuple[str, str]
    archives: tuple[str, str]
    binary: dict[str, tuple[str, ...]]
    python: dict[str, tuple[str, ...]]
    names: tuple[str, str, str]
    label_bytes: int
    label_key: str


FORMS = {
    "cifar10": Form(
        folders=("cifar-10-batches-bin", "cifar-10-batches-py"),
        archives=("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
        binary={
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        python={
            "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
            "test": ("test_batch",),
        },
        names=("batches.meta.txt", "batches.meta", "label_names"),
        label_bytes=1,
        label_key="labels",
    ),
    "cifar100": Form(
        folders=("cifar-100-binary", "cifar-100-python"),
        archives=("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"),
        binary={"train": ("train.bin",), "test": ("test.bin",)},
        python={"train": ("train",), "test": ("test",)},
        names=("fine_label_names.txt", "meta", "fine_label_names"),
        label_bytes=2,
        label_key="fine_labels",
    ),
}


def read(path: Path, form: Form) -> tuple[tuple[str, ...], dict[str, Arrays]]:
    """Reads a folder or archive of either form.

    Returns:
        The class names, and {"train": (uint8 [n, 32, 32, 3], labels [n]), "test": ...}.

    Raises:
        UserError: a file in it is missing or damaged; the message names it.
    """
    is_binary = path.name in (form.folders[0], form.archives[0])
    files = form.binary if is_binary else form.python
    parse: Callable[[bytes, Form], Arrays] = _binary if is_binary else _python
    names = form.names[0 if is_binary else 1]
    wanted = [names, *(file for split in files.values() for file in split)]
    content = _contents(path, wanted)
    arrays = {}
    for split, members in files.items():
        batches = [_named(parse, f"{path}/{file}", content[file], form) for file in members]
        images = np.concatenate([x for x, _ in batches]).reshape(-1, 3, 32, 32)
        arrays[split] = images.transpose(0, 2, 3, 1).copy(), np.concatenate([y for _, y in batches])
    read_names = _text_names if is_binary else _pickled_names
    return _named(read_names, f"{path}/{names}", content[names], form), arrays


def _named(parse: Callable, name: str, content: bytes, form: Form):
    """Calls parse(content, form) and names the file in what it raises."""
    try:
        return parse(content, form)
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"cannot read {name}: {error!s}") from error


def _contents(path: Path, files: list[str]) -> dict[str, bytes]:
    """Returns what is in each of the files of a folder or tar archive."""
    try:
        if path.is_dir():
            content = {file: (path / file).read_bytes() for file in files if (path / file).exists()}
        else:
            content = {}
            with tarfile.open(path) as archive:  # read in its own order: it is one compressed run
                for member in archive:
                    if member.offset_data + member.size > MAX_BYTES:
                        raise tarfile.TarError(f"it unpacks to more than {MAX_BYTES:,} bytes")
                    file = member.name.rsplit("/", 1)[-1]
                    plain = member.isreg() and not member.issparse()
                    stream = archive.extractfile(member) if plain and file in files else None
                    if stream is not None:
                        content[file] = stream.read()
    except Exception as error:  # tarfile and what decompresses raise many kinds
        reason = str(error).partition("\n")[0]  # tarfile has a line for each way to unpack
        raise UserError(f"cannot read {path}: {reason}") from error
    if missing := [file for file in files if file not in content]:
        raise UserError(f"{path} lacks {', '.join(missing)}")
    return content


def _binary(content: bytes, form: Form) -> Arrays:
    record = form.label_bytes + _PIXELS
    if not content or len(content) % record:
        raise ValueError(f"{len(content)} bytes are no whole number of {record}-byte records")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, form.label_bytes :], rows[:, form.label_bytes - 1].astype(np.int32)


def _text_names(content: bytes, form: Form) -> tuple[str, ...]:
    return tuple(line for line in content.decode("ascii").split("\n") if line.strip())


def _python(content: bytes, form: Form) -> Arrays:
    batch = _unpickle(content)
    images, labels = batch["data"].content, np.array(batch[form.label_key], np.int32)
    if images.shape != (len(labels), _PIXELS):
        raise ValueError(
            f"data is uint8 {list(images.shape)}; expected uint8 [{len(labels)}, {_PIXELS}]"
        )
    return images, labels


def _pickled_names(content: bytes, form: Form) -> tuple[str, ...]:
    return tuple(_unpickle(content)[form.names[2]])


class _Bytes:
    """Stands for the type of an array, which must be uint8."""

    def __init__(self, name: str, *_: object):
        if name not in ("u1", "|u1"):
            raise ValueError(f"an array of {name}; expected uint8")


class _Array:
    """Stands for an array until its state comes.

    NumPy's own takes from a pickle what makes it read memory that is not its own.
    """

    def __init__(self, *_: object):
        self.content = np.empty(0, np.uint8)

    def set(self, version: int, shape: tuple[int, ...], dtype: _Bytes, columns_first: bool, data):
        raw = data.encode("latin1") if isinstance(data, str) else data
        order = "F" if columns_first else "C"
        self.content = np.frombuffer(raw, np.uint8).reshape(shape, order=order)


class _Unpickler(SafeUnpickler):
    """Rebuilds arrays of bytes; a pickle that asks for more could run any program."""

    def find_class(self, module: str, name: str):
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _Array
        if (module, name) == ("numpy", "ndarray"):
            return None
        if (module, name) == ("numpy", "dtype"):
            return _Bytes
        raise ValueError(f"{ascii(f'{module}.{name}')[1:-1]} has no place in a CIFAR file")

    def set_state(self, made: object, state: tuple) -> None:
        if isinstance(made, _Array):
            made.set(*state)
        elif not isinstance(made, _Bytes):
            super().set_state(made, state)


def _unpickle(content: bytes):
    return _Unpickler(io.BytesIO(content), encoding="latin1", bulk=True).load()
