"""Shared by tests/ and parity_tests/: the CPU, double precision, a compilation cache, real images.

It imports nothing of flaxzoo: shapes in signatures are only checked in modules imported after it.
"""

import contextlib
import gc
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Each program runs a few times on small images: compiling it well takes longer than that saves, and
# XLA's emitters of fusions more than half of the rest. In the environment, so that the processes
# that tests start hear of it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if (jaxlib := [*map(int, importlib.metadata.version("jaxlib").split(".")[:2])]) < [0, 11]:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")  # gone since
elif jaxlib >= [0, 12]:  # wrong: see flaxzoo/training/parallel.py
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
# A program that a test calls does not start the tests' own process anew: flaxzoo/huge_pages.py.
os.environ.setdefault("GLIBC_TUNABLES", "")

import jax
import pytest

# Tracing makes so many objects that looking for unreachable ones was an eighth of a run's time.
gc.set_threshold(50_000, 20, 20)

# pytest would import it by another name than tests do, and TFDS takes a builder's name once.
collect_ignore = ["tests/data/tiny_tfds.py"]

jax.config.update("jax_platforms", "cpu")  # the tests compare digits, which a GPU rounds otherwise


def pytest_configure(config):
    """Keeps compiled programs between runs, since compiling is most of a run's time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxzoo" / "tests"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    # A folder that cannot be written, or an entry cut short by a killed run: it compiles again.
    config.addinivalue_line(
        "filterwarnings", "ignore:Error (reading|writing) persistent compilation cache"
    )


def pytest_collection_finish():
    """Leaves what was imported, which stays, out of the search."""
    gc.freeze()


@pytest.fixture
def x64():
    """Turns float64 on for one test."""
    with (jax if hasattr(jax, "enable_x64") else jax.experimental).enable_x64(True):  # jax < 0.8
        yield


@pytest.fixture
def weights_cache(tmp_path, monkeypatch):
    """An empty folder, where published weights are looked for and put."""
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def shared_data() -> Path:
    """The folder of real images that lies beside the repository on some machines."""
    default = Path(__file__).parents[1] / "shared" / "data"
    folder = Path(os.environ.get("FLAXZOO_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no folder of real images at {folder} (FLAXZOO_SHARED_DATA)")
    return folder


@pytest.fixture
def open_notebook(tmp_path) -> Iterator[Callable]:
    """Opens notebooks: `cells = open_notebook("train/train.ipynb", RUN="mine", ...)`.

    Its kernel starts in a folder that looks like a checkout, and these values follow those of its
    cell of parameters. `cells("install", "train")` runs the cells with these ids and returns what
    is printed below them; `cells()` runs all.
    """
    pytest.importorskip("nbclient")
    import nbformat
    from nbclient import NotebookClient

    root = Path(__file__).parent
    for name in ("configs", "train.py"):
        (tmp_path / name).symlink_to(root / name)
    environment = os.environ | {
        "PYTHONPATH": str(root),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    with contextlib.ExitStack() as kernels:

        def open_(name: str, **parameters: object) -> Callable[..., str]:
            notebook = nbformat.read(root / "notebooks" / name, as_version=4)
            cells = {cell["id"]: (i, cell) for i, cell in enumerate(notebook.cells)}
            first = cells["parameters"][1]
            for key, value in parameters.items():
                assert f"\n{key} = " in "\n" + first.source, f"{name} has no parameter {key}"
                first.source += f"\n{key} = {value!r}"
            client = NotebookClient(
                notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
            )
            kernels.enter_context(client.setup_kernel(env=environment))

            def run(*ids: str) -> str:
                said = []
                for index, cell in [cells[id] for id in ids] if ids else cells.values():
                    outputs = client.execute_cell(cell, index).get("outputs", ())
                    said += [output.get("text", "") for output in outputs]
                return "".join(said)

            return run

        yield open_
