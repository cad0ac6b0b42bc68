"""Everything here compares with torch, in float64 unless a test says otherwise.

Without torch each file is skipped, and the run says so.
"""

import pytest

try:
    import torch
except ImportError:
    torch = None
else:
    torch.set_num_threads(1)  # the arrays are small, and JAX's threads share the cores


class _NeedsTorch(pytest.File):
    def collect(self):
        pytest.skip("compares with PyTorch, which is not installed: pip install 'flaxzoo[parity]'")


if torch is None:

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(file_path, parent):
        yield
        if not file_path.name.startswith("test_"):
            return []
        return [_NeedsTorch.from_parent(parent, path=file_path)]


@pytest.fixture(autouse=True)
def _double_precision(x64): ...
