"""Writes docs/licences.md: `python -m docs.licences`, or `make lock`.

What is installed says in its metadata under which licence it is; `requirements.lock` says what can
be installed in all. A package of the lock that is not here keeps the line that it has; of those
for other machines `ELSEWHERE` says it.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK, PAGE = ROOT / "requirements.lock", ROOT / "docs" / "licences.md"
# By what they are used for: the first installs everything that `import flaxzoo` and training take.
GROUPS = {
    "flaxzoo": "requirements-cpu.txt",
    "tests": "requirements-dev.txt",
    "parity": "requirements-parity.txt",
}
# What may be used by software of any licence, as a library and unchanged. The GPL and the AGPL may
# not; NVIDIA's and Google's allow it for what runs on their devices.
ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software|MPL|Mozilla|HPND|CNRI|Unlicense|Zlib|0BSD|CC0|"
    r"LGPL|Lesser|NVIDIA|Google Cloud",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(r"\bA?GPL|(?<!Lesser )General Public License", re.IGNORECASE)
ELSEWHERE = {  # as their metadata has it
    "cuda-bindings": "Apache-2.0",
    "cuda-pathfinder": "Apache-2.0",
    "cuda-toolkit": "NVIDIA's, of the packages that it asks for",
    "jax-cuda12-pjrt": "Apache-2.0",
    "jax-cuda12-plugin": "Apache-2.0",
    "libtpu": "Google Cloud Platform Terms of Service",
    "triton": "MIT License",
}
TEXTS = {  # what the texts of licences are called, where the metadata has a whole one
    "Apache License": "Apache-2.0",
    "Redistribution and use in source and binary forms": "BSD",
    "Permission is hereby granted, free of charge": "MIT",
    "PYTHON SOFTWARE FOUNDATION": "PSF-2.0",
}


def locked() -> dict[str, str]:
    """Returns the versions of `requirements.lock` by package; of several, the last."""
    lines = [line for line in LOCK.read_text().splitlines() if "== 'emscripten'" not in line]
    pairs = re.findall(r"^([\w.-]+)==([\w.+!-]+)", "\n".join(lines), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pairs}


def licence_of(package: Distribution) -> str:
    """Returns the licence that a package's metadata names, "" where it names none."""
    metadata: Any = package.metadata
    stated = metadata.get("License-Expression") or ""
    classes = [
        c.rpartition(" :: ")[2]
        for c in metadata.get_all("Classifier") or ()
        if c.startswith("License :: ") and not c.endswith("OSI Approved")
    ]
    text = (metadata.get("License") or "").strip()
    if "\n" in text or len(text) > 80:
        text = next((name for part, name in TEXTS.items() if part in text), text.split("\n")[0])
    return stated or " or ".join(classes) or text or _of_file(package)


def _of_file(package: Distribution) -> str:
    for file in package.files or ():
        if re.match(r"(?i)(licen[sc]e|copying)", file.name):
            content = " ".join(file.read_text().split())
            return next((name for part, name in TEXTS.items() if part in content), "")
    return ""


def groups() -> dict[str, str]:
    """Returns for what each installed package is there, by its name."""
    found: dict[str, str] = {}
    for group, file in GROUPS.items():
        lines = re.findall(r"^[\w][^#\n]*", (ROOT / file).read_text(), re.MULTILINE)
        todo = [Requirement(line) for line in lines]
        while todo:
            wanted = todo.pop()
            name = canonicalize_name(wanted.name)
            if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
                continue
            found[name] = group
            todo += _needs(name, wanted.extras)
    return found


def _needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for needed in map(Requirement, lines):
        if needed.marker is None or any(
            needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        ):
            yield needed


def rows(before: str = "") -> list[tuple[str, str, str, str]]:
    """Returns (package, version, licence, used by) of everything in the lock.

    Args:
        before: a page, whose lines count for what is not installed here.
    """
    used, made = groups(), []
    old = dict(re.findall(r"^\| (\S+) \| \S+ \| (.*?) \|", before, re.MULTILINE))
    for name, version in sorted(locked().items()):
        try:
            licence = licence_of(distribution(name))
        except PackageNotFoundError:
            nvidia = "NVIDIA's, proprietary" if name.startswith("nvidia-") else ""
            licence = ELSEWHERE.get(name) or nvidia or old.get(name)
        made.append((name, version, licence or "not named", used.get(name, "other machines")))
    return made


def refused(found: list[tuple[str, str, str, str]]) -> list[str]:
    """Returns the packages whose licence is not one that anything may depend on."""
    return [
        f"{name}: {licence}"
        for name, _, licence, _ in found
        if not ALLOWED.search(licence) or FORBIDDEN.search(licence)
    ]


def main() -> None:
    """Writes the page; exits with 1 where a licence is none of those that are allowed."""
    found = rows(PAGE.read_text() if PAGE.exists() else "")
    table = "\n".join(f"| {' | '.join(row)} |" for row in found)
    PAGE.write_text(
        "# Licences of what flaxzoo uses\n\n"
        "flaxzoo itself is under the Apache License 2.0. Written by `make lock` from what the\n"
        "packages of `requirements.lock` say of themselves; none of them is copied into flaxzoo.\n"
        "What is for `flaxzoo` comes with it, on a GPU or a TPU with some of what is for other\n"
        "machines; the rest is for its tests.\n\n"
        f"| package | version | licence | for |\n|---|---|---|---|\n{table}\n"
    )
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(found)} packages")
    if odd := refused(found):
        sys.exit("error: look at the licences of " + "; ".join(odd))


if __name__ == "__main__":
    main()
