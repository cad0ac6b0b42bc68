"""Any file of weights to any other: for which model they are, what fits, and the file written.

    fit = identify(read_source(Path("w.pth")))
    fit.check()
    write(fit, Path("w.safetensors"))

Values and their types stay as they are; names become those that torch's twin has today.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxzoo import pretrained
from flaxzoo.adaptation import check_padding, fit, numbers_of, renaming, set_eps
from flaxzoo.convert import to_torch, torch_name
from flaxzoo.errors import UserError
from flaxzoo.layers.module import named_buffers, named_variables
from flaxzoo.models import VARIANTS, create_model, takes
from flaxzoo.models.base import Classifier
from flaxzoo.models.info import model_info, published
from flaxzoo.saved_model import config_of, write_saved
from flaxzoo.sources import Source, preparation_of
from flaxzoo.weight_writing import write_state_dict

PROBLEMS = ("missing", "left over", "of another shape", "not of floating point")


@dataclass(frozen=True)
class Key:
    """What became of one array.

    Attributes:
        key: its name in the file, "" for one that the file lacks.
        name: its name in the model, "" for one that the model lacks.
        status: "loaded", "renamed", "made" (a buffer that can be computed), "ignored" (an auxiliary
            head that the model does without), or one of `PROBLEMS`.
        shape: in the file, or of what it lacks.
        expected: the model's, where it differs.
        dtype: in the file.
    """

    key: str
    name: str
    status: str
    shape: tuple[int, ...]
    expected: tuple[int, ...] | None = None
    dtype: str = ""


@dataclass(frozen=True)
class Fit:
    """How weights fit a model that was made for their classes and channels.

    Attributes:
        source: the weights.
        model: without values.
        keys: each array of the file and of the model.
        naming: whose names the file has, "own" or "timm".
        weights: the file's arrays by the names of the model.
    """

    source: Source
    model: Classifier
    keys: tuple[Key, ...]
    naming: str
    weights: Mapping[str, np.ndarray]

    @property
    def counts(self) -> dict[str, int]:
        """How many keys there are of each status."""
        return dict(Counter(key.status for key in self.keys))

    @property
    def problems(self) -> dict[str, int]:
        """Those of `counts` for which the weights are not those of the model."""
        return {status: n for status, n in self.counts.items() if status in PROBLEMS}

    @property
    def notes(self) -> list[str]:
        """What the weights alone do not say, in sentences."""
        if self._eps != "timm" or getattr(self.model, "timm_eps", None) is None:
            return []
        return [
            f"These weights were trained with timm's batch normalisation (eps "
            f"{self.model.timm_eps:g}), which a folder keeps and a file cannot say: torchvision's "
            f"{self.model.variant} computes something else with them."
        ]

    def check(self) -> None:
        """Raises UserError where the weights are not exactly those of the model, named there."""
        if self.problems:
            parts = [
                f"{count} {status}: {', '.join(self._examples(status))}"
                for status, count in self.problems.items()
            ]
            raise UserError(
                f"the weights in {self.source.path} are not those of {self.model.variant}: "
                f"{'; '.join(parts)}"
            )
        check_padding(self.source.path, self.naming)

    def state_dict(self) -> Any:
        """Returns everything that torch's twin has, in its order, with the values of the file.

        Buffers that the file lacks are made.
        """
        state_dict, buffers = to_torch(self.model), named_buffers(self.model)
        for key in state_dict:
            state_dict[key] = self.weights[key] if key in self.weights else buffers[key].value
        return state_dict

    def _examples(self, status: str, most: int = 8) -> list[str]:
        named = [
            key.key or key.name
            if key.expected is None
            else f"{key.key} is {key.shape}, not {key.expected}"
            for key in self.keys
            if key.status == status
        ]
        return named[:most] + ["..."] * (len(named) > most)

    @property
    def _eps(self) -> str:
        return self.naming if self.source.naming == "auto" else self.source.naming


def identify(source: Source, image_size: int | None = None) -> Fit:
    """Returns the fit of the model that has exactly these names and shapes.

    Classes and channels may be any; apart from them no two variants have the same. A run and a
    saved model say which model they are of.

    Args:
        image_size: in pixels, where parameters belong to places in the image; by default the
            model's own and those of its published weights are tried.

    Raises:
        UserError: none is such; the message names the nearest.
    """
    if source.model:
        return match(source, source.model, image_size)
    fits = []
    for name in _by_size(source.weights):
        if _names_most(VARIANTS[name].func, source.weights):
            found = _tried(source, name, image_size)
            if found is not None and not found.problems:
                return found
            fits += [found] if found is not None else []
    nearest = sorted(fits, key=lambda found: sum(found.problems.values()))[:3]
    told = [f"{f.model.variant} ({_in_words(f.problems)})" for f in nearest]
    raise UserError(
        f"no model has exactly the names and shapes of {source.path}, which begin with "
        f"{', '.join(list(source.weights)[:3])}; nearest: {', '.join(told) or 'none'}."
    )


def match(source: Source, name: str, image_size: int | None = None) -> Fit:
    """Returns how weights fit variant `name`, perfectly or not.

    Args:
        image_size: see `identify`.

    Raises:
        UserError: there is no such model, or it cannot be made as the weights would have it.
    """
    sizes = [image_size]
    if image_size is None and "image_size" not in source.options and takes(name, "image_size"):
        published = {weights.image_size for weights in model_info(name).weights}
        sizes += sorted(published)
    fits = []
    for size in sizes:
        found = _fit(source, name, size)
        if not found.problems:
            return found
        fits.append(found)
    return min(fits, key=lambda found: sum(found.problems.values()))


def write(fit: Fit, out: str | Path) -> None:
    """Writes the weights, of a fit without problems.

    Args:
        out: a file of a suffix of `flaxzoo.weight_writing.WRITERS`, or a folder to be loaded by
            `flaxzoo.from_pretrained`: one that is there, or a name that ends with "/".

    Raises:
        UserError: it cannot be written.
    """
    state_dict = fit.state_dict()
    if not is_folder(out):
        write_state_dict(out, state_dict, state_dict._metadata)
        return
    set_eps(fit.model, fit._eps)
    config = config_of(fit.model, classes=fit.source.classes, preparation=_preparation(fit))
    write_saved(Path(out), config, state_dict)


def _preparation(fit: Fit) -> dict[str, Any]:
    """Returns how images are prepared, where it is known of exactly these weights, or {}."""
    path, name = Path(fit.source.path), fit.model.variant
    if fit.source.metadata is not None:
        known = pretrained.of_file(path.name, name)
        return known.preparation if known else {}
    found = preparation_of(str(path if path.is_dir() else path.parent), name)
    if not {"image_size", "mean", "std"} <= found.keys():
        return {}
    # What a run leaves open: the short side is the crop's, resized bilinearly.
    return {"resize": found["image_size"], "interpolation": "bilinear"} | found


def is_folder(out: str | Path) -> bool:
    """Returns whether `write` makes a folder of it."""
    return str(out).endswith("/") or Path(out).is_dir()


def _fit(source: Source, name: str, image_size: int | None) -> Fit:
    """Fits weights to the variant as published, and where only those differ, to their numbers."""
    size = {} if image_size is None else {"image_size": image_size}

    def made(in_channels: int, **numbers: Any) -> Fit:
        options = source.all_options(name, in_channels) | size
        model = create_model(name, in_channels=in_channels, abstract=True, **options, **numbers)
        return _compare(source, model)

    found = made(3)
    classes, channels = numbers_of(found.model, found.weights)
    own = found.model.num_classes, found.model.in_channels
    absent = sum(found.problems.get(status, 0) for status in ("missing", "left over"))
    if (classes, channels) == own or absent > len(found.keys) / 10:  # another model altogether
        return found
    return made(channels, num_classes=classes)


def _compare(source: Source, model: Classifier) -> Fit:
    shapes = {key: tuple(value.shape) for key, value in to_torch(model).items()}
    buffers = named_buffers(model).keys()
    wanted = {key: shape for key, shape in shapes.items() if key not in buffers}
    given = dict(source.weights)
    names, naming = renaming(model, given, wanted, source.load_as)
    fitted, loaded = fit(model, given, wanted, adapt=False, naming=naming)
    keys = []
    for key, name in names.items():
        value = given[key]
        status, expected = "renamed" if key != name else "loaded", None
        if name in loaded.ignored:
            status = "ignored"
        elif name not in shapes:
            status = "left over"
        elif name in wanted and not jnp.issubdtype(value.dtype, jnp.floating):
            status = "not of floating point"
        elif fitted[name].shape != shapes[name] or fitted[name].size != value.size:
            status, expected = "of another shape", shapes[name]
        known = "" if status == "left over" else name
        keys.append(Key(key, known, status, value.shape, expected, str(value.dtype)))
    absent = shapes.keys() - set(names.values())
    keys += [
        Key("", name, "made" if name in buffers else "missing", shape)
        for name, shape in shapes.items()
        if name in absent
    ]
    return Fit(source, model, tuple(keys), naming, fitted)


def _tried(source: Source, name: str, image_size: int | None) -> Fit | None:
    """Returns the fit, or None where the weights ask for a model that cannot be made."""
    try:
        return match(source, name, image_size)
    except UserError:
        return None


def _by_size(weights: Mapping[str, np.ndarray]) -> list[str]:
    """Returns all variants, those first that have about as many values as these weights.

    Most weights then fit the first that is made. Another number of classes may halve the values of
    a small model; variants of unknown size come behind those within a factor of two.
    """
    values = sum(value.size for value in weights.values())
    known = {name: int(rows[0]["parameters"]) for name, rows in published().items()}

    def distance(name: str) -> float:
        return abs(math.log(known[name] / max(values, 1))) if name in known else math.log(2)

    return sorted(VARIANTS, key=distance)


def _names_most(build: Callable, weights: Mapping[str, np.ndarray]) -> bool:
    """Returns whether the models of a class name most of their arrays as these weights do."""
    model, known, modules = _small_of(build)
    own, _ = renaming(model, weights, known, "own")
    timm, _ = renaming(model, weights, known, "timm")
    shared = sum(
        _pattern(own[key]) in known
        or _pattern(timm[key]) in known
        or _pattern(key.rpartition(".")[0]) in modules
        for key in weights
    )
    return shared > len(weights) / 2


@functools.cache
def _small_of(build: Callable) -> tuple[Classifier, set[str], set[str]]:
    """Returns a small model of a class, and the patterns of its arrays' names.

    The last are those of the modules that timm calls otherwise, by timm's names.
    """
    names = [name for name in VARIANTS if VARIANTS[name].func is build]
    small = next((name for name in names if name.startswith("test_") or "tiny" in name), names[0])
    model = create_model(small, abstract=True)
    keys = {torch_name(name) for name in named_variables(model)} | named_buffers(model).keys()
    known, modules = ({_pattern(k) for k in names} for names in (keys, model.timm_keys()))
    return model, known, modules


def _pattern(name: str) -> str:
    """Returns a name without its numbers: "layer1.0.conv1" -> "layer#.#.conv#"."""
    return re.sub(r"\d+", "#", name)


def _in_words(problems: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in problems.items())
