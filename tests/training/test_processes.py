"""Two processes of four devices, one of eight, and one of one: the same training.

And a coordinator that does not answer, and which environments announce several processes.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from flaxzoo.errors import UserError
from flaxzoo.training.distributed import Processes, announced, parse_flags
from flaxzoo.training.loop import train
from tests.training import device_program

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 240  # seconds for all processes of a program, compiling included

pytestmark = pytest.mark.xdist_group("processes")


def environment(devices: int) -> dict[str, str]:
    return os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def run_processes(devices: int, folder: Path, *flags: list[str]) -> list[tuple[int, str]]:
    """Runs one process for each list of flags; returns their exit codes and what they printed."""
    command = [sys.executable, str(Path(device_program.__file__)), str(folder)]
    processes = [
        subprocess.Popen(
            [*command, *own], env=environment(devices), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) for own in flags
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=TIME_LIMIT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, text) for p, text in zip(processes, outputs, strict=True)]


def result(folder: Path, count: int, index: int, printed: list[tuple[int, str]]) -> dict:
    path = folder / f"result-{count}-{index}.json"
    assert path.exists(), "\n".join(text for _, text in printed)
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def of_two(folder) -> list[tuple[int, str]]:
    """What two processes print; process 0 ends with an error when all is done."""
    meet = [f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
    return run_processes(4, folder, *([*meet, f"--process_id={i}"] for i in range(2)))


@pytest.fixture(scope="module")
def two(folder, of_two) -> dict:
    return result(folder, 2, 0, of_two)


@pytest.fixture(scope="module")
def eight_devices(folder, two) -> dict:
    return result(folder, 1, 0, run_processes(8, folder, []))


@pytest.fixture(scope="module", autouse=True)
def as_in_the_program():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def experiment() -> device_program.Experiment:
    return device_program.Experiment("jit")


@pytest.fixture(scope="module")
def one_device(experiment) -> dict:
    return experiment.take_steps(0, device_program.STEPS)


def assert_same(found: dict, expected: dict) -> None:
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-9)
    assert found["evaluated"] == pytest.approx(expected["evaluated"], rel=1e-9)
    assert found["sums"].keys() == expected["sums"].keys()
    names = sorted(expected["sums"])
    np.testing.assert_allclose(
        [found["sums"][name] for name in names],
        [expected["sums"][name] for name in names],
        rtol=1e-9,
        err_msg=str(names),
    )


@pytest.mark.parametrize("layout", device_program.LAYOUTS)
def test_two_processes_of_four_devices_equal_one_device(two, one_device, layout):
    assert two["devices"] == 8
    assert_same(two[layout], one_device)


def test_a_run_of_two_processes_goes_on_in_one_of_eight_devices(eight_devices, one_device):
    assert eight_devices["devices"] == 8
    assert_same(eight_devices["resumed"], one_device)


def test_a_run_of_two_processes_goes_on_on_one_device(two, folder, one_device, experiment):
    device_program.restore(experiment, folder / "sharded")
    resumed = experiment.take_steps(device_program.SAVED, device_program.STEPS)
    assert_same(resumed, one_device)


def test_a_whole_state_goes_on_split(eight_devices, one_device):
    assert_same(eight_devices["resumed split"], one_device)


def test_split_parameters_take_less_memory(two, experiment):
    assert two["bytes"] < 0.5 * device_program.bytes_on_a_device(experiment.state)


def test_two_processes_write_one_run(two, of_two, folder, tmp_path):
    run = folder / "run"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4"}
    assert result(folder, 2, 1, of_two)["run"]["test"] == two["run"]["test"]
    assert json.loads((run / "summary.json").read_text()) == two["run"]
    alone = train(device_program.run_config(), tmp_path, quiet=True)
    assert two["run"]["final"]["train_loss"] == pytest.approx(
        alone["final"]["train_loss"], rel=1e-4
    )


def test_only_the_first_process_speaks(of_two):
    printed = [re.sub(r"\[Gloo\].*\n", "", text) for _, text in of_two]
    assert "test accuracy" in printed[0]
    assert "test accuracy" not in printed[1]
    assert "epoch" not in printed[1]


def test_a_slip_is_told_in_every_process(two, of_two, folder):
    assert "config.seed was 0 and is 1" in two["slip"]
    assert result(folder, 2, 1, of_two)["slip"] == two["slip"]


def test_no_process_waits_for_one_that_failed(of_two):
    (code, printed), (other_code, _) = of_two
    assert code == 2
    assert printed.splitlines()[-1] == "error: process 0 fails"
    assert other_code != 0


def test_a_coordinator_that_does_not_answer_is_told_in_one_sentence():
    where = f"localhost:{free_port()}"
    code = (
        "from flaxzoo.training.distributed import Processes, start\n"
        f"start(Processes({where!r}, 2, 1), timeout=1)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], env=environment(1), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert outcome.returncode == 2
    assert f"error: not all processes have met at {where} in 1 s" in outcome.stderr


@pytest.mark.parametrize(
    ("environ", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}, True),
        ({"SLURM_NTASKS": "2"}, False),  # a batch script, before srun
        (
            {"SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "1"},
            False,
        ),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://h:1", "OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"TPU_WORKER_HOSTNAMES": "w0,w1"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_PROCESS_ADDRESSES": "local", "TPU_WORKER_HOSTNAMES": "w0,w1"}, False),
    ],
)
def test_launchers_that_start_several_processes_are_known(environ, several):
    assert announced(environ) == several


def test_flags_of_processes_are_taken_from_the_others():
    flags = ["--config=a.py", "--coordinator=h:1", "--num_processes=2", "--process_id=1", "--x=1"]
    assert parse_flags(flags, {}) == (Processes("h:1", 2, 1), ["--config=a.py", "--x=1"])


def test_without_flags_and_launcher_there_is_one_process():
    assert parse_flags(["--config=a.py"], {}) == (None, ["--config=a.py"])


def test_jax_is_asked_where_a_launcher_started_several():
    assert parse_flags([], {"TPU_WORKER_HOSTNAMES": "w0,w1"}) == (Processes(), [])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--num_processes=2"], "need all of --coordinator"),
        (["--coordinator=h:1", "--num_processes=2"], "got h:1, 2 and None"),
        (["--coordinator=auto", "--process_id=0"], "or --coordinator=auto alone"),
        (["--coordinator=h", "--num_processes=2", "--process_id=0"], "must be HOST:PORT"),
        (["--coordinator=h:1", "--num_processes=2", "--process_id=2"], "--num_processes=2; got 2"),
        (["--coordinator=h:1", "--num_processes=two"], "--num_processes"),
    ],
)
def test_a_slip_in_the_flags_is_told(flags, words):
    with pytest.raises(UserError, match=re.escape(words)):
        parse_flags(flags, {})
