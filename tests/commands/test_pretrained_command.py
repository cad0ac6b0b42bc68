"""flaxzoo pretrained: what is published, where it is, and getting it from a server."""

import hashlib
import http.server
import json
import threading

import pytest

from flaxzoo import commands, create_model, to_torch
from flaxzoo.errors import UserError
from flaxzoo.models.info import model_info
from flaxzoo.pretrained import preparation
from flaxzoo.sources import open_source
from flaxzoo.trained import load_trained
from flaxzoo.weight_writing import write_state_dict

REPOSITORY = "timm/resnet_tiny.a1_in1k"


@pytest.fixture
def hub(weights_cache, monkeypatch):
    """Serves what it is filled with, by path, as the Hugging Face hub."""
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield files
    server.shutdown()
    thread.join()
    server.server_close()


def publish(hub, tmp_path, model: str = "resnet_tiny", digest: str | None = None) -> None:
    path = tmp_path / "published.safetensors"
    write_state_dict(path, to_torch(create_model(model, seed=4)))
    content = path.read_bytes()
    digest = digest or hashlib.sha256(content).hexdigest()
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n"
    )
    hub[f"/{REPOSITORY}/raw/main/model.safetensors"] = pointer.encode()
    hub[f"/{REPOSITORY}/resolve/main/model.safetensors"] = content


def test_a_pattern_lists_files_and_whether_they_are_here(weights_cache, capsys):
    url = model_info("squeezenet1_1").weights[0].url
    here = weights_cache / "flaxzoo" / "weights" / url.rsplit("/", 1)[-1]
    here.parent.mkdir(parents=True)
    here.write_bytes(bytes(3_000_000))
    commands.run(["pretrained", "squeezenet*", "--json"])
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {"squeezenet1_0", "squeezenet1_1"}
    assert rows["squeezenet1_1"]["path"] == str(here)
    assert rows["squeezenet1_1"]["megabytes"] == 3
    assert rows["squeezenet1_0"]["path"] is None
    assert rows["squeezenet1_0"]["megabytes"] == pytest.approx(5, rel=0.02)
    assert rows["squeezenet1_0"]["classes"] == 1000


def test_all_are_listed_without_a_name(weights_cache, capsys):
    commands.run(["pretrained", "--csv"])
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("model,weights,top1,classes,image_size,megabytes,sha256,path")
    assert len(lines) > 100


def test_one_of_several_weights_can_be_named(weights_cache, capsys):
    commands.run(["pretrained", "resnet50.IMAGENET1K_V1", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["top1"] == pytest.approx(76.13)


def test_a_name_without_a_match_gets_near_misses(weights_cache):
    with pytest.raises(UserError, match="unknown published weights 'resnt50'; did you mean"):
        commands.run(["pretrained", "resnt50"])
    with pytest.raises(UserError, match=r"known: resnet50\.IMAGENET1K_V1, resnet50\.IMAGENET1K_V2"):
        commands.run(["pretrained", "resnet50.V3", "--download"])


def test_weights_of_the_hub_are_fetched_verified_and_loaded(hub, tmp_path, weights_cache, capsys):
    publish(hub, tmp_path)
    commands.run(["pretrained", REPOSITORY, "--download", "--model=resnet_tiny"])
    path = weights_cache / "flaxzoo" / "weights" / "resnet_tiny.a1_in1k.safetensors"
    assert path.is_file()
    assert f"{path} is whole and fits resnet_tiny" in capsys.readouterr().out
    hub.clear()  # it is not asked again
    model = create_model("resnet_tiny", pretrained=REPOSITORY)
    assert (model.fc.kernel[...] == create_model("resnet_tiny", seed=4).fc.kernel[...]).all()
    assert open_source(REPOSITORY, "resnet_tiny").path == str(path)


def timm_config(**fields) -> bytes:
    given = {
        "input_size": [3, 40, 40], "crop_pct": 0.95, "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
    }  # fmt: skip
    return json.dumps({"architecture": "resnet_tiny", "pretrained_cfg": given | fields}).encode()


def test_a_model_of_the_hub_brings_its_preparation(hub, tmp_path):
    publish(hub, tmp_path)
    hub[f"/{REPOSITORY}/resolve/main/config.json"] = timm_config()
    found = load_trained(f"resnet_tiny={REPOSITORY}")
    hub.clear()  # it is not asked again
    assert load_trained(f"resnet_tiny={REPOSITORY}").preparation == found.preparation
    prepared = found.preparation
    assert (prepared.image_size, prepared.resize, prepared.interpolation) == (40, 42, "bicubic")
    assert (prepared.mean, prepared.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize("config", [b"<html>", b"[]", timm_config(input_size=[])])
def test_a_config_of_the_hub_that_says_no_preparation_is_told(hub, config):
    hub[f"/{REPOSITORY}/resolve/main/config.json"] = config
    with pytest.raises(UserError, match=r"is no config\.json of timm's, with input_size"):
        preparation(REPOSITORY, "resnet_tiny")


def test_a_file_that_is_not_what_the_hub_says_is_deleted(hub, tmp_path, weights_cache):
    publish(hub, tmp_path, digest="0" * 64)
    with pytest.raises(UserError, match="is not the expected file: sha256"):
        create_model("resnet_tiny", pretrained=REPOSITORY)
    assert not list((weights_cache / "flaxzoo" / "weights").iterdir())


def test_a_file_of_another_model_is_told(hub, tmp_path):
    publish(hub, tmp_path, model="resnet20")
    with pytest.raises(UserError, match=r"was downloaded, but the weights .* not those of resnet"):
        commands.run(["pretrained", REPOSITORY, "--download", "--model=resnet_tiny"])


def test_a_repository_that_is_not_there_is_told(hub):
    with pytest.raises(UserError, match=r"the server answered 404 .*; put the file .* or at .*hub"):
        create_model("resnet_tiny", pretrained=REPOSITORY)


def test_what_is_no_pointer_is_told(hub):
    hub[f"/{REPOSITORY}/raw/main/model.safetensors"] = b"<html>"
    with pytest.raises(UserError, match="is no pointer of git-lfs"):
        create_model("resnet_tiny", pretrained=REPOSITORY)
