"""One comparison for every layer: outputs, and gradients of the input and all parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from flaxzoo import UserError, load_torch, to_torch
from flaxzoo.layers import initialise
from flaxzoo.parity.twins import import_library
from flaxzoo.training.state import split_model


def installed(library: str):
    """Returns torchvision or timm; skips the test, and says so, where it is not there."""
    try:
        return import_library(library)
    except UserError as error:
        pytest.skip(str(error))


TOLERANCE = 1e-12  # relative to the largest value; 1e-15 is usual, sums of 1e3 terms cost a digit


def to_nchw(x) -> np.ndarray:
    x = np.asarray(x)
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def assert_close(ours, theirs: torch.Tensor, tolerance: float = TOLERANCE):
    ours, theirs = to_nchw(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def pull_back(layer: Callable, x: np.ndarray, cotangent: np.ndarray):
    """Returns the output, the gradient of x, and those of a layer's parameters as in torch."""
    if not isinstance(layer, nnx.Module):
        y, x_grad = jax.jit(lambda x, ct: _value_and_vjp(layer, x, cotangent=ct))(x, cotangent)
        return y, x_grad, {}
    model_def, params, batch_stats = split_model(layer)

    def call(params, x):
        return model_def.bind(params, batch_stats)(x)

    y, grads, x_grad = jax.jit(lambda params, x, ct: _value_and_vjp(call, params, x, cotangent=ct))(
        params, x, cotangent
    )
    return y, x_grad, to_torch(model_def.bind(grads, batch_stats))


def _value_and_vjp(function: Callable, *arguments, cotangent):
    y, vjp = jax.vjp(function, *arguments)
    return y, *vjp(cotangent)


def assert_same(ours: Callable, theirs: Callable, shape: tuple[int, ...]):
    """Asserts that two layers or functions agree at a random input; modules get equal weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    torch_x = torch.from_numpy(np.ascontiguousarray(to_nchw(x))).requires_grad_()
    if isinstance(theirs, torch.nn.Module):
        theirs = theirs.double()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
        initialise(ours, seed=0, param_dtype=jnp.float64)
        load_torch(ours, theirs.state_dict())
    torch_y = theirs(torch_x)
    cotangent = rng.normal(size=torch_y.shape)
    torch_y.backward(torch.from_numpy(cotangent))
    if cotangent.ndim == 4:
        cotangent = cotangent.transpose(0, 2, 3, 1)
    y, x_grad, grads = pull_back(ours, x, cotangent)
    assert_close(y, torch_y)
    assert_close(x_grad, torch_x.grad)
    if isinstance(theirs, torch.nn.Module):
        for name, parameter in theirs.named_parameters():
            assert_close_as_stored(grads[name], parameter.grad)


def assert_close_as_stored(ours: np.ndarray, theirs: torch.Tensor):
    np.testing.assert_allclose(
        ours, theirs.numpy(), rtol=0, atol=TOLERANCE * float(theirs.abs().max())
    )
