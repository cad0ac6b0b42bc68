"""What notebooks need beside the commands: to run one below a cell, to keep a run over sessions.

Nothing here starts JAX: a TPU belongs to one process, and that is the command's.
"""

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from flaxzoo.arguments import number, path, text
from flaxzoo.errors import UserError, shown

INPUTS = "/kaggle/input"
# What is attached lies in INPUTS/NAME, INPUTS/datasets/OWNER/NAME or INPUTS/notebooks/OWNER/NAME.
_DEPTHS = range(4)
_STOPPED = 128 + signal.SIGTERM


def run(command: str | object, hours: float | object = 0.0) -> None:
    """Runs a command line and prints what it says as it says it.

    The notebook's stop button ends it with SIGTERM, and so do `hours`: training then saves, and the
    cell waits for that. `!command` would kill it at once, and would not stop at a failure.

    Args:
        command: a program and its arguments, quoted as in a shell; `python` is this one.
        hours: of time it may take; 0 for no limit. A command that ends for it has not failed.

    Raises:
        CalledProcessError: it failed; why is printed.
        UserError: it is no command line, or there is no such program.
    """
    hours, words = number("hours", hours, 0), _words(command)
    words[:1] = [sys.executable] if words[0] == "python" else words[:1]
    # Kernels set it, and rich would redraw a bar ten times a second, each time as a new line.
    environment = {k: v for k, v in os.environ.items() if k != "FORCE_COLOR"}
    late = threading.Event()
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        env=environment | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None  # a pipe
        limit = threading.Timer(3600 * hours, lambda: (late.set(), process.terminate()))
        if hours:
            limit.start()
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.terminate()
            print(process.stdout.read(), end="", flush=True)
            raise
        finally:
            limit.cancel()
    code = process.returncode
    if late.is_set() and code in (_STOPPED, -signal.SIGTERM):
        print(f"stopped after {hours:g} hours")
    elif code:
        raise subprocess.CalledProcessError(code, str(command))


def workdir(
    name: str | object, folder: str | Path | object, inputs: str | Path | object = INPUTS
) -> Path:
    """Returns the folder of a run, with what an earlier session saved of it.

    Kaggle keeps a session's /kaggle/working as the output of that version of the notebook, and
    begins the next one without it. Attached as an input, the run in it is copied back, of several
    the one that came furthest; a run that `folder` has is left alone.

    Args:
        name: of the run's folder.
        folder: where runs are kept.
        inputs: where attached outputs are; it need not exist.

    Raises:
        UserError: one of them is no path, or no string.
    """
    from flaxzoo.checkpoint import saved_steps

    name, inputs = str(path("name", name)), path("inputs", inputs)
    target = path("folder", folder) / name
    if saved_steps(target / "checkpoints"):
        return target
    saved = {run: max(saved_steps(run / "checkpoints"), default=0) for run in _find(name, inputs)}
    furthest = max(saved, key=lambda run: saved[run], default=None)
    if furthest is not None and saved[furthest]:
        shutil.copytree(furthest, target, dirs_exist_ok=True)
        print(f"step {saved[furthest]} of {furthest} is now in {target}")
    return target


def input_folder(end: str | object, inputs: str | Path | object = INPUTS) -> Path:
    """Returns the folder of attached data whose path ends with `end`.

    Kaggle has changed what comes before the name of a data set, so that it is looked for.

    Raises:
        UserError: there is none, or more than one.
    """
    end, inputs = str(path("end", end)), path("inputs", inputs)
    found = [place for place in _find(end, inputs) if place.is_dir()]
    if len(found) == 1:
        return found[0]
    held = sorted(str(p.relative_to(inputs)) for n in (1, 2, 3) for p in _below(inputs, n))
    raise UserError(
        f"expected one folder .../{end} in {inputs}; "
        + (f"found {', '.join(map(str, found))}." if found else f"it has {_first(held)}.")
    )


def _words(command: object) -> list[str]:
    """Returns the words of a command line, the first of which is a program that there is."""
    line = text("command", command, "a command line")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(
            f"command must be quoted as in a shell; got {shown(line)}: {error}"
        ) from None
    if not words or not (words[0] == "python" or shutil.which(words[0])):
        raise UserError(f"command must begin with a program that is here; got {shown(line)}.")
    return words


def _find(end: str, inputs: str | Path) -> list[Path]:
    """Returns the paths that end with `end`, down to where the contents of inputs begin.

    It never lists a whole data set: ImageNet's would take minutes.
    """
    paths = (parent / end for depth in _DEPTHS for parent in _below(inputs, depth))
    return sorted({path for path in paths if path.exists()})


def _below(inputs: str | Path, depth: int) -> list[Path]:
    """Returns the folders that are `depth` levels below `inputs`."""
    folders = [Path(inputs)] if Path(inputs).is_dir() else []
    for _ in range(depth):
        entries = itertools.chain.from_iterable(map(os.scandir, folders))
        folders = [Path(entry) for entry in entries if entry.is_dir()]
    return folders


def _first(names: list[str], count: int = 12) -> str:
    more = f", and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "nothing") + more
