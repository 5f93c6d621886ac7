"""`import engine` is quick and light: a script that only computes pays for no screen, no plot and no protocol buffer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# importing the first must leave the others unloaded
LIGHT = {
    "engine": (
        "cupy",
        "google.protobuf",
        "llvmlite",
        "plotly",
        "rich",
        "scipy",
        "sqlite3",
        "tensorboard",
        "tensorboardX",
        "textual",
    ),
    "tracing": ("cupy", "plotly", "rich", "scipy", "textual"),
    "viz": ("cupy", "plotly", "scipy", "textual"),
    "workbench.cli": ("cupy", "plotly", "scipy", "sklearn", "textual"),
}


ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


@pytest.fixture(scope="module", autouse=True)
def byte_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Modules are compiled once, as they are for a user, whatever this process was told to do."""
    ENVIRONMENT["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("byte_code"))


def python(code: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def seconds(code: str) -> float:
    """Processor seconds, which a busy machine changes little."""
    before = os.times()
    python(code)
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)


def test_import_engine_costs_a_small_multiple_of_numpy() -> None:
    """The least of several of each, less the interpreter's own start: as many as it takes, for what is slow stays slow."""
    python("import engine")  # writes the byte code
    start, numpy, whole = [], [], []
    for _ in range(12):
        start.append(seconds("pass"))
        numpy.append(seconds("import numpy"))
        whole.append(seconds("import engine"))
        ratio = (min(whole) - min(start)) / max(min(numpy) - min(start), 1e-3)
        if ratio < 5:
            return
    pytest.fail(
        f"import engine takes {ratio:.1f} times as long as NumPy; see `python -X importtime -c 'import engine'`"
    )


@pytest.mark.parametrize("module", LIGHT)
def test_importing_loads_nothing_heavy(module: str) -> None:
    loaded = python(f"import sys, {module}; print('\\n'.join(sys.modules))").split()
    assert [name for name in LIGHT[module] if name in loaded] == []
