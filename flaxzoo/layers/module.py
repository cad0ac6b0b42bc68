"""What layers are made of: variables that know their initial distribution, and Sequential.

A layer is built without values: each variable holds a shape and its `init`. `flaxzoo.create_model`
fills all of them at once with NumPy. Running the initialisers through JAX would compile one program
for each shape, which costs 20 to 50 s for a ResNeXt-50 on two cores; this costs a fraction of a
second.
"""

import functools
import math
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxzoo.arguments import integer
from flaxzoo.errors import UserError, shown
from flaxzoo.layers.init import Init

Layer = nnx.Module | Callable
DTYPES = ("float16", "bfloat16", "float32", "float64")  # what a model computes in and stores


def param(shape: tuple[int, ...], init: Init) -> nnx.Param:
    """Returns a trainable variable of `shape` without a value yet."""
    return nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32), init=init)


def statistic(shape: tuple[int, ...], init: Init) -> nnx.BatchStat:
    """Returns a running statistic of `shape` without a value yet."""
    return nnx.BatchStat(jax.ShapeDtypeStruct(shape, jnp.float32), init=init)


@dataclass(frozen=True)
class Buffer:
    """An array that torch keeps in its state_dict and that can always be computed again.

    It is no variable: nothing trains or stores it. `convert` drops it on the way in and makes it on
    the way out. A module has it as an attribute of torch's name: `Buffer(relative_index, (7, 7))`.
    """

    make: Callable[..., np.ndarray]
    arguments: tuple = ()

    @property
    def value(self) -> np.ndarray:
        return self.make(*self.arguments)


def named_buffers(model: nnx.Module) -> dict[str, Buffer]:
    """Returns the buffers of `model` by dotted path, `{"bn1.num_batches_tracked": Buffer, ...}`."""
    return {
        ".".join(map(str, (*path, attribute))): value
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Module)
        for attribute, value in vars(node).items()
        if isinstance(value, Buffer)
    }


def assign(variable: nnx.Variable, value: jax.Array | np.ndarray | jax.ShapeDtypeStruct) -> None:
    """Gives `variable` a whole new value."""
    if hasattr(variable, "set_value"):
        variable.set_value(value)
    else:  # flax < 0.12
        variable.value = value


def value_of(variable: nnx.Variable) -> Any:
    """Returns the array (or the bare shape) that `variable` holds."""
    return variable.get_value() if hasattr(variable, "get_value") else variable.value


def checked_model(model: object) -> nnx.Module:
    """Returns a model.

    Raises:
        UserError: it is none.
    """
    if isinstance(model, nnx.Module):
        return model
    raise UserError(f"expected a model, as flaxzoo.create_model makes it; got {shown(model)}.")


def named_variables(
    model: nnx.Module | object, kind: type = nnx.Variable
) -> dict[str, nnx.Variable]:
    """Returns the variables of `model` by dotted path, `{"layer1.0.conv1.kernel": Param, ...}`.

    These names, with `.` between the attributes, are the names of parameters everywhere: in the
    train state, in checkpoints, in messages, and after one renaming of the last part in torch.

    Raises:
        UserError: it is no model.
    """
    model = checked_model(model)
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, kind)
    }


def initialise(model: nnx.Module | object, *, seed: int | object, param_dtype=jnp.float32) -> None:
    """Fills every variable of `model` from its `init`, in place.

    Each variable draws from its own stream, seeded by (seed, its name): the values depend neither
    on the platform nor on the order in which the layers were built.

    Raises:
        UserError: it is no model, `seed` no integer of at least 0, the type none of DTYPES, or the
            values are more than this machine's memory holds.
    """
    variables, seed = named_variables(model), integer("seed", seed, 0)
    param_dtype = check_dtype(param_dtype)
    needed = sum(
        math.prod(variable.shape) * storage_dtype(variable, param_dtype).itemsize
        for variable in variables.values()
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise UserError(
            f"the values of this {type(model).__name__} take {needed / 2**30:,.1f} GiB; this "
            f"machine has {memory / 2**30:,.1f}. Smaller options make a smaller model; "
            "abstract=True needs no values."
        )
    values = {}
    for name, variable in variables.items():
        value = initial_value(variable, name, seed)
        values[name] = np.asarray(value, dtype=storage_dtype(variable, param_dtype))
    for name, array in jax.device_put(values).items():
        assign(variables[name], array)


def check_dtype(dtype: Any) -> str:
    """Returns the name of a type that a model computes in or stores.

    Raises:
        UserError: it is none of DTYPES.
    """
    try:
        name = jnp.dtype(dtype).name if dtype is not None else "None"  # None would be float64
    except TypeError:
        name = shown(dtype)
    if name not in DTYPES:
        raise UserError(f"a model's dtype must be one of {', '.join(DTYPES)}; got {name}.")
    return name


def initial_value(variable: nnx.Variable, name: str, seed: int) -> np.ndarray:
    """Returns what `initialise` gives the variable of this name."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return variable.init(rng, variable.shape)


def storage_dtype(variable: nnx.Variable, param_dtype) -> jnp.dtype:
    """Statistics are kept in float32 at least: a bfloat16 running mean stops moving."""
    if isinstance(variable, nnx.BatchStat):
        return jnp.promote_types(param_dtype, jnp.float32)
    return jnp.dtype(param_dtype)


class Sequential(nnx.Module):
    """Layers and plain functions applied in order, named "0", "1", ... as in torch.nn.Sequential.

    `Sequential(conv, norm, nnx.relu)` leaves the same gaps in the numbering as torch does, since a
    function has no variables. Keyword arguments give names instead of numbers (torch's
    OrderedDict). flax's own nnx.Sequential is not used: it puts a `layers` level into every path.
    """

    def __init__(self, *layers: Layer, **named: Layer):
        members = {str(i): layer for i, layer in enumerate(layers)} | named
        self.names = tuple(members)
        for name, layer in members.items():
            setattr(self, name, layer)

    def __iter__(self) -> Iterator[Layer]:
        return (getattr(self, name) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Layer:
        return getattr(self, self.names[index])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self:
            x = layer(x)
        return x


def wrap_calls(module: nnx.Module, wrapper: Callable[..., Any]) -> None:
    """Has every call of `module` go through wrapper(call, *args, **kwargs).

    For models that live during a trace alone: the class changes, since Python looks `__call__` up
    there.
    """
    object.__setattr__(module, "_wrapper", wrapper)
    object.__setattr__(module, "__class__", _wrapped(type(module)))


@functools.cache
def _wrapped(kind: type) -> type:
    """Returns a subclass whose objects are called through their wrapper."""

    class Wrapped(kind):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return vars(self)["_wrapper"](super().__call__, *args, **kwargs)

    return Wrapped
