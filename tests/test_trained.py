"""Trained models by reference: evaluated, asked about images, compared with the data's classes."""

import csv
import dataclasses
import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from flaxzoo import commands, create_model, data, to_torch
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.config import Config, EmaConfig, ModelConfig, data_config
from flaxzoo.data import ArraySplit
from flaxzoo.errors import UserError
from flaxzoo.evaluate import evaluate
from flaxzoo.evaluation import (
    calibration_error,
    check_fits,
    evaluate_trained,
    load_data,
    log_probabilities,
)
from flaxzoo.predict import SHEET, draw_sheet, find_images, predict_files
from flaxzoo.saved_model import save_pretrained
from flaxzoo.trained import find_trained, load_trained, read_class_names, read_config
from flaxzoo.training.run import Run
from flaxzoo.training.trainer import build

TIMM = "model,top1,top1_err,top5,top5_err,param_count,img_size,crop_pct,interpolation"


def run_config(**fields) -> Config:
    return Config(
        batch_size=64,
        duration="2 steps",
        data=data_config("digits", validation=0.0),
        model=ModelConfig(name="resnet_tiny"),
        ema=EmaConfig(decay=0.9),
        **fields,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run's folder, its trainer, and the state of its best checkpoint, of two."""
    trainer, state = build(run_config())
    run = Run(tmp_path_factory.mktemp("runs") / "digits", run_config(), trainer.classes)
    checkpoints = Checkpoints(run.checkpoints, keep=2)
    states = {}
    for step, accuracy in ((1, 0.9), (2, 0.5)):
        rng = np.random.default_rng(step)
        ema, params = (
            {k: v + jnp.asarray(rng.normal(0, 0.1, v.shape), v.dtype) for k, v in arrays.items()}
            for arrays in (state.ema["params"], state.params)
        )
        ema = state.ema | {"params": ema}
        states[step] = state.replace(step=jnp.asarray(step), params=params, ema=ema)
        checkpoints.save(step, states[step], accuracy)
        run.log(step=step, val_accuracy=accuracy)
    checkpoints.close()
    return run.workdir, trainer, states[1]


@pytest.fixture(scope="module")
def workdir(finished):
    return finished[0]


@pytest.fixture(scope="module")
def trained(workdir):
    return load_trained(str(workdir))


@pytest.fixture(scope="module")
def evaluation(trained):
    return evaluate_trained(trained, load_data(trained))


@pytest.fixture
def copied(workdir, tmp_path):
    return shutil.copytree(workdir, tmp_path / "copied")


def write_digits(folder, count: int = 5) -> list:
    folder.mkdir()
    split = data.load("digits", validation=0).test
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(split[i][..., 0]).save(path)
    return paths


def test_a_run_is_evaluated_as_it_evaluates_itself(finished, evaluation):
    _, trainer, state = finished
    own = evaluate(trainer.eval_step, state.ema, trainer.feeds["test"], trainer.devices)
    assert evaluation.images == own["count"] == 360
    assert evaluation.top1 == pytest.approx(own["accuracy"])
    assert evaluation.loss == pytest.approx(own["loss"], rel=1e-5)


def test_raw_weights_are_those_that_were_trained(finished, workdir):
    _, trainer, state = finished
    own = evaluate(trainer.eval_step, state.weights, trainer.feeds["test"], trainer.devices)
    raw = load_trained(str(workdir), kind="raw")
    assert evaluate_trained(raw, load_data(raw)).loss == pytest.approx(own["loss"], rel=1e-5)


def test_top_5_counts_the_five_likeliest_classes(trained, evaluation):
    split = load_data(trained).test
    model, means = trained.model, trained.config.data
    logits = jax.jit(lambda x: model(x))(
        (jnp.asarray(split.images) / 255 - means.mean[0]) / means.std[0]
    )
    five = np.argsort(-np.asarray(logits), axis=-1, kind="stable")[:, :5]
    assert evaluation.top5 == pytest.approx(np.mean((five == split.labels[:, None]).any(1)))


def test_logits_that_are_no_numbers_are_told(trained):
    model = load_trained(trained.name).model
    model.fc.bias[...] = jnp.full(10, jnp.nan)
    with pytest.raises(UserError, match=r"gives 360 of 360 images logits that are no numbers"):
        evaluate_trained(dataclasses.replace(trained, model=model), load_data(trained))


def test_mirroring_averages_the_probabilities():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)), jnp.float32)

    def linear(x):
        return x.reshape(len(x), -1)[:, :10]

    both = [jnp.exp(log_probabilities(linear, x)) for x in (images, images[:, :, ::-1])]
    averaged = jnp.exp(log_probabilities(linear, images, "flip"))
    np.testing.assert_allclose(averaged, sum(both) / 2, rtol=1e-5)


