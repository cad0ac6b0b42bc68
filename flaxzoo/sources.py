"""Weights by whatever names them: a file, a run, a folder of save_pretrained, a published name.

`flaxzoo.create_model(pretrained=...)`, `config.init_from` and `flaxzoo convert` all ask here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flaxzoo import pretrained
from flaxzoo.arguments import nearby
from flaxzoo.arguments import path as checked_path
from flaxzoo.errors import UserError, shown
from flaxzoo.json_text import parse_json
from flaxzoo.models import options_of, takes
from flaxzoo.models.info import PREPARATION, model_info
from flaxzoo.weight_files import SUFFIXES, read_state_dict


@dataclass(frozen=True)
class Source:
    """Weights by torch's names and in torch's layout, and what is known of their model.

    Attributes:
        path: the file or the checkpoint that they were read from.
        metadata: what torch keeps beside them in a file; None for those of a run or a saved model,
            which have our names, whatever batch normalisation they need.
        naming: whose names they have, "auto" for files; of others, whose eps.
        model: the variant, or "" where nothing says it.
        options: of the model, as weights or the folder say.
        written: `config.model.stem` and `.options` of the run that they are of.
        image_size: of that run, in pixels.
        classes: their names, where they are known.
        num_classes: length of the logits, where more than the weights say it.
    """

    path: str
    weights: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any] | None = None
    naming: str = "auto"
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    classes: tuple[str, ...] = ()
    num_classes: int | None = None

    @property
    def load_as(self) -> str:
        """The `naming` of `load_torch`."""
        return "auto" if self.metadata is not None else "own"

    def decided(self, name: str, in_channels: object) -> dict[str, Any]:
        """Returns the options of variant `name` that the weights decide."""
        if self.metadata is not None:
            return options_of(name, self.weights, self.metadata, in_channels)
        options = dict(self.options)
        if in_channels != 3:  # what it changes are the means of three channels
            options.pop("transform_input", None)
        return options

    def all_options(self, name: str, in_channels: object) -> dict[str, Any]:
        """Returns `decided`, and what the config of the run wrote."""
        from flaxzoo.training.saved_run import written_options

        written = written_options(self.written.get("options", ()))
        if stem := self.written.get("stem"):
            written["stem"] = stem
        if self.image_size and takes(name, "image_size"):
            written["image_size"] = self.image_size
        return self.decided(name, in_channels) | written


def open_source(given: object, model: str, what: str = "pretrained") -> Source:
    """Reads the weights that `given` names.

    Args:
        given: True or "imagenet" for the default of `model`; the name of published weights (see
            `flaxzoo.pretrained.find`); or the path of a file of weights, of a run, of one of its
            checkpoints or of a folder of save_pretrained.
        model: the variant that is to have them.
        what: the option that `given` is of, for messages.

    Raises:
        UserError: there are no such weights, they cannot be read or had, or they are another
            model's.
    """
    if given is True:
        given = "imagenet"
    if not isinstance(given, str | Path):
        raise UserError(
            f"{what} takes True, the name of published weights, or the path of a file of weights, "
            f"a run or a saved model; got {shown(given)}."
        )
    if isinstance(given, str) and pretrained.is_name(given, model):
        # whatever lies here under that name: ./resnet50 is a path
        return _file_source(pretrained.find(given, model))
    path = checked_path(what, given)
    if not path.exists():
        if "/" in str(given) or path.suffix.lower() in SUFFIXES:
            raise _no_such(path, what)
        pretrained.choose(str(given), model)  # raises, with the nearest names
    return read_source(path, what, model)


def read_source(path: Path, what: str = "pretrained", model: str = "", kind: str = "") -> Source:
    """Reads a file of weights, a run, one of its checkpoints or a folder of save_pretrained.

    Args:
        what: the option that `path` is of, for messages.
        model: the variant that is to have them, where that is decided.
        kind: of a run's weights: see `flaxzoo.checkpoint.read_weights`.

    Raises:
        UserError: it cannot be read, or is another model's.
    """
    from flaxzoo import saved_model

    if not path.exists():
        raise _no_such(path, what)
    if not path.is_dir():
        return _file_source(path)
    if saved_model.is_saved(path):
        source, kind = saved_model.read_saved(path), "a saved"
    else:
        from flaxzoo.training.saved_run import read_run, workdir_of

        source, kind = read_run(path, what, kind), "a run of"
        path = workdir_of(path)
    if model and source.model and source.model != model:
        raise UserError(
            f"{path} is {kind} {source.model}, but the model is {model}: "
            f"{_other(what, source.model)}, or start from other weights."
        )
    return source


def preparation_of(given: str, model: str) -> dict[str, Any]:
    """Returns the fields of DataConfig that say how images were prepared for certain weights.

    They are published, or those of the run or saved model that the weights are of; for a file of a
    name that is not published, those of the model's own weights. {} where nothing is known.

    Raises:
        UserError: `given` names no weights of that model.
    """
    from flaxzoo import saved_model

    path = Path(given).expanduser()
    if pretrained.is_name(given, model):
        return pretrained.preparation(given, model)
    if saved_model.is_saved(path):
        return saved_model.read_config(path).preparation
    if path.is_dir():
        return _preparation_of_run(path, model)
    weights = pretrained.of_file(path.name, model)
    if weights is None and model_info(model).weights:
        weights = pretrained.choose("imagenet", model)
    return weights.preparation if weights else {}


def _preparation_of_run(path: Path, model: str) -> dict[str, Any]:
    from flaxzoo.training.saved_run import workdir_of

    file = workdir_of(path) / "config.json"
    saved = read_json(file) if file.exists() else {}
    before = preparation_of(saved["init_from"], model) if saved.get("init_from") else {}
    values = {name: saved.get("data", {}).get(name) for name in PREPARATION}
    return before | {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items() if value
    }  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        content = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no object.")
    return content


def _file_source(path: Path) -> Source:
    weights = read_state_dict(path)
    return Source(str(path), weights, weights.metadata)


def _other(what: str, model: str) -> str:
    return f"set config.model.name={model}" if what.startswith("config.") else f"ask for {model}"


def _no_such(path: Path, what: str) -> UserError:
    return UserError(f"{what}: there is no file or folder {str(path)!r}{nearby(path)}")
