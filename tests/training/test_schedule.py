"""What schedules are without torch; parity_tests/test_schedules.py compares their rates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo import report
from flaxzoo.check_config import check
from flaxzoo.config import Config, ScheduleConfig
from flaxzoo.errors import UserError
from flaxzoo.report import curves
from flaxzoo.training.clock import Clock
from flaxzoo.training.schedule import COMMON_FIELDS, SCHEDULES, make_schedule

CLOCK = Clock.of("10 epochs", steps_per_epoch=100, batch_size=32)

# One config of each.
EXAMPLES = {
    "constant": ScheduleConfig(name="constant"),
    "step": ScheduleConfig(name="step", every="30%"),
    "multistep": ScheduleConfig(name="multistep", milestones=("5 epochs", "900 steps")),
    "cosine": ScheduleConfig(name="cosine", min_rate=0.01),
    "cosine_restarts": ScheduleConfig(name="cosine_restarts", every="1 epoch", growth=2),
    "linear": ScheduleConfig(name="linear"),
    "polynomial": ScheduleConfig(name="polynomial", power=2.0),
    "one_cycle": ScheduleConfig(name="one_cycle", three_phase=True),
    "cyclic": ScheduleConfig(name="cyclic", min_rate=0.01, up="200 steps", mode="triangular2"),
    "plateau": ScheduleConfig(name="plateau", patience=2),
}


STEPS = np.arange(1200)  # of 1000


def rates(config):
    """Returns the rates at STEPS: one shape for all tests, so that little is compiled."""
    return np.asarray(make_schedule(config, 0.5, CLOCK)(STEPS))


def test_there_is_an_example_of_each():
    assert EXAMPLES.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_lie_between_zero_and_the_peak_and_reach_it(name):
    all_rates = rates(dataclasses.replace(EXAMPLES[name], warmup="1 epoch"))
    assert all_rates.min() >= 0
    assert all_rates.max() == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_after_the_run_the_rate_stays(name):
    beyond = rates(EXAMPLES[name])[1000:]
    assert (beyond == beyond[0]).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_compiled_schedule_gives_the_rates_of_a_whole_run_one_by_one(name):
    config = dataclasses.replace(EXAMPLES[name], warmup="7%")
    one_by_one = jax.jit(lambda steps: jax.lax.map(make_schedule(config, 0.5, CLOCK), steps))
    compiled = one_by_one(jnp.asarray(STEPS, jnp.int32))
    np.testing.assert_allclose(compiled, rates(config), rtol=1e-5, atol=1e-8)
    assert compiled.dtype == jnp.float32


@pytest.mark.parametrize("name", SCHEDULES)
def test_single_precision_keeps_small_rates(name, request):
    single = rates(EXAMPLES[name])
    request.getfixturevalue("x64")
    np.testing.assert_allclose(single, rates(EXAMPLES[name]), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_rises_from_zero_to_the_first_rate(name):
    first = rates(EXAMPLES[name])[0]
    warm = rates(dataclasses.replace(EXAMPLES[name], warmup="10 steps"))
    np.testing.assert_allclose(warm[[0, 5, 10]], [0, first / 2, first], rtol=1e-6)


def test_warm_up_rises_from_a_part_of_the_rate():
    config = ScheduleConfig(name="constant", warmup="10 steps", warmup_factor=0.5)
    assert rates(config)[[0, 5, 10, 900]].tolist() == [0.25, 0.375, 0.5, 0.5]


def test_a_constant_warm_up_stays_at_a_part_of_the_rate():
    config = ScheduleConfig(
        name="constant", warmup="10 steps", warmup_kind="constant", warmup_factor=0.5
    )
    assert rates(config)[[0, 5, 9, 10]].tolist() == [0.25, 0.25, 0.25, 0.5]


def test_a_schedule_with_a_length_starts_when_warm_up_ends():
    warm = rates(ScheduleConfig(name="linear", warmup="500 steps"))
    assert warm[[500, 750, 1000]].tolist() == [0.5, 0.25, 0.0]


def test_milestones_count_from_step_0():
    config = ScheduleConfig(name="multistep", milestones=("600 steps",), warmup="500 steps")
    np.testing.assert_allclose(rates(config)[[500, 599, 600]], [0.5, 0.5, 0.05], rtol=1e-6)


def test_milestones_beyond_the_run_never_come():
    config = ScheduleConfig(name="multistep", milestones=("5 epochs", "50 epochs"))
    assert rates(config)[999] == pytest.approx(0.05)


def test_a_run_may_be_warm_up_alone():
    assert rates(ScheduleConfig(warmup="100%"))[[0, 500, 1000]].tolist() == [0, 0.25, 0.5]


def test_cosine_ends_at_its_lowest_rate_exactly():
    assert rates(ScheduleConfig(name="cosine"))[[0, 1000]].tolist() == [0.5, 0.0]


def test_one_cycle_rises_for_as_long_as_it_is_told():
    all_rates = rates(ScheduleConfig(name="one_cycle", up="20%"))
    assert all_rates.argmax() == 199
    assert all_rates[0] == pytest.approx(0.5 / 25)
    assert all_rates[999] == pytest.approx(0.5 / 25 / 1e4)


def test_plateau_is_constant_until_evaluations_say_otherwise():
    assert (rates(EXAMPLES["plateau"]) == 0.5).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_field_that_a_schedule_does_not_take_is_refused(name):
    values = {
        "min_rate": 0.1, "every": "1 epoch", "milestones": ("1 epoch",), "gamma": 0.5, "growth": 2,
        "power": 2.0, "up": "1 epoch", "down": "1 epoch", "mode": "exp_range", "div_factor": 9.0,
        "final_div_factor": 9.0, "anneal": "linear", "three_phase": False, "factor": 0.5,
        "patience": 1, "threshold": 0.1, "threshold_mode": "abs", "cooldown": 1, "eps": 0.0,
    }  # fmt: skip
    fields = {f.name for f in dataclasses.fields(ScheduleConfig)}
    assert values.keys() == fields - set(COMMON_FIELDS)
    refused = set()
    for field, value in values.items():
        config = dataclasses.replace(EXAMPLES[name], **{field: value})
        try:
            make_schedule(config, 0.5, CLOCK)
        except UserError as error:
            if f"config.schedule.{field} must be None for a {name} schedule" in str(error):
                refused.add(field)
    assert fields - set(COMMON_FIELDS) - refused == TAKES[name]


TAKES = {
    "constant": set(),
    "step": {"every", "gamma"},
    "multistep": {"milestones", "gamma"},
    "cosine": {"min_rate"},
    "cosine_restarts": {"every", "growth", "min_rate"},
    "linear": {"min_rate"},
    "polynomial": {"power", "min_rate"},
    "one_cycle": {"up", "div_factor", "final_div_factor", "anneal", "three_phase"},
    "cyclic": {"min_rate", "up", "down", "mode", "gamma"},
    "plateau": {
        "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_rate", "eps",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"name": "onecycle"}, "did you mean 'one_cycle'"),
        ({"name": "multistep"}, "a multistep schedule needs config.schedule.milestones"),
        ({"name": "multistep", "milestones": ()}, "needs config.schedule.milestones"),
        ({"name": "step"}, "a step schedule needs config.schedule.every"),
        ({"name": "cosine_restarts"}, "a cosine_restarts schedule needs config.schedule.every"),
        ({"name": "cyclic", "min_rate": 0.1}, "a cyclic schedule needs config.schedule.up"),
        ({"name": "cyclic", "up": "9 steps"}, "a cyclic schedule needs config.schedule.min_rate"),
        ({"name": "multistep", "milestones": ("5 epochs", "1 epochs")},
         r"milestones must not go back; in steps they are \[500, 100\]"),
        ({"name": "multistep", "milestones": ("5 epochs 3 steps",)}, "a duration has one unit"),
        ({"name": "multistep", "milestones": ("soon",)}, "a number and a unit"),
        ({"warmup": "11 epochs"}, "warm-up of 1100 steps is longer than the run of 1000 steps"),
        ({"warmup_factor": 0.5}, "need config.schedule.warmup above zero; got '0 steps'"),
        ({"warmup_kind": "linear"}, "need config.schedule.warmup above zero; got '0 steps'"),
        ({"warmup": "5%", "warmup_kind": "constant"}, "needs config.schedule.warmup_factor above"),
        ({"name": "step", "every": "0 steps"}, "config.schedule.every must be at least one step"),
        ({"name": "cyclic", "min_rate": 0.1, "up": "0 steps"},
         "config.schedule.up must be at least one step; got '0 steps'"),
        ({"name": "cyclic", "min_rate": 0.1, "up": "9 steps", "down": "0%"},
         "config.schedule.down must be at least one step; got '0%'"),
        ({"name": "cyclic", "min_rate": 0.1, "up": "9 steps", "mode": "exp_range"},
         "with mode 'exp_range' and only with it; got mode 'exp_range' and gamma None"),
        ({"name": "cyclic", "min_rate": 0.1, "up": "9 steps", "gamma": 0.9},
         "with mode 'exp_range' and only with it; got mode 'triangular' and gamma 0.9"),
        ({"name": "cosine", "min_rate": 0.6}, "min_rate is above .*learning_rate=0.5; got 0.6"),
        ({"name": "step", "every": "99999999 epochs"}, "more steps than can be counted"),
        ({"name": "one_cycle", "up": "1 step"}, "rises for 1 of 1000 steps has no time for each"),
        ({"name": "one_cycle", "up": "100%"}, "of its 2 phases; change config.schedule.up"),
        ({"name": "one_cycle", "up": "60%", "three_phase": True}, "of its 3 phases"),
        ({"name": "one_cycle", "warmup": "100%"}, "rises for 0.3 of 1 steps has no time"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        make_schedule(ScheduleConfig(**fields), 0.5, CLOCK)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("warmup_kind", "cosine", "linear or constant; got 'cosine'"),
        ("warmup_factor", 1.5, "from 0 to 1; got 1.5"),
        ("min_rate", -0.1, "0 or more; got -0.1"),
        ("gamma", 0.0, "positive; got 0.0"),
        ("growth", 0, "1 or more; got 0"),
        ("power", 0.0, "positive; got 0.0"),
        ("mode", "triangle", "triangular or triangular2 or exp_range; got 'triangle'"),
        ("div_factor", 0.5, "1 or more; got 0.5"),
        ("final_div_factor", 0.0, "positive; got 0.0"),
        ("anneal", "exp", "cos or linear; got 'exp'"),
        ("factor", 1.0, "from 0 up to, not including, 1; got 1.0"),
        ("patience", -1, "0 or more; got -1"),
        ("threshold", -0.5, "0 or more; got -0.5"),
        ("threshold_mode", "relative", "rel or abs; got 'relative'"),
        ("cooldown", -1, "0 or more; got -1"),
        ("eps", -1.0, "0 or more; got -1.0"),
        ("patience", "3", "of type int; got '3'"),
        ("every", 3, "of type str; got 3"),
    ],
)
def test_a_value_that_no_schedule_can_have_is_refused(field, value, words):
    config = Config()
    setattr(config.schedule, field, value)
    with pytest.raises(UserError, match=f"config.schedule.{field} must be {words}"):
        check(config)


def test_an_int_stands_for_a_float_that_may_be_none():
    config = Config()
    config.schedule.power = 2
    check(config)
    assert config.schedule.power == 2.0
    assert type(config.schedule.power) is float


@pytest.mark.parametrize("duration", ["1 step", "3 epochs", "900_000 epochs"])
def test_the_picture_shows_the_whole_run_in_2000_points_or_fewer(duration, tmp_path, monkeypatch):
    clock = Clock.of(duration, steps_per_epoch=100, batch_size=32)
    drawn = []
    monkeypatch.setattr(curves, "_plot", lambda rows, path, *_: drawn.append((rows, path)))
    rate = lambda steps: 0.5 - steps / 1e9  # noqa: E731
    report.plot_schedule(rate, clock.total_steps, clock.steps_per_epoch, tmp_path)
    [(rows, path)] = drawn
    assert path == tmp_path / "schedule.png"
    assert len(rows) == min(clock.total_steps, 2000)
    assert rows[0] == {"epoch": 0, "learning_rate": 0.5}
    assert rows[-1]["epoch"] == pytest.approx((clock.total_steps - 1) / 100)


def test_the_picture_is_drawn(tmp_path):
    report.plot_schedule(make_schedule(EXAMPLES["cosine"], 0.5, CLOCK), 1000, 100, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["schedule.png"]
