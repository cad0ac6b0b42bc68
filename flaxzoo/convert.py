"""torch state_dict <-> flaxzoo model: one rule, which knows no model and imports no torch.

Attributes of a flaxzoo model carry the names of the torch modules, so a parameter's torch name is
its path with the last part renamed, and its torch value is a transpose:

    layer1.0.conv1.kernel (h, w, in, out)  <->  layer1.0.conv1.weight (out, in, h, w)
    fc.kernel (in, out)                    <->  fc.weight (out, in)
    bn1.scale, bn1.mean, bn1.var           <->  bn1.weight, bn1.running_mean, bn1.running_var

Everything else keeps its name and its shape. Buffers (`num_batches_tracked`, tables of indices)
are dropped on the way in and made on the way out. Both ways are strict: nothing is reshaped to fit
and nothing is skipped silently.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxzoo.adaptation import NAMINGS, Loaded, check_padding, fit, listed, set_eps
from flaxzoo.arguments import flag, one_of, path, text
from flaxzoo.errors import UserError
from flaxzoo.layers.module import assign, checked_model, named_buffers, named_variables, value_of
from flaxzoo.weight_files import read_state_dict, without_prefixes

_TORCH_LEAF = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0)}  # axes of a kernel: HWIO -> OIHW, (in, out) -> (out, in)
_FROM_TORCH = {4: (2, 3, 1, 0), 2: (1, 0)}


def torch_name(name: str) -> str:
    """Returns torch's name of a variable: "bn1.scale" -> "bn1.weight"."""
    parent, _, leaf = name.rpartition(".")
    return f"{parent}.{_TORCH_LEAF.get(leaf, leaf)}".lstrip(".")


def to_torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    """Returns `value` with torch's axes, contiguous."""
    axes = _TO_TORCH[value.ndim] if _is_kernel(name) else None
    return np.ascontiguousarray(value.transpose(axes)) if axes else value


def from_torch_layout(name: str, value: np.ndarray) -> np.ndarray:
    """Returns torch's `value` with flaxzoo's axes; a kernel of the wrong rank is left as it is."""
    axes = _FROM_TORCH.get(value.ndim) if _is_kernel(name) else None
    return np.ascontiguousarray(value.transpose(axes)) if axes else value


def _is_kernel(name: str) -> bool:
    return name.rpartition(".")[2] == "kernel"


def to_torch(model: nnx.Module | object) -> OrderedDict[str, Any]:
    """Returns the state_dict of the torch twin of `model`: torch's names, NumPy arrays.

    torch takes it with `load_state_dict(strict=True)` after `torch.from_numpy` on each value, which
    is best put in its place. A new dict of them would lose `_metadata`, where torch keeps the
    version of a model; torchvision's MNASNet refuses weights without. Of an abstract model the
    values are jax.ShapeDtypeStruct in torch's shapes.

    Raises:
        UserError: it is no model.
    """
    model = checked_model(model)
    state_dict: Any = OrderedDict()
    state_dict._metadata = {"": {"version": getattr(model, "version", 1)}}  # torch's default
    for name, variable in named_variables(model).items():
        value = value_of(variable)
        if isinstance(value, jax.ShapeDtypeStruct):
            state_dict[torch_name(name)] = jax.ShapeDtypeStruct(
                _torch_shape(name, value.shape), _exported(value.dtype)
            )
        else:
            # A copy: the array of a CPU device is a read-only view of its buffer.
            state_dict[torch_name(name)] = to_torch_layout(
                name, np.array(value, _exported(value.dtype))
            )
    abstract = any(isinstance(value, jax.ShapeDtypeStruct) for value in state_dict.values())
    for name, buffer in named_buffers(model).items():
        value = buffer.value
        state_dict[name] = jax.ShapeDtypeStruct(value.shape, value.dtype) if abstract else value
    return state_dict


def _exported(dtype: np.dtype) -> np.dtype:
    """NumPy has no bfloat16 that torch.from_numpy knows; float32 holds the same numbers."""
    return np.dtype(np.float32) if dtype == jnp.bfloat16 else dtype


