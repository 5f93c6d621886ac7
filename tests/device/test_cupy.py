"""CuPy without a GPU: it has what the engine uses, and is what the model takes it for."""

from __future__ import annotations

import ast
import inspect
import linecache
import runpy
from pathlib import Path
from typing import Any

import pytest

import engine as tf
from engine.device.device import diagnostics, make_devices
from engine.runtime.config import ConfigProto, GPUOptions

ROOT = Path(__file__).resolve().parents[2]
BACKEND = ROOT / "engine/device/cupy_backend.py"


def used(path: Path) -> set[str]:
    """The names of CuPy that a file uses: ``cupy.cuda.Stream``, also where it says ``self.cupy.cuda.Stream``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            names.insert(0, node.id)
        start = next((i for i, name in enumerate(names) if name in ("cupy", "cupyx")), len(names))
        if len(names) > start + 1:
            found.add(".".join(names[start:]))
    return found


def test_every_name_that_is_used_is_there() -> None:
    pytest.importorskip("cupy")
    import pkgutil

    import cupyx  # noqa: F401

    names = used(BACKEND)
    assert len(names) > 10
    for name in sorted(names):
        pkgutil.resolve_name(name)


def test_methods_of_streams_events_pools_and_arrays() -> None:
    cupy = pytest.importorskip("cupy")
    wanted = {
        cupy.cuda.Stream: ("wait_event", "synchronize", "__enter__", "__exit__"),
        cupy.cuda.Event: ("record", "synchronize", "done"),
        cupy.cuda.MemoryPool: ("malloc", "set_limit", "used_bytes", "free_all_blocks"),
        cupy.cuda.MemoryPointer: ("copy_from_device_async", "mem"),
        cupy.ndarray: ("get", "set", "device", "data", "flags"),
    }
    for kind, names in wanted.items():
        assert [name for name in names if not hasattr(kind, name)] == []
    assert "disable_timing" in inspect.signature(cupy.cuda.Event).parameters
    assert "non_blocking" in inspect.signature(cupy.cuda.Stream).parameters
    assert "blocking" in cupy.ndarray.get.__doc__ and "stream" in cupy.ndarray.set.__doc__


def test_arrays_can_be_told_apart_without_a_gpu() -> None:
    """Weak references to arrays, and what `statistics` reads of them."""
    cupy = pytest.importorskip("cupy")
    import weakref

    memory = cupy.cuda.UnownedMemory(0x1000, 4096, None, 0)
    array = cupy.ndarray((4,), "float32", memptr=cupy.cuda.MemoryPointer(memory, 0))
    assert weakref.ref(array)() is array
    assert (array.data.mem.ptr, array.data.mem.size, array.device.id) == (0x1000, 4096, 0)
    assert array.flags.c_contiguous
    with pytest.raises(TypeError, match="Implicit conversion"):
        array.__array__()


def test_the_models_table_is_what_cupy_says() -> None:
    pytest.importorskip("cupy")
    from engine.device.modelled import cupy_names

    script = runpy.run_path(str(Path(__file__).parent / "make_cupy_names.py"))
    fresh: dict[str, Any] = {}
    exec(script["generate"](), fresh)
    for table in ("FUNCTIONS", "UFUNCS", "PLAIN", "METHODS"):
        assert fresh[table] == getattr(cupy_names, table)


def test_without_a_gpu_one_line_says_so() -> None:
    line = diagnostics().get("GPU")
    if line is None:
        pytest.skip("there is a GPU")
    assert line.startswith("No GPU: ") and "\n" not in line
    with pytest.warns(RuntimeWarning, match="No GPU: .*; the session goes without"):
        found = make_devices(ConfigProto(device_count={"GPU": 1}))
    assert [device.type for device in found] == ["CPU"]
    with pytest.warns(RuntimeWarning, match="No GPU: ") as caught:
        tf.Session(config=ConfigProto(device_count={"GPU": 1})).close()  # the line that the warning points at
    assert caught[0].filename == __file__
    assert "points at" in linecache.getline(__file__, caught[0].lineno)
    found = make_devices(ConfigProto(device_count={"GPU": 1}, gpu_options=GPUOptions(modelled="auto")))
    assert [(device.type, device.modelled) for device in found] == [("CPU", False), ("GPU", True)]
