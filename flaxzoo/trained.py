"""Trained models by reference: of a run, a saved model, a file of weights, or published.

What evaluation, prediction, explanation and export begin with. A run and a folder of
`save_pretrained` say themselves how the model is built and how images are prepared; of published
weights that is known; of other files it is looked up by the model, which their names and shapes
tell, or the reference does: "resnet50=weights.pth".
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flaxzoo import data, pretrained
from flaxzoo.adaptation import fit, numbers_of, set_eps
from flaxzoo.arguments import nearby
from flaxzoo.checkpoint import saved_steps
from flaxzoo.config import PHOTOGRAPHS, Config, DataConfig
from flaxzoo.conversion import identify
from flaxzoo.convert import load_torch, to_torch
from flaxzoo.data.transforms import Preparation
from flaxzoo.errors import UserError, unknown
from flaxzoo.json_text import parse_json
from flaxzoo.models import VARIANTS, create_model
from flaxzoo.models.base import Classifier
from flaxzoo.saved_model import is_saved
from flaxzoo.sources import Source, open_source, read_json, read_source
from flaxzoo.training.feed import fill, stored_size
from flaxzoo.training.init_from import model_options
from flaxzoo.training.saved_run import workdir_of
from flaxzoo.training.trainer import compute_dtype
from flaxzoo.weight_files import SUFFIXES

KINDS = ("raw", "ema")  # of the weights in a checkpoint: those that were trained, their average


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with weights, and the images that it expects.

    Attributes:
        name: the reference it was asked for by.
        path: the file or checkpoint that this stood for.
        config: of the run; of a file, one that a run with its weights would have. `data` says how
            images are prepared, with nothing left open.
        model: in evaluation mode.
        classes: their names in the order of the logits; None where nobody kept them.
        workdir: of the run; None for a file.
        kind: which weights of the checkpoint they are, "raw" or "ema"; "" for a file.
        options: that the model was created with, beside `num_classes` and `in_channels`.
    """

    name: str
    path: Path
    config: Config
    model: Classifier
    classes: tuple[str, ...] | None
    workdir: Path | None
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def preparation(self) -> Preparation:
        """What is done to the pixels of a file before `flaxzoo.augment.normalize`."""
        prepared = self.config.data
        return Preparation(
            prepared.image_size, prepared.resize, prepared.interpolation, prepared.mean,
            prepared.std,
        )  # fmt: skip

    def class_name(self, index: int) -> str:
        """Returns the name of a class, or its number where names are not known."""
        return str(index) if self.classes is None else self.classes[index]

    def class_index(self, text: str) -> int:
        """Returns the class that `text` names, or counts to from 0; names go before.

        Raises:
            UserError: there is no such class.
        """
        if self.classes is not None and text in self.classes:
            return self.classes.index(text)
        if text.isdecimal() and int(text) < self.model.num_classes:
            return int(text)
        last = self.model.num_classes - 1
        raise unknown("class", text, self.classes or (f"0 to {last}",))


def load_trained(
    reference: str, *, kind: str = "", image_size: int = 0, source: str = "folder"
) -> Trained:
    """Returns the trained model that `reference` stands for.

    Args:
        reference: the folder of a run (its best checkpoint by validation accuracy) or of one of its
            checkpoints/STEP; one of `save_pretrained`; a file of weights, with the name of its
            model before it ("resnet50=FILE") where its names and shapes would fit several; or the
            name of published weights, "resnet50" or "timm/resnet50.a1_in1k", which are looked for
            where torch and the Hugging Face hub keep them, and downloaded where they are not.
        kind: of a checkpoint's weights: one of KINDS, or "" for those that the run reported, the
            average where it kept one.
        image_size: height and width in pixels; 0 for that of the run or of the published weights.
        source: the data set that it is for; it decides how images are normalised, and for arrays
            their size, where nothing is published about a file.

    Raises:
        UserError: there is no such run, checkpoint, file or name, or its weights do not fit.
    """
    if kind not in ("", *KINDS):
        raise unknown("kind of weights", kind, KINDS)
    variant, of = _split(reference)
    workdir = _workdir(of, variant)
    if workdir is not None:
        config = read_config(workdir)
        kind = kind or ("ema" if config.ema.decay else "raw")
    elif kind == "ema":
        raise UserError(f"{reference} is no run: averaged weights are kept in checkpoints alone.")
    else:
        config = Config(
            init_from=of, data=DataConfig(source=source, mean=(), std=()), dtype="float32"
        )
    weights, variant = _read(of, variant, kind)
    number, channels = outputs_and_channels(variant, weights.weights)
    model_config = dataclasses.replace(config.model, name=variant, num_classes=number)
    config = dataclasses.replace(config, model=model_config)
    config = _prepared(config, channels, image_size, weights.options.get("image_size", 0))
    options = weights.decided(variant, channels) | model_options(config)
    model = create_model(
        variant,
        num_classes=number,
        in_channels=channels,
        dtype=compute_dtype(config.dtype),
        **options,
    )
    loaded = load_torch(model, weights.weights, naming=weights.load_as, source_name=weights.path)
    set_eps(model, loaded.naming if weights.naming == "auto" else weights.naming)
    model.eval()
    return Trained(
        reference, Path(weights.path), config, model, weights.classes or None, workdir,
        "" if workdir is None else kind, options,
    )  # fmt: skip


