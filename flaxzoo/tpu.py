"""TPUs that are not there: what their cores can do, and the compiler for them.

The compiler is libtpu, which is on PyPI and runs on any x86 Linux machine.
"""

import importlib.util
import math
import os
import re

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from flaxzoo.errors import UserError, unknown
from flaxzoo.step_cost import Core
from flaxzoo.training.parallel import AXIS, Devices

# Of a chip: GiB of memory, 10^12 floating-point operations a second in bfloat16, 10^9 bytes a
# second from memory. v5e, v5p and v6e: https://cloud.google.com/tpu/docs/v5e and its siblings.
# v2 to v4: the table in jax/_src/pallas/mosaic/tpu_info.py of jax 0.10.
CHIPS = {
    "v2": (16, 46, 716),
    "v3": (32, 140, 825),
    "v4": (32, 275, 1230),
    "v5e": (16, 197, 819),
    "v5p": (95, 459, 2765),
    "v6e": (32, 918, 1638),
}
EXAMPLE = "v5e:2x4"

# For libtpu, before it is loaded: there is no TPU here to ask, and one that is may be in use.
_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def described_devices(
    topology: str, parallel: str = "jit", shard_params: bool = False
) -> tuple[Devices, Core]:
    """Returns the devices of a TPU slice, for which programs can be compiled, and what each can do.

    A device is a core, or on v5p the two cores of a chip.

    Args:
        topology: a generation and the chips along each axis: "v5e:2x4" has 8, "v5p:2x2x1" 4.
        parallel: "jit" or "pmap", as in a config; so is `shard_params`.

    Raises:
        UserError: there is no such generation or slice, or libtpu is not installed.
    """
    generation, chips = parse_topology(topology)
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(
            "to compile for a TPU takes its compiler, libtpu, and no TPU: "
            f"pip install 'jax[tpu]=={jax.__version__}'."
        )
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"libtpu knows no slice {topology!r}: {error}") from None
    ordered = sorted(described, key=lambda device: (device.process_index, device.id))
    memory, flops, bandwidth = CHIPS[generation]
    share = chips / len(ordered)
    core = Core(share * memory * 2**30, share * flops * 1e12, share * bandwidth * 1e9)
    return Devices(Mesh(np.array(ordered), (AXIS,)), parallel, shard_params), core


def parse_topology(topology: str) -> tuple[str, int]:
    """Returns the generation and the number of chips that a name such as "v5e:2x4" means.

    Raises:
        UserError: it is no such name, or there is no such generation.
    """
    generation, _, chips = topology.partition(":")
    if generation not in CHIPS:
        raise unknown("TPU", generation, CHIPS)
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", chips):
        raise UserError(
            f"a topology is a generation and its chips along each axis, such as {EXAMPLE}; "
            f"got {topology!r}."
        )
    return generation, math.prod(map(int, chips.split("x")))
