"""What a compiled step is said to need, and the search for the largest batch."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from flaxzoo import UserError
from flaxzoo.config import Config, DistillConfig, ModelConfig, ScheduleConfig, data_config
from flaxzoo.step_cost import (
    Core,
    DoesNotFitError,
    StepCost,
    Traffic,
    collectives,
    cost_of,
    largest_batch,
    step_cost,
)
from flaxzoo.training.abstract import SETS, abstract_step, blank_dataset, most_images
from flaxzoo.training.parallel import all_devices

TINY = Config(
    batch_size=4,
    dtype="float32",
    model=ModelConfig(name="lenet5_bn"),
    data=data_config("cifar10", image_size=16),
)
CORE = Core(memory=1e9, flops=1e12, bandwidth=1e9)


@pytest.fixture(scope="module")
def tiny() -> StepCost:
    return step_cost(TINY, all_devices("jit"))


def test_the_state_is_an_argument_and_its_memory_is_used_again(tiny):
    state, inputs, resident = abstract_step(TINY, all_devices("jit"))[1]

    def size(tree) -> int:
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    assert tiny.arguments == size((state, inputs, resident))
    assert size(resident) >= 45_000 * 16 * 16 * 3  # of a small set, all images
    assert tiny.reused == size(state)
    assert tiny.outputs - tiny.reused < 1000  # three metrics, and pointers


def test_peak_counts_what_is_used_twice_once(tiny):
    assert tiny.peak == tiny.arguments + tiny.temporaries + tiny.program + (
        tiny.outputs - tiny.reused
    )


def test_a_matrix_product_costs_what_it_must():
    n = 64
    shape = jax.ShapeDtypeStruct((n, n), jnp.float32)
    cost = cost_of(jax.jit(jnp.matmul).lower(shape, shape).compile(), 8, 1, seconds=0.5)
    assert (cost.batch, cost.compile_seconds, cost.collectives) == (8, 0.5, {})
    assert cost.flops == 2 * n**3
    assert cost.bytes_accessed == 3 * 4 * n**2
    assert cost.intensity == pytest.approx(n / 6)


def test_loops_are_told():
    def repeated(x):
        return jax.lax.fori_loop(0, 10, lambda _, y: jnp.sin(y) @ y, x)

    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    assert cost_of(jax.jit(repeated).lower(shape).compile(), 1, 1, 0.0).loops == 1


@pytest.mark.parametrize(
    ("flops", "moved", "seconds", "bound"), [(4e12, 1e9, 4, "arithmetic"), (1e12, 2e9, 2, "memory")]
)
def test_the_roofline_is_the_slower_of_arithmetic_and_memory(tiny, flops, moved, seconds, bound):
    cost = dataclasses.replace(tiny, batch=8, devices=4, flops=flops, bytes_accessed=moved)
    assert cost.roofline_seconds(CORE) == seconds
    assert cost.images_per_second(CORE) == 4 * 8 / seconds
    assert cost.bound_by(CORE) == bound


TPU_TEXT = """
  %fusion.1 = bf16[8,4]{1,0:T(8,128)(2,1)} fusion(%all-reduce.3), kind=kLoop, calls=%all-reduce_fusion
  %all-reduce.3 = (f32[64]{0:T(128)}, f32[3,3,64]{2,1,0:T(4,128)S(1)}) all-reduce(%a, %b), channel_id=1
  %all-reduce-start = f32[10]{0:T(128)} all-reduce-start(%c), channel_id=2
  %all-reduce-done = f32[10]{0:T(128)} all-reduce-done(%all-reduce-start)
  %all-gather-start = (pred[2]{0}, pred[16]{0}) all-gather-start(%d), dimensions={0}
  ROOT %permuted = bf16[]{:T(256)} collective-permute(%e)
