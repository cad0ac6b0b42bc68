import pytest

from flaxzoo.errors import UserError
from flaxzoo.training.clock import Clock

CLOCK = Clock.of("10 epochs", steps_per_epoch=100, batch_size=32)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("500 steps", 500),
        ("1 step", 1),
        ("1_000 steps", 1000),
        ("2 epochs", 200),
        ("1 epoch", 100),
        ("0.5 epochs", 50),
        ("2.5 epochs", 250),
        ("1.234 epochs", 123),
        ("3200 examples", 100),
        ("50_000 examples", 1562),  # 1562.5
        ("1 example", 0),
        ("5%", 50),
        (" 12 % ", 120),
        ("0.1%", 1),
        ("100 percent", 1000),
        ("150%", 1500),
        ("0 steps", 0),
        ("3epochs", 300),
        ("\t3   EPOCHS\n", 300),
        ("7 Steps", 7),
    ],
)
def test_a_duration_in_any_unit_becomes_steps(duration, steps):
    assert CLOCK.steps(duration) == steps


@pytest.mark.parametrize(
    "duration",
    ["5", "epochs", "-1 steps", "+1 steps", "3 parsecs", "", "%", "one epoch", "1,5 epochs",
     "1__0 steps", "_1 steps", "1_ steps", ".5 epochs", "5. epochs", "1e3 steps", "3 epochss",
     "1 2 steps", "inf steps", "nan epochs", "٣ steps"],
)  # fmt: skip
def test_a_duration_without_one_number_and_one_unit_is_refused(duration):
    with pytest.raises(UserError, match=r"a number and a unit.*got"):
        CLOCK.steps(duration)


@pytest.mark.parametrize(
    ("duration", "units"),
    [
        ("3 epochs 5 steps", "epochs and steps"),
        ("5 % steps", "% and steps"),
        ("1 epoch 1 epoch", "epoch and epoch"),
        ("50% epochs", "% and epochs"),
        ("2 STEPS, 3 examples", "steps and examples"),
        ("1 epoch 2 steps 3 examples", "epoch and steps and examples"),
    ],
)
def test_two_units_at_once_are_refused(duration, units):
    with pytest.raises(UserError, match=f"has one unit, not {units}; got '{duration}'"):
        CLOCK.steps(duration)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        ("5%", "percentage of itself"),
        ("100 percent", "percentage of itself"),
        ("0 steps", "at least one"),
        ("1 example", "at least one"),
    ],
)
def test_a_run_needs_a_length_of_its_own(duration, words):
    with pytest.raises(UserError, match=words):
        Clock.of(duration, steps_per_epoch=100, batch_size=32)


@pytest.mark.parametrize("duration", ["2147483648 steps", "21474837 epochs", "9" * 400 + "%"])
def test_a_duration_that_no_counter_holds_is_refused(duration):
    with pytest.raises(UserError, match=f"'{duration}' is more steps than can be counted, 2147483"):
        CLOCK.steps(duration)


@pytest.mark.parametrize("duration", ["0 epochs", "0.001 epochs"])
def test_an_interval_is_a_step_or_more(duration):
    with pytest.raises(UserError, match=f"config.every must be at least one step; got '{duration}"):
        CLOCK.interval("config.every", duration)
