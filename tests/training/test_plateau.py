import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.config import ScheduleConfig
from flaxzoo.training.plateau import Plateau


def after(plateau, state, *losses):
    for loss in losses:
        state = plateau.after(state, loss)
    return state


def test_the_factor_falls_when_patience_is_over():
    plateau = Plateau(0.1, factor=0.5, patience=1)
    state = after(plateau, plateau.start(), 1.0, 1.0)
    assert float(state["factor"]) == 1.0
    assert float(after(plateau, state, 1.0)["factor"]) == 0.5


def test_an_equal_loss_is_no_improvement_in_float32_either():
    plateau = Plateau(0.1, patience=0, threshold=0.0)
    state = after(plateau, plateau.start(), 0.1, 0.1)  # the nearest float32 is above 0.1
    assert float(state["factor"]) == pytest.approx(0.1)


def test_of_takes_the_fields_of_a_plateau_and_its_own_defaults():
    config = ScheduleConfig(name="plateau", patience=3, min_rate=0.01)
    assert Plateau.of(config, 0.1) == Plateau(0.1, patience=3, min_rate=0.01)


def test_of_another_schedule_there_is_none():
    assert Plateau.of(ScheduleConfig(name="cosine"), 0.1) is None


def test_a_rate_of_zero_stays():
    plateau = Plateau(0.0, patience=0)
    assert float(after(plateau, plateau.start(), 1.0, 1.0)["factor"]) == 1.0


def test_the_old_state_is_kept():
    plateau = Plateau(0.1, patience=0)
    state = plateau.start()
    before = dict(state)
    plateau.after(state, 1.0)
    assert state == before


def test_a_state_from_a_device_goes_on_as_one_of_the_host():
    plateau = Plateau(0.1, patience=1, cooldown=2)
    state = after(plateau, plateau.start(), 3.0, 3.0)
    on_device = jax.jit(lambda tree: tree)(jax.tree.map(jnp.asarray, state))
    assert after(plateau, on_device, 3.0) == after(plateau, state, 3.0)


def test_the_state_has_the_types_that_a_jitted_step_returns():
    state = Plateau(0.1).start()
    returned = jax.jit(lambda tree: tree)(state)
    assert {k: v.dtype for k, v in returned.items()} == {k: v.dtype for k, v in state.items()}
    assert all(isinstance(v, np.ndarray) and v.shape == () for v in state.values())
