"""Every image counts once, whatever the batch size."""

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.evaluate import evaluate
from flaxzoo.models import create_model
from flaxzoo.training.trainer import build


@pytest.mark.parametrize("batch_size", [1, 64, 144, 360, 500])
def test_the_result_does_not_depend_on_the_batch_size(config, batch_size):
    config.batch_size = batch_size
    trainer, state = build(config)
    result = evaluate(trainer.eval_step, state.weights, trainer.feeds["test"], trainer.devices)

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
