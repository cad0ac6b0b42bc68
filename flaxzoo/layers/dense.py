"""Convolution and linear layers: torch.nn.Conv2d and torch.nn.Linear on channels-last arrays."""

import math

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers.conv import conv2d
from flaxzoo.layers.fusion import spread
from flaxzoo.layers.init import Init, TorchDefault, Uniform
from flaxzoo.layers.module import param

Pair = int | tuple[int, int]


def pair(value: Pair) -> tuple[int, int]:
    """Returns (value, value) for a number, a pair as it is."""
    return (value, value) if isinstance(value, int) else value


class Conv(nnx.Module):
    """2-d convolution on (n, h, w, in_features), as torch.nn.Conv2d computes it.

    `kernel` is (kh, kw, in_features / groups, out_features). `padding` is symmetric and in pixels;
    left out, it keeps the size at stride 1 for odd kernels. It is never "SAME", which pads unevenly
    at stride 2 and so is another function than torch's. The arithmetic is done in the input's
    dtype.

    Args:
        kernel_init, bias_init: initial distributions; by default torch's.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | None = None,
        dilation: Pair = 1,
        groups: int = 1,
        use_bias: bool = True,
        *,
        kernel_init: Init | None = None,
        bias_init: Init | None = None,
    ):
        if in_features % groups or out_features % groups:
            raise ValueError(
                f"groups must divide the channels; got groups={groups}, "
                f"in_features={in_features}, out_features={out_features}."
            )
        kh, kw = pair(kernel_size)
        dh, dw = pair(dilation)
        ph, pw = (dh * (kh - 1) // 2, dw * (kw - 1) // 2) if padding is None else pair(padding)
        self.stride = pair(stride)
        self.padding = ((ph, ph), (pw, pw))
        self.dilation = (dh, dw)
        self.groups = groups
        shape = (kh, kw, in_features // groups, out_features)
        self.kernel = param(shape, kernel_init or TorchDefault())
        bound = 1 / math.sqrt(math.prod(shape[:3]))
        self.bias = param((out_features,), bias_init or Uniform(bound)) if use_bias else None

    def __call__(self, x: Float[Array, "n h w c_in"]) -> Float[Array, "n h_out w_out c_out"]:
        y = conv2d(
            x,
            self.kernel[...].astype(x.dtype),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if self.bias is None else y + spread(self.bias[...].astype(x.dtype), y.shape)


class Linear(nnx.Module):
    """y = x @ kernel + bias over the last axis, in the input's dtype. `kernel` is (in, out)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        use_bias: bool = True,
        *,
        kernel_init: Init | None = None,
        bias_init: Init | None = None,
    ):
        self.kernel = param((in_features, out_features), kernel_init or TorchDefault())
        bound = 1 / math.sqrt(in_features)
        self.bias = param((out_features,), bias_init or Uniform(bound)) if use_bias else None

    def __call__(self, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
        y = x @ self.kernel[...].astype(x.dtype)
        return y if self.bias is None else y + spread(self.bias[...].astype(x.dtype), y.shape)