def test_mirrored_images_are_judged_alike_with_mirroring(trained):
    dataset = load_data(trained)
    mirrored = ArraySplit(dataset.test.images[:, :, ::-1].copy(), dataset.test.labels)
    losses = [
        evaluate_trained(trained, dataclasses.replace(dataset, test=split), tta="flip").loss
        for split in (dataset.test, mirrored)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_calibration_error_by_hand():
    # Bins of a quarter: 0.25 lies in the first, with 0.125; two are in the last.
    confidence = np.array([0.125, 0.25, 0.875, 1.0, 0.5], np.float32)
    correct = np.array([False, True, True, False, True])
    error, bins = calibration_error(confidence, correct, bins=4)
    assert error == (2 * abs(0.5 - 0.1875) + abs(1 - 0.5) + 2 * abs(0.5 - 0.9375)) / 5
    assert [one.images for one in bins] == [2, 1, 0, 2]
    assert (bins[3].confidence, bins[3].accuracy) == (0.9375, 0.5)
    assert bins[2].accuracy is None


def test_a_probability_rounded_above_1_is_in_the_last_bin():
    _, bins = calibration_error(np.array([1.0000001], np.float32), np.array([True]))
    assert bins[-1].images == 1


def test_classes_in_another_order_are_refused(copied):
    names = [*"0132456789"]
    (copied / "classes.json").write_text(json.dumps(names))
    other = load_trained(str(copied))
    with pytest.raises(UserError, match=r"class 2 of its 10 was '3', and of the 10 now is '2'"):
        check_fits(other, load_data(other))


def test_weights_for_another_number_of_classes_are_refused(tmp_path):
    path = tmp_path / "seven.safetensors"
    save_file(dict(to_torch(create_model("resnet_tiny", num_classes=7, in_channels=1))), path)
    weights = load_trained(f"resnet_tiny={path}", source="digits")
    with pytest.raises(UserError, match=r"for 7 classes, but digits has 10"):
        check_fits(weights, load_data(weights, "digits"))


def test_weights_for_other_channels_are_refused(tmp_path):
    path = tmp_path / "rgb.safetensors"
    save_file(dict(to_torch(create_model("resnet_tiny", num_classes=10))), path)
    weights = load_trained(f"resnet_tiny={path}", source="digits")
    with pytest.raises(UserError, match=r"of 3 channels, but those of digits have 1"):
        check_fits(weights, load_data(weights, "digits"))


def test_a_config_comes_back_from_a_run(workdir):
    assert read_config(workdir) == run_config()


def test_a_folder_of_runs_is_all_of_them(workdir, tmp_path):
    shutil.copytree(workdir, tmp_path / "b")
    shutil.copytree(workdir, tmp_path / "a")
    save_pretrained(create_model("resnet_tiny"), tmp_path / "c")
    (tmp_path / "note.txt").write_text("")
    assert find_trained([str(tmp_path)]) == [str(tmp_path / name) for name in "abc"]
    assert find_trained([str(tmp_path / "c")]) == [str(tmp_path / "c")]


def test_a_folder_of_checkpoints_is_all_of_them(workdir):
    found = find_trained([str(workdir / "checkpoints"), str(workdir)])
    steps = [str(workdir / "checkpoints" / step) for step in ("1", "2")]
    assert found == [*steps, str(workdir)]


def test_a_folder_without_models_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(UserError, match=r"it holds note\.txt"):
        find_trained([str(tmp_path)])


def test_a_run_that_starts_from_one_of_other_classes_says_so(copied, caplog):
    (copied / "classes.json").write_text(json.dumps([*"abcdefghij"]))
    with caplog.at_level(logging.WARNING, "flaxzoo"):
        build(run_config(init_from=str(copied)))
    assert "class 0 of its 10 was 'a', and of the 10 now is '0'" in caplog.text


def test_a_run_that_starts_from_one_of_the_same_classes_says_nothing(workdir, caplog):
    with caplog.at_level(logging.WARNING, "flaxzoo"):
        build(run_config(init_from=str(workdir)))
    assert caplog.text == ""


def test_image_files_are_predicted_as_the_arrays_they_hold(trained, evaluation, tmp_path):
    predictions, refused = predict_files(
        trained, write_digits(tmp_path / "images"), top=3, batch_size=2
    )
    assert not refused
    p = evaluation.review.predictions
    assert [one.indices[0] for one in predictions] == p.predicted[:5].tolist()
    np.testing.assert_allclose(
        [one.probabilities[0] for one in predictions], p.confidence[:5], rtol=1e-5
    )
    assert all(len(one.classes) == 3 for one in predictions)


def test_unreadable_images_do_not_stop_the_others(trained, tmp_path):
    paths = write_digits(tmp_path / "images", 3)
    paths[1].write_bytes(b"nothing")
    predictions, refused = predict_files(trained, paths, batch_size=2)
    assert [one.path for one in predictions] == [paths[0], paths[2]]
    assert [str(error) for error in refused] == [f"cannot read image {paths[1]}: not an image"]


def test_images_are_files_folders_and_patterns(tmp_path):
    paths = write_digits(tmp_path / "images", 3)
    (tmp_path / "images" / "notes.txt").write_text("")
    assert find_images([str(tmp_path / "images")]) == paths
    assert find_images([str(tmp_path / "*" / "[12].png"), str(paths[0])]) == [*paths[1:], paths[0]]
    with pytest.raises(UserError, match=r"x\* has no images"):
        find_images([str(tmp_path / "x*")])


def test_a_sheet_has_the_first_images(trained, tmp_path):
    path = write_digits(tmp_path / "images", 1)[0]
    (prediction,), _ = predict_files(trained, [path])
    one, many = (draw_sheet([prediction] * n).size for n in (6, SHEET + 6))
    assert many[0] == one[0]
    assert many == draw_sheet([prediction] * SHEET).size


def test_a_class_is_a_name_before_it_is_a_number(trained):
    named = dataclasses.replace(trained, classes=tuple("9876543210"))
    assert named.class_index("9") == 0
    assert dataclasses.replace(trained, classes=None).class_index("9") == 9
    with pytest.raises(UserError, match="unknown class '10'"):
        trained.class_index("10")


def test_names_of_classes_are_a_list_or_lines(tmp_path):
    path = tmp_path / "names"
    path.write_text("cat\ndog\n")
    assert read_class_names(path, 2) == ("cat", "dog")
    path.write_text('["cat", "dog"]')
    assert read_class_names(path, 2) == ("cat", "dog")
    with pytest.raises(UserError, match=r"has 2 names; the model has 3 classes"):
        read_class_names(path, 3)


def test_evaluate_prints_the_columns_of_timm(workdir, evaluation, capsys):
    commands.run(["evaluate", str(workdir / "checkpoints"), "--csv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == TIMM
    best, latest = csv.DictReader(lines)
    assert best["model"].endswith("/checkpoints/1")
    assert latest["model"].endswith("/checkpoints/2")
    assert float(best["top1"]) == pytest.approx(100 * evaluation.top1, abs=1e-3)
    assert float(best["top1"]) + float(best["top1_err"]) == pytest.approx(100)
    assert (best["img_size"], best["crop_pct"], best["interpolation"]) == ("8", "1.0", "bilinear")


def test_evaluate_tells_programs_everything(workdir, capsys):
    commands.run(["evaluate", str(workdir), "--json", "--per-class", "--split=test"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["variant"], row["weights"], row["split"]) == ("resnet_tiny", "ema", "test")
    assert sum(one["images"] for one in row["reliability"]) == 360
    assert [one["class"] for one in row["classes"]] == [*"0123456789"]


def test_a_split_that_is_not_there_is_refused(workdir):
    with pytest.raises(UserError, match=r"digits has no validation split; it has test, train"):
        commands.run(["evaluate", str(workdir), "--split=validation"])


def test_predict_names_unreadable_images_after_the_others(workdir, tmp_path, capsys):
    paths = write_digits(tmp_path / "images", 2)
    paths[0].write_bytes(b"")
    sheet = tmp_path / "sheet.png"
    with pytest.raises(UserError, match=r"1 of 2 images: cannot read image .*0\.png"):
        commands.run(["predict", str(tmp_path / "images"), f"--model={workdir}", "--top=2", "--csv",
                      f"--sheet={sheet}"])  # fmt: skip
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["image"], row["rank"]) for row in rows] == [(str(paths[1]), r) for r in "12"]
    assert sheet.exists()
