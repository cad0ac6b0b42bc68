"""Times flaxzoo against torch on the CPU, in turns: training steps and forward passes in float32.

    python -m benchmarks.cpu_speed                    what is not measured yet
    python -m benchmarks.cpu_speed 'resnet*'          only these
    python -m benchmarks.cpu_speed --compile          with torch.compile as well
    python -m benchmarks.cpu_speed --plain            against XLA's own convolutions instead
    python -m benchmarks.cpu_speed --render           only docs/speed.md, from what was measured

torch runs the twins of torch_ref, eagerly and, if asked for, compiled, each in the faster of its
two layouts. Every net and mode has a process of its own, in which all of them take turns, with huge
pages where flaxzoo's programs ask for them; results are kept in benchmarks/results/cpu_speed.json
after each, so that it can be stopped and run again.
Ratios are of the fastest batch of each: what else runs on a machine only ever adds time.

--plain runs the model with `lax.conv_general_dilated` for every convolution and jax's default
compiler options, which is what flax.nnx.Conv does. Gradients of grouped convolutions then take
seconds a layer: images have 64 pixels, and there are only two rounds.
"""

import argparse
import fnmatch
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.record import FOLDER, ROOT, load, save
from flaxzoo.huge_pages import restart_with_huge_pages

RESULTS = FOLDER / "cpu_speed.json"
PAGE = ROOT / "docs" / "speed.md"
BATCH_SIZE = 16
NETS = {  # name: pixels
    "resnet18": 128,
    "resnet50": 128,
    "resnext50_32x4d": 128,
    "vgg11_bn": 128,
    "densenet121": 128,
    "mobilenet_v2": 128,
    "mobilenet_v3_large": 128,
    "shufflenet_v2_x1_0": 128,
    "efficientnet_b0": 128,
    "googlenet": 128,
    "squeezenet1_1": 128,
    "convnext_tiny": 128,
    "vit_b_32": 224,
    "mixer_s16_224": 224,
    "resmlp_12_224": 224,
    "gmlp_ti16_224": 224,
}
MODES = ("train", "forward")

Result = dict[str, Any]

HEADER = """# Speed on a CPU

Written by `python -m benchmarks.cpu_speed`, which measures what is missing in
benchmarks/results/cpu_speed.json.

Batches of {batch} images in float32: a training step with SGD and momentum, and a forward pass.
torch is the twin of `torch_ref`, in the faster of NCHW and channels_last. flaxzoo and torch take
turns in one process, a process for each row, with memory in huge pages, as `train.py` and `flaxzoo`
start themselves where Linux offers them. Milliseconds are the fastest of n batches, with the median
behind them; the ratio, torch's fastest by flaxzoo's, is above 1 where flaxzoo is faster.

Machine: {machine}; {versions}. The load average before each row, which counts the row before it,
was {load}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Times flaxzoo against torch on the CPU.")
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'resnet*'")
    parser.add_argument("--mode", choices=MODES, action="append", help="default: both")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--plain", action="store_true", help="against XLA's own convolutions")
    parser.add_argument("--render", action="store_true", help="write the page and do nothing else")
    parser.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="for each row")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # name, mode, rivals
    arguments = parser.parse_args()
    if arguments.one:
        name, mode, rivals = arguments.one
        print(json.dumps(measure(name, mode, rivals.split(","), arguments.rounds)))
        return
    if not arguments.render:
        measure_all(arguments)
    PAGE.write_text(render(load(RESULTS)))
    print(f"wrote {PAGE.relative_to(ROOT)}")


def measure_all(arguments: argparse.Namespace) -> None:
    rivals = ["plain"] if arguments.plain else ["torch"]
    if arguments.compile and not arguments.plain:
        rivals.append("torch.compile")
    for name in fnmatch.filter(NETS, arguments.pattern):
        for mode in arguments.mode or MODES:
            key = f"{name} {mode}" + (" plain" if arguments.plain else "")
            if set(rivals) <= set(load(RESULTS).get(key, {}).get("times", {})):
                continue
            result = in_own_process(name, mode, rivals, arguments)
            print(key, result, flush=True)
            if "failed" not in result:
                save(RESULTS, load(RESULTS) | {key: result})


def in_own_process(
    name: str, mode: str, rivals: list[str], arguments: argparse.Namespace
) -> Result:
    rounds = min(arguments.rounds, 2) if "plain" in rivals else arguments.rounds
    command = [sys.executable, "-m", "benchmarks.cpu_speed", f"--rounds={rounds}"]
    command += ["--one", name, mode, ",".join(rivals)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=arguments.timeout
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {arguments.timeout} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, mode: str, rivals: list[str], rounds: int) -> Result:
    """Returns milliseconds of flaxzoo and of each rival, and on what they were measured."""
    from flaxzoo.parity.speed import torch_runner
    from flaxzoo.speed import flaxzoo_runner, take_turns

    load_average = round(os.getloadavg()[0], 2)
    pixels = 64 if "plain" in rivals else NETS[name]
    how = {"mode": mode, "batch_size": BATCH_SIZE, "image_size": pixels, "dtype": "float32"}
    runners = [flaxzoo_runner(name, **how)]
    for rival in rivals:
        if rival == "plain":
            use_plain_convolutions()
            runners.append(flaxzoo_runner(name, **how))
            runners[-1].framework = "plain"
        else:
            runners.append(torch_runner(name, framework=rival, **how))
    # Threads of one framework that still wait for work slow the first batch of the other.
    take_turns(runners, rounds, batches=2)
    return {
        "times": {
            runner.framework: {
                "fastest_ms": round(1e3 * min(runner.seconds), 1),
                "median_ms": round(1e3 * runner.median, 1),
                "slowest_ms": round(1e3 * max(runner.seconds), 1),
                "first_batch_s": round(runner.compile_seconds, 1),
            }
            for runner in runners
        },
        "n": 2 * rounds,
        "pixels": pixels,
        "machine": f"{os.cpu_count()} cores, {processor()}",
        "load_average": load_average,
        "versions": {
            package: importlib.metadata.version(package) for package in ("jax", "flax", "torch")
        },
    }


def use_plain_convolutions() -> None:
    """Has every convolution that is traced from now on be XLA's own, compiled as jax does it."""
    import jax

    from flaxzoo import speed
    from flaxzoo.layers import conv_cpu
    from flaxzoo.training import parallel

    conv_cpu.forward = lambda x, kernel, window: conv_cpu.native(x, kernel, window)
    conv_cpu.has_fast_backward = lambda x, kernel, window: False
    parallel.compiler_options = speed.compiler_options = lambda platform: None
    jax.clear_caches()


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    match = re.search(r"model name\s*: (.*)", text)
    return match[1] if match else platform.processor()


