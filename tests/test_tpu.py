"""TPUs by name, and a real compilation where libtpu is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flaxzoo import UserError, tpu

ROOT = Path(__file__).parents[1]
COMMAND = [
    "compile", "configs/resnet.py:imagenette", "--topology=v5e:2x2", "--batch-per-device=4",
    "--config.model.name=resnet_tiny", "--config.data.image_size=32", "--config.dtype=bfloat16",
    "--config.batch_norm=per_device", "--csv",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("v5e:2x4", ("v5e", 8)), ("v4:2x2x1", ("v4", 4)), ("v5p:2x2x4", ("v5p", 16))],
)
def test_a_topology_is_a_generation_and_its_chips(name, expected):
    assert tpu.parse_topology(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5:2x4", r"unknown TPU 'v5'; did you mean 'v5(e|p)'.*known: v2, v3, v4, v5e, v5p, v6e"),
        ("v5litepod-8", "unknown TPU 'v5litepod-8'"),
        ("v5e", r"its chips along each axis, such as v5e:2x4; got 'v5e'\."),
        ("v5e:8", "got 'v5e:8'"),
        ("v5e:2x0", "got 'v5e:2x0'"),
    ],
)
def test_other_names_are_errors(name, message):
    with pytest.raises(UserError, match=message):
        tpu.parse_topology(name)


def test_without_a_compiler_it_says_where_to_get_it(monkeypatch):
    monkeypatch.setattr(tpu.importlib.util, "find_spec", lambda _: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(UserError, match=r"libtpu.*pip install 'jax\[tpu\]==\d"):
        tpu.described_devices("v5e:2x4")


def test_newer_chips_do_no_less_of_anything():
    for older, newer in (("v2", "v3"), ("v3", "v4"), ("v5e", "v6e"), ("v4", "v5p")):
        assert all(a <= b for a, b in zip(tpu.CHIPS[older], tpu.CHIPS[newer], strict=True))


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
def test_a_step_is_compiled_for_a_tpu():
    """In a process of its own, for what libtpu does to one."""
    output = subprocess.run(
        [sys.executable, "-m", "flaxzoo", *COMMAND],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}, cwd=ROOT,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert output.returncode == 0, output.stderr
    keys, values = output.stdout.splitlines()
    row = dict(zip(keys.split(","), values.split(","), strict=True))
    assert (row["devices"], row["memory_bytes"]) == ("4", str(16 * 2**30))
    assert int(row["all_reduce_count"]) <= 2
    assert float(row["roofline_images_per_second"]) > 0
