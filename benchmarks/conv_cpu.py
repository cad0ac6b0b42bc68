"""Times `conv2d` on CPU against XLA's own convolution and torch's, layer by layer.

    python -m benchmarks.conv_cpu

writes benchmarks/results/conv_cpu.json. The three are timed in turn, round after round, so that a
busy machine slows all of them alike. torch runs in the better of its two layouts, NCHW and
channels_last. XLA's gradients of grouped and depthwise convolutions take up to minutes a batch:
they are skipped unless asked for (--slow).
"""

import argparse
import json
import os
import platform
import time
from functools import partial
from pathlib import Path
from statistics import median

import jax
import numpy as np
import torch
from jax import lax

from flaxzoo.layers.conv import conv2d

# name: batch, size, channels in, channels out, kernel, stride, groups
LAYERS = {
    "stem 7x7 s2, 3-64@224": (8, 224, 3, 64, 7, 2, 1),
    "3x3, 64@56": (8, 56, 64, 64, 3, 1, 1),
    "3x3, 128@28": (8, 28, 128, 128, 3, 1, 1),
    "3x3, 256@14": (8, 14, 256, 256, 3, 1, 1),
    "3x3, 512@7": (8, 7, 512, 512, 3, 1, 1),
    "3x3 s2, 128@56": (8, 56, 128, 128, 3, 2, 1),
    "1x1, 256-64@56": (8, 56, 256, 64, 1, 1, 1),
    "1x1, 64-256@56": (8, 56, 64, 256, 1, 1, 1),
    "3x3 of 32 groups, 128@56": (8, 56, 128, 128, 3, 1, 32),
    "3x3 of 32 groups, 256@28": (8, 28, 256, 256, 3, 1, 32),
    "3x3 of 32 groups, 512@14": (8, 14, 512, 512, 3, 1, 32),
    "3x3 of 32 groups, 1024@7": (8, 7, 1024, 1024, 3, 1, 32),
    "3x3 s2 of 32 groups, 256@56": (8, 56, 256, 256, 3, 2, 32),
    "depthwise 3x3, 32@112": (8, 112, 32, 32, 3, 1, 32),
    "depthwise 3x3 s2, 96@112": (8, 112, 96, 96, 3, 2, 96),
    "depthwise 3x3, 144@56": (8, 56, 144, 144, 3, 1, 144),
    "depthwise 3x3, 384@14": (8, 14, 384, 384, 3, 1, 384),
    "depthwise 3x3, 960@7": (8, 7, 960, 960, 3, 1, 960),
    "depthwise 5x5, 240@28": (8, 28, 240, 240, 5, 1, 240),
    "depthwise 7x7, 96@56": (8, 56, 96, 96, 7, 1, 96),
    "depthwise 7x7, 384@14": (8, 14, 384, 384, 7, 1, 384),
    "3x3, 64@32": (8, 32, 64, 64, 3, 1, 1),
    "3x3, 16@32": (8, 32, 16, 16, 3, 1, 1),
    "3x3 of 32 groups, 64@16, batch 64": (64, 16, 64, 64, 3, 1, 32),
    "3x3 of 32 groups, 128@8, batch 64": (64, 8, 128, 128, 3, 1, 32),
    "3x3 of 32 groups, 256@4, batch 64": (64, 4, 256, 256, 3, 1, 32),
}


