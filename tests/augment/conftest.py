"""Images and keys for the augmentations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def keys():
    return lambda n, seed=0: jax.random.split(jax.random.key(seed), n)


@pytest.fixture
def noise():
    def make(n: int, size: int = 4, channels: int = 3):
        rng = np.random.default_rng(0)
        return jnp.asarray(rng.integers(1, 256, (n, size, size, channels), dtype=np.uint8))

    return make
