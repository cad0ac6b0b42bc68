"""What can happen to the processes that decode images: signals, a killed run, little memory."""

import logging
import multiprocessing
import os
import re
import shutil
import signal
import threading

from flaxzoo.errors import InputError

SHARED_MEMORY = "/dev/shm"
_log = logging.getLogger(__name__)


def prepare(*_: int) -> None:
    """Ties the life of a worker to its run; called in the worker when it starts.

    It outlives Control-C and SIGTERM, which reach the whole group of processes: the run ends its
    step first, for which it may still need batches, and then ends its workers. But where the run
    is killed, nobody does: a worker that waits for room in a queue would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)


def that_fit(workers: int, needed: int) -> int:
    """Returns how many worker processes the shared memory has room for, and logs if not all.

    Containers have 64 MB of it; a process that writes beyond that is killed without a word. Batches
    are never sent through a pipe instead: a worker that is killed in the middle of one leaves the
    run waiting for the rest, for ever.

    Args:
        needed: bytes of each of them. As much again is left to others.
    """
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return workers  # not Linux: shared memory is no file system of its own
    fit = min(workers, free // (2 * needed))
    if fit < workers:
        decoders = f"only {fit} of {workers} worker processes decode" if fit else "threads decode"
        _log.warning(
            "%s: shared memory has %.1f MB free, and each process needs twice %.1f MB",
            decoders, free / 1e6, needed / 1e6,
        )  # fmt: skip
    return fit


def death(error: RuntimeError) -> InputError | None:
    """Returns what to say where grain tells of a dead worker; None if `error` is about no such."""
    match = re.search(r"Worker process was terminated .*exit code (-?\d+)", str(error))
    if match is None:
        return None
    names = {-signum: signum.name for signum in signal.Signals}
    by = names.get(int(match[1]), f"exit code {match[1]}")
    return InputError(
        f"a worker process that decodes images was ended by {by}, perhaps for lack of memory: "
        "fewer config.data.workers need less, and 0 decodes in threads"
    )
