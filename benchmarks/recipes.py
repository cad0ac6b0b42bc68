"""Runs the recipe of every family on the bundled digits to its end, and writes docs/recipes.md.

    python -m benchmarks.recipes                   every config that is not measured yet
    python -m benchmarks.recipes 'res*'            only these
    python -m benchmarks.recipes --render          only docs/recipes.md, from what was measured

Each config trains in a process of its own, by train.py, with compilation, to the evaluation of the
test images. Results are kept in benchmarks/results/recipes.json after each, so that it can be
stopped and run again.
"""

import argparse
import fnmatch
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER, ROOT, load, save

RESULTS = FOLDER / "recipes.json"
TABLE = ROOT / "docs" / "recipes.md"
PACKAGES = ("jax", "flax", "optax", "numpy")

HEADER = """# Measured recipes

Written by benchmarks/recipes.py, which measures what is missing here.

Every family's recipe for the bundled digits (`python train.py --config=configs/FAMILY.py`), trained
to its end with seed 0 and nothing set, on 1,437 images, of which a tenth validates; 360 are tested
on, once, at the end. Seconds are those of the whole process, compilation included. n = 1.

| config | model | parameters | pixels | test accuracy | seconds | machine |
|---|---|---|---|---|---|---|"""

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Trains each recipe on the digits and writes docs/recipes.md."
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'res*'")
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS", help="for one")
    parser.add_argument("--render", action="store_true", help="write the table and do nothing else")
    arguments = parser.parse_args()
    if not arguments.render:
        measure(arguments)
    TABLE.write_text(render(load(RESULTS)))
    print(f"wrote {TABLE.relative_to(ROOT)}")


def configs(pattern: str = "*") -> list[str]:
    return fnmatch.filter(sorted(path.stem for path in (ROOT / "configs").glob("*.py")), pattern)


def measure(arguments: argparse.Namespace) -> None:
    results = load(RESULTS)
    for name in configs(arguments.pattern):
        if name in results and not arguments.again:
            continue
        results[name] = run(f"{name}.py", arguments.timeout)
        print(name, results[name], flush=True)
        save(RESULTS, results)


def run(config: str, timeout: float, *flags: str) -> Result:
    """Trains configs/CONFIG in a process of its own, without programs compiled before."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "jax")}
        started = time.monotonic()
        try:
            done = subprocess.run(
                [
                    sys.executable, "train.py", f"--config=configs/{config}",
                    f"--workdir={workdir}", *flags,
                ],
                cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": f"not done in {timeout:.0f} s"}
        seconds = time.monotonic() - started
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        settings = json.loads((workdir / "config.json").read_text())
        summary = json.loads((workdir / "summary.json").read_text())
    return {
        "model": settings["model"]["name"],
        "options": settings["model"]["options"],
        "stem": settings["model"]["stem"],
        "image_size": settings["data"]["image_size"] or 8,
        "parameters": summary["parameters"],
        "accuracy": summary["test"]["accuracy"],
        "seconds": round(seconds, 1),
        "machine": f"{len(os.sched_getaffinity(0))} CPU cores, {platform.machine()}",
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def render(results: dict[str, Result]) -> str:
    rows = [f"| `{name}` | {row(results.get(name))} |" for name in configs()]
    done = [r for r in results.values() if "failed" not in r]
    versions = sorted({f"{package} {v}" for r in done for package, v in r["versions"].items()})
    return "\n".join([HEADER, *rows, "", f"Versions: {', '.join(versions)}."]) + "\n"


def row(result: Result | None) -> str:
    if result is None:
        return "not measured yet | | | | |"
    if "failed" in result:
        return f"failed: {result['failed']} | | | | |"
    options = [f"stem={result['stem']}"] if result["stem"] else []
    model = " ".join([f"`{result['model']}`", *options, *result["options"]])
    return (
        f"{model} | {result['parameters']:,} | {result['image_size']} | {result['accuracy']:.2%} | "
        f"{result['seconds']:.0f} | {result['machine']}"
    )


if __name__ == "__main__":
    main()
