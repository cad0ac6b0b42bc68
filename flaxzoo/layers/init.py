"""Initial distributions, as in torch.nn.init, drawn with NumPy.

An `Init` is called with a random generator and the shape of the variable in flaxzoo's layout:
kernels are (height, width, in / groups, out) or (in, out). torch counts both fans over one group's
input channels and all output channels; so do these.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Init = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def fan(shape: tuple[int, ...], mode: Literal["fan_in", "fan_out"]) -> int:
    """Returns the number of inputs of one output value ("fan_in"), or the reverse ("fan_out")."""
    return math.prod(shape[:-2]) * (shape[-2] if mode == "fan_in" else shape[-1])


@dataclass(frozen=True)
class Constant:
    """Every element is `value`."""

    value: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value, np.float32)


@dataclass(frozen=True)
class Normal:
    """Normal with standard deviation `std` and mean zero."""

    std: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(self.std)


@dataclass(frozen=True)
class Uniform:
    """Uniform on [-bound, bound)."""

    bound: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return (2 * rng.random(shape, np.float32) - 1) * np.float32(self.bound)


@dataclass(frozen=True)
class TruncatedNormal:
    """torch.nn.init.trunc_normal_: standard deviation `std` before it is cut to [-bound, bound].

    `bound` is absolute, 2 in torch, which cuts nothing where `std` is small.
    """

    std: float
    bound: float = 2.0

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        limit = np.float32(self.bound / self.std)
        value = rng.standard_normal(shape, np.float32)
        while (outside := np.abs(value) > limit).any():
            value[outside] = rng.standard_normal(int(outside.sum()), np.float32)
        return value * np.float32(self.std)


@dataclass(frozen=True)
class LecunNormal:
    """timm's lecun_normal_, JAX's: variance 1 / fan_in after a cut at two standard deviations."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        std = 1 / math.sqrt(fan(shape, "fan_in")) / 0.87962566103423978  # what the cut leaves
        return TruncatedNormal(std, bound=2 * std)(rng, shape)


@dataclass(frozen=True)
class KaimingNormal:
    """torch.nn.init.kaiming_normal_: standard deviation gain / sqrt(fan) (He et al. 2015).

    The gain is that of ReLU unless given; 1 is torch's nonlinearity="linear".
    """

    mode: Literal["fan_in", "fan_out"] = "fan_in"
    gain: float = math.sqrt(2)

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return Normal(self.gain / math.sqrt(fan(shape, self.mode)))(rng, shape)


@dataclass(frozen=True)
class KaimingUniform:
    """torch.nn.init.kaiming_uniform_: uniform within gain * sqrt(3 / fan)."""

    mode: Literal["fan_in", "fan_out"] = "fan_in"
    gain: float = math.sqrt(2)

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return Uniform(self.gain * math.sqrt(3 / fan(shape, self.mode)))(rng, shape)


@dataclass(frozen=True)
class XavierUniform:
    """torch.nn.init.xavier_uniform_: uniform within sqrt(6 / (fan_in + fan_out)) (Glorot 2010)."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        fans = fan(shape, "fan_in") + fan(shape, "fan_out")
        return Uniform(math.sqrt(6 / fans))(rng, shape)


@dataclass(frozen=True)
class TorchDefault:
    """What torch gives Conv2d and Linear kernels: uniform within 1 / sqrt(fan_in)."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return Uniform(1 / math.sqrt(fan(shape, "fan_in")))(rng, shape)


ZEROS = Constant(0.0)
ONES = Constant(1.0)
