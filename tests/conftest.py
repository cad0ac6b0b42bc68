"""Shared by all tests: real images where they are, double precision, a compilation cache."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_platforms", "cpu")  # the tests compare digits, which a GPU rounds otherwise


@pytest.fixture
def x64():
    """Turns float64 on for one test."""
    enable = getattr(jax, "enable_x64", None) or jax.experimental.enable_x64  # jax < 0.8
    with enable(True):
        yield


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images that lies beside the repository on some machines."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FLAXZOO_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no folder of real images at {folder} (FLAXZOO_SHARED_DATA)")
    return folder
