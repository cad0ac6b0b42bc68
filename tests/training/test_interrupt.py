"""A run that is asked to stop saves the step it is in, and goes on to the same bits."""

import os
import signal
import threading
from types import SimpleNamespace

import chex
import numpy as np
import pytest

from flaxzoo.training import interrupt
from flaxzoo.training.interrupt import SIGNALS, Interrupted, Watch
from flaxzoo.training.loop import train
from flaxzoo.training.meter import Meter


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.fixture(autouse=True)
def control_c_is_heard():
    """A shell starts what runs in its background with that signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def sparse(config):
    """Nothing is logged, evaluated or saved between the first step and the last."""
    config.log_every = config.eval_every = config.checkpoint.every = "6 steps"
    return config


def interrupt_at(monkeypatch, step: int, signum: int) -> None:
    """Sends the signal while the run waits for step `step`."""
    real_add, calls = Meter.add, []

    def add(self, metrics):
        calls.append(metrics)
        if len(calls) == step:
            send(signum)
        real_add(self, metrics)

    monkeypatch.setattr(Meter, "add", add)


@pytest.mark.parametrize(("signum", "step"), [(signal.SIGINT, 4), (signal.SIGTERM, 1)])
def test_a_run_stopped_between_intervals_goes_on_to_the_same_bits(
    sparse, tmp_path, monkeypatch, saved_arrays, signum, step
):
    train(sparse, tmp_path / "whole", quiet=True)
    interrupt_at(monkeypatch, step, signum)
    with pytest.raises(Interrupted, match=f"saved step {step} in .*checkpoints") as stopped:
        train(sparse, tmp_path / "cut", quiet=True)
    assert stopped.value.signum == signum
    assert [p.name for p in (tmp_path / "cut" / "checkpoints").iterdir()] == [str(step)]
    monkeypatch.undo()

    train(sparse, tmp_path / "cut", quiet=True)
    chex.assert_trees_all_equal(
        saved_arrays(sparse, tmp_path / "whole"), saved_arrays(sparse, tmp_path / "cut")
    )


def test_a_stopped_run_leaves_its_curves_and_page(sparse, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 3, signal.SIGUSR1)
    with pytest.raises(Interrupted):
        train(sparse, tmp_path, quiet=True)
    assert (tmp_path / "plots" / "loss.png").exists()
    assert "the run has not ended" in (tmp_path / "report.html").read_text()


def test_time_that_passes_saves_as_well(sparse, tmp_path):
    sparse.checkpoint.minutes, sparse.checkpoint.keep = 1e-9, 10
    train(sparse, tmp_path, quiet=True)
    saved = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    assert saved == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_is_noted_and_the_handler_put_back(signum, capfd):
    before = signal.getsignal(signum)
    with Watch(0.0) as watch:
        assert watch.poll(meet=True) == (False, 0)
        send(signum)
        assert watch.poll(meet=True) == (False, signum)
    assert signal.getsignal(signum) is before
    assert ("Control-C again" in capfd.readouterr().err) == (signum == signal.SIGINT)


def test_a_second_control_c_stops_at_once():
    with Watch(0.0):
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_second_sigterm_changes_nothing():
    with Watch(0.0) as watch:
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert watch.poll(meet=True) == (False, signal.SIGUSR1)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Watch(0.0) as watch:
            send(signal.SIGINT)
            assert watch.poll(meet=True) == (False, 0)
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_no_handler_is_touched():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run():
        with Watch(0.0):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_clock_asks_for_a_save_and_starts_again(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: clock.now)
    watch = Watch(minutes=2.0)
    clock.now += 119
    assert watch.poll(meet=True) == (False, 0)
    clock.now += 1
    assert watch.poll(meet=True) == (True, 0)
    watch.saved()
    assert watch.poll(meet=True) == (False, 0)


def test_without_minutes_the_clock_never_asks(monkeypatch):
    watch = Watch(minutes=0.0)
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: 1e9)
    assert watch.poll(meet=True) == (False, 0)


def test_processes_agree_where_they_meet(monkeypatch):
    others = np.array([[1, 0], [0, int(signal.SIGTERM)]], np.int32)
    monkeypatch.setattr(interrupt.jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        interrupt.multihost_utils, "process_allgather", lambda mine: np.vstack([mine, others])
    )
    watch = Watch(0.0)
    assert watch.poll(meet=True) == (True, signal.SIGTERM)


def test_processes_that_do_not_meet_do_nothing(monkeypatch):
    monkeypatch.setattr(interrupt.jax, "process_count", lambda: 2)
    with Watch(0.0) as watch:
        send(signal.SIGTERM)
        assert watch.poll(meet=False) == (False, 0)
