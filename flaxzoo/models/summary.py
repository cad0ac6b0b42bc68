"""Where the work of a model is: its stages and layers with shapes, parameters, products, memory.

One evaluation is traced, for one image, and nothing is computed. Every equation of the program
knows the stage and the layer that it comes from.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
from flax import nnx

from flaxzoo.layers import named_variables
from flaxzoo.layers.module import value_of, wrap_calls
from flaxzoo.models.base import Classifier
from flaxzoo.models.info import products_of

Shape = tuple[int, ...]
_STAGE, _LAYER = "stage=", "layer="  # mark the scopes of equations


@dataclass
class Part:
    """A stage or a layer, with all that is inside it, for one image.

    Attributes:
        name: of the torch module; "head" is what follows the last stage, "not evaluated" is
            what only training uses.
        kind: the class of a layer, nothing for a stage.
        shape: of the output without the batch; None of what is not evaluated.
        parameters: trainable values.
        multiply_adds: see `flaxzoo.models.info.count_multiply_adds`.
        activations: values that its convolutions and matrix products put out, which is what
            "activations" are in Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678. A pass
            of training keeps about as many for each image, or twice as many where normalisation
            follows every convolution.
    """

    name: str
    kind: str = ""
    shape: Shape | None = None
    parameters: int = 0
    multiply_adds: int = 0
    activations: int = 0


@dataclass
class Trace:
    """One evaluation: what was called, in order, and what each equation costs."""

    program: Any = None  # the jaxpr; its inputs are the variables, by sorted names, and the image
    variables: list[str] = field(default_factory=list)
    stages: dict[str, Shape] = field(default_factory=dict)
    layers: dict[str, Part] = field(default_factory=dict)


def stage_parts(model: Classifier, height: int, width: int) -> list[Part]:
    """Returns the stages of `model` in order, and the head; together they are the whole model.

    A parameter belongs to the first stage that uses it.

    Raises:
        UserError: the model cannot take images of this size.
    """
    trace = _trace(model, height, width)
    parts = [Part(name, shape=shape) for name, shape in trace.stages.items()]
    unused = Part("not evaluated")
    sizes = {name: v.size for name, v in named_variables(model, nnx.Param).items()}
    inputs = trace.program.jaxpr.invars
    name_of = {id(v): name for v, name in zip(inputs, trace.variables, strict=False)}
    for equation in trace.program.jaxpr.eqns:
        part = parts[int(_scope(equation, _STAGE))]
        for variable in equation.invars:
            part.parameters += sizes.pop(name_of.get(id(variable), ""), 0)
        _add(part, equation)
    unused.parameters = sum(sizes.values())
    return [*parts, *([unused] if unused.parameters else [])]


def layer_parts(model: Classifier, height: int, width: int, depth: int) -> list[Part]:
    """Returns the layers of `model` down to `depth` names, in the order in which they are called.

    Each is there with all that is inside it: "layer1" has the parameters of "layer1.0". What a
    model computes outside of its layers is in none.

    Raises:
        UserError: the model cannot take images of this size.
    """
    trace = _trace(model, height, width)
    parts = {}
    for name, called in trace.layers.items():
        for outer in _outer(name)[:depth]:  # a list of layers is not called itself
            part = parts.setdefault(outer, Part(outer, type(_at(model, outer)).__name__))
            if outer == name or outer not in trace.layers:
                part.shape = called.shape
    for name, variable in named_variables(model, nnx.Param).items():
        for outer in _outer(name)[:-1][:depth]:
            part = parts.setdefault(outer, Part(outer, type(_at(model, outer)).__name__))
            part.parameters += variable.size
    for equation in trace.program.jaxpr.eqns:
        for outer in _outer(_scope(equation, _LAYER)):
            if outer in parts:
                _add(parts[outer], equation)
    order = {name: i for i, name in enumerate(parts)}
    return sorted(parts.values(), key=lambda part: [order[n] for n in _outer(part.name)])


def _add(part: Part, equation: Any) -> None:
    for multiply_adds, values in products_of(equation):
        part.multiply_adds += multiply_adds
        part.activations += values


def _outer(name: str) -> list[str]:
    """Returns ["layer1", "layer1.0", "layer1.0.conv1"] for the last of them."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))] if name else []


def _at(model: nnx.Module, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), model)


def _scope(equation: Any, mark: str) -> str:
    """Returns the innermost stage or layer that an equation was traced in, or nothing."""
    scopes = str(equation.source_info.name_stack).split("/")
    return next((s[len(mark) :] for s in reversed(scopes) if s.startswith(mark)), "")


def _trace(model: Classifier, height: int, width: int) -> Trace:
    model.check_shape((1, height, width, model.in_channels))
    trace = Trace()
    graph = nnx.graphdef(model)
    variables = dict(sorted(named_variables(model).items()))
    values = {
        name: jax.ShapeDtypeStruct(v.shape, value_of(v).dtype) for name, v in variables.items()
    }

    def run(values: dict[str, Any], image: jax.Array) -> jax.Array:
        flat = [(tuple(name.split(".")), type(variables[name])(v)) for name, v in values.items()]
        copy = nnx.merge(graph, nnx.from_flat_state(flat))
        copy.eval()
        _record_calls(copy, trace.layers)
        *_, x = _run_stages(copy, image, trace.stages)
        with jax.named_scope(f"{_STAGE}{len(trace.stages)}"):
            x = copy.forward_head(x)
        trace.stages["head"] = x.shape[1:]
        return x

    image = jax.ShapeDtypeStruct((1, height, width, model.in_channels), model.dtype)
    trace.program = jax.make_jaxpr(run)(values, image)
    trace.variables = list(values)
    return trace


def _run_stages(
    model: Classifier, image: jax.Array, shapes: dict[str, Shape]
) -> Iterator[jax.Array]:
    """Runs the stages, each in a scope of its index, and notes their shapes."""
    stages = model.run_stages(image)
    while True:
        with jax.named_scope(f"{_STAGE}{len(shapes)}"):
            stage = next(stages, None)
        if stage is None:
            return
        name, x = stage
        shapes[name] = x.shape[1:]
        yield x


def _record_calls(model: nnx.Module, calls: dict[str, Part]) -> None:
    """Makes every layer of `model` note its outputs and compute in a scope of its name."""
    for path, node in list(nnx.iter_graph(model)):
        if path and isinstance(node, nnx.Module):
            wrap_calls(node, _Recorder(".".join(map(str, path)), calls))


@dataclass(frozen=True)
class _Recorder:
    name: str
    calls: dict[str, Part]

    def __call__(self, call: Callable, *args: Any, **kwargs: Any) -> Any:
        part = self.calls.setdefault(self.name, Part(self.name))
        with jax.named_scope(f"{_LAYER}{self.name}"):
            out = call(*args, **kwargs)
        part.shape = getattr(out, "shape", (0,))[1:]
        return out
