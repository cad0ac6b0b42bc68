"""flaxzoo: image classifiers in JAX/Flax, each the same function as its PyTorch twin."""

from flaxzoo.convert import load_torch, to_torch
from flaxzoo.errors import UserError
from flaxzoo.models import create_model, list_models
from flaxzoo.version import __version__

__all__ = ["UserError", "__version__", "create_model", "list_models", "load_torch", "to_torch"]
