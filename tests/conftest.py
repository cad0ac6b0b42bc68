"""Shared by all tests here."""

import pytest


@pytest.fixture
def weights_cache(tmp_path, monkeypatch):
    """An empty folder, where published weights are looked for and put."""
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path
