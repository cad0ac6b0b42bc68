"""Published weights by name: found where torch and the Hugging Face hub keep them, or downloaded.

Which files exist, and where, is data: `flaxzoo.model_info(name).weights`.
"""

import os
import re
from pathlib import Path

from flaxzoo.data.download import download
from flaxzoo.errors import UserError, unknown
from flaxzoo.models.info import Weights, model_info, published

_HUB = "https://huggingface.co/"


def find(name: str, model: str) -> Path:
    """Returns the file of the published weights `name`, which is downloaded where it is not yet.

    Args:
        name: "imagenet" for the default of `model`, its name for the same, or with the publisher's
            name of the weights behind it: "resnet50.IMAGENET1K_V1".
        model: the variant that is to have them.

    Raises:
        UserError: there are no such weights, they are another model's, or they are neither on this
            machine nor to be had.
    """
    weights = choose(name, model)
    shared, own = _places(weights)
    for folder, pattern in (shared, own):
        if found := sorted(folder.glob(pattern)):
            return found[-1]
    return download(
        _url(weights),
        own[0] / own[1],
        sha256=_first_digits(weights.url),
        advice=f" or at {shared[0] / shared[1]}, or give the path of a file instead of {name!r}",
        elsewhere="set XDG_CACHE_HOME, or give the path of a file of weights",
    )


def is_name(text: str) -> bool:
    """Returns whether weights are published under exactly this name."""
    model, dot, version = text.partition(".")
    names = [row["weights"] for row in published().get(model, []) if row["weights"]]
    return text == "imagenet" or (version in names if dot else bool(names))


def choose(name: str, model: str) -> Weights:
    """Returns what is published as `name`: see `find`.

    The default is torchvision's: the newest that it trained on ImageNet; or, where another library
    has the model, the most accurate with 1,000 classes.
    """
    wanted, dot, version = (model, "", "") if name == "imagenet" else name.partition(".")
    rows = {
        m: [row["weights"] for row in rows if row["weights"]] for m, rows in published().items()
    }
    if not rows.get(wanted):
        if wanted == model:
            raise UserError(
                f"no weights of {model} are published that flaxzoo knows of: give the path of a "
                "file or the folder of a run."
            )
        known = ["imagenet", *(m for m, names in rows.items() if names)]
        raise unknown("published weights", name, known)
    if wanted != model:
        raise UserError(
            f"{name!r} names weights of {wanted}, but the model is {model}: "
            f"set config.model.name={wanted}, or take the weights 'imagenet' of {model}."
        )
    of_model = {weights.name: weights for weights in model_info(model).weights}
    if dot:
        if version not in of_model:
            raise unknown(
                f"weights of {model}", name, [f"{model}.{version}" for version in of_model]
            )
        return of_model[version]
    with_head = [w for w in of_model.values() if w.classes == 1000] or list(of_model.values())
    plain = [w for w in with_head if re.fullmatch(r"IMAGENET1K_V\d+", w.name)]
    return max(plain, key=lambda w: w.name) if plain else max(with_head, key=lambda w: w.top1 or 0)


def of_file(file_name: str, model: str) -> Weights | None:
    """Returns what is published of `model` in a file of that name; of another file, the default.

    None where nothing of `model` is published.
    """
    known = model_info(model).weights
    for weights in known:
        if file_name in {name for _, name in _places(weights)}:
            return weights
    return choose("imagenet", model) if known else None


def model_of_file(file_name: str) -> str | None:
    """Returns the model whose published weights are in a file of that name; None of another."""
    for model in published():
        for weights in model_info(model).weights:
            if file_name in {name for _, name in _places(weights)}:
                return model
    return None


def _places(weights: Weights) -> list[tuple[Path, str]]:
    """Returns folders, and what the file is called there; the last is flaxzoo's own."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    if weights.url.startswith(_HUB):
        repository = weights.url.removeprefix(_HUB)
        home = os.environ.get("HF_HOME") or cache / "huggingface"
        hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
        folder = hub / f"models--{repository.replace('/', '--')}" / "snapshots"
        shared, name = (folder, "*/model.safetensors"), f"{repository.split('/')[-1]}.safetensors"
    else:
        home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
        name = weights.url.rsplit("/", 1)[-1]
        shared = (home / "hub" / "checkpoints", name)
    return [shared, (cache / "flaxzoo" / "weights", name)]


def _url(weights: Weights) -> str:
    """Returns the address of the file, also where the published one is that of its page."""
    if weights.url.startswith(_HUB):
        return f"{weights.url}/resolve/main/model.safetensors"
    return weights.url


def _first_digits(url: str) -> str:
    """Returns the part of the SHA-256 that torch's publishers put into a file's name, or ""."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    return match[1] if match else ""
