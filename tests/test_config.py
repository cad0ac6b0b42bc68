"""Configs: slips in a file or on the command line are one sentence with the nearest names."""

import textwrap
from pathlib import Path

import pytest

from flaxzoo.check_config import check, field_names
from flaxzoo.cli import parse_train_flags
from flaxzoo.config import Config, data_config
from flaxzoo.errors import UserError

CONFIGS = Path(__file__).parents[1] / "configs"
FINETUNE = CONFIGS / "finetune.py"


def write_config(tmp_path: Path, body: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text("from flaxzoo.config import *\n\n" + textwrap.dedent(body))
    return str(path)


def test_the_command_line_overrides_any_field():
    config, workdir = parse_train_flags(
        [
            f"--config={FINETUNE}",
            "--config.batch_size=7",
            "--config.optimizer.learning_rate=1",
            "--config.augment.flip",
            "--config.data.mean=(0.1,0.2,0.3)",
            "--config.augment.crop_scale=(0.08,1.0)",
            "--config.augment.policy=randaugment",
            "--workdir=here",
        ]
    )
    assert config.batch_size == 7
    assert config.optimizer.learning_rate == 1.0
    assert config.augment.flip is True
    assert config.data.mean == (0.1, 0.2, 0.3)
    assert config.augment.crop_scale == (0.08, 1.0)
    assert config.augment.policy == "randaugment"
    assert workdir == "here"


def test_none_on_the_command_line_unsets_what_a_recipe_sets():
    flags = ["--config.schedule.milestones=None", "--config.schedule.gamma=None"]
    config, _ = parse_train_flags([f"--config={CONFIGS / 'resnext.py'}:cifar10", *flags])
    assert (config.schedule.milestones, config.schedule.gamma) == (None, None)


def test_the_default_workdir_is_named_after_the_config():
    _, workdir = parse_train_flags([f"--config={FINETUNE}"])
    assert workdir.startswith(f"runs/{FINETUNE.stem}-")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.batch_sze=3"], "unknown config key 'batch_sze'; did you mean 'batch_size'"),
        (["--config.optimizer.learning_rat=3"], "did you mean 'optimizer.learning_rate'"),
        (["--config.batch_size=many"], "batch_size=many: invalid literal for int"),
        (["--config.augment.flip=perhaps"], "boolean"),
        (["--config.data=3"], "config.data is a group; set one of data.source"),
        (["--config.batch_size=0"], "config.batch_size must be 1 or more; got 0"),
        (["--config.parallel=tmap"], "config.parallel must be jit or pmap; got 'tmap'"),
        (["--config.data.crop=middle"], "resize or center or random_resized; got 'middle'"),
        (["--config.schedule.gamma=-3"], "config.schedule.gamma must be positive; got -3"),
        (["--config.optimizer.learning_rate=inf"], "must be a finite number; got inf"),
        (["--config.batch_size=None"], "config.batch_size must be of type int; got None"),
        (["--config.optimizer.momentum=0"], "nesterov needs config.optimizer.momentum"),
        (["--config.data.sampling=even"], "must be shuffle or balanced; got 'even'"),
        (["--config.class_weights=even"], "must be none or balanced or effective; got 'even'"),
        (
            ["--config.class_weights=effective", "--config.data.sampling=balanced"],
            "both make up for uneven classes",
        ),
        (["--config.model.freeze_norm", "--config.init_from="], "set config.init_from"),
        (["--config.seed=99999999999"], "config.seed must be from 0 up to"),
        (["--wrkdir=x"], "did you mean: workdir|Did you mean: workdir"),
        (["stray"], "unexpected argument 'stray'"),
    ],
)
def test_a_slip_on_the_command_line_is_explained(flags, words):
    with pytest.raises(UserError, match=words):
        parse_train_flags([f"--config={FINETUNE}", *flags])


def test_without_a_config_the_known_ones_are_listed():
    for flags in ([], ["--config="]):
        with pytest.raises(UserError, match=r"use --config=FILE"):
            parse_train_flags(flags)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def get_config():\n    return Config(batch_sze=3)", "did you mean batch_size"),
        ("def get_config():\n    c = Config()\n    c.data.sorce = 'x'\n    return c",
         r"did you mean data.source"),
        ("def get_config():\n    c = Config()\n    c.batch_size = '64'\n    return c",
         "config.batch_size must be of type int; got '64'"),
        ("def get_config():\n    c = Config()\n    c.data.mean = (1, 'x')\n    return c",
         r"config.data.mean\[1\] must be of type float; got 'x'"),
        ("def get_config():\n    return {'batch_size': 3}", "must return a flaxzoo.config.Config"),
        ("def get_config(:", "SyntaxError"),
        ("def get_config():\n    import nosuchmodule", "No module named 'nosuchmodule'"),
    ],
)  # fmt: skip
def test_a_slip_in_the_file_is_explained(tmp_path, body, words):
    with pytest.raises(UserError, match=words):
        parse_train_flags([f"--config={write_config(tmp_path, body)}"])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("learning_rate", 1e39, r"from 1e-38 to 2e\+38, as float32 has it; got 1e\+39"),
        ("learning_rate", 1e-46, "as float32 has it; got 1e-46"),
        ("learning_rate", 10**400, "must be a finite number; got inf"),
        ("batch_size", 2**31, "below 2147483648; got 2147483648"),
    ],
)
def test_a_value_that_no_float32_or_counter_holds_is_refused(field, value, words):
    config = Config()
    setattr(config.optimizer if field == "learning_rate" else config, field, value)
    with pytest.raises(UserError, match=words):
        check(config)


def test_an_int_stands_for_a_float_and_a_list_for_a_tuple():
    config = Config()
    config.data.mean = [0, 1, 0.5]
    check(config)
    assert config.data.mean == (0.0, 1.0, 0.5)


def test_a_known_source_gets_its_own_pixel_statistics():
    assert len(data_config("cifar10").mean) == 3
    for source in ("folder=x", "csv=x,label=y", "hf=x", "tfds=x"):
        assert data_config(source).mean == data_config("imagenet2012").mean
    assert data_config("npz=x").mean == (0.5,)


def test_field_names_are_dotted():
    assert {"seed", "data.source", "optimizer.learning_rate"} <= set(field_names())
