"""Exports models as ONNX and compares ONNX Runtime with flaxzoo, on noise and on photographs.

    python -m benchmarks.export_check                      all of MODELS that are not measured yet
    python -m benchmarks.export_check vit_b_16 swin_t      these

Needs the extra `onnx` and a folder of photographs, `imagenet_sample` in FLAXZOO_SHARED_DATA (by
default ../shared/data). The weights are random, calibrated on some of these; how images are
prepared is what is published for the model. Results are kept in benchmarks/results/export.json
after each model.
"""

import argparse
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.record import FOLDER, ROOT, load, save
from flaxzoo import load_torch, pretrained
from flaxzoo.cli import prepare_jax
from flaxzoo.data.transforms import evaluation
from flaxzoo.export import ALLOWED, Source, export, logits_of, relative_error
from flaxzoo.export_formats import run_onnx
from flaxzoo.models import takes
from flaxzoo.parity.twins import calibrate, make_twins

RESULTS = FOLDER / "export.json"
MODELS = ("resnext50_32x4d", "vit_b_16", "efficientnet_b0", "mobilenet_v3_large")
CALIBRATED_ON = 8  # photographs
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares exported ONNX files with flaxzoo.")
    parser.add_argument("models", nargs="*", help=f"default: {', '.join(MODELS)}")
    named = parser.parse_args().models
    prepare_jax()
    jax.config.update("jax_platforms", "cpu")
    results = load(RESULTS)
    for name in named or [name for name in MODELS if name not in results]:
        results[name] = check(name, photographs())
        print(name, results[name], flush=True)
        save(RESULTS, results)


def photographs() -> list[Path]:
    folder = Path(os.environ.get("FLAXZOO_SHARED_DATA", ROOT.parent / "shared" / "data"))
    paths = sorted((folder / "imagenet_sample").glob("*.JPEG"))
    if len(paths) < CALIBRATED_ON:
        raise SystemExit(f"no photographs in {folder}/imagenet_sample (FLAXZOO_SHARED_DATA)")
    return paths


def check(name: str, paths: list[Path]) -> dict[str, Any]:
    prepare = evaluation(pretrained.choose("imagenet", name))
    images = np.stack([prepare.normalize(prepare(path)) for path in paths])
    source = Source(name, *calibrated(name, images[:CALIBRATED_ON]), prepare)
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        done = export(source, Path(folder) / "model.onnx", "onnx")
        theirs = run_onnx(done.path, batches)
    ours = logits_of(source.model, batches)
    expected, got = np.concatenate(ours), np.concatenate(theirs)
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    error = relative_error(ours, theirs)
    same = int((expected.argmax(1) == got.argmax(1)).sum())
    return {
        "equal": error <= ALLOWED and same == len(paths),
        "noise": done.error,
        "photographs": error,
        "images": len(paths),
        "same_class": same,
        "classes": len(set(expected.argmax(1).tolist())),
        "smallest_lead": float((first - second).min() / np.abs(expected).max()),
        "image_size": prepare.image_size,
        "mb": round(done.size / 1e6, 1),
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("jax", "torch", "onnx", "onnxscript", "onnxruntime")
        },
    }


def calibrated(name: str, images: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """Returns the model with random weights, calibrated on `images`, and its options.

    The mean of each class's logits is taken off its bias: otherwise one class is the first of all.
    """
    size = images.shape[1]
    twins = make_twins(
        name, dtype="float32", image_size=size, batch_size=len(images), calibrated=False
    )
    twins.images = images
    calibrate(twins.torch_model, twins.torch_images, np.random.default_rng(0))
    head: Any = twins.torch_model.get_submodule(twins.flax_model.head_names[0])
    with torch.no_grad():
        head.bias -= twins.torch_model.eval()(twins.torch_images).mean(0)
    load_torch(twins.flax_model, twins.torch_model.state_dict())
    return twins.flax_model, {"image_size": size} if takes(name, "image_size") else {}


if __name__ == "__main__":
    main()
