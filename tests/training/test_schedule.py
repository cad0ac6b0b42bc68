import pytest

from flaxzoo.config import ScheduleConfig
from flaxzoo.errors import UserError
from flaxzoo.training.schedule import Clock, make_schedule

CLOCK = Clock.of("10 epochs", steps_per_epoch=100, batch_size=32)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("500 steps", 500),
        ("1 step", 1),
        ("2.5 epochs", 250),
        ("3200 examples", 100),
        ("1_000 steps", 1000),
        ("5%", 50),
        (" 12 % ", 120),
        ("0 steps", 0),
    ],
)
def test_a_duration_in_any_unit_becomes_steps(duration, steps):
    assert CLOCK.steps(duration) == steps


@pytest.mark.parametrize(
    "duration", ["5", "epochs", "-1 steps", "3 parsecs", "1 epochs 2 steps", ""]
)
def test_a_duration_without_one_number_and_one_unit_is_refused(duration):
    with pytest.raises(UserError, match=r"a number and a unit.*got"):
        CLOCK.steps(duration)


@pytest.mark.parametrize(
    ("duration", "words"), [("5%", "percentage of itself"), ("0 steps", "at least one")]
)
def test_a_run_needs_a_length_of_its_own(duration, words):
    with pytest.raises(UserError, match=words):
        Clock.of(duration, steps_per_epoch=100, batch_size=32)


def test_warm_up_rises_from_zero_and_meets_the_schedule():
    schedule = make_schedule(ScheduleConfig(name="constant", warmup="10 steps"), 0.5, CLOCK)
    assert [float(schedule(step)) for step in (0, 5, 10, 900)] == [0.0, 0.25, 0.5, 0.5]


def test_cosine_ends_at_zero():
    schedule = make_schedule(ScheduleConfig(name="cosine", warmup="10 steps"), 0.5, CLOCK)
    assert float(schedule(10)) == 0.5
    assert float(schedule(1000)) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ScheduleConfig(name="cosin"), "did you mean 'cosine'"),
        (ScheduleConfig(name="multistep"), "needs milestones"),
        (ScheduleConfig(name="multistep", milestones=("5 epochs", "1 epochs")), "must not go back"),
        (ScheduleConfig(warmup="11 epochs"), "longer than the run"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(config, words):
    with pytest.raises(UserError, match=words):
        make_schedule(config, 0.1, CLOCK)
