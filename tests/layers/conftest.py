"""Layers are compared in float64, where a difference in meaning cannot hide behind rounding."""

import pytest


@pytest.fixture(autouse=True)
def _double_precision(x64): ...