def load_torch(
    model: nnx.Module | object,
    source: Mapping[str, Any] | str | Path | object,  # object: a slip gets a UserError
    *,
    adapt: bool | object = False,
    naming: str | object = "auto",
    source_name: str | object | None = None,
) -> Loaded:
    """Fills `model` in place with the weights of its torch twin.

    Args:
        model: a model with or without values; dtypes stay those of the model.
        source: a state_dict (torch tensors or arrays) or a file of one: see `read_state_dict`. No
            torch is needed to read it.
        adapt: to another number of classes, by keeping the model's own head, and to other channels
            than three, by summing (one) or repeating those of the first convolution.
        naming: "own" for our names, which are torchvision's where it has the architecture, "timm"
            for timm's names of such a one, "auto" for those of the two that fit.

    Returns:
        What was not simply loaded.

    Raises:
        UserError: a missing or unexpected key, a wrong shape, a value that is not floating point,
            or NaN or infinity, which no training gets rid of; all of them are named at once and the
            model is left as it was. Also a source that is not what it should be, or of a model of
            timm's that pads as TensorFlow does.
    """
    model = checked_model(model)
    variables = {torch_name(name): (name, v) for name, v in named_variables(model).items()}
    adapt = flag("adapt", adapt)
    source_name = None if source_name is None else text("source_name", source_name)
    if isinstance(source, str | Path):
        source_name, source = str(source), read_state_dict(path("source", source))
    if not isinstance(source, Mapping):
        raise UserError(
            "weights come as a state_dict or as the path of a file of them; "
            f"got a {type(source).__name__}."
        )
    if odd := [key for key in source if not isinstance(key, str)]:
        raise UserError(f"a state_dict has names for keys; got {odd[0]!r}.")
    naming = one_of("naming", naming, NAMINGS)
    shapes = {key: _torch_shape(name, v.shape) for key, (name, v) in variables.items()}
    given = {key: _as_numpy(value) for key, value in without_prefixes(source).items()}
    given, loaded = fit(model, given, shapes, adapt=adapt, naming=naming)
    if source_name:
        check_padding(source_name, loaded.naming)
    wanted = shapes.keys() - set(loaded.kept)
    common = sorted(wanted & given.keys())
    problems = [
        listed("missing", sorted(wanted - given.keys())),
        listed("unexpected", sorted(given.keys() - wanted - named_buffers(model).keys())),
        listed(
            "of another shape",
            [f"{k} is {given[k].shape}, not {shapes[k]}" for k in common
             if given[k].shape != shapes[k] and given[k].dtype != object],
        ),
        listed(
            "not of floating point",
            [f"{k} is {given[k].item() if given[k].dtype == object else given[k].dtype}"
             for k in common if not jnp.issubdtype(given[k].dtype, jnp.floating)],
        ),
        listed(
            "not finite",
            [f"{k} has NaN or infinity" for k in common
             if jnp.issubdtype(given[k].dtype, jnp.floating) and not np.isfinite(given[k]).all()],
        ),
    ]  # fmt: skip
    if any(problems):
        where = f" in {source_name}" if source_name else ""
        raise UserError(
            f"the weights{where} are not those of this {type(model).__name__}: "
            + "; ".join(filter(None, problems))
        )
    for key in loaded.kept:
        if isinstance(value_of(variables[key][1]), jax.ShapeDtypeStruct):
            raise UserError(f"the model has no {key} to keep: create it without abstract=True.")
    values = {}
    for key in common:
        name, variable = variables[key]
        # A copy: on a CPU, jax would go on to share the memory of a tensor that torch may change.
        values[key] = np.array(from_torch_layout(name, given[key]), variable.dtype)
    for key, array in jax.device_put(values).items():
        assign(variables[key][1], array)
    set_eps(model, loaded.naming)
    return loaded


def _as_numpy(value: Any) -> np.ndarray:
    """Returns an array of NumPy, of what may be a torch tensor on any device, with gradients.

    Of what is no array at all, an array that holds the name of its type.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no such type; float32 holds it exactly
            value = value.float()
    array = np.asarray(value if hasattr(value, "shape") else None)
    return array if array.dtype != object else np.asarray(type(value).__name__, object)


def _torch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _TO_TORCH[len(shape)]) if _is_kernel(name) else shape
