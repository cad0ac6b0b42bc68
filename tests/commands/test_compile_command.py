"""`flaxzoo compile`, with the CPU for a topology; a TPU's own compiler is in test_tpu.py."""

import csv
import io
import json

import pytest

from flaxzoo import UserError
from flaxzoo.commands import compile as command
from flaxzoo.commands import run
from flaxzoo.step_cost import Core, DoesNotFitError, StepCost, Traffic
from flaxzoo.training.parallel import all_devices

CONFIG = "configs/resnet.py:imagenet2012"
GIB = 2**30
CORE = Core(memory=16.0 * GIB, flops=2e14, bandwidth=8e11)


def cost(each: int) -> StepCost:
    return StepCost(
        batch=each, devices=1, arguments=2 * GIB, outputs=2 * GIB, reused=2 * GIB,
        temporaries=each * GIB // 10, program=0, flops=each * 24e9, bytes_accessed=each * 4e8,
        loops=0, collectives={"all-reduce": Traffic(2, 102_000_000)}, compile_seconds=100.0,
    )  # fmt: skip


@pytest.fixture
def compiler(monkeypatch) -> list[int]:
    """A compiler that takes a tenth of a GiB an image; returns the batches that it got."""
    batches = []

    def step_cost(config, devices):
        batches.append(config.batch_size)
        if config.batch_size > 136:
            raise DoesNotFitError("RESOURCE_EXHAUSTED: 17 GiB of 16 GiB.")
        return cost(config.batch_size)

    def described(topology, parallel, shard_params):
        return all_devices(parallel, shard_params), CORE

    monkeypatch.setattr(command, "step_cost", step_cost)
    monkeypatch.setattr(command, "described_devices", described)
    return batches


def test_the_table_tells_memory_bound_and_communication(compiler, capsys):
    run(["compile", CONFIG, "--batch-per-device=100", "--topology=v5e:1x1"])
    out = " ".join(capsys.readouterr().out.split())
    assert compiler == [100]
    assert "resnet50 on v5e:1x1: 1 x 100 images a step, compiled in 100 s" in out
    assert "memory of a device 12.00 GiB of 16.00 GiB" in out
    assert "operations an image 24 GFLOP" in out
    assert "bytes an image 400.0 MB" in out
    assert "operations a byte 60 the chip balances 250" in out
    assert "roofline 2,000 images/s of all devices, bound by memory" in out
    assert "The roofline is no measurement" in out
    assert "all-reduce 2 102.00 MB a step" in out


def test_json_and_csv_hold_the_same(compiler, capsys):
    run(["compile", CONFIG, "--batch-per-device=10", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    run(["compile", CONFIG, "--batch-per-device=10", "--csv"])
    (line,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert list(row) == list(line)
    assert row["peak_bytes"] == 3 * GIB
    assert row["bytes_per_image"] == 4e8
    assert (row["all_reduce_count"], row["all_gather_count"]) == (2, 0)
    assert row["largest_batch_per_device"] is None
    assert line["largest_batch_per_device"] == ""


def test_overrides_are_those_of_train_py(compiler, capsys):
    run(["compile", CONFIG, "--config.batch_size=32", "--config.model.name=resnet18", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["batch_per_device"], row["model"]) == (32, "resnet18")


def test_the_largest_batch_is_searched(compiler, capsys):
    run(["compile", CONFIG, "--batch-per-device=64", "--largest-batch"])
    captured = capsys.readouterr()
    assert "The largest batch: 136 images a device fit; 144 do not." in captured.out
    assert "64 images a device: 8.40 of 16 GiB, compiled in 100 s" in captured.err
    assert "144 images a device: RESOURCE_EXHAUSTED: 17 GiB of 16 GiB." in captured.err


def test_the_search_ends_with_all_images_and_keeps_to_equal_parts(compiler, capsys):
    flags = ["--largest-batch", "--config.accumulate=3", "--batch-per-device=20"]
    run(["compile", "configs/resnet.py:oxford_flowers102", "--config.data.validation=0.9", *flags])
    assert "The largest batch: 102 images a device fit, and more" in capsys.readouterr().out
    assert compiler == [18, 72, 102]


def test_what_does_not_fit_is_an_error_with_the_compilers_words(compiler):
    with pytest.raises(UserError, match=r"16 GiB.*200 images.*17 GiB of 16 GiB.*--largest-batch"):
        run(["compile", CONFIG, "--batch-per-device=200"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v9:2x2"], "unknown TPU 'v9'"),
        (["--config.batchsize=3"], "unknown config key 'batchsize'.*'batch_size'"),
        (["extra"], "unexpected argument 'extra'"),
    ],
)
def test_slips_are_told(flags, message):
    with pytest.raises(UserError, match=message):
        run(["compile", CONFIG, *flags])


def test_loops_are_told(compiler, monkeypatch, capsys):
    looping = cost(8)
    object.__setattr__(looping, "loops", 3)
    monkeypatch.setattr(command, "step_cost", lambda *_: looping)
    run(["compile", CONFIG, "--config.batch_size=8"])
    assert "3 loops count as if they ran once" in capsys.readouterr().out
