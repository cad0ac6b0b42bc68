"""One mesh over all devices of all processes, and the two ways to run a step on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxzoo.errors import UserError

AXIS = "batch"


@dataclass(frozen=True)
class Devices:
    """Where arrays lie: batches are split over the devices, everything else is on each of them."""

    mesh: Mesh
    parallel: str  # "jit" or "pmap"

    @property
    def count(self) -> int:
        return self.mesh.size

    @property
    def axis_name(self) -> str | None:
        return AXIS if self.parallel == "pmap" else None

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def sharded(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def replicate(self, tree: Any) -> Any:
        """Puts a whole copy of every array of `tree` on every device."""
        return jax.device_put(tree, self.replicated)

    def split(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Spreads this process's rows of a global batch over its devices."""
        return {
            k: jax.make_array_from_process_local_data(self.sharded, v) for k, v in batch.items()
        }

    def train_inputs(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Returns `batch` as the compiled train step takes it."""
        if self.parallel == "jit":
            return self.split(batch)
        n = jax.local_device_count()
        return {k: v.reshape(n, len(v) // n, *v.shape[1:]) for k, v in batch.items()}

    def compile_train(self, step: Callable) -> Callable:
        """Compiles step(state, inputs, resident); the new state reuses the old one's memory."""
        if self.parallel == "jit":
            return jax.jit(step, donate_argnums=0, out_shardings=self.replicated)
        return jax.pmap(
            step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0
        )

    def compile_eval(self, step: Callable) -> Callable:
        """Compiles step(params, batch_stats, inputs, resident) for batches from `split`."""
        return jax.jit(step, out_shardings=self.replicated)

    def check_batch(self, batch_size: int, parts: int = 1) -> None:
        """Refuses a batch that the devices cannot share equally, in so many equal parts."""
        if batch_size % (self.count * parts):
            accumulated = f", times {parts} (config.accumulate)" if parts > 1 else ""
            raise UserError(
                f"config.batch_size must be a multiple of the {self.count} devices{accumulated}; "
                f"got {batch_size}."
            )


def all_devices(parallel: str) -> Devices:
    """Returns all devices of all processes, in one row."""
    return Devices(Mesh(np.array(jax.devices()), (AXIS,)), parallel)
