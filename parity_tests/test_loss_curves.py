"""A longer training is compared by its losses."""

import numpy as np
import pytest

from flaxzoo import UserError, parity
from flaxzoo.layers import BatchNorm
from flaxzoo.parity import Difference, curves, training
from flaxzoo.parity.curves import LossCurves, compare_losses, plot_losses

STEPS = 20


def test_the_losses_of_both_twins_stay_together():
    report = parity.compare("resnet_tiny", image_size=8, train_steps=STEPS)
    assert report.equal, report.failures
    assert {d.kind for d in report.differences} == set(parity.KINDS)
    assert report.losses.ours.shape == report.losses.theirs.shape == (STEPS,)
    assert report.losses.gap.max() < 1e-11
    # A training that learns nothing would prove nothing.
    assert report.losses.theirs[-5:].mean() < 0.97 * report.losses.theirs[:5].mean()


def wrong_momentum(monkeypatch):
    sgd = training.sgd
    monkeypatch.setattr(
        training, "sgd", lambda lr, momentum, **hyper: sgd(lr, momentum=0.9 * momentum, **hyper)
    )


def another_start(monkeypatch):
    def load_torch(model, state_dict):
        load(model, state_dict)
        state_dict["fc.bias"][0] += 1e-3  # the torch model's own memory

    load = curves.load_torch
    monkeypatch.setattr(curves, "load_torch", load_torch)


@pytest.mark.parametrize("sabotage", [wrong_momentum, another_start])
def test_a_mistake_is_found(monkeypatch, sabotage):
    sabotage(monkeypatch)
    losses = compare_losses("resnet_tiny", STEPS, image_size=8)
    assert not all(d.equal for d in parity.loss_differences(losses))


def test_norms_start_where_they_are_told():
    def first_losses(**start):
        losses = compare_losses("resnet_tiny", 1, image_size=8, **start)
        assert losses.gap[0] < 1e-14
        return losses.theirs[0]

    assert first_losses() == first_losses(norm_bias=1.0) != first_losses(norm_bias=0.0)


def test_where_the_losses_part_is_told():
    theirs = np.array([3.0, 2.0, 1.0])
    losses = LossCurves(np.array([3.0, 2.5, 1.0]), theirs)
    assert parity.loss_differences(losses) == [
        Difference("loss", "of step 2", 0.5, 1e-6),
        Difference("loss", "of step 3", 0.0, 1e-6),
    ]
    assert not parity.loss_differences(LossCurves(theirs * np.nan, theirs))[0].equal


def test_torch_against_itself_measures_what_becomes_of_rounding():
    losses = compare_losses("resnet_tiny", STEPS, image_size=8, rounding=True)
    assert 0 < losses.rounding.max() < 1e-12


def test_batches_depend_on_seed_and_step_alone():
    def batches(steps: int, seed: int = 0):
        twins = parity.make_twins("resnet_tiny", dtype="float64", image_size=12, batch_size=4)
        return curves.digit_batches(twins, steps, seed)

    (images, labels), (others, _) = batches(2)
    assert images.shape == (4, 12, 12, 3)
    assert labels.shape == (4,)
    assert not np.array_equal(images, others)
    np.testing.assert_array_equal(batches(1)[0][0], images)
    assert not np.array_equal(batches(1, seed=1)[0][0], images)


def test_fewer_classes_than_digits_are_refused():
    with pytest.raises(UserError, match="those of 10 digits; this model has 7 classes"):
        compare_losses("resnet_tiny", STEPS, num_classes=7)


def test_a_plot_is_written(tmp_path):
    losses = LossCurves(np.array([3.0, 2.0]), np.array([3.0, 2.1]), np.array([0.0, 1e-15]))
    plot_losses({"a": losses, "b": losses}, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="cannot write the plot"):
        plot_losses({"a": losses}, tmp_path / "nosuch" / "losses.png")


# ------------------------------------------------------------------- float32, decided by float64


def off_in_float32(factor: float, monkeypatch):
    """torch's float32 gradients are off by a factor, as a unit moved over a kink makes them."""
    train_torch = parity.train_torch

    def rounded(twins, batches, *args, **hyper):
        trained = train_torch(twins, batches, *args, **hyper)
        if batches[0][0].dtype == np.float32:
            trained.gradients.update({k: factor * v for k, v in trained.gradients.items()})
        return trained

    monkeypatch.setattr(parity, "train_torch", rounded)


def test_where_torchs_float32_is_off_its_float64_decides(monkeypatch):
    off_in_float32(1.3, monkeypatch)
    report = parity.compare("resnet_tiny", dtype="float32", image_size=8)
    assert report.equal
    assert report.worst("gradient") < 1e-3
    assert report.rounding["gradient"] == pytest.approx(0.3, rel=1e-2)
    assert report.rounding["training"] < 1e-3


def test_a_mistake_in_float32_is_no_rounding(monkeypatch):
    monkeypatch.setattr(BatchNorm, "_move", lambda self, running, new: None)
    report = parity.compare("resnet_tiny", dtype="float32", image_size=8)
    assert {d.kind for d in report.failures} == {"training"}
    assert max(report.rounding.values()) < 1e-2
