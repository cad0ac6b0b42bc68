"""The programs of others that examples run, without a network.

git, make, pip, uv, pytest and pre-commit are themselves. They work on a copy of this project, in an
environment of its own, into which pip installs empty packages of the names and versions that the
files of requirements have; behind them lie the packages of the Python that runs the examples.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = ("git", "make", "pip", "pytest", ".venv/bin/pre-commit", "pre-commit", "kaggle")
# What the empty packages of these names put into bin/; REAL is the program of that name that lies
# behind. What ruff and pyright say, `make lint` itself shows.
LINK = """#!python
import os, sys
os.execv("REAL", ["REAL", *sys.argv[1:]])
"""
KAGGLE = """#!python
import json, sys
from pathlib import Path
assert sys.argv[1:4] == ["kernels", "push", "-p"], sys.argv
folder = Path(sys.argv[4])
kernel = json.loads((folder / "kernel-metadata.json").read_text())
assert {"id", "title", "language", "kernel_type"} < set(kernel), kernel
assert (folder / kernel["code_file"]).is_file(), kernel
"""
SCRIPTS = {
    "kaggle": KAGGLE,
    "pre-commit": LINK,
    "pyright": "#!python\n",
    "ruff": "#!python\n",
    "uv": LINK,
    "pytest": "#!python\nimport sys, pytest\nsys.exit(pytest.main())\n",
}
# Of jax's; pip itself must not see what lies behind.
BEHIND = 'import sys; sys.orig_argv[1:3] == ["-m", "pip"] or sys.path.insert(0, "REAL")\n'


def runs(words: Sequence[str]) -> bool:
    """Says whether a command is one of PROGRAMS."""
    return bool(words) and words[0] in PROGRAMS


def run(words: Sequence[str], folder: Path) -> None:
    """Runs one of PROGRAMS in the working directory, with what `write_project` has written.

    Raises:
        subprocess.CalledProcessError: it says that it failed.
    """
    if words[0] == "pip":
        words = ["python", "-m", *words]
    environ = _environ(folder)
    program = shutil.which(words[0], path=environ["PATH"])
    assert program, f"there is no {words[0]}"
    subprocess.run([program, *words[1:]], env=environ, check=True)


def write_project(folder: Path) -> None:
    """Writes a copy of this project into `folder`, as a repository, and what `run` needs."""
    git = ["git", f"--git-dir={folder / '.git'}", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (
        ["init", "--quiet"],
        [f"--work-tree={ROOT}", "add", "."],
        ["commit", "--quiet", "--message=as it is"],
        [f"--work-tree={folder}", "checkout", "--quiet", "--force", "."],
    ):
        subprocess.run([*git, *command], env=_environ(folder), check=True)
    (folder / "index").mkdir()
    for name, version in _pins():
        _write_package(folder / "index", name, version)
    venv = [sys.executable, "-m", "venv", str(folder / "venv")]
    subprocess.run(venv, env=_environ(folder), check=True)


def _environ(folder: Path) -> dict[str, str]:
    """Returns this process's environment without what git, make and pytest are told by it."""
    told = re.compile(r"GIT_|MAKE|MFLAGS|PYTEST_|PIP_|UV_|VIRTUAL_ENV|PYTHON")
    index = str(folder / "index")
    return {name: value for name, value in os.environ.items() if not told.match(name)} | {
        "PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}",
        "VENV": str(folder / "venv"),  # of the Makefile
        "PYTHON": sys.executable,
        "JAX_PLATFORMS": "cpu",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": index,
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": index,
    }


def _pins() -> Iterator[tuple[str, str]]:
    yield "kaggle", "1"
    for path in ROOT.glob("requirements*.txt"):
        yield from re.findall(r"^([\w.-]+)==([\w.]+)", path.read_text("utf-8"), re.MULTILINE)


def _write_package(folder: Path, name: str, version: str) -> None:
    """Writes a wheel with nothing in it but what SCRIPTS has; jax's leads to what lies behind."""
    stem = f"{name.replace('-', '_')}-{version}"
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in ("cuda12", "tpu"))
    files = {
        f"{stem}.dist-info/METADATA": "Metadata-Version: 2.1\nLicense: Apache-2.0\n"
        f"Name: {name}\nVersion: {version}\n{extras}",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if name in SCRIPTS:
        real = os.path.join(sysconfig.get_path("scripts"), name)
        files[f"{stem}.data/scripts/{name}"] = SCRIPTS[name].replace("REAL", real)
    if name == "jax":
        files["behind.pth"] = BEHIND.replace("REAL", sysconfig.get_path("purelib"))
    hashes = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().strip("=")
        for path, text in files.items()
    }
    lines = [f"{path},sha256={digest},{len(files[path])}" for path, digest in hashes.items()]
    files[f"{stem}.dist-info/RECORD"] = "\n".join([*lines, f"{stem}.dist-info/RECORD,,", ""])
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o100755 << 16  # a plain file that may be started
            wheel.writestr(entry, text)
