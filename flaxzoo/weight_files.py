"""Reads files of weights into NumPy arrays: torch's own, safetensors and NumPy's.

They come from strangers. No code in them is run, memory is taken for what a file holds and not for
what it claims, and whatever is wrong with one is said in one sentence.
"""

import collections
import json
import re
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxzoo.errors import UserError
from flaxzoo.torch_files import LEGACY_START, TAR_START, read_legacy, read_tar, read_zip
from flaxzoo.zip_files import open_npz

# Where a training checkpoint keeps its weights, the averaged ones first, as timm prefers them.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".tar", ".ckpt", ".th", ".npz")
METADATA_KEY = "torch_metadata"  # of safetensors' header: StateDict.metadata as JSON
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and of torch.compile
_MAX_HEADER = 2**22  # bytes of safetensors' header: one of a thousand arrays has a tenth of a MB
# What views that are no plain pieces of a file may become when they are copied: so many times the
# file's size, and as many bytes besides.
_MAX_COPIES, _MAX_COPIED = 2, 2**26


class StateDict(dict[str, np.ndarray]):
    """Arrays by torch's names.

    Attributes:
        metadata: what torch stores beside them by module, {"": {"version": 2}}, or nothing.
    """

    metadata: Mapping[str, Any] = {}


def read_state_dict(path: str | Path) -> StateDict:
    """Returns the tensors in a file of weights, by name.

    Reads what any torch.save has written, `.safetensors` and `.npz`. A training checkpoint may
    hold the weights under `state_dict_ema`, `model_ema`, `state_dict` or `model`; the first of
    these that is there is taken. The prefixes `module.` and `_orig_mod.` are removed.

    Raises:
        UserError: the file is not there, cannot be read, is of another kind, or holds no dict of
            tensors.
    """
    path = Path(path)
    try:
        if stat.S_IFMT(path.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"cannot read the weights {path}: it is a pipe or a device, no file.")
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}.") from None
    if start.startswith(b"PK\x03\x04"):
        read = _read_npz if path.suffix == ".npz" else read_zip
    elif start.startswith(LEGACY_START):
        read = read_legacy
    elif path.suffix == ".safetensors":
        read = _read_safetensors
    elif start.startswith(TAR_START[1], TAR_START[0]):
        read = read_tar
    else:
        raise UserError(f"{path} is neither a file that torch.save wrote nor .safetensors or .npz.")
    try:
        return _checked(path, read(path))
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes the parsers raise
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is damaged or not a file of weights: {reason}") from None


def without_prefixes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Removes what DataParallel and torch.compile put before every name, and what goes with it.

    `n_averaged` is the counter of torch.optim.swa_utils.AveragedModel, which adds `module.`, too.

    Raises:
        UserError: without it, two have one name.
    """
    named = {_PREFIXES.sub("", key): value for key, value in weights.items()}
    if len(named) < len(weights):
        counts = collections.Counter(_PREFIXES.sub("", key) for key in weights)
        raise UserError(
            f"the weights have {counts.most_common(1)[0][0]} twice, with and without module. or "
            "_orig_mod. before it."
        )
    if named.keys() != weights.keys():
        named.pop("n_averaged", None)
    return named


def _checked(path: Path, content: Any) -> StateDict:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors by name.")
    if odd := next((key for key in content if not key.isprintable()), None):
        raise UserError(f"{path} has a name that is no plain text: {ascii(odd)[:80]}.")
    if odd := [k for k, v in content.items() if not isinstance(v, np.ndarray)]:
        raise UserError(
            f"{path} holds other things than tensors: {', '.join(odd[:8])}; expected a state_dict, "
            f"alone or under one of {', '.join(_WRAPPERS)}."
        )
    copied = sum(v.nbytes for v in content.values() if not v.flags.c_contiguous)
    if copied > _MAX_COPIES * path.stat().st_size + _MAX_COPIED:
        raise UserError(f"{path} is far smaller than the {copied:,} bytes of tensors it describes.")
    state_dict = StateDict(
        {
            key: np.ascontiguousarray(v) if v.ndim else v
            for key, v in without_prefixes(content).items()
        }
    )
    metadata = getattr(content, "_metadata", None)
    if isinstance(metadata, dict):
        versions = {
            k: v for k, v in metadata.items()
            if isinstance(k, str) and isinstance(v, dict) and type(v.get("version", 0)) is int
        }  # fmt: skip
        state_dict.metadata = without_prefixes(versions)
    return state_dict


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    _check_header(path)
    with safe_open(path, framework="np") as file:
        keys = file.keys()  # it cannot be iterated over itself
        content: Any = collections.OrderedDict((key, file.get_tensor(key)) for key in keys)
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text:
        content._metadata = json.loads(text)
    return content


def _check_header(path: Path) -> None:
    """Raises ValueError or EOFError where safetensors' library would take what it should not.

    Of two arrays of one name it takes the last, and of a header whatever size is written.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAX_HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        json.loads(file.read(length), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        (key, _), *_ = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"its header has {ascii(key)[:80]} twice")
    return made


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with open_npz(path) as file:
        return {name: file[name] for name in file.files}