def render(results: dict[str, Result]) -> str:
    done = list(results.values())
    if not done:
        raise SystemExit("nothing is measured yet.")
    versions = {k: v for result in done for k, v in result["versions"].items()}
    loads = [result["load_average"] for result in done]
    lines = [
        HEADER.format(
            batch=BATCH_SIZE,
            machine="; ".join(sorted({result["machine"] for result in done})),
            versions=", ".join(f"{package} {v}" for package, v in sorted(versions.items())),
            load=f"{min(loads)} to {max(loads)}",
        )
    ]
    for mode, title in zip(MODES, ("Training step", "Forward pass"), strict=True):
        rows = {name: results[f"{name} {mode}"] for name in NETS if f"{name} {mode}" in results}
        if rows:
            lines += [f"## {title}", "", *table(rows, ("flaxzoo", "torch", "torch.compile")), ""]
    rows = {
        f"{name}, {mode}": results[f"{name} {mode} plain"]
        for mode in MODES
        for name in NETS
        if f"{name} {mode} plain" in results
    }
    if rows:
        lines += ["## Against XLA's own convolutions, as plain flax.nnx layers use them", ""]
        lines += [*table(rows, ("flaxzoo", "plain")), ""]
    return "\n".join(lines)


def table(rows: dict[str, Result], frameworks: tuple[str, ...]) -> list[str]:
    lines = [
        f"| net | pixels | n | {', '.join(frameworks[:1])} (ms) | "
        + " | ".join(f"{framework} (ms)" for framework in frameworks[1:])
        + " | ratio |",
        "|---|---:|---:|" + "---:|" * (len(frameworks) + 1),
    ]
    for name, result in rows.items():
        cells = [cell(result["times"].get(framework)) for framework in frameworks]
        lines.append(
            f"| `{name}` | {result['pixels']} | {result['n']} | {' | '.join(cells)} | "
            f"{ratio(result):.2f} |"
        )
    mean = geometric_mean([ratio(result) for result in rows.values()])
    lines.append(f"| geometric mean of {len(rows)} | | |{' |' * len(frameworks)} {mean:.2f} |")
    return lines


def cell(times: Result | None) -> str:
    return f"{times['fastest_ms']:.0f} ({times['median_ms']:.0f})" if times else "not measured"


def ratio(result: Result) -> float:
    """Returns how many times as fast as its fastest rival flaxzoo is."""
    times = {framework: t["fastest_ms"] for framework, t in result["times"].items()}
    return min(t for framework, t in times.items() if framework != "flaxzoo") / times["flaxzoo"]


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
