"""Published weights by name: found where torch and the Hugging Face hub keep them, or downloaded.

Which files exist, and where, is data: `flaxzoo.model_info(name).weights`.
"""

import math
import os
import re
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from flaxzoo.data.download import download, read_text
from flaxzoo.errors import UserError, unknown
from flaxzoo.json_text import parse_json
from flaxzoo.models.info import Weights, model_info, published
from flaxzoo.weight_files import SUFFIXES
from flaxzoo.weight_writing import written

_HUB = "https://huggingface.co/"
_ON_HUB = re.compile(r"timm/[\w.-]+")


def find(name: str, model: str) -> Path:
    """Returns the file of the published weights `name`, which is downloaded where it is not yet.

    Args:
        name: "imagenet" for the default of `model`, its name for the same, the publisher's name of
            certain weights of `model`, "IMAGENET1K_V1", also with the name of the model before it,
            "resnet50.IMAGENET1K_V1", or a repository of timm's at the Hugging Face hub,
            "timm/resnet50.a1_in1k".
        model: the variant that is to have them.

    Raises:
        UserError: there are no such weights, they are another model's, or they are neither on this
            machine nor to be had.
    """
    url = _HUB + name if on_hub(name) else choose(name, model).url
    if found := local(url):
        return found
    shared, own = _places(url)
    advice = f" or at {shared[0] / shared[1]}, or give the path of a file instead of {name!r}"
    sha256, size = _of_hub(url, advice) if url.startswith(_HUB) else (_first_digits(url), None)
    return download(
        _file_url(url),
        own[0] / own[1],
        sha256=sha256,
        size=size,
        advice=advice,
        elsewhere="set XDG_CACHE_HOME, or give the path of a file of weights",
    )


def preparation(name: str, model: str) -> dict[str, Any]:
    """Returns how images are prepared for the published weights `name`: see `ModelInfo.weights`.

    Of a repository at the hub that no variant has among its weights, timm's config.json there says
    it, which is kept beside the weights.

    Args:
        name, model: see `find`.

    Raises:
        UserError: there are no such weights; the config.json cannot be had, or is none of timm's.
    """
    if not on_hub(name):
        return choose(name, model).preparation
    url = _HUB + name
    if known := next((w for w in model_info(model).weights if w.url == url), None):
        return known.preparation
    path = local(url)
    beside = path.with_name("config.json") if path else None
    own, pattern = _places(url)[-1]
    kept = (own / pattern).with_suffix(".json")
    found = next((p for p in (beside, kept) if p and p.is_file()), None)
    address = _file_url(url, file="config.json")
    text = found.read_text("utf-8") if found else read_text(address, 1 << 16, advice=f": {kept}")
    values = _timm_preparation(text, str(found or address))
    if found is None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with written(kept) as part:
            part.write_text(text, "utf-8")
    return values


def _timm_preparation(text: str, where: str) -> dict[str, Any]:
    try:
        config = parse_json(text)["pretrained_cfg"]
        size = int(config["input_size"][-1])
        return {
            "image_size": size,
            "resize": math.floor(size / config["crop_pct"]),
            "interpolation": str(config["interpolation"]),
            "mean": tuple(map(float, config["mean"])),
            "std": tuple(map(float, config["std"])),
        }
    except (ValueError, LookupError, TypeError, ArithmeticError):
        raise UserError(
            f"{where} is no config.json of timm's, with input_size, crop_pct, interpolation, mean "
            "and std in its pretrained_cfg; it says how images are prepared."
        ) from None


def listed(pattern: str = "*") -> list[dict[str, Any]]:
    """Returns a row for each published file whose model, or model.weights, matches a shell pattern.

    Its keys: model, weights, top1 (percent, of ImageNet), classes, image_size (pixels), megabytes
    (10^6 bytes, of the file, or of its parameters where it is not here), sha256 (the digits that
    are known), path (on this machine, or None), local ("yes" or "") and url.

    Raises:
        UserError: there is none.
    """
    rows = []
    for model, published_rows in published().items():
        for row, weights in zip(
            [row for row in published_rows if row["weights"]],
            model_info(model).weights,
            strict=True,
        ):
            if not any(map(partial(fnmatchcase, pat=pattern), (model, f"{model}.{weights.name}"))):
                continue
            path = local(weights.url)
            size = path.stat().st_size if path else 4 * int(row["parameters"] or 0)
            rows.append(
                {
                    "model": model,
                    "weights": weights.name,
                    "top1": weights.top1,
                    "classes": weights.classes,
                    "image_size": weights.image_size,
                    "megabytes": size / 1e6 if size else None,
                    "sha256": _first_digits(weights.url) or None,
                    "path": str(path) if path else None,
                    "local": "yes" if path else "",
                    "url": weights.url,
                }
            )
    if not rows:
        raise unknown("published weights", pattern, _published_models())
    return rows