def find_trained(references: Sequence[str]) -> list[str]:
    """Returns a reference for each model: folders of several are replaced by what they hold.

    That is the runs in a folder, its saved models and its files of weights, sorted by name; or of
    RUN/checkpoints all of them, by step.

    Raises:
        UserError: a folder holds nothing of that kind.
    """
    found = []
    for reference in references:
        path = Path(reference).expanduser()
        if pretrained.is_name(reference) or not path.is_dir():
            found.append(reference)
        elif path.absolute().name == "checkpoints" and saved_steps(path):
            found += [str(path / str(step)) for step in sorted(saved_steps(path))]
        elif (path / "checkpoints").is_dir() or path.name.isdigit() or is_saved(path):
            found.append(reference)
        else:
            found += _inside(path)
    return found


def read_class_names(path: Path, number: int) -> tuple[str, ...]:
    """Returns the names in a file: a JSON list of them, or one a line.

    Raises:
        UserError: it cannot be read, or has another number of them than `number`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        names = parse_json(text) if text.lstrip().startswith("[") else text.splitlines()
    except FileNotFoundError:
        raise UserError(f"no such file of names of classes: {path}{nearby(path)}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read names of classes in {path}: {error}") from None
    if len(names) != number or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} has {len(names)} names; the model has {number} classes.")
    return tuple(names)


def _inside(folder: Path) -> list[str]:
    held = sorted(folder.iterdir())
    found = [
        str(path) for path in held
        if saved_steps(path / "checkpoints")
        or is_saved(path)
        or path.suffix.lower() in SUFFIXES
    ]  # fmt: skip
    if not found:
        names = ", ".join(path.name for path in held[:8]) or "nothing"
        raise UserError(
            f"{folder} has no checkpoint; expected the folder of a run or of several, "
            f"checkpoints/STEP, saved models or files of weights; it holds {names}."
        )
    return found


def _split(reference: str) -> tuple[str, str]:
    """Returns (model, what has its weights) of "MODEL=PATH"; without a model, ""."""
    variant, equals, rest = reference.partition("=")
    return (variant, rest) if equals and rest and variant in VARIANTS else ("", reference)


def _workdir(of: str, variant: str) -> Path | None:
    """Returns the folder of the run that `of` names, None where it names something else."""
    path = Path(of).expanduser()
    named = pretrained.is_name(of, variant)
    return None if named or not path.is_dir() or is_saved(path) else workdir_of(path)


def _read(of: str, variant: str, kind: str) -> tuple[Source, str]:
    """Returns the weights that `of` names, and the variant that they are of."""
    path = Path(of).expanduser()
    if pretrained.is_name(of, variant):
        variant = variant or pretrained.named_model(of)
        source = open_source(of, variant)
    elif path.exists():
        source = read_source(path, "MODEL", variant, kind)
    else:
        if of in VARIANTS:
            pretrained.choose(of, of)  # raises: nothing is published of it
        raise UserError(
            f"there is no run, no file and nothing published by the name {of!r}; expected the "
            "folder of a run, MODEL=FILE, or a name like resnet50 or resnet50.IMAGENET1K_V1"
            f"{nearby(of)}"
        )
    variant = variant or source.model or pretrained.model_of_file(Path(source.path).name) or ""
    return source, variant or identify(source).model.variant


def outputs_and_channels(variant: str, weights: Mapping[str, Any]) -> tuple[int, int]:
    """Returns the length of the logits and the channels of the images that weights are made for."""
    model = create_model(variant, abstract=True)
    shapes = {key: value.shape for key, value in to_torch(model).items()}
    arrays = {key: value for key, value in weights.items() if isinstance(value, np.ndarray)}
    known, _ = fit(model, arrays, shapes, adapt=False, naming="auto")
    return numbers_of(model, known)


def read_config(workdir: Path) -> Config:
    """Returns the config of the run in `workdir`.

    Raises:
        UserError: it is no run, its config.json is damaged, or a later version's.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} is no run: it has no config.json.")
    return _typed(Config, read_json(path), str(path))


def _typed(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """Makes a dataclass of what JSON made of one: groups are dicts, tuples are lists."""
    known = {field.name: field.type for field in dataclasses.fields(kind)}
    if unread := values.keys() - known.keys():
        raise UserError(f"{where} has settings that this version does not know: {min(unread)}.")
    groups = {name: of for name, of in known.items() if dataclasses.is_dataclass(of)}
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name in groups:
            fields[name] = _typed(groups[name], value, where)  # pyright: ignore[reportArgumentType]
        else:
            fields[name] = tuple(value) if isinstance(value, list) else value
    return kind(**fields)


def _prepared(config: Config, channels: int, image_size: int, otherwise: int) -> Config:
    """Returns `config` with all in `data` that says how images are prepared.

    A run on arrays, which are not cropped, gets files whose short side is made the size of these:
    with square ones that is the same.

    Args:
        image_size: in pixels; 0 for that of the run or of the weights.
        otherwise: where these do not say it.
    """
    source = config.data
    scaled = round(source.resize * image_size / source.image_size) if source.image_size else 0
    if image_size:
        source = dataclasses.replace(source, image_size=image_size, resize=scaled)
    arrays = source.source.partition("=")[0] not in PHOTOGRAPHS
    stored = source.image_size or _stored(source) if arrays else None
    filled = fill(dataclasses.replace(config, data=source), channels, stored)
    size = filled.image_size or otherwise
    if not size:
        raise UserError(
            f"nothing says which size of image {config.init_from} takes: set --image-size."
        )
    resize = size if arrays else filled.resize or math.floor(size / 0.875)
    return dataclasses.replace(
        config, data=dataclasses.replace(filled, image_size=size, resize=resize)
    )


def _stored(source: DataConfig) -> int | None:
    """Returns the size of the arrays that a run was trained on."""
    try:
        dataset = data.load(
            source.source, data_dir=source.data_dir or None, validation=0, download=False
        )
    except UserError as error:
        raise UserError(
            f"the size of the images is that of {source.source}, or set it with --image-size; "
            f"{error}"
        ) from None
    return stored_size(dataset)
