"""Configs at random: right values, those at the ends of a range, and slips of every kind."""

import operator
import typing
from typing import Any
from unittest import mock

import jax
import numpy as np
from hypothesis import strategies as st

from flaxzoo.check_config import check, field_names
from flaxzoo.config import POLICIES, Config, ModelConfig, data_config
from flaxzoo.errors import UserError
from flaxzoo.training import trainer as building
from flaxzoo.training.optimizer import OPTIMIZERS
from flaxzoo.training.parallel import Devices
from flaxzoo.training.schedule import SCHEDULES

DURATIONS = (
    "1 steps", "3 steps", "0 steps", "2 epochs", "0.5 epochs", "50%", "100%", "200%", "7 examples",
    "1e3 steps", "-1 steps", "9", "steps", "99999999999 steps", "1000000000 steps",
)  # fmt: skip
PATTERNS = (("^fc",), ("[",), ("nowhere",), ("",), ("conv", "bn"), ("^fc=10",), ("fc=-1",), ("=",))
NAMES = {
    "data.source": ("digits", "digit", "folder=nowhere", "npz=", "csv=x,label=y", "hf="),
    "data.image_size": (0, 1, 5, 8, 13, 32, -1, 2**16, 2**31),
    "augment.policy_ops": (1, 2, 3, 0, 101),
    "data.crop": ("resize", "center", "random_resized"),
    "data.sampling": ("shuffle", "balanced"),
    "data.interpolation": ("", "bilinear", "bicubic"),
    "data.on_error": ("raise", "skip"),
    "augment.policy": ("", *POLICIES),
    "augment.mix_mode": ("batch", "pair", "elem"),
    "augment.erase_value": ("mean", "random"),
    "augment.off": DURATIONS,
    "model.name": ("resnet_tiny", "lenet5_bn", "test_vit", "test_vgg", "resnet_tny"),
    "model.stem": ("", "cifar", "imagenet"),
    "model.options": (("planes=4",), ("planes=0",), ("dropout=0.1",), ("planes",), ("stem=cifar",)),
    "optimizer.name": tuple(OPTIMIZERS),
    "optimizer.adjust_lr_fn": (None, "original", "match_rms_adamw"),
    "optimizer.decay_on": ("all", "weights"),
    **{f"optimizer.{name}": PATTERNS for name in ("decay_exclude", "rates", "freeze")},
    "schedule.name": tuple(SCHEDULES),
    **{f"schedule.{name}": (None, *DURATIONS) for name in ("warmup", "every", "up", "down")},
    "schedule.milestones": (None, (), ("1 steps", "2 steps"), ("50%", "1 steps"), ("x",)),
    "schedule.warmup_kind": (None, "linear", "constant"),
    "schedule.mode": (None, "triangular", "triangular2", "exp_range"),
    "schedule.anneal": (None, "cos", "linear"),
    "schedule.threshold_mode": (None, "rel", "abs"),
    "distill.model": ("", "resnet_tiny", "resnet_tny"),
    "init_from": ("", "nowhere", "nowhere/weights.npz", "imagenet"),
    **dict.fromkeys(("duration", "eval_every", "log_every", "checkpoint.every"), DURATIONS),
    "loss": ("cross_entropy", "binary_cross_entropy"),
    "class_weights": ("none", "balanced", "effective"),
    "dtype": ("auto", "float32", "bfloat16", "float16", "float64"),
    "parallel": ("jit", "pmap"),
    "batch_norm": ("global", "per_device"),
    "log.wandb": ("",),  # a name would need the library
}
NUMBERS = {
    bool: (True, False),
    int: (0, 1, 2, 3, 4, 8, 30, 1300, -1, 2**31 - 1, 2**31, 2**64, 10**30),
    float: (
        0.0, 0.5, 1.0, 0.1, 0.9, 0.01, 2, 1e-9, 5e-324, 1e9, 1e38, 1e308, -1.0, float("nan"),
        float("inf"),
    ),
    str: ("",),
    tuple[float, ...]: (
        (), (0.5,), (0.5, 1.0), (1.0, 0.5), (0.1, 0.9), (0.5,) * 3, (0.0, 1.0), (-1.0,), [0, 1],
        (float("nan"), 1.0), (1e-300, 1e300),
    ),
    tuple[int, ...]: ((), (8,), (4, 8), (8, 4), (0,), (9,), (3, 5, 7), (2**40,)),
    tuple[str, ...]: ((), ("x",)),
}  # fmt: skip
WRONG = (None, "8", "nowhere", 3, 2.5, True, b"x", (1, "x"), ("x", None), [], {}, "\0")


