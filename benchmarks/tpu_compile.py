"""Compiles training steps for eight TPU v5e cores that need not be there.

    pip install 'jax[tpu]'
    python -m benchmarks.tpu_compile                                  # all, hours on two CPU cores
    python -m benchmarks.tpu_compile resnet50 plain_nnx_resnet50

Each is the step of a run on ImageNet at 224 pixels: bfloat16, SGD with momentum, no augmentation,
128 images a core or, where they do not fit, half as many. What the compiler says of memory,
operations, traffic and collectives goes to benchmarks/results/tpu_compile.json; the figures are the
same on every machine. `batch_norm="per_device"`, except in those that end in `_global`.

`plain_nnx_resnet50` is the baseline: ResNet-50 of flax.nnx's own layers, as its documentation
builds networks, with dtype=bfloat16 in convolutions, batch normalisation and the head.
"""

import argparse
import importlib.metadata
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.record import FOLDER, load, save
from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.step_cost import Core, DoesNotFitError, StepCost, cost_of, step_cost
from flaxzoo.tpu import described_devices
from flaxzoo.training.parallel import Devices

RESULTS = FOLDER / "tpu_compile.json"
TOPOLOGY, BATCH, SIZE = "v5e:2x4", 128, 224
BASELINE = "plain_nnx_resnet50"
NAMES = (
    "resnet50", BASELINE, "resnet50_global", "resnext50_32x4d", "efficientnet_b0", "densenet121",
    "vit_b_16", "mixer_b16_224",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Compiles training steps for TPUs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    jax.config.update("jax_platforms", "cpu")
    devices, core = described_devices(TOPOLOGY)
    results = load(RESULTS)
    for name in names:
        results[name] = measure(name, devices, core)
        print(name, results[name], flush=True)
        save(RESULTS, results)


def measure(name: str, devices: Devices, core: Core) -> dict[str, Any]:
    """Returns the figures of a step, of the first batch of 128, 64, ... images a core that fits."""
    each = BATCH
    while True:
        try:
            compiled = baseline_cost if name == BASELINE else zoo_cost
            return figures(compiled(name, each, devices), core)
        except DoesNotFitError as error:
            print(f"{name}, {each} images a core: {error}", flush=True)
            each //= 2


def figures(cost: StepCost, core: Core) -> dict[str, Any]:
    return {
        "batch_per_core": cost.batch,
        "mb_per_image": round(cost.bytes_accessed / cost.batch / 1e6, 1),
        "gflop_per_image": round(cost.flops / cost.batch / 1e9, 2),
        "temporaries_gb": round(cost.temporaries / 1e9, 2),
        "arguments_gb": round(cost.arguments / 1e9, 2),
        "loops": cost.loops,
        "collectives": {
            kind: {"count": t.count, "mb": round(t.bytes / 1e6, 2)}
            for kind, t in cost.collectives.items()
        },
        "roofline_images_per_second": round(cost.images_per_second(core)),
        "bound_by": cost.bound_by(core),
        "compile_seconds": round(cost.compile_seconds),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax", "libtpu")},
    }


def zoo_cost(name: str, each: int, devices: Devices) -> StepCost:
    model = name.removesuffix("_global")
    config = Config(
        batch_size=each * devices.count,
        dtype="bfloat16",
        batch_norm="global" if name != model else "per_device",
        model=ModelConfig(name=model),
        data=data_config("imagenet2012", image_size=SIZE),
    )
    return step_cost(config, devices)


class Norm(nnx.BatchNorm):
    def __init__(self, features: int, rngs: nnx.Rngs):
        super().__init__(features, momentum=0.9, epsilon=1e-5, dtype=jnp.bfloat16, rngs=rngs)


class Convolution(nnx.Conv):
    def __init__(self, inputs: int, outputs: int, size: int, stride: int, rngs: nnx.Rngs):
        super().__init__(
            inputs, outputs, (size, size), strides=stride, padding=size // 2, use_bias=False,
            dtype=jnp.bfloat16, rngs=rngs,
        )  # fmt: skip


class Block(nnx.Module):
    """A bottleneck of three convolutions, whose stride is in the second."""

    def __init__(self, inputs: int, width: int, stride: int, rngs: nnx.Rngs):
        outputs = 4 * width
        self.conv1, self.norm1 = Convolution(inputs, width, 1, 1, rngs), Norm(width, rngs)
        self.conv2, self.norm2 = Convolution(width, width, 3, stride, rngs), Norm(width, rngs)
        self.conv3, self.norm3 = Convolution(width, outputs, 1, 1, rngs), Norm(outputs, rngs)
        self.changes = inputs != outputs
        if self.changes:
            self.conv0, self.norm0 = (
                Convolution(inputs, outputs, 1, stride, rngs),
                Norm(outputs, rngs),
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return nnx.relu(y + (self.norm0(self.conv0(x)) if self.changes else x))


class ResNet50(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv, self.norm = Convolution(3, 64, 7, 2, rngs), Norm(64, rngs)
        inputs, blocks = 64, {}
        for stage, depth in enumerate((3, 4, 6, 3)):
            for i in range(depth):
                width, stride = 64 * 2**stage, 2 if stage and not i else 1
                blocks[f"block{stage}_{i}"] = Block(inputs, width, stride, rngs)
                inputs = 4 * width
        self.names = tuple(blocks)
        for name, block in blocks.items():
            setattr(self, name, block)
        self.head = nnx.Linear(inputs, 1000, dtype=jnp.bfloat16, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv(x)))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for name in self.names:
            x = getattr(self, name)(x)
        return self.head(jnp.mean(x, (1, 2)))


def baseline_cost(_: str, each: int, devices: Devices) -> StepCost:
    optimizer = optax.sgd(0.1, momentum=0.9)

    def create() -> tuple[nnx.State, nnx.State, Any]:
        _, params, rest = nnx.split(ResNet50(nnx.Rngs(0)), nnx.Param, ...)
        return params, rest, optimizer.init(params)

    graphdef = nnx.graphdef(nnx.eval_shape(lambda: ResNet50(nnx.Rngs(0))))

    def step(params, rest, opt_state, images, labels):
        model = nnx.merge(graphdef, params, rest)

        def loss_fn(model):
            logits = model(images).astype(jnp.float32)
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        _, params, rest = nnx.split(model, nnx.Param, ...)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state, loss

    def on_all(tree: Any, sharding: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    batch = each * devices.count
    images = jax.ShapeDtypeStruct((batch, SIZE, SIZE, 3), jnp.float32, sharding=devices.sharded)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=devices.sharded)
    state = on_all(jax.eval_shape(create), devices.replicated)
    lowered = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*state, images, labels)
    start = time.monotonic()
    compiled = lowered.compile()
    return cost_of(compiled, batch, devices.count, time.monotonic() - start)


if __name__ == "__main__":
    main()