def named_model(name: str) -> str:
    """Returns the variant that a name says, for `find`: "" of a repository at the hub.

    Raises:
        UserError: it says none.
    """
    if on_hub(name):
        return ""
    model = name.partition(".")[0]
    if not is_name(name) or name == "imagenet":
        known = _published_models()
        if model in known:
            choose(name, model)  # raises, with the names of its weights
        raise unknown("published weights", name, known)
    return model


def local(url: str) -> Path | None:
    """Returns where on this machine the published file of this address is, None if nowhere."""
    for folder, pattern in _places(url):
        if found := sorted(folder.glob(pattern)):
            return found[-1]
    return None


def is_name(text: str, of_model: str = "") -> bool:
    """Returns whether weights are published under exactly this name.

    Args:
        of_model: whose weights are meant where the name says no model.
    """
    if text == "imagenet" or on_hub(text):
        return True
    model, dot, version = text.partition(".")
    names = [row["weights"] for row in published().get(model, []) if row["weights"]]
    own = [row["weights"] for row in published().get(of_model, []) if row["weights"]]
    return text in own or (version in names if dot else bool(names))


def on_hub(text: str) -> bool:
    """Returns whether `text` names a repository of timm's at the Hugging Face hub."""
    return bool(_ON_HUB.fullmatch(text)) and Path(text).suffix.lower() not in SUFFIXES


def choose(name: str, model: str) -> Weights:
    """Returns what is published as `name`: see `find`.

    The default is torchvision's: the newest that it trained on ImageNet; or, where another library
    has the model, the most accurate with 1,000 classes.
    """
    own = {weights.name: weights for weights in model_info(model).weights}
    if name in own:
        return own[name]
    wanted, dot, version = (model, "", "") if name == "imagenet" else name.partition(".")
    known = _published_models()
    if wanted not in known:
        if wanted == model:
            raise UserError(
                f"no weights of {model} are published that flaxzoo knows of: give the path of a "
                "file or the folder of a run."
            )
        raise unknown("published weights", name, ["imagenet", *own, *known])
    if wanted != model:
        raise UserError(
            f"{name!r} names weights of {wanted}, but the model is {model}: take {wanted} as the "
            f"model (config.model.name={wanted} of a run), or the weights 'imagenet' of {model}."
        )
    if dot:
        if version not in own:
            raise unknown(f"weights of {model}", name, [f"{model}.{version}" for version in own])
        return own[version]
    with_head = [w for w in own.values() if w.classes == 1000] or list(own.values())
    plain = [w for w in with_head if re.fullmatch(r"IMAGENET1K_V\d+", w.name)]
    return max(plain, key=lambda w: w.name) if plain else max(with_head, key=lambda w: w.top1 or 0)


def _published_models() -> list[str]:
    """Returns the models that weights are published of."""
    return [model for model, rows in published().items() if any(row["weights"] for row in rows)]


def of_file(file_name: str, model: str) -> Weights | None:
    """Returns what is published of `model` in a file of that name, None where nothing is."""
    return next(
        (
            weights
            for weights in model_info(model).weights
            if file_name in {name for _, name in _places(weights.url)}
        ),
        None,
    )


def model_of_file(file_name: str) -> str | None:
    """Returns the model whose published weights are in a file of that name; None of another."""
    return next((model for model in published() if of_file(file_name, model)), None)


def _places(url: str) -> list[tuple[Path, str]]:
    """Returns folders, and what the file is called there; the last is flaxzoo's own."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    if url.startswith(_HUB):
        repository = url.removeprefix(_HUB)
        home = os.environ.get("HF_HOME") or cache / "huggingface"
        hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
        folder = hub / f"models--{repository.replace('/', '--')}" / "snapshots"
        shared, name = (folder, "*/model.safetensors"), f"{repository.split('/')[-1]}.safetensors"
    else:
        home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
        name = url.rsplit("/", 1)[-1]
        shared = (home / "hub" / "checkpoints", name)
    return [shared, (cache / "flaxzoo" / "weights", name)]


def _file_url(url: str, kind: str = "resolve", file: str = "model.safetensors") -> str:
    """Returns the address of the file, also where the published one is that of its page.

    HF_ENDPOINT names a mirror of the hub, as it does for huggingface_hub.
    """
    if not url.startswith(_HUB):
        return url
    hub = os.environ.get("HF_ENDPOINT") or _HUB
    return f"{hub.rstrip('/')}/{url.removeprefix(_HUB)}/{kind}/main/{file}"


def _of_hub(url: str, advice: str) -> tuple[str, int]:
    """Returns the SHA-256 and the size of a file at the hub, which git's pointer to it says.

    Raises:
        UserError: there is no connection, no such repository, or no pointer.
    """
    address = _file_url(url, "raw")
    text = read_text(address, 1 << 10, advice=advice)
    found = re.search(r"^oid sha256:([0-9a-f]{64})\nsize (\d+)$", text, re.MULTILINE)
    if found is None:
        raise UserError(f"{address} is no pointer of git-lfs; put the file there yourself{advice}")
    return found[1], int(found[2])


def _first_digits(url: str) -> str:
    """Returns the part of the SHA-256 that torch's publishers put into a file's name, or ""."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    return match[1] if match else ""
