"""The documentation is true: its examples run, what it names exists.

Pages that need torch run in parity_tests/test_torch_docs.py; `make docs` checks links.
"""

import contextlib
import subprocess

import jax
import numpy as np
import pytest

from docs import build, examples, others, stand_ins
from flaxzoo.errors import UserError

PAGES = examples.pages(torch=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # The cache of the tests, not that of commands.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir or "")
    stand_ins.small_models(monkeypatch)
    stand_ins.small_data(tmp_path, monkeypatch)
    with examples.in_folder(tmp_path):
        yield tmp_path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_examples(path, folder):
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    examples.run_page(path, torch=False, names={"images": images})


@pytest.mark.parametrize("path", examples.PAGES, ids=lambda path: path.stem)
def test_settings_exist(path):
    assert examples.unknown_flags(path.read_text()) == []


PAGE = """
```python
x = 1
```
```sh
make test
```
```text
no example
```
"""


def test_examples_of_a_page_and_where_they_are():
    assert examples.examples(PAGE) == [
        examples.Example(language="python", code="x = 1\n", line=3),
        examples.Example(language="sh", code="make test\n", line=6),
    ]


def test_commands_of_a_block():
    block = "!git clone <this repository> && cd flaxzoo\n\na 'b c' \\\n    d  # e\n"
    assert list(examples.command_lines(block)) == [
        ["git", "clone", "<this", "repository>"],
        ["cd", "flaxzoo"],
        ["a", "b c", "d"],
    ]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("python train.py --config=configs/nothing.py", UserError),
        ("python train.py --config=configs/resnet.py --config.bacth_size=1", UserError),
        ("srun python train.py --config=configs/resnet.py --process_id=0", UserError),
        ("flaxzoo evaluate runs/a --no-such-flag", UserError),
        ("python -m flaxzoo models 'nothing*'", UserError),
        ("python -m flaxzoo nothing", UserError),
        ("python -m benchmarks.nothing", AssertionError),
        ("python -m benchmarks.kill_saves --tries 1", SystemExit),
        ("rm -rf /", AssertionError),
    ],
)
def test_a_planted_slip_is_found(command, error, folder, capsys):
    (words,) = examples.command_lines(command)
    with pytest.raises(error):
        examples.check(words)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("python train.py --config=configs/resnet.py:folder=fotos", "fotos"),
        ("python train.py --config=configs/resnet.py:csv=train.csv,label=race", "race"),
        ("srun python train.py --config=configs/vit.py --config.model.stem=cifar", "stem"),
        ("flaxzoo evaluate runs/none", "runs/none"),
        ("flaxzoo predict dogs --model resnet18-f37072fd.pth", "dogs"),
        ("flaxzoo data prepare imagenet2012 --data_dir empty", "put them into empty"),
    ],
)
def test_a_planted_slip_that_only_running_shows_is_found(command, error, folder):
    (folder / "page.md").write_text(f"train.csv, resnet18-f37072fd.pth\n```sh\n{command}\n```\n")
    (words,) = examples.command_lines(command)
    examples.check(words)
    with pytest.raises(UserError, match=error):
        examples.run_page(folder / "page.md", torch=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    others.write_project(folder)
    with contextlib.chdir(folder):
        others.run(["pip", "install", "--quiet", "kaggle", "pre-commit"], folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "git clone nothing",
        "make nothing",
        "pip install flaxzooo",
        "pip install -r nothing.txt",
        "kaggle kernels push -p notebooks/nothing",
        ".venv/bin/pre-commit instal",
    ],
)
def test_a_slip_in_a_line_of_others_is_found(command, project, monkeypatch):
    monkeypatch.chdir(project)
    (words,) = examples.command_lines(command)
    with pytest.raises(subprocess.CalledProcessError):
        examples.run(words, project)


def test_what_a_page_needs_torch_for_runs_where_torch_is(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("```sh\nflaxzoo models\nflaxzoo parity resnet18\n```\n")
    ran = []
    monkeypatch.setattr(examples, "run", lambda words, _: ran.append(words))
    for torch in (False, True):
        examples.run_page(page, torch)
    assert ran == [["flaxzoo", "models"], ["flaxzoo", "parity", "resnet18"]]


def test_a_block_without_a_language_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("```\nflaxzoo models\n```\n")
    with pytest.raises(AssertionError, match="line 2 is neither python, sh nor text"):
        examples.run_page(tmp_path / "page.md", torch=False)


def test_an_unknown_setting_is_found():
    assert examples.unknown_flags("--config.data.size=1 --config.seed=1 --config.data") == [
        "data.size"
    ]


def test_links_of_the_site():
    assert build.page("[a](https://a.b/c) [d](../README.md#parity)", build.DOCS) == (
        "[a](https://a.b/c) [d](index.md#parity)"
    )
    readme = (
        "[a](docs/export.md#export) [`train.py`](train.py) [b](train.py) ![c](docs/loss_curves.png)"
    )
    assert build.page(readme, build.ROOT) == (
        "[a](export.md#export) `train.py` b: `train.py` ![c](loss_curves.png)"
    )
    with pytest.raises(SystemExit, match=r"nothing\.md"):
        build.page("[a](nothing.md)", build.DOCS)


def test_long_names_in_tables_break_after_underscores():
    name = "test_a_name_of_many_many_words"
    breakable = f"<code>{name.replace('_', '_<wbr>')}</code>"
    assert build.page(f"| a | `{name}`, `{name}` |", build.DOCS) == (
        f"| a | {breakable}, {breakable} |"
    )
    assert build.page(f"(`{name}`) | `short_name` |", build.DOCS) == (
        f"(`{name}`) | `short_name` |"
    )


def test_fields_say_default_and_comment():
    table = build.fields()
    assert "| `batch_size` | `128` | over all devices |" in table
    assert '| `data_dir` | `""` |' in table
    assert table.count("\n| `") == len(examples.field_names())


def test_functions_of_the_reference():
    text = build.functions()
    assert "### create_model" in text
    assert "### UserError" not in text
    assert "- `seed`: chooses the initial values; equal on every platform." in text
