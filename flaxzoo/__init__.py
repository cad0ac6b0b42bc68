"""flaxzoo: image classifiers in JAX/Flax, each the same function as its PyTorch twin."""

import importlib
from typing import TYPE_CHECKING, Any

from flaxzoo.errors import UserError
from flaxzoo.version import __version__

if TYPE_CHECKING:
    from flaxzoo.convert import load_torch, to_torch
    from flaxzoo.models import create_model, list_models
    from flaxzoo.models.info import model_info
    from flaxzoo.parameters import named_parameters
    from flaxzoo.saved_model import from_pretrained, save_pretrained

__all__ = [
    "UserError",
    "__version__",
    "create_model",
    "from_pretrained",
    "list_models",
    "load_torch",
    "model_info",
    "named_parameters",
    "save_pretrained",
    "to_torch",
]

_HOMES = {
    "create_model": "flaxzoo.models",
    "from_pretrained": "flaxzoo.saved_model",
    "list_models": "flaxzoo.models",
    "load_torch": "flaxzoo.convert",
    "model_info": "flaxzoo.models.info",
    "named_parameters": "flaxzoo.parameters",
    "save_pretrained": "flaxzoo.saved_model",
    "to_torch": "flaxzoo.convert",
}


def __getattr__(name: str) -> Any:
    """Imports JAX when the first model is asked for: processes that decode images never need it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'flaxzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
