"""Several processes, one run: starting jax.distributed, and what only the first process does.

Every process runs the same command. They meet at the coordinator, which process 0 runs, and from
then on `jax.devices()` is all devices of all of them. Process 0 alone reads and writes the run's
folder, except for the checkpoints, of which each process reads and writes its part: all of them
must see the same workdir.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flaxzoo.errors import UserError

START_TIMEOUT = 300  # seconds until all processes must have met; hosts of a cluster boot unevenly
GRACE = 2  # seconds
AUTO = "auto"


@dataclass(frozen=True)
class Processes:
    """How the processes of a run meet.

    Attributes:
        coordinator: HOST:PORT of process 0; "auto" where JAX finds it and the rest by itself.
    """

    coordinator: str = AUTO
    num_processes: int | None = None
    process_id: int | None = None


def parse_flags(
    argv: Sequence[str], environ: Mapping[str, str] = os.environ
) -> tuple[Processes | None, list[str]]:
    """Returns how the processes meet, None for a single process, and the other arguments.

    Args:
        argv: may have --coordinator=HOST:PORT, --num_processes and --process_id, all three, or
            --coordinator=auto.
        environ: tells the rest: see `announced`.

    Raises:
        UserError: some of the flags are missing or contradict each other.
    """
    from absl import flags

    values = flags.FlagValues()
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "of all hosts", flag_values=values)
    flags.DEFINE_integer("process_id", None, "from 0", flag_values=values)
    try:
        rest = values(["train.py", *argv], known_only=True)[1:]
    except flags.Error as error:
        raise UserError(f"{error}.") from None
    names = ("coordinator", "num_processes", "process_id")
    given = [values[name].value for name in names]
    if given == [None, None, None]:
        return (Processes() if announced(environ) else None), rest
    return _checked(*given), rest


def _checked(coordinator: str | None, count: int | None, index: int | None) -> Processes:
    if coordinator == AUTO and count is index is None:
        return Processes()
    if coordinator in (None, "", AUTO) or count is None or index is None:
        raise UserError(
            "several processes need all of --coordinator=HOST:PORT, --num_processes=N and "
            f"--process_id=I, or --coordinator=auto alone; got {coordinator}, {count} and {index}."
        )
    if not re.fullmatch(r"\S+:\d{1,5}", coordinator):
        raise UserError(
            f"--coordinator must be HOST:PORT of process 0, or auto; got {coordinator!r}."
        )
    if not 0 <= index < count:
        raise UserError(
            f"--process_id must be from 0 up to, not including, --num_processes={count}; "
            f"got {index}."
        )
    return Processes(coordinator, count, index)


def announced(environ: Mapping[str, str]) -> bool:
    """Whether the launcher of this process has started several, and told JAX enough to meet.

    SLURM's srun, Open MPI's mpirun, and TPU pods on GKE. A batch script outside srun, a notebook
    and a TPU host by itself (Colab, Kaggle) are one process.
    """
    tasks = environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", ""))
    counts = {
        "SLURM_STEP_NODELIST": tasks,
        "OMPI_MCA_orte_hnp_uri": environ.get("OMPI_COMM_WORLD_SIZE", ""),
    }
    hosts = environ.get("TPU_PROCESS_ADDRESSES", environ.get("TPU_WORKER_HOSTNAMES", ""))
    several = (name in environ and n.isdigit() and int(n) > 1 for name, n in counts.items())
    return len(hosts.split(",")) > 1 or any(several)


def start(processes: Processes, timeout: float = START_TIMEOUT) -> None:
    """Meets the other processes; nothing may have asked JAX for its devices before.

    If they have not met after `timeout` seconds, the process says so and ends with code 2: JAX
    itself would abort without a way to catch it.

    Raises:
        UserError: JAX finds no cluster around it, or not all that it needs to know.
    """
    import jax

    where = "its cluster" if processes.coordinator == AUTO else processes.coordinator
    watchdog = threading.Timer(timeout, _give_up, (where, timeout))
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            None if processes.coordinator == AUTO else processes.coordinator,
            processes.num_processes,
            processes.process_id,
            # With flags, the environment has no say, in particular not which GPUs are whose.
            cluster_detection_method=None if processes.coordinator == AUTO else "deactivate",
            initialization_timeout=round(timeout) + 60,  # the watchdog is to be first
        )
    except (ValueError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"cannot start as one of several processes, at {where}: {text}.") from error
    finally:
        watchdog.cancel()
    if jax.default_backend() == "cpu":
        # Only process 0 finds its programs there again. On CPUs, the first collective operation
        # fails if the others come to it half a minute later, still compiling.
        jax.config.update("jax_enable_compilation_cache", False)


def _give_up(where: str, timeout: float) -> None:
    print(
        f"error: not all processes have met at {where} in {timeout:g} s: check the address, the "
        "number of processes and that all of them run.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)  # the main thread waits inside JAX and cannot be interrupted


def is_one_of_several() -> bool:
    """Whether this process was started as one of several."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def leave(code: int) -> None:
    """Ends a process that failed at once, if it is one of several.

    An orderly exit would wait minutes for the others, which wait for this process in their next
    step. They end when they miss it: at once if it was process 0, within two minutes otherwise.
    Where all fail for the same reason, process 0 lets the others say so first.
    """
    if is_one_of_several():
        if is_first():
            time.sleep(GRACE)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_first() -> bool:
    """Whether this is process 0, the one that writes and speaks."""
    import jax

    return jax.process_index() == 0


def on_first(call: Callable[[], Any]) -> Any:
    """Calls `call` in process 0 alone; returns its result, which JSON can hold, in all of them.

    All processes must come here together. Files that several hosts share may look older from one
    host than from another: what decides how a run goes on is read by one process for all.

    Raises:
        UserError: what `call` raised in process 0, in all processes.
    """
    import jax

    if jax.process_count() == 1:
        return call()
    result: dict[str, Any] = {}
    if is_first():
        try:
            result = {"value": call()}
        except UserError as error:
            result = {"error": str(error)}
    result = json.loads(_from_first(json.dumps(result)))
    if "error" in result:
        raise UserError(result["error"])
    return result["value"]


def _from_first(text: str) -> str:
    """Returns the text of process 0 in every process."""
    import numpy as np
    from jax.experimental import multihost_utils

    encoded = np.frombuffer(text.encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(encoded))))
    # Each size is a program to compile: powers of two are few.
    padded = np.zeros(1 << max(size - 1, 0).bit_length(), np.uint8)
    if is_first():
        padded[:size] = encoded
    return np.asarray(multihost_utils.broadcast_one_to_all(padded))[:size].tobytes().decode()
