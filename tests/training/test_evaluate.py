"""Every image counts once, whatever the batch size."""

import numpy as np
import pytest
from PIL import Image

from flaxzoo import data
from flaxzoo.config import data_config
from flaxzoo.evaluate import evaluate, predict
from flaxzoo.models import create_model
from flaxzoo.training.trainer import build


@pytest.mark.parametrize("batch_size", [1, 64, 144, 360, 500])
def test_the_result_does_not_depend_on_the_batch_size(config, batch_size):
    config.batch_size = batch_size
    trainer, state = build(config)
    result, predictions = predict(
        trainer.eval_step, state.weights, trainer.feeds["test"], trainer.devices
    )
    assert result == evaluate(
        trainer.eval_step, state.weights, trainer.feeds["test"], trainer.devices
    )

    model = create_model("resnet_tiny", num_classes=10, in_channels=1)
    model.eval()
    test = data.load("digits").test
    assert test is not None
    images = np.stack([test[i] for i in range(len(test))]).astype(np.float32) / 255
    logits = np.asarray(model((images - config.data.mean[0]) / config.data.std[0]), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert result["count"] == 360
    assert result["accuracy"] == np.mean(logits.argmax(1) == test.labels)
    assert result["loss"] == pytest.approx(-log_p[np.arange(360), test.labels].mean(), rel=1e-5)

    # Image by image, in the order of the split.
    losses = -log_p[np.arange(360), test.labels]
    np.testing.assert_array_equal(predictions.index, np.arange(360))
    np.testing.assert_array_equal(predictions.label, test.labels)
    np.testing.assert_array_equal(predictions.predicted, logits.argmax(1))
    np.testing.assert_allclose(predictions.confidence, np.exp(log_p.max(1)), rtol=1e-5)
    np.testing.assert_allclose(predictions.loss, losses, rtol=1e-4, atol=1e-6)


def test_unreadable_images_are_left_out_of_the_predictions(config, tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 3)):
        for label in ("cat", "dog"):
            for i in range(count):
                path = tmp_path / part / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(path)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"no image")
    config.batch_size = 4
    config.data = data_config(f"folder={tmp_path}", image_size=8, on_error="skip")
    trainer, state = build(config)
    result, predictions = predict(
        trainer.eval_step, state.weights, trainer.feeds["test"], trainer.devices
    )
    assert result["count"] == 5
    assert predictions.index.tolist() == [0, 2, 3, 4, 5]
    assert predictions.label.tolist() == [0, 0, 1, 1, 1]
