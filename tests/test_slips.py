"""Every documented function answers a slip with UserError: what was got, and what it takes.

Which functions there are is read from the documentation, and their arguments from their signatures:
a new one fails here until it is called below as it should be.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flaxzoo
from flaxzoo import UserError, create_model, data, model_info, notebook, to_torch
from flaxzoo.config import Config
from flaxzoo.data.transforms import evaluation
from flaxzoo.layers import initialise
from flaxzoo.models.base import Classifier
from flaxzoo.parity import compare
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose
from flaxzoo.training.loop import train
from flaxzoo.training.state import split_model

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What authors of models write and call: shapes in their signatures are checked in tests alone.
BUILDING_BLOCKS = {"relu", "global_avg_pool", "forward_head"}
RECIPES = {
    "digits": DIGITS | {"model.name": "resnet_tiny"},
    "small": SMALL | {"model.name": "resnet20"},
    "imagenet": {"v1": TORCHVISION | {"model.name": "resnet50"}},
}
IMAGES = np.zeros((2, 8, 8, 3), np.float32)


def tiny(**options: Any) -> Classifier:
    return create_model("resnet_tiny", **options)


@pytest.fixture(scope="module")
def right(tmp_path_factory) -> dict[Callable[..., Any], dict[str, Any]]:
    """Returns arguments that each function takes."""
    model, bare = tiny(), tiny(abstract=True)
    saved = flaxzoo.save_pretrained(model, tmp_path_factory.mktemp("saved"))
    return {
        flaxzoo.create_model: {"name": "resnet_tiny", "abstract": True},
        flaxzoo.from_pretrained: {"folder": saved},
        flaxzoo.list_models: {},
        flaxzoo.load_torch: {"model": model, "source": to_torch(model)},
        flaxzoo.model_info: {"name": "resnet18"},
        flaxzoo.named_parameters: {"model": bare},
        flaxzoo.save_pretrained: {"model": model, "folder": "saved"},
        flaxzoo.to_torch: {"model": bare},
        data.load: {"spec": "digits"},
        evaluation: {"weights": model_info("resnet18").weights[0]},
        compare: {"name": "resnet_tiny"},
        choose: {"arg": "digits", **RECIPES},
        train: {"config": Config(), "workdir": "run"},
        split_model: {"model": bare},
        initialise: {"model": bare, "seed": 0},
        notebook.run: {"command": "python"},
        notebook.workdir: {"name": "run", "folder": "runs", "inputs": "inputs"},
        notebook.input_folder: {"end": "run", "inputs": "inputs"},
        Classifier.__call__: {"self": model, "images": IMAGES},
        Classifier.forward_train: {"self": model, "images": IMAGES},
        Classifier.forward_features: {"self": model, "images": IMAGES},
        Classifier.feature_maps: {"self": model, "images": IMAGES},
        Classifier.feature_info: {"self": model},
        Classifier.reset_classifier: {"self": model, "num_classes": 3},
    }


def documented() -> set[Callable[..., Any]]:
    """Returns the functions that the package exports, and those that pages call."""
    found: list[Any] = [getattr(flaxzoo, name) for name in flaxzoo.__all__]
    found += vars(notebook).values()
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    for module, names in re.findall(r"^ *from (flaxzoo[\w.]*) import ([\w, ]+)$", text, re.M):
        found += [getattr(importlib.import_module(module), n, None) for n in names.split(", ")]
    for prefix, owner in (("data", data), ("model", Classifier)):
        found += [getattr(owner, n, None) for n in re.findall(rf"\b{prefix}\.(\w+)\(", text)]
    return {f for f in found if inspect.isfunction(f) and _is_ours(f)}


def _is_ours(function: Callable[..., Any]) -> bool:
    shared = {"flaxzoo.arguments", "flaxzoo.errors"}  # that a module imports
    name, module = function.__name__, function.__module__
    return (
        module.startswith("flaxzoo.")
        and module not in shared
        and not name.startswith("_")
        and name not in BUILDING_BLOCKS
    )


def test_every_documented_function_is_called_with_slips(right):
    assert documented() - right.keys() == set()


# Nothing of these is a name, a number in range, a path, a flag, a model or images.
ODD = [None, 2.5, -1, b"\0", [0], {0: 0}, object(), np.zeros(2), "\0", float("nan")]
FINE = {  # what is no slip for an argument, by its type
    ("create_model", "num_classes"): (type(None),),
    ("list_models", "pattern"): (str,),  # nothing matches
    ("load_torch", "source_name"): (str,),
    ("choose", "arg"): (str,),  # a data set that nobody knows is told when it is loaded
    ("run", "hours"): (float,),
}
# What has to be asked for that an argument matters.
ASKED = {("choose", "small"): "cifar10", ("choose", "cifar"): "cifar10"} | {
    ("choose", name): "imagenet2012" for name in ("imagenet", "variants")
}


def test_no_argument_takes_what_it_cannot_use(right, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = []
    for function, arguments in right.items():
        for parameter in list(inspect.signature(function).parameters.values()):
            name, where = parameter.name, (function.__name__, parameter.name)
            if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
                continue
            for odd in ODD:
                is_default = odd is None and parameter.default is None
                if is_default or (isinstance(odd, FINE.get(where, ())) and odd == odd):
                    continue
                given = arguments | ({"arg": ASKED[where]} if where in ASKED else {})
                answers.append((where, odd, _answer(function, given | {name: odd})))
    odd = [answer for answer in answers if not _is_clear(answer[-1])]
    assert odd == [], "\n".join(map(str, odd))
    assert len(answers) > 500
    assert list(tmp_path.iterdir()) == []


def _answer(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    try:
        function(**arguments)
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it ran"


def _is_clear(sentence: str) -> bool:
    """Whether it says what was got or what there is, in a line of readable length."""
    told = re.search(r"got|unknown .* known: |found in no|expected", sentence)
    raised = re.match(r"\w+Error: ", sentence)
    return bool(told) and not raised and "\n" not in sentence and len(sentence) < 500


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Returns a folder with an empty folder, a file that is nothing, and a saved model."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "empty").mkdir()
    (folder / "file").write_text("nothing")
    flaxzoo.save_pretrained(tiny(), folder / "saved")
    return folder


def abstract(name: str, **options: Any) -> Classifier:
    return create_model(name, abstract=True, **options)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        # Options of models.
        (lambda here: abstract("test_vgg", dropuot=0.1), "'dropuot'; did you mean 'dropout'"),
        (lambda here: abstract("test_vgg", dropout="0.1"), "dropout must be a finite number; got"),
        (lambda here: abstract("test_vgg", dropout=1.5), "1.5"),
        (lambda here: abstract("test_googlenet", aux_logits="no"), "True or False; got 'no'"),
        (lambda here: abstract("test_mnasnet", version=3), "is 1 or 2; got 3"),
        (lambda here: abstract("test_maxvit", image_size=33), "got 33x33"),
        (lambda here: abstract("test_vit", image_size=(32,) * 3), r"\(height, width\); got \(32, "),
        (lambda here: abstract("resnet_tiny", dtype="float23"), "bfloat16, .* got 'float23'"),
        # Paths that are not there, or something else.
        (lambda here: tiny(pretrained=here / "sved"), "did you mean '.*saved'"),
        (lambda here: tiny(pretrained=here / "empty"), "no checkpoint; .* it holds nothing"),
        (lambda here: tiny(pretrained="x" * 5000), "File name too long"),
        (lambda here: flaxzoo.from_pretrained(here / "sved"), "did you mean '.*saved'"),
        (lambda here: flaxzoo.from_pretrained(here / "file"), "no folder of .*, but a file"),
        (lambda here: flaxzoo.from_pretrained(here / "empty"), "it holds nothing"),
        (lambda here: flaxzoo.load_torch(tiny(), here / "fil"), "fil: No such file"),
        (lambda here: flaxzoo.load_torch(tiny(), here / "saved"), "saved: Is a directory"),
        (lambda here: flaxzoo.save_pretrained(tiny(), here / "file"), "file: File exists"),
        (lambda here: data.load(f"folder={here / 'emtpy'}"), "did you mean '.*empty'"),
        (lambda here: data.load(f"csv={here / 'no' / 'a.csv'}"), "there is no folder .*no either"),
        (lambda here: data.load(f"npz={here / 'a.npz'}"), "has empty, file, saved"),
        (lambda here: data.load(str(here)), "is a folder; expected folder="),
        (lambda here: notebook.input_folder("emtpy", here), "it has empty"),
        # Names, ranges and kinds.
        (lambda here: data.load("digit"), "did you mean 'digits'"),
        (lambda here: data.load("fodler=x"), "did you mean 'folder='"),
        (lambda here: data.load("digits", validation="0.1"), "a fraction .* got '0.1'"),
        (lambda here: data.load("digits", on_error="skp"), "did you mean 'skip'"),
        (lambda here: compare("resnet_tny"), "did you mean 'resnet_tiny'"),
        (lambda here: compare("resnet_tiny", against="tim"), "did you mean 'timm'"),
        (lambda here: compare("resnet_tiny", dtype="float23"), "did you mean 'float32'"),
        (lambda here: evaluation("resnet18"), r"model_info\(NAME\).weights; got 'resnet18'"),
        (lambda here: flaxzoo.named_parameters(abstract("resnet_tiny"), "fcc"), "like fc"),
        (lambda here: flaxzoo.save_pretrained(tiny(), here / "new", classes="0123456789"),
         "classes must be a list of names; got '0123456789'"),
        (lambda here: choose("digits,modle=vgg11", **RECIPES), "did you mean 'model'"),
        (lambda here: choose("imagenet2012,recipe=v2", **RECIPES), "known: v1"),
        (lambda here: notebook.run("'python"), "quoted as in a shell; got \"'python\""),
        (lambda here: notebook.run("pyhton train.py"), "a program that is here; got 'pyhton"),
        (lambda here: train({"batch_size": 3}, here), "a flaxzoo.config.Config; got {'batch_"),
        # Order: what has to come first.
        (lambda here: flaxzoo.save_pretrained(abstract("resnet_tiny"), here / "new"), "no values"),
        (lambda here: abstract("resnet_tiny")(IMAGES), "fill it with load_torch"),
        (lambda here: create_model("test_vgg")(np.zeros((1, 32, 32, 3), np.float32)),
         r"call model\(images, key=jax.random.key\(0\)\), or model.eval\(\) first"),
        (lambda here: tiny()(IMAGES, key=3), r"one of jax.random.key\(SEED\); got 3"),
        (lambda here: tiny().feature_maps(IMAGES, "layer1"), "a list of names; got 'layer1'"),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_what_there_is(here, call, words):
    before = sorted(here.rglob("*"))
    with pytest.raises(UserError, match=words) as error:
        call(here)
    assert "\n" not in str(error.value)
    assert sorted(here.rglob("*")) == before
