"""Who may import whom: the arrows of the design, enforced by reading every import statement."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("flaxzoo", "torch_ref", "tests", "parity_tests", "benchmarks", "configs")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + sorted(ROOT.glob("*.py"))

FAMILIES = {path.stem for path in (ROOT / "flaxzoo/models").glob("*.py")} - {
    "__init__",
    "base",
    "info",
    "patches",
    "summary",
    "surgery",
}
OUTSIDE = ["*"]  # any module that is not of this project
PROJECT = ("flaxzoo", "torch_ref", "tests", "parity_tests", "benchmarks", "configs", "train")

# Files whose imports must all be in a list: of the project's modules, and of others if given.
ONLY = {
    "torch_ref/*.py": (["torch_ref"], OUTSIDE),
    "flaxzoo/layers/*.py": (["flaxzoo.layers", "flaxzoo.arguments", "flaxzoo.errors"], OUTSIDE),
    "flaxzoo/models/*.py": (
        [
            "flaxzoo.layers",
            "flaxzoo.arguments",
            "flaxzoo.errors",
            "flaxzoo.models",
            "flaxzoo.convert",
            "flaxzoo.adaptation",
            "flaxzoo.sources",  # by create_model(pretrained=...), when it is called
        ],
        OUTSIDE,
    ),
    "flaxzoo/convert.py": (
        [
            "flaxzoo.adaptation",
            "flaxzoo.arguments",
            "flaxzoo.errors",
            "flaxzoo.layers.module",
            "flaxzoo.weight_files",
        ],
        ["numpy", "flax", "jax", "collections", "pathlib", "typing"],
    ),
}

# Modules that only some files may import.
RESERVED = {
    "torch": [
        "flaxzoo/parity/*", "torch_ref/*", "tests/test_architecture.py", "parity_tests/*",
        "benchmarks/*",
    ],
    "torch_ref": ["flaxzoo/parity/*", "torch_ref/*", "parity_tests/*", "benchmarks/*"],
    **{
        f"flaxzoo.models.{family}": ["flaxzoo/models/__init__.py", "tests/*", "parity_tests/*"]
        for family in sorted(FAMILIES)
    },
    "torchvision": ["flaxzoo/parity/*"],
    "timm": ["flaxzoo/parity/*"],
}  # fmt: skip

NEVER = {  # and what some files must not import at all
    **{
        f"flaxzoo/{room}/*": ["flaxzoo.commands*"]
        for room in ("augment", "data", "layers", "models", "parity", "report", "training")
    },
    "flaxzoo/training/step.py": ["flaxzoo.models*"],
    "tests/*": ["torch*", "parity_tests*"],
}


def imports(source: str, package: str = "") -> Iterator[tuple[int, str]]:
    """Yields (line, full name) of all that is imported: `from a import b` gives "a.b".

    Lines under `if TYPE_CHECKING:` count, too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*filter(None, parents), *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _is_dynamic_import(node):
            yield node.lineno, str(getattr(node.args[0], "value", ""))


def _is_dynamic_import(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return name in ("import_module", "__import__") and bool(call.args)


def inside(name: str, modules) -> bool:
    """Whether a full name is in one of `modules`, which may be patterns."""
    return any(fnmatchcase(name, m) or fnmatchcase(name, f"{m}.*") for m in modules)


def violations(path: str, source: str) -> list[str]:
    """Returns what is wrong with the imports of a file, one line each."""
    found = []
    package = ".".join(Path(path).parts[:-1])
    for line, name in imports(source, package):
        where = f"{path}:{line} imports {name}"
        for pattern, (ours, others) in ONLY.items():
            if fnmatchcase(path, pattern):
                if inside(name, PROJECT) and not inside(name, ours):
                    found.append(f"{where}; of the project only {', '.join(ours)} may be")
                elif not inside(name, PROJECT) and not inside(name, others):
                    found.append(f"{where}; of others only {', '.join(others)} may be")
        for module, allowed in RESERVED.items():
            if inside(name, [module]) and not any(fnmatchcase(path, p) for p in allowed):
                found.append(f"{where}; only {', '.join(allowed) or 'nobody'} may")
        for pattern, modules in NEVER.items():
            if fnmatchcase(path, pattern) and inside(name, modules):
                found.append(f"{where}; it must not")
    return found


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT).as_posix()) for path in SOURCES])
def test_imports_follow_the_arrows(path):
    assert violations(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("flaxzoo/convert.py", "import torch"),
        ("flaxzoo/convert.py", "def f():\n    from torch import nn"),
        ("flaxzoo/convert.py", "import importlib\nimportlib.import_module('torch.nn')"),
        ("flaxzoo/convert.py", "import optax"),
        ("flaxzoo/convert.py", "from flaxzoo.layers import Conv"),
        ("flaxzoo/convert.py", "from flaxzoo import models"),
        ("torch_ref/resnet.py", "from flaxzoo.models.resnet import VARIANTS"),
        ("flaxzoo/layers/norm.py", "from flaxzoo.models.base import Classifier"),
        ("flaxzoo/layers/norm.py", "from flaxzoo import convert"),
        ("flaxzoo/layers/norm.py", "from ..training import step"),
        ("flaxzoo/models/vgg.py", "from flaxzoo.training.state import split_model"),
        ("flaxzoo/models/vgg.py", "from flaxzoo.models.resnet import ResNet"),
        ("flaxzoo/models/vgg.py", "from .resnet import ResNet"),
        ("flaxzoo/training/loop.py", "from flaxzoo.models import resnet"),
        ("flaxzoo/training/step.py", "from flaxzoo.models import create_model"),
        ("flaxzoo/cli.py", "import torch_ref"),
        ("tests/test_convert.py", "import torch"),
        ("tests/test_convert.py", "from parity_tests import conftest"),
        ("parity_tests/test_models.py", "import torchvision"),
    ],
)
def test_a_planted_violation_is_found(path, source):
    assert len(violations(path, source)) >= 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("flaxzoo/parity/twins.py", "import torch, torch_ref"),
        ("flaxzoo/models/__init__.py", "from flaxzoo.models import resnet"),
        ("flaxzoo/models/vgg.py", "from flaxzoo.models.base import Classifier"),
        ("flaxzoo/models/vgg.py", "from flaxzoo.layers import Conv\nimport jax.numpy as jnp"),
        ("flaxzoo/training/loop.py", "from flaxzoo.models import create_model"),
        ("flaxzoo/convert.py", "import numpy as np\nfrom flax import nnx"),
    ],
)
def test_what_the_design_allows_passes(path, source):
    assert violations(path, source) == []


def test_all_files_are_checked():
    found = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    assert found >= {"flaxzoo/convert.py", "torch_ref/resnet.py", "train.py"}
    assert "resnet" in FAMILIES
