"""What every command shares: reading configs, preparing JAX, telling slips in one line."""

import gc
import itertools
import logging
import operator
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from flaxzoo.check_config import check, field_names, nearest_fields
from flaxzoo.config import Config
from flaxzoo.errors import InputError, UserError, unknown
from flaxzoo.training import distributed

Arguments = Sequence[str]


def run_command(command: Callable[[], None]) -> int:
    """Runs `command`; returns 0, 2 for what the user can mend, or 1 for a run that failed."""
    code = _told(command)
    if code:
        distributed.leave(code)
    return code


def _told(command: Callable[[], None]) -> int:
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 1
    except KeyboardInterrupt as stop:
        print(f"interrupted: {stop}" if str(stop) else "interrupted", file=sys.stderr)
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except Exception:
        if not distributed.is_one_of_several():
            raise
        traceback.print_exc()
        return 1
    return 0


def train_command(argv: Arguments) -> None:
    """Trains: `--config=FILE[:ARG] [--config.KEY=VALUE ...] [--workdir=DIR]`.

    As one of several processes, `[--coordinator=HOST:PORT --num_processes=N --process_id=I]`.
    """
    processes, argv = distributed.parse_flags(argv)
    config, workdir = parse_train_flags(argv, several_processes=processes is not None)
    prepare_jax()
    if processes is not None:
        distributed.start(processes)
    # orbax's threads log the traceback of a failed save, which is told in one sentence as well.
    logging.getLogger("absl").addFilter(lambda record: record.exc_info is None)
    from flaxzoo.training.loop import train  # after the flags: a slip is told before JAX starts

    try:
        train(config, workdir)
    except (KeyboardInterrupt, InputError) as stop:
        done = f"{stop}; go on" if str(stop) else "not saved; go on from the last checkpoint"
        given = any(re.match(r"--?workdir\b", argument) for argument in argv)
        command = shlex.join([*sys.orig_argv, f"--workdir={workdir}"])
        stop.args = (f"{done} with {'the same command' if given else command}",)
        raise


def parse_train_flags(argv: Arguments, several_processes: bool = False) -> tuple[Config, str]:
    """Returns the checked config and the workdir that a command line asks for.

    Args:
        several_processes: they have to be told one workdir; the default depends on the time.

    Raises:
        UserError: a flag, key, type or value is wrong, or the config file cannot be used.
    """
    from absl import flags
    from ml_collections import config_flags

    _check_config_keys(argv)
    argv, unset = _without_none(argv)
    values = flags.FlagValues()
    line = ["train.py", *argv]
    config_flag = config_flags.DEFINE_config_file(
        "config", None, "FILE.py or FILE.py:ARG", flag_values=values, sys_argv=line
    )
    workdir_flag = flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    path = _config_path(argv)
    try:
        rest = values(line)[1:]
        config = config_flag.value
    except UserError:
        raise
    except flags.Error as error:  # for a TypeError of the file, with its traceback in the text
        _, in_file, traceback = str(error).partition("Traceback (most recent call last):")
        text = f"{path}: {_explain(traceback.splitlines()[-1])}" if in_file else str(error)
        raise UserError(text) from None
    except Exception as error:  # whatever else the file's own code raises
        raise UserError(f"{path}: {_explain(f'{type(error).__name__}: {error}')}") from error
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; flags look like --workdir=DIR.")
    for name in unset:
        group, _, leaf = name.rpartition(".")
        setattr(operator.attrgetter(group)(config) if group else config, leaf, None)
    check(config)
    if workdir_flag.value == "":
        raise UserError("--workdir must be a path; got an empty string: leave it out for runs/.")
    if several_processes and not workdir_flag.value:
        raise UserError("several processes need --workdir=DIR, a folder that all of them see.")
    default = f"runs/{path.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config, workdir_flag.value or default


def _without_none(argv: Arguments) -> tuple[list[str], list[str]]:
    """Splits off `--config.KEY=None`, which absl's parsers of numbers do not know; returns KEYs."""
    matches = [(argument, re.fullmatch(r"--?config\.(.+)=None", argument)) for argument in argv]
    return [a for a, match in matches if not match], [match[1] for _, match in matches if match]


def _config_path(argv: Arguments) -> Path:
    """Returns the file that --config names, which must exist."""
    given = [a.partition("=")[2] for a in argv if re.match(r"--?config=", a)]
    following = [b for a, b in itertools.pairwise(argv) if a in ("--config", "-config")]
    if not "".join(given + following):
        raise UserError(
            f"no config: use --config=FILE, one of {', '.join(_config_files()) or 'configs/*.py'}."
        )
    path = Path((given + following)[-1].partition(":")[0])
    if not path.is_file():
        raise unknown("config file", str(path), _config_files())
    return path


def _config_files() -> list[str]:
    return [str(p) for p in sorted(Path("configs").glob("*.py")) if not p.stem.startswith("_")]


def _check_config_keys(argv: Arguments) -> None:
    """Refuses a --config.KEY that no config has; ml_collections would answer with a traceback."""
    known = field_names()
    groups = {name.rpartition(".")[0] for name in known} - {""}
    for argument in argv:
        match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        key = match[1] if match else None
        if key in groups:
            fields = [name for name in known if name.startswith(f"{key}.")]
            raise UserError(f"config.{key} is a group; set one of {', '.join(fields)}.")
        if key and key not in known:
            raise unknown("config key", key, known, nearest_fields(key))


def _explain(error: str) -> str:
    """Returns what went wrong in a config file, with the nearest names for a misspelt one."""
    match = re.search(r"(?:argument|attribute) '(\w+)'", error)
    near = nearest_fields(match[1]) if match else []
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{error.rstrip('.')}{hint or '.'}"


def prepare_jax() -> None:
    """Makes tracing and compiling quicker, for whole programs: modules leave such things alone.

    Turns the persistent compilation cache on, unless the environment already decides it, and has
    garbage collected less often.
    """
    import jax

    # Tracing makes many objects, and they live: the search for dead ones takes a sixth of its time.
    gc.set_threshold(50_000, 20, 20)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = root / "flaxzoo" / "jax"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: compiling again is slower, not wrong
        return
    if os.access(cache, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(cache))
