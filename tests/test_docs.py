"""The documentation is true: its examples run, what it names exists.

Pages that need torch run in parity_tests/test_torch_docs.py; `make docs` checks links.
"""

import jax
import numpy as np
import pytest

from docs import build, examples
from flaxzoo.errors import UserError

PAGES = examples.pages(torch=False)
# Small models take the places of large ones.
STAND_INS = {
    '"resnext50_32x4d"': '"resnext_tiny"',
    '"vgg16"': '"test_vgg"',
    "model=resnet18": "model=resnet_tiny",
}
WEIGHTS = {  # files that examples load
    "resnext50_32x4d-7cdf4587.pth": "resnext_tiny",
    "vgg16-397923af.pth": "test_vgg",
    "resnet18-f37072fd.pth": "resnet_tiny",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # The cache of the tests, not that of commands.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir or "")
    with examples.in_folder(tmp_path):
        yield tmp_path


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_examples(path, folder):
    for file, model in WEIGHTS.items():
        examples.write_weights(file, model)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    examples.run_page(path, {"images": images}, STAND_INS)


@pytest.mark.parametrize("path", examples.PAGES, ids=lambda path: path.stem)
def test_settings_exist(path):
    assert examples.unknown_flags(path.read_text()) == []


PAGE = """
```python
x = 1
```
<!-- checked: slow -->
```sh
make test
```
```text
no example
```
"""


def test_examples_of_a_page_and_where_they_are():
    python, shell = examples.examples(PAGE)
    assert (python.language, python.code, python.line, python.runs) == (
        "python",
        "x = 1\n",
        3,
        True,
    )
    assert (shell.language, shell.line, shell.runs) == ("sh", 7, False)


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
        ("make nothing", AssertionError),
        ("pip install 'flaxzoo[nothing]'", AssertionError),
        ("pip install -r nothing.txt", AssertionError),
        ("rm -rf /", AssertionError),
    ],
)
def test_a_planted_slip_is_found(command, error, folder, capsys):
    (words,) = examples.command_lines(command)
    with pytest.raises(error):
        examples.check(words)


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
