"""Compares variants with PyTorch and writes docs/parity.md.

It writes the short of it, flaxzoo/models/parity.csv, for `flaxzoo models` as well.

    python -m benchmarks.parity_table                 everything that is not measured yet
    python -m benchmarks.parity_table 'resnet*'       only these
    python -m benchmarks.parity_table --render        only the tables, from what was measured

Each variant is compared in float64 and float32 with torchvision's or timm's own model, where one
of them has it, and with its twin in torch_ref: features of every stage, logits, gradients, and
parameters and statistics after three SGD steps. A process for each variant computes what flaxzoo
makes of it once, for both. Results are kept in benchmarks/results/parity.json after each
comparison, so that it can be stopped and run again. Where three steps would take more than the
memory allowed it is one, and where that would, the forward pass alone; the table says so.
"""

import argparse
import csv
import importlib.metadata
import io
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER, ROOT, load, save
from flaxzoo import list_models, parity
from flaxzoo.models.info import ModelInfo, model_info

RESULTS = FOLDER / "parity.json"
TABLE = ROOT / "docs" / "parity.md"
SHIPPED = ROOT / "flaxzoo" / "models" / "parity.csv"
DTYPES = ("float64", "float32")
KINDS = ("forward", "gradient", "training")
GIB = 2**30
# Arrays of the size of all parameters that so many SGD steps in both frameworks hold at once.
COPIES_IN_TRAINING = {3: 9.5, 1: 8.8}

HEADER = """# Measured parity

Written by `make parity` (benchmarks/parity_table.py), which measures what is missing here.

Every variant is compared with torchvision's or timm's own model, where one of them has it, and with
its twin in `torch_ref/`. Both get the same calibrated weights and two images. The figures are the
largest relative errors: of the features of any stage or block, of the logits, of any parameter's
gradient, and of any parameter or running statistic after three SGD steps. In float64 more than 1e-9
would be a bug. In float32 they are rounding: a unit that it moves over the kink of its ReLU passes
its gradient in one framework and not in the other. Where that exceeds 5e-2 for gradients or 1e-2
for training, torch in float64 decides: the figures are then flaxzoo's distance from it, and behind
them stands the largest that torch's own float32 has in four runs, which is what is allowed. MNASNet
0.5 is such a case: torch's float32 gradient of `layers.8.0.layers.1.bias` is 2.4e-2 from its own
float64, and 1e-4 where the image is rounded otherwise; flaxzoo's is 1e-4.

Machine: {machine}; {versions}.
n = 1: a comparison is deterministic. Where gradients in both frameworks need more memory than there
is, that is said.

Compared so far: {measured} of {variants} variants, {comparisons} comparisons, of which {different}
differ.

| variant | compared with | pixels | float64: features, logits, gradients, training | float32 |
|---|---|---|---|---|"""

Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compares variants with PyTorch and writes docs/parity.md."
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'resnet*'")
    parser.add_argument("--against", choices=("libraries", "twins", "both"), default="both")
    parser.add_argument("--memory", type=float, default=20.0, metavar="GIB", help="for a process")
    parser.add_argument(
        "--timeout", type=float, default=3600, metavar="SECONDS", help="of CPU time"
    )
    parser.add_argument("--render", action="store_true", help="write the table and do nothing else")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)  # name, library:dtype:steps ...
    arguments = parser.parse_args()
    if arguments.one:
        name, *wanted = arguments.one
        for result in compare(name, wanted):
            print(json.dumps(result), flush=True)
        return
    if not arguments.render:
        measure(arguments)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(render(load(RESULTS)))
    SHIPPED.write_text(render_csv(load(RESULTS)))
    print(f"wrote {TABLE.relative_to(ROOT)} and {SHIPPED.relative_to(ROOT)}")


def variants(pattern: str = "*") -> dict[str, ModelInfo]:
    """Returns what is known about each variant, by name."""
    return {name: model_info(name) for name in list_models(pattern)}


def measure(arguments: argparse.Namespace) -> None:
    counted = sorted((info.parameters, name) for name, info in variants(arguments.pattern).items())
    for parameters, name in counted:
        library = model_info(name).library
        libraries = {"libraries": [library], "twins": ["torch_ref"]}.get(
            arguments.against, [library, "torch_ref"]
        )
        wanted = []
        for dtype in DTYPES:
            copy = parameters * (8 if dtype == "float64" else 4) / GIB
            fit = [n for n, most in COPIES_IN_TRAINING.items() if most * copy < arguments.memory]
            steps = max(fit, default=0)
            wanted += [f"{against}:{dtype}:{steps}" for against in libraries if against]
        while left := [one for one in wanted if key_of(name, one) not in load(RESULTS)]:
            # What fits barely has a process of its own.
            together = left if all(one.endswith(":3") for one in left) else left[:1]
            for one, result in run(name, together, arguments):
                keep(key_of(name, one), result)


def key_of(name: str, wanted: str) -> str:
    """Returns under what the results keep a comparison, wanted as "library:dtype:steps"."""
    against, dtype, _ = wanted.split(":")
    return f"{name} {against} {dtype}"


def keep(key: str, result: Result) -> None:
    print(key, {k: v for k, v in result.items() if k != "versions"}, flush=True)
    save(RESULTS, load(RESULTS) | {key: result})