def arrays(layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise for images (n, h, w, c), kernel (kh, kw, c / groups, o) and gradient of the output."""
    n, size, c_in, c_out, k, stride, groups = layer
    out = (size + 2 * (k // 2) - k) // stride + 1
    shapes = (n, size, size, c_in), (k, k, c_in // groups, c_out), (n, out, out, c_out)
    rng = np.random.default_rng(0)
    images, kernel, grad = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return images, kernel, grad


def jax_calls(conv, x, kernel, grad):
    """Returns a forward call, a forward and backward call; both compiled when first called."""

    def both(x, kernel, grad):
        y, pullback = jax.vjp(conv, x, kernel)
        return y, pullback(grad)

    x, kernel, grad = map(jax.numpy.asarray, (x, kernel, grad))
    forward, both = jax.jit(conv), jax.jit(both)
    return (
        lambda: jax.block_until_ready(forward(x, kernel)),
        lambda: jax.block_until_ready(both(x, kernel, grad)),
    )


def torch_calls(layer, memory_format, x, kernel, grad):
    *_, k, stride, groups = layer
    to_torch = partial(torch.empty_like, memory_format=memory_format)
    x, grad = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, grad))
    x, grad = (to_torch(a).copy_(a) for a in (x, grad))
    kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1)
    kernel = to_torch(kernel).copy_(kernel)
    conv = partial(torch.nn.functional.conv2d, stride=stride, padding=k // 2, groups=groups)

    def forward():
        with torch.no_grad():
            conv(x, kernel)

    def both():
        inputs = x.detach().requires_grad_(), kernel.detach().requires_grad_()
        torch.autograd.grad(conv(*inputs), inputs, grad)

    return forward, both


def contenders(layer, slow: bool) -> dict[str, tuple]:
    """Returns name: (forward call, forward and backward call, or None where it is too slow)."""
    *_, k, stride, groups = layer
    padding = ((k // 2, k // 2), (k // 2, k // 2))
    native = partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    ours = partial(conv2d, stride=(stride, stride), padding=padding, groups=groups)
    noise = arrays(layer)
    native_forward, native_both = jax_calls(native, *noise)
    return {
        "conv2d": jax_calls(ours, *noise),
        "native": (native_forward, native_both if slow or groups == 1 else None),
        "torch_nchw": torch_calls(layer, torch.contiguous_format, *noise),
        "torch_channels_last": torch_calls(layer, torch.channels_last, *noise),
    }


def milliseconds(call) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def time_in_turn(calls: dict, rounds: int) -> dict[str, dict]:
    """Returns name: first call (compiling), and minimum, median, maximum over the rounds."""
    first = {name: milliseconds(call) for name, call in calls.items()}
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(milliseconds(call))
    return {
        name: {
            "min_ms": round(min(ms), 2),
            "median_ms": round(median(ms), 2),
            "max_ms": round(max(ms), 2),
            "first_call_ms": round(first[name]),
        }
        for name, ms in times.items()
    }


def time_layer(layer, rounds: int, slow: bool) -> dict[str, dict]:
    result = {}
    for i, direction in enumerate(("forward", "forward_backward")):
        calls = {name: pair[i] for name, pair in contenders(layer, slow).items()}
        skipped = [name for name, call in calls.items() if call is None]
        times = time_in_turn({name: call for name, call in calls.items() if call}, rounds)
        result[direction] = times | dict.fromkeys(skipped, "skipped: slow, see --slow")
    return result


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def machine(threads: int) -> dict:
    return {
        "processor": processor(),
        "cores_used": threads,
        "load_average_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
    }


def row(name: str, times: dict) -> str:
    """Best times of a layer, in a line."""
    cells = []
    for direction in ("forward", "forward_backward"):
        best = {k: v["min_ms"] for k, v in times[direction].items() if isinstance(v, dict)}
        best_torch = min(best["torch_nchw"], best["torch_channels_last"])
        native = f"{best['native']:9.1f}" if "native" in best else "  skipped"
        cells.append(f"{best['conv2d']:8.1f} {native} {best_torch:7.1f}")
    return f"{name:36}" + " |".join(cells)


def main():
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--slow", action="store_true", help="XLA's slowest gradients too: minutes")
    parser.add_argument("--layers", default="", help="only layers whose name contains this")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results/conv_cpu.json"
    )
    args = parser.parse_args()

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    report = {"machine": machine(threads), "rounds": args.rounds, "dtype": "float32", "layers": {}}
    print(f"{'best ms':36}  conv2d    native   torch |  conv2d    native   torch (with backward)")
    for name, layer in LAYERS.items():
        if args.layers in name:
            report["layers"][name] = time_layer(layer, args.rounds, args.slow)
            print(row(name, report["layers"][name]), flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
