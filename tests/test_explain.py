"""Grad-CAM: equal to its closed form and to plain differentiation, drawn where it belongs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

from flaxzoo import commands, create_model, to_torch
from flaxzoo.data.transforms import center_crop, crop_box
from flaxzoo.errors import UserError
from flaxzoo.explain import explain
from flaxzoo.layers.module import assign, named_variables
from flaxzoo.models.base import Classifier


class Small(Classifier):
    """Two maps, the mean of the last, and a linear layer."""

    def __init__(self):
        super().__init__(in_channels=3, num_classes=4)
        self.weights = nnx.Param(jnp.asarray(np.random.default_rng(0).normal(size=(3, 4))))

    def run_stages(self, x):
        x = jnp.tanh(x)
        yield "first", x
        yield "second", x**2 + jnp.roll(x, 1, axis=1)

    def forward_head(self, x, pre_logits=False):
        x = x.mean((1, 2))
        return x if pre_logits else x @ self.weights[...]


@pytest.fixture
def image():
    return jnp.asarray(np.random.default_rng(1).normal(size=(1, 5, 6, 3)), jnp.float32)


@pytest.fixture
def vit():
    """One whose head is not zero, as that of a new one is."""
    model = create_model("test_vit")
    model.eval()
    head = named_variables(model)["heads.head.kernel"]
    assign(head, jnp.asarray(np.random.default_rng(0).normal(size=head.shape), jnp.float32))
    return model


def scaled(heat: np.ndarray) -> np.ndarray:
    heat = np.maximum(np.asarray(heat), 0)
    return heat / heat.max()


def test_before_a_mean_and_a_linear_layer_it_is_the_class_activation_map(image):
    model = Small()
    maps = model.feature_maps(image)["second"][0]
    explanation = explain(model, image, index=2)
    assert explanation.stage == "second"
    np.testing.assert_allclose(
        explanation.heat, scaled(maps @ model.weights[...][:, 2]), rtol=1e-5, atol=1e-6
    )


def test_of_a_map_in_the_middle_it_is_the_gradient_of_what_follows(image):
    model = Small()

    def rest(x):
        return model.forward_head(x**2 + jnp.roll(x, 1, axis=1))[0, 1]

    x = model.feature_maps(image)["first"]
    expected = x[0] @ jax.grad(rest)(x)[0].mean((0, 1))
    heat = explain(model, image, index=1, stage="first").heat
    np.testing.assert_allclose(heat, scaled(expected), rtol=1e-5, atol=1e-6)


def test_the_predicted_class_is_explained_by_default(image):
    model = Small()
    explanation = explain(model, image)
    assert explanation.index == int(jnp.argmax(model(image)))
    assert explanation.probability == pytest.approx(float(jax.nn.softmax(model(image)).max()))


def test_where_nothing_speaks_for_a_class_there_is_no_heat(image):
    model = Small()
    model.weights[...] = jnp.full((3, 4), -1.0)
    assert not explain(model, image * 0 + 1, index=0).heat.any()


def test_a_vit_is_explained_where_patches_still_reach_the_logit(vit):
    image = jnp.asarray(np.random.default_rng(2).normal(size=(1, 32, 32, 3)), jnp.float32)
    explanation = explain(vit, image)
    assert explanation.stage == "encoder.layers.encoder_layer_0"
    assert explanation.heat.shape == (4, 4)
    assert explanation.heat.max() == 1
    with pytest.raises(UserError, match=r"no position of encoder\.ln reaches the logit"):
        explain(vit, image, stage="encoder.ln")


def test_an_unknown_stage_gets_near_misses(image):
    with pytest.raises(UserError, match=r"unknown stage .* 'secnd'; did you mean 'second'"):
        explain(Small(), image, stage="secnd")


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (31, 32), (40, 41)])
def test_the_box_is_what_the_crop_keeps(height, width):
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([rows, columns, rows], axis=-1)
    short = min(height, width)  # nothing is resized
    kept = center_crop(image, 24, short)
    top, left, bottom, right = crop_box(height, width, 24, short)
    assert (kept[0, 0, 0], kept[0, 0, 1]) == (top, left)
    assert (kept[-1, -1, 0] + 1, kept[-1, -1, 1] + 1) == (bottom, right)


def test_the_box_of_a_resized_image_is_in_its_own_pixels():
    assert crop_box(100, 200, 40, 50) == (10, 60, 90, 140)


def test_a_padded_crop_reaches_beyond_the_image():
    image = np.full((10, 10, 1), 255, np.uint8)
    top, left, bottom, right = crop_box(10, 10, 13, 10)
    kept = center_crop(image, 13, 10)[..., 0]
    assert (np.flatnonzero(kept.any(1))[0], np.flatnonzero(kept.any(0))[0]) == (-top, -left)
    assert (bottom - top, right - left) == (13, 13)


def test_the_picture_is_as_large_as_the_image(tmp_path, capsys):
    weights, image, out = (tmp_path / name for name in ("w.safetensors", "cat.png", "out.png"))
    save_file(dict(to_torch(create_model("resnet_tiny", num_classes=4))), weights)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    commands.run([
        "explain", str(image), f"--model=resnet_tiny={weights}", "--image-size=16", "--class=3",
        f"--out={out}",
    ])  # fmt: skip
    drawn = Image.open(out)
    assert drawn.size == (50, 30)
    assert len(np.unique(np.asarray(drawn)[:, :, 0] - np.asarray(drawn)[:, :, 2])) > 1  # colours
    assert "class 3" in capsys.readouterr().out
