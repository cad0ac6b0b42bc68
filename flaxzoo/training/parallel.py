"""One mesh over all devices of all processes, and the two ways to run a step on it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxzoo.errors import UserError

AXIS = "batch"
# What makes XLA:CPU faster, by the milliseconds for 16 images of 128 pixels on two cores (AVX-512).
# Since jax 0.10 it hands single convolutions to YNNPACK; left to Eigen, a training step of resnet18
# takes 751 instead of 968, of mobilenet_v2 670 instead of 823. Vectors of 512 bits instead of 256:
# mobilenet_v2 676, not 702. Sums are left to XLA, which computes their terms in the same loop:
# mobilenet_v2 431, not 623 (AVX2). The pass that is left out is the one that drops
# `optimization_barrier` before loops are fused: with it `flaxzoo.layers.fusion` has no effect.
CPU_OPTIONS: dict[str, Any] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT",
    "xla_cpu_prefer_vector_width": 512,
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
# The older of its two ways to compile a fusion: a training step of mobilenet_v2 takes 702, not 910,
# its forward pass 127, not 281; blocks of it compile in half the time. jax 0.11 has dropped it.
CPU_OPTIONS_BEFORE_0_11 = {"xla_cpu_use_fusion_emitters": False}
# What jax 0.12.0 hands to YNNPACK is NaN in bfloat16 at times, as the logits of resnet_tiny are.
CPU_OPTIONS_SINCE_0_12 = {"xla_cpu_experimental_ynn_fusion_type": ""}
MIN_SHARDED = 4096  # elements; to gather a smaller array takes longer than its memory is worth


def compiler_options(platform: str) -> dict[str, Any] | None:
    """Returns what XLA is told on a platform, for jax.jit; an option it does not know is an error.

    Args:
        platform: cpu, gpu or tpu.
    """
    if platform != "cpu" or jax.__version_info__ < (0, 10):
        return None
    if jax.__version_info__ < (0, 11):
        return CPU_OPTIONS | CPU_OPTIONS_BEFORE_0_11
    return CPU_OPTIONS | (CPU_OPTIONS_SINCE_0_12 if jax.__version_info__ >= (0, 12) else {})


@dataclass(frozen=True)
class Devices:
    """Where arrays lie: batches are split over the devices, everything else is on each of them.

    With `shard_params`, the large arrays of a state (parameters, optimiser state, averages) are
    split over the same devices and gathered for the length of a step, as in stage 3 of ZeRO
    (Rajbhandari et al. 2019, https://arxiv.org/abs/1910.02054).
    """

    mesh: Mesh
    parallel: str  # "jit" or "pmap"
    shard_params: bool = False

    @property
    def count(self) -> int:
        return self.mesh.size

    @property
    def platform(self) -> str:
        """What the devices are: cpu, gpu or tpu."""
        return self.mesh.devices.flat[0].platform

    @property
    def axis_name(self) -> str | None:
        return AXIS if self.parallel == "pmap" else None

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def sharded(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(AXIS))

    def layout(self, tree: Any) -> Any:
        """Returns the sharding of every array of a state, or of a part of one."""
        return jax.tree.map(lambda x: self._sharding(x.shape), tree)

    def _sharding(self, shape: tuple[int, ...]) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(shape) if size % self.count == 0]
        if not self.shard_params or not divisible or np.prod(shape) < MIN_SHARDED:
            return self.replicated
        largest = max(divisible, key=lambda axis: shape[axis])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * largest, AXIS))

    def place(self, tree: Any) -> Any:
        """Puts every array of a state, or of a part of one, where it belongs."""
        return jax.tree.map(lambda x: _put(x, self._sharding(x.shape)), tree)

    def replicate(self, tree: Any) -> Any:
        """Puts a whole copy of every array of `tree` on every device."""
        return jax.tree.map(lambda x: _put(x, self.replicated), tree)

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

    def abstract(self, state: Any, inputs: Any, resident: Any) -> tuple[Any, Any, Any]:
        """Returns a compiled train step's arguments as shapes, and how they lie on the devices."""

        def shapes(tree: Any, layout: Callable[[tuple[int, ...]], Any]) -> Any:
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout(x.shape)), tree
            )

        if self.parallel == "pmap":
            n = self.count
            rows = {k: (n, v.shape[0] // n, *v.shape[1:]) for k, v in inputs.items()}
            split = {k: jax.ShapeDtypeStruct(rows[k], v.dtype) for k, v in inputs.items()}
            return shapes(state, lambda _: None), split, shapes(resident, lambda _: None)
        return (
            shapes(state, self._sharding),
            shapes(inputs, lambda _: self.sharded),
            shapes(resident, lambda _: self.replicated),
        )

    def compile_create(self, create: Callable, *args: Any) -> Any:
        """Returns create(*args), arrays of a state that never were whole on one device."""
        layout = self.layout(jax.eval_shape(create, *args))
        return jax.jit(create, out_shardings=layout)(*args)

    def compile_train(self, step: Callable, state: Any) -> Callable:
        """Compiles step(state, inputs, resident); the new state reuses the old one's memory.

        Args:
            state: any state of the shapes that `step` will get, with a field `params`.
        """
        if self.parallel == "pmap":
            devices = list(self.mesh.devices.flat)
            return jax.pmap(
                step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0,
                devices=devices,
            )  # fmt: skip

        def gathered(state: Any, inputs: Any, resident: Any) -> Any:
            return step(
                dataclasses.replace(state, params=self._gather(state.params)), inputs, resident
            )

        layout = (self.layout(state), self.replicated)
        return jax.jit(
            gathered,
            donate_argnums=0,
            out_shardings=layout,
            compiler_options=compiler_options(self.platform),
        )

    def compile_eval(self, step: Callable) -> Callable:
        """Compiles step(params, batch_stats, inputs, resident) for batches from `split`."""

        def gathered(params: Any, *args: Any) -> Any:
            return step(self._gather(params), *args)

        options = compiler_options(self.platform)
        return jax.jit(gathered, out_shardings=self.replicated, compiler_options=options)

    def with_whole_gradients(
        self, optimizer: optax.GradientTransformation
    ) -> optax.GradientTransformation:
        """Returns `optimizer`, which gets gradients that were summed over the devices.

        From its own split state XLA may infer split gradients, and move features between the
        devices to compute them.
        """

        def update(updates: Any, state: Any, params: Any = None) -> Any:
            return optimizer.update(self._gather(updates), state, params)

        return optax.GradientTransformation(optimizer.init, update)

    def _gather(self, arrays: Any) -> Any:
        """Makes split arrays whole inside a step, so that images stay where they are."""
        if not self.shard_params:
            return arrays
        return jax.lax.with_sharding_constraint(arrays, self.replicated)

    def check_batch(self, batch_size: int, parts: int = 1) -> None:
        """Refuses a batch that the devices cannot share equally, in so many equal parts."""
        if batch_size % (self.count * parts):
            accumulated = f", times {parts} (config.accumulate)" if parts > 1 else ""
            raise UserError(
                f"config.batch_size must be a multiple of the {self.count} devices{accumulated}; "
                f"got {batch_size}."
            )


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    """Lays an array out as `sharding` says; every process must have the same `x`."""
    if jax.process_count() == 1 or not getattr(x, "is_fully_addressable", True):
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    # jax.device_put would compare the values of all processes first, array by array.
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def all_devices(parallel: str, shard_params: bool = False) -> Devices:
    """Returns all devices of all processes, in one row, those of a process side by side."""
    ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Devices(Mesh(np.array(ordered), (AXIS,)), parallel, shard_params)