def run(
    name: str, wanted: Sequence[str], limits: argparse.Namespace
) -> Iterator[tuple[str, Result]]:
    """Compares in a process of its own, which is killed at the limits of memory and time.

    Yields each of `wanted` with its result, up to the first that fails.
    """
    command = [sys.executable, "-m", "benchmarks.parity_table", "--one", name, *wanted]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        reasons: list[str] = []
        watcher = threading.Thread(target=watch, args=(process, limits, reasons))
        watcher.start()
        left = list(wanted)
        try:
            for line in process.stdout or ():
                yield left.pop(0), json.loads(line)
        finally:
            if sys.exc_info()[0]:  # such as control-C
                process.kill()
            process.wait()
            watcher.join()
        if left:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            yield left[0], {"failed": reasons[0] if reasons else last}


def watch(process: subprocess.Popen, limits: argparse.Namespace, reasons: list[str]) -> None:
    """Kills `process` at the limits, and adds the reason to `reasons`."""
    while process.poll() is None:
        if resident_gib(process.pid) > limits.memory:
            reasons.append("out of memory")
        elif cpu_seconds(process.pid) > limits.timeout:
            reasons.append("out of time")
        if reasons:
            process.kill()
            return
        time.sleep(0.5)


def resident_gib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / GIB


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process has taken: others may keep it from the cores."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(name: str, wanted: Sequence[str]) -> Iterator[Result]:
    import jax

    from flaxzoo.cli import prepare_jax

    prepare_jax()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    started = time.process_time()
    for (dtype, steps), ones in itertools.groupby(wanted, lambda one: tuple(one.split(":")[1:])):
        for report in parity.compare_with_each(
            name,
            [one.split(":")[0] for one in ones],
            dtype=dtype,
            train_steps=int(steps),
            batch_size=2,
        ):
            yield figures(report, int(steps), time.process_time() - started)
            started = time.process_time()


def figures(report: parity.Report, steps: int, cpu_seconds: float) -> Result:
    """Returns what is kept of a comparison; without training, the forward pass alone."""
    of_logits = [d.error for d in report.differences if d.name == "logits"]
    kinds = [kind for kind in KINDS if any(d.kind == kind for d in report.differences)]
    packages = ["jax", "flax", "torch", *({report.against} - {"torch_ref"})]
    return {
        "equal": report.equal,
        "logits": max(of_logits),
        **{kind: report.worst(kind) for kind in kinds},
        **({"steps": steps} if steps == 1 else {}),
        **({"rounding": report.rounding} if report.rounding else {}),
        "compared": len(report.differences),
        "image_size": "x".join(map(str, report.image_size)),
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "cpu_seconds": round(cpu_seconds),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 1),
    }


def render(results: dict[str, Result]) -> str:
    known = variants()
    done = [r for r in results.values() if "failed" not in r]
    versions = {k: v for r in done for k, v in r["versions"].items()}
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    lines = [
        HEADER.format(
            machine=f"{os.cpu_count()} CPU cores, {memory:.0f} GiB, {platform.machine()}",
            versions=", ".join(f"{package} {v}" for package, v in sorted(versions.items())),
            measured=len({key.split()[0] for key in results}),
            variants=len(known),
            different=sum(not r["equal"] for r in done),
            comparisons=len(done),
        )
    ]
    for name in sorted(known):
        for against in filter(None, (known[name].library, "torch_ref")):
            pair = [results.get(f"{name} {against} {dtype}") for dtype in DTYPES]
            sizes = {str(r["image_size"]) for r in pair if r and "image_size" in r}
            cells = " | ".join(map(cell, pair))
            lines.append(f"| `{name}` | {against} | {', '.join(sizes)} | {cells} |")
    return "\n".join(lines) + "\n"


def render_csv(results: dict[str, Result]) -> str:
    """Returns a row for each model and what it was compared with, without failed comparisons."""
    pairs: dict[tuple[str, str], dict[str, Result]] = {}
    for key, result in results.items():
        name, against, dtype = key.split()
        if "failed" not in result:
            pairs.setdefault((name, against), {})[dtype] = result
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "against", "dtypes", "equal", "gradients"])
    for name, against in sorted(pairs, key=lambda pair: (pair[0], pair[1] == "torch_ref")):
        done = pairs[name, against]
        equal = all(result["equal"] for result in done.values())
        gradients = all("gradient" in result for result in done.values())
        dtypes = " ".join(dtype for dtype in DTYPES if dtype in done)
        flags = ["yes" if flag else "no" for flag in (equal, gradients)]
        writer.writerow([name, against, dtypes, *flags])
    return text.getvalue()


def cell(result: Result | None) -> str:
    if result is None:
        return "not measured yet"
    if "failed" in result:
        return f"failed: {result['failed']}"
    kinds, rounding = ("forward", "logits", "gradient", "training"), result.get("rounding", {})
    figures = ", ".join(f"{result[kind]:.0e}" for kind in kinds if kind in result)
    if "rounding" in result:
        figures += f" of float64; torch's own {', '.join(f'{e:.0e}' for e in rounding.values())}"
    if "steps" in result:
        figures += "; one step, for want of memory"
    if "gradient" not in result:
        figures += "; no gradients, for want of memory"
    return figures if result["equal"] else f"**different**: {figures}"


if __name__ == "__main__":
    main()