"""  # noqa: E501


def test_collectives_are_read_from_the_text_of_a_program():
    assert collectives(TPU_TEXT) == {
        "all-reduce": Traffic(2, 4 * (64 + 9 * 64 + 10)),
        "all-gather": Traffic(1, 16),
        "collective-permute": Traffic(1, 2),
    }


@pytest.mark.parametrize(
    ("fixed", "each", "start", "fits", "fails"),
    [
        (0, 10, 128, 96, 104),
        (300, 10, 8, 64, 72),
        (100, 100, 4, 8, 9),
        (0, 600, 64, 1, 2),
        (2000, 1, 8, 0, 1),
    ],
)
def test_the_largest_batch_is_bracketed(fixed, each, start, fits, fails):
    tried = []

    def peak_at(batch: int) -> int | None:
        tried.append(batch)
        peak = fixed + each * batch
        return peak if peak < 980 else None  # the compiler keeps a little for itself

    search = largest_batch(peak_at, 1000.0, start)
    assert (search.fits, search.fails) == (fits, fails)
    assert len(tried) == len(set(tried)) == search.compiled <= 8


def test_the_search_ends_where_memory_does_not_grow():
    search = largest_batch(lambda batch: 1, 1000.0, 1, most=3)
    assert search.fails is None
    assert search.compiled == 3


def test_the_search_ends_with_all_images():
    search = largest_batch(lambda batch: batch, 1000.0, 8, limit=100)
    assert (search.fits, search.fails) == (100, None)


def test_batches_searched_are_multiples_of_the_unit():
    tried = []

    def peak_at(batch: int) -> int:
        tried.append(batch)
        return 10 * batch

    search = largest_batch(peak_at, 1000.0, 6, unit=6, limit=5000)
    assert all(batch % 6 == 0 for batch in tried)
    assert (search.fits, search.fails) == (96, 120)


def test_only_photographs_of_unknown_number_have_no_largest_batch():
    classes = ModelConfig(num_classes=37)
    assert most_images(Config(data=data_config("folder=nowhere"), model=classes)) is None
    assert most_images(Config(data=data_config("mnist", validation=0.1))) == 54_000
    assert 1000 < most_images(Config(data=data_config("digits"))) < 1797


@pytest.mark.parametrize("name", sorted(SETS))
def test_sets_have_the_shapes_that_runs_know(name):
    dataset = blank_dataset(Config(data=data_config(name, image_size=64, validation=0.5)))
    shapes = SETS[name]
    assert (dataset.num_classes, dataset.channels) == (shapes.classes, shapes.channels)
    assert len(dataset.train) == round(shapes.images / 2)
    assert max(dataset.train.labels) < shapes.classes


def test_photographs_need_only_the_number_of_classes():
    config = Config(data=data_config("folder=nowhere"), model=ModelConfig(num_classes=37))
    assert blank_dataset(config).num_classes == 37
    large = dataclasses.replace(config, batch_size=20_000)
    assert len(blank_dataset(large).train) >= 20_000  # what is validated on comes on top


def test_what_is_neither_known_nor_here_is_an_error():
    config = Config(data=data_config("folder=nowhere"))
    with pytest.raises(UserError, match=r"nowhere.*config\.model\.num_classes is set"):
        blank_dataset(config)


def test_what_a_run_has_besides_is_in_its_step():
    """A teacher without weights, a plateau's memory, and the largest of the training sizes."""
    config = dataclasses.replace(
        TINY,
        model=ModelConfig(name="resnet_tiny"),
        data=data_config("imagenette", image_size=24, train_sizes=(8, 24, 16)),
        schedule=ScheduleConfig(name="plateau"),
        distill=DistillConfig(model="resnet_tiny"),
        init_from="nowhere.pth",
    )
    step, (state, inputs, resident) = abstract_step(config, all_devices("jit"))
    assert inputs["image"].shape == (4, 24, 24, 3)
    assert set(state.plateau) == {"factor", "best", "bad", "wait"}
    assert set(resident["teacher"]["params"]) == set(state.params)
    assert "tensor<4x24x24x3xf32>" in step.lower(state, inputs, resident).as_text()


def test_a_step_that_does_not_fit_is_told_apart(monkeypatch):
    class Lowered:
        def compile(self):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too much.\nmany lines")

    class Step:
        def lower(self, *_):
            return Lowered()

    monkeypatch.setattr("flaxzoo.step_cost.abstract_step", lambda *_: (Step(), ()))
    with pytest.raises(DoesNotFitError, match=r"^RESOURCE_EXHAUSTED: too much\.$"):
        step_cost(TINY, all_devices("jit"))