def small_run() -> Config:
    """Returns the run that is changed: four steps of eight digits."""
    return Config(
        batch_size=8,
        duration="4 steps",
        data=data_config("digits"),
        model=ModelConfig(name="resnet_tiny"),
    )


def changed(config: Config, changes: list[tuple[str, Any]]) -> Config:
    for name, value in changes:
        group, _, leaf = name.rpartition(".")
        setattr(operator.attrgetter(group)(config) if group else config, leaf, value)
    return config


def _values(name: str) -> st.SearchStrategy[Any]:
    """Returns what a field is set to: mostly what it might hold, at times something wrong."""
    group, _, leaf = name.rpartition(".")
    owner = operator.attrgetter(group)(Config()) if group else Config()
    hint = typing.get_type_hints(type(owner))[leaf]
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    odd = NAMES.get(name) or NUMBERS[hint if hint in NUMBERS else kinds[0]]
    right = [value for value in odd if _can_be(name, value)]
    return st.one_of(*[st.sampled_from(right)] * 8, st.sampled_from(odd), st.sampled_from(WRONG))


def _can_be(name: str, value: Any) -> bool:
    try:
        check(changed(small_run(), [(name, value)]))
    except UserError:
        return False
    return True


ANYTHING = st.sampled_from(field_names()).flatmap(
    lambda name: st.tuples(st.just(name), VALUES[name])
)
VALUES = {name: _values(name) for name in field_names()}
# What a schedule cannot do without, and a reason to take the fields of each algorithm.
STARTS = [[("optimizer.name", name)] for name in OPTIMIZERS] + [
    [("schedule.name", "step"), ("schedule.every", "1 steps")],
    [("schedule.name", "multistep"), ("schedule.milestones", ("50%",))],
    [("schedule.name", "cosine_restarts"), ("schedule.every", "2 steps")],
    [("schedule.name", "cyclic"), ("schedule.min_rate", 0.0), ("schedule.up", "1 steps")],
    [("schedule.name", "plateau")],
    [("schedule.name", "one_cycle"), ("schedule.up", "2 steps")],
    [("schedule.warmup", "2 steps")],
]
CHANGES = st.builds(
    operator.add, st.sampled_from([[], *STARTS]), st.lists(ANYTHING, min_size=1, max_size=3)
)


def build(config: Config) -> tuple[building.Trainer, Any]:
    """Builds a run as `train` does, but for the state, of which it returns the shapes."""
    with (
        mock.patch.object(Devices, "compile_create", lambda _, make, *a: jax.eval_shape(make, *a)),
        mock.patch.object(Devices, "place", lambda _, tree: tree),
    ):
        trainer, state = building.build(config)
    return trainer, _shapes(state)


def trace(trainer: building.Trainer, state: Any) -> None:
    """Traces the steps of training and the evaluation of a run; computes nothing."""
    batch, size = trainer.config.batch_size, trainer.config.data.image_size
    labels = jax.ShapeDtypeStruct((batch,), np.int32)
    images = jax.ShapeDtypeStruct((batch, size, size, 1), np.uint8)

    def inputs(resident: Any) -> dict[str, Any]:
        return {"index": labels} if "image" in resident else {"image": images, "label": labels}

    resident = _shapes(trainer.resident)
    for step in trainer.train_steps.values():
        jax.eval_shape(step, *trainer.devices.abstract(state, inputs(resident), resident))
    if "validation" in trainer.feeds:
        resident = _shapes(trainer.feeds["validation"].resident)
        seen = inputs(resident) | {"mask": jax.ShapeDtypeStruct((batch,), bool)}
        jax.eval_shape(trainer.eval_step, state.params, state.batch_stats, seen, resident)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)
