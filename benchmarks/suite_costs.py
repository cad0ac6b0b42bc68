"""Which tests cost what: processor seconds of each file of the suite, of each of its dearest tests.

    python -m benchmarks.suite_costs                        every test, as `make test` runs them
    python -m benchmarks.suite_costs tests/models           some; the others keep their figures

Processor time of all threads, and of the processes that tests start; unlike time by the clock it
says the same beside other programs. What a fixture shared by several tests costs is on the
account of the first. Figures are kept in benchmarks/results/suite_costs.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.record import FOLDER, ROOT, load, save

RESULTS = FOLDER / "suite_costs.json"
NOTES = "FLAXZOO_SUITE_COSTS"  # the folder where each process of the suite writes its figures
DEAREST = 5  # tests of a file that are kept
SHOWN = 25  # files


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures the processor time that the tests of each file take."
    )
    parser.add_argument("paths", nargs="*", help="files or folders of tests; by default all")
    paths = parser.parse_args().paths
    with tempfile.TemporaryDirectory() as folder:
        pytest_options = ["-p", "benchmarks.suite_costs", "--numprocesses=auto", "--dist=loadgroup"]
        command = [sys.executable, "-m", "pytest", "--quiet", *pytest_options, *paths]
        started = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, env=os.environ | {NOTES: folder}).returncode
        minutes = (time.perf_counter() - started) / 60
        costs = gather(Path(folder))
    results = load(RESULTS) if paths else {}
    save(RESULTS, results | costs)
    print_table(costs)
    print(
        f"{sum(c['seconds'] for c in costs.values()) / 60:.1f} of CPU, {minutes:.1f} by the clock"
    )
    sys.exit(code)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Notes what a test takes, with the fixtures that it is the first to need."""
    before = processor_seconds()
    result = yield
    note = json.dumps([item.nodeid, processor_seconds() - before])
    with (Path(os.environ[NOTES]) / str(os.getpid())).open("a") as file:
        file.write(note + "\n")
    return result


def processor_seconds() -> float:
    return sum(os.times()[:4])  # user's and system's, of this process and of those it waited for


def gather(folder: Path) -> dict[str, dict]:
    """Returns by file its seconds, its number of tests and its dearest."""
    files: dict[str, list[tuple[float, str]]] = {}
    for notes in folder.iterdir():
        for line in notes.read_text().splitlines():
            name, seconds = json.loads(line)
            file, _, test = name.partition("::")
            files.setdefault(file, []).append((round(seconds, 1), test))
    return {
        file: {
            "seconds": round(sum(seconds for seconds, _ in tests), 1),
            "tests": len(tests),
            "dearest": {test: seconds for seconds, test in sorted(tests, reverse=True)[:DEAREST]},
        }
        for file, tests in files.items()
    }


def print_table(costs: dict[str, dict]) -> None:
    for file, cost in sorted(costs.items(), key=lambda item: -item[1]["seconds"])[:SHOWN]:
        print(f"{cost['seconds']:8.1f} s  {cost['tests']:5} tests  {file}")
        for test, seconds in cost["dearest"].items():
            if seconds > 0.1 * cost["seconds"]:
                print(f"{seconds:18.1f} s  {test[:80]}")


if __name__ == "__main__":
    main()
