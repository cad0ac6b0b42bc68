"""`data prepare NAME` of a set that TFDS prepares, and what stops it, in a sentence."""

import errno
import sys

import pytest

from flaxzoo import data
from flaxzoo.commands import data as data_command
from flaxzoo.data.options import Options
from flaxzoo.data.prepare import prepare
from flaxzoo.errors import UserError

pytest.importorskip("tensorflow_datasets", reason="TFDS is an optional dependency")
pytest.importorskip("array_record", reason="array_record has no wheel for this system")

# What TFDS warns about while preparing is its own affair.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def pets():
    """The builder of tiny_pets, which TFDS knows by name once it is imported."""
    from tests.data import tiny_tfds

    return tiny_tfds.TinyPets


def failing(error: Exception):
    def generate(*_: object, **__: object):
        raise error
        yield

    return generate


def test_tfds_prepares_a_set_and_does_not_do_it_again(tmp_path, pets, monkeypatch, capsys):
    data_command.run(["prepare", "tiny_pets", f"--data_dir={tmp_path}"])
    told = f"tiny_pets is in {tmp_path / 'tiny_pets' / '1.10.0'}; train with --config=...:tfds=tiny"
    assert told in capsys.readouterr().out
    assert len(data.load("tfds=tiny_pets", data_dir=tmp_path).train) == 30
    monkeypatch.setattr(pets, "_generate_examples", failing(AssertionError("again")))
    assert told in prepare("tiny_pets", Options(tmp_path))


def test_without_tensorflow_where_it_is_needed_the_package_is_named(tmp_path, pets, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    def generate(*_: object, **__: object):
        import tensorflow  # type: ignore  # noqa: F401

        yield

    monkeypatch.setattr(pets, "_generate_examples", generate)
    with pytest.raises(UserError) as caught:
        prepare("tiny_pets", Options(tmp_path))
    assert str(caught.value) == (
        f"TFDS cannot prepare tiny_pets in {tmp_path}: this takes TensorFlow, which training does "
        "not: pip install tensorflow"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), "is full: preparing tiny_pets needs more there"),
        (
            AssertionError("put x.tar\n  into y"),
            r"TFDS cannot prepare tiny_pets .*: .*x.tar into y",
        ),
        (ModuleNotFoundError("no", name="cv2.x"), "this takes the package cv2: pip install cv2"),
    ],
)
def test_what_stops_tfds_is_told_and_leaves_no_set(tmp_path, pets, monkeypatch, error, message):
    monkeypatch.setattr(pets, "_generate_examples", failing(error))
    with pytest.raises(UserError, match=message):
        prepare("tiny_pets", Options(tmp_path))
    assert not list((tmp_path / "tiny_pets").glob("**/*"))
    with pytest.raises(UserError, match="TFDS's tiny_pets is not prepared"):
        data.load("tfds=tiny_pets", data_dir=tmp_path)


def test_without_a_network_the_answer_comes_at_once(tmp_path, pets, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(pets, "url_infos", {"http://127.0.0.1:9/pets.zip": None})
    with pytest.raises(
        UserError, match=r"cannot download http://127\.0\.0\.1:9/pets\.zip \(Connec"
    ):
        prepare("tiny_pets", Options(tmp_path))
    (tmp_path / "downloads" / "tiny_pets").mkdir(parents=True)
    (tmp_path / "downloads" / "tiny_pets" / "pets.zip").touch()  # all that there is to download
    assert "tiny_pets is in" in prepare("tiny_pets", Options(tmp_path))


def test_a_server_that_refuses_is_left_to_tfds(tmp_path, pets, site, monkeypatch):
    monkeypatch.setattr(pets, "url_infos", {f"{site[1]}/not-there.zip": None})
    assert "tiny_pets is in" in prepare("tiny_pets", Options(tmp_path))


def test_an_unknown_name_gets_near_misses(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'imagenete'; did you mean 'imagenette'"):
        prepare("imagenete", Options(tmp_path))
