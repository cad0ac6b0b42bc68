"""Published weights by name: which file, where it is found, and how it is fetched."""

import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from flaxzoo import pretrained
from flaxzoo.errors import UserError
from flaxzoo.models import list_models
from flaxzoo.models.info import model_info, published
from flaxzoo.pretrained import choose, find, is_name

FILE = "squeezenet1_1-b8a52dc0.pth"


def put(path):
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [
        ("imagenet", "resnet50", "IMAGENET1K_V2"),
        ("resnet50", "resnet50", "IMAGENET1K_V2"),
        ("resnet50.IMAGENET1K_V1", "resnet50", "IMAGENET1K_V1"),
        ("imagenet", "vit_b_16", "IMAGENET1K_V1"),  # not SWAG's, of another licence
        ("imagenet", "vgg16", "IMAGENET1K_V1"),  # not the file without a head
        ("imagenet", "mixer_b16_224", "miil_in21k_ft_in1k"),
    ],
)
def test_the_default_is_the_publishers(name, model, expected):
    assert is_name(name)
    assert choose(name, model).name == expected


def test_every_published_file_has_an_address_and_a_place():
    chosen = [
        choose(f"{model}.{weights.name}", model)
        for model in list_models()
        for weights in model_info(model).weights
    ]
    assert len(chosen) > 100
    for weights in chosen:
        (_, shared), (_, own) = pretrained._places(weights.url)
        assert own.endswith((".pth", ".safetensors"))
        assert pretrained._file_url(weights.url).endswith(shared.removeprefix("*/"))


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        ("resnt50", "resnet50", "unknown published weights 'resnt50'; did you mean 'resnet50'"),
        ("resnet50.V3", "resnet50", "known: resnet50.IMAGENET1K_V1, resnet50.IMAGENET1K_V2"),
        (
            "resnet50",
            "resnet18",
            "config.model.name=resnet50 of a run\\), or the weights 'imagenet'",
        ),
        ("imagenet", "resnet_tiny", "no weights of resnet_tiny are published"),
    ],
)
def test_what_is_not_published_for_a_model_is_told(name, model, words):
    with pytest.raises(UserError, match=words):
        choose(name, model)


@pytest.mark.parametrize("name", ["imagenets", "resnet_tiny", "resnet50.V3", "resnet50.pth", "a/b"])
def test_names_are_exact(name):
    assert not is_name(name)


def test_a_file_that_torch_has_downloaded_is_taken(weights_cache, monkeypatch):
    theirs = put(weights_cache / "torch" / "hub" / "checkpoints" / FILE)
    assert find("imagenet", "squeezenet1_1") == theirs
    other = put(weights_cache / "other" / "hub" / "checkpoints" / FILE)
    monkeypatch.setenv("TORCH_HOME", str(weights_cache / "other"))
    assert find("imagenet", "squeezenet1_1") == other


def test_a_file_that_the_hub_has_downloaded_is_taken(weights_cache, monkeypatch):
    below = "models--timm--xception41.tf_in1k/snapshots/0a1b/model.safetensors"
    theirs = put(weights_cache / "huggingface" / "hub" / below)
    assert find("imagenet", "xception41") == theirs
    other = put(weights_cache / "other" / "hub" / below)
    monkeypatch.setenv("HF_HOME", str(weights_cache / "other"))
    assert find("imagenet", "xception41") == other


def test_a_file_that_was_put_into_the_cache_is_taken(weights_cache):
    ours = put(weights_cache / "flaxzoo" / "weights" / FILE)
    assert find("squeezenet1_1", "squeezenet1_1") == ours


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the path."""

    def do_GET(self) -> None:  # the name is http.server's
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def published_at(monkeypatch):
    """Publishes squeezenet1_1 on a server of this machine; takes the file's name."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    info = model_info("squeezenet1_1")

    def publish(file: str) -> None:
        url = f"http://127.0.0.1:{server.server_port}/{file}"
        moved = replace(info, weights=(replace(info.weights[0], url=url),))
        monkeypatch.setattr(pretrained, "model_info", lambda _: moved)

    yield publish
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_downloaded_once_into_the_cache(weights_cache, published_at):
    published_at("weights.pth")
    path = find("imagenet", "squeezenet1_1")
    assert path == weights_cache / "flaxzoo" / "weights" / "weights.pth"
    assert path.read_text() == "/weights.pth"
    path.write_text("kept")
    assert find("imagenet", "squeezenet1_1").read_text() == "kept"


def test_a_file_that_is_not_what_its_name_says_is_deleted(weights_cache, published_at):
    published_at("weights-01234567.pth")
    with pytest.raises(UserError, match=r"not the expected file: sha256 .* expected 01234567;"):
        find("imagenet", "squeezenet1_1")
    assert not list((weights_cache / "flaxzoo" / "weights").iterdir())


def test_a_file_that_is_what_its_name_says_is_kept(weights_cache, published_at, monkeypatch):
    published_at("weights.pth")
    digest = hashlib.sha256(b"/weights.pth").hexdigest()
    monkeypatch.setattr(pretrained, "_first_digits", lambda _: digest[:8])
    assert find("imagenet", "squeezenet1_1").read_text() == "/weights.pth"


@pytest.mark.parametrize(
    ("url", "digits"),
    [
        ("https://download.pytorch.org/models/resnet50-11ad3fa6.pth", "11ad3fa6"),
        ("https://download.pytorch.org/models/mnasnet0.5_top1_67.823-3ffadce67e.pth", "3ffadce67e"),
        ("https://download.pytorch.org/models/resnet50.pth", ""),
        ("https://huggingface.co/timm/xception41.tf_in1k", ""),
    ],
)
def test_the_checksum_is_in_the_name(url, digits):
    assert pretrained._first_digits(url) == digits


def test_every_published_file_has_a_checksum():
    """In its name, or at the hub, which tells it."""
    urls = [row["url"] for rows in published().values() for row in rows if row["url"]]
    without = [url for url in urls if not pretrained._first_digits(url)]
    assert len(urls) > 100
    assert all(url.startswith("https://huggingface.co/timm/") for url in without)


def test_a_cache_that_cannot_be_written_is_named(weights_cache):
    (weights_cache / "flaxzoo").touch()
    with pytest.raises(UserError, match=r"cannot write to .*weights .*; set XDG_CACHE_HOME, or"):
        find("imagenet", "squeezenet1_1")
