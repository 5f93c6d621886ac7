"""Where CuPy is not NumPy, the model is with CuPy.  (What CuPy's own tests and documents say; see docs/devices.md.)"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from model_runs import modelled

F32 = np.float32


@pytest.fixture
def gpu() -> Iterator[Any]:
    device = modelled(capacity=2**24)[1]
    with device._in_kernel(SimpleNamespace(name="here")):
        yield device


def on(gpu: Any, values: Any, dtype: Any = F32) -> Any:
    return gpu.xp.asarray(np.asarray(values, dtype))


REFUSED = {
    "sum(where=)": lambda xp, x: xp.sum(x, where=x > 0),
    "max(initial=)": lambda xp, x: xp.max(x, initial=0),
    "add(where=)": lambda xp, x: xp.add(x, x, where=x > 0),
    "take(mode=)": lambda xp, x: xp.take(x, on_int(xp), mode="clip"),
    "a NumPy array": lambda xp, x: xp.add(x, np.ones(3, F32)),
    "a list": lambda xp, x: xp.add(x, [1, 2, 3]),
    "a NumPy array in concatenate": lambda xp, x: xp.concatenate([x, np.ones(3, F32)]),
    "clip without a bound": lambda xp, x: xp.clip(x, 0),
    "setting items from NumPy": lambda xp, x: x.__setitem__(0, np.ones(1, F32)),
    "strings": lambda xp, x: xp.bitwise_and(x, x),
}


def on_int(xp: Any) -> Any:
    return xp.zeros(2, np.int64)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, gpu: Any) -> None:
    with pytest.raises(TypeError):
        REFUSED[name](gpu.xp, on(gpu, [1, 2, 3]))


@pytest.mark.parametrize(
    "name", ["errstate", "frompyfunc", "memmap", "savetxt_", "char", "object_", "str_", "nditer"]
)
def test_names_that_cupy_lacks(name: str, gpu: Any) -> None:
    with pytest.raises(AttributeError, match=f"CuPy has no '{name}'"):
        getattr(gpu.xp, name)


def test_reductions_of_ufuncs(gpu: Any) -> None:
    x = on(gpu, [1, 2, 3])
    assert float(gpu.xp.add.reduce(x)) == 6.0 and float(gpu.xp.multiply.reduce(x)) == 6.0
    with pytest.raises(NotImplementedError, match=r"cupy_maximum\.reduce"):
        gpu.xp.maximum.reduce(x)
    with pytest.raises(NotImplementedError, match=r"cupy_divide\.at"):
        gpu.xp.divide.at(x, on(gpu, [0], np.int64), x[:1])


def test_rank_0_results_are_arrays(gpu: Any) -> None:
    x = on(gpu, [1, 2, 3])
    for result in (
        x.sum(),
        gpu.xp.max(x),
        x[0],
        gpu.xp.dot(x, x),
        x.mean(),
        x.any(),
    ):
        assert isinstance(result, gpu.backend.array_type) and result.shape == ()


def test_indices_out_of_range_wrap(gpu: Any) -> None:
    x = on(gpu, [10, 20, 30])
    index = on(gpu, [3, -1, 7], np.int64)
    assert x[index].tolist() == gpu.xp.take(x, index).tolist() == [10.0, 30.0, 20.0]
    assert gpu.xp.take_along_axis(x, index, 0).tolist() == [10.0, 30.0, 20.0]
    with pytest.raises(IndexError):
        x[3]  # a number of Python's is checked


def test_racing_writes_depend_on_the_seed() -> None:
    outcomes = set()
    for seed in range(8):
        device = modelled(capacity=2**24, seed=seed)[1]
        with device._in_kernel(SimpleNamespace(name="here")):
            x = device.xp.zeros(1, F32)
            x[device.xp.zeros(5, np.int64)] = device.xp.arange(5, dtype=F32)
            outcomes.add(float(x[0]))
    assert len(outcomes) > 1 and outcomes <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_atomic_additions_add_everything(gpu: Any) -> None:
    rng = np.random.default_rng(0)
    index, values = rng.integers(0, 5, 100), rng.normal(size=(100, 3)).astype(F32)
    x = gpu.xp.zeros((5, 3), F32)
    gpu.xp.add.at(x, on(gpu, index, np.int64), on(gpu, values))
    wanted = np.zeros((5, 3))
    np.add.at(wanted, index, values.astype(np.float64))
    np.testing.assert_allclose(x.get(), wanted, rtol=1e-5, atol=1e-6)
    for dtype in (ml_dtypes.bfloat16, np.int64, np.int8):
        with pytest.raises(TypeError, match="no atomic operation"):
            gpu.xp.add.at(gpu.xp.zeros(2, dtype), on(gpu, [0], np.int64), gpu.xp.ones(1, dtype))


def test_denormals_of_float32_are_0(gpu: Any) -> None:
    x = on(gpu, [1e-38, -1e-38, 1.0])
    assert (x * F32(0.01)).tolist() == [0.0, -0.0, float(F32(0.01))]
    wide = on(gpu, [1e-38], np.float64)
    assert (wide * 0.01).tolist() == [1e-38 * 0.01]


def test_floats_that_integers_cannot_hold(gpu: Any) -> None:
    x = on(gpu, [np.nan, np.inf, -np.inf, 3e9, -1.5, 300.7])
    assert x.astype(np.int32).tolist() == [0, 2**31 - 1, -(2**31), 2**31 - 1, -1, 300]
    assert x.astype(np.uint8).tolist() == [0, 255, 0, 255, 0, 255]


def test_sorts_are_the_default_or_stable(gpu: Any) -> None:
    x = on(gpu, [3, 1, 2])
    assert gpu.xp.sort(x, kind="stable").tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="kind can only be None or 'stable'"):
        gpu.xp.argsort(x, kind="quicksort")


WAITING = {
    "item": lambda xp, x: x.item(0),
    "bool": lambda xp, x: bool(x[0]),
    "tolist": lambda xp, x: x.tolist(),
    "nonzero": lambda xp, x: xp.nonzero(x),
    "x.nonzero": lambda xp, x: x.nonzero(),
    "where": lambda xp, x: xp.where(x),
    "a mask": lambda xp, x: x[x > 1],
    "unique": lambda xp, x: xp.unique(x),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_counted(name: str, gpu: Any) -> None:
    x = on(gpu, [1, 0, 3])
    before = gpu.statistics().synchronizations
    WAITING[name](gpu.xp, x)
    assert gpu.statistics().synchronizations > before


def test_what_does_not_wait(gpu: Any) -> None:
    x = on(gpu, [1, 0, 3])
    before = gpu.statistics().synchronizations
    y = gpu.xp.where(x > 1, x, F32(0)).reshape(3, 1) @ x[None]
    y[x > 1] = 0
    assert (y.shape, len(y), y.T.strides) == ((3, 3), 3, (4, 12))
    assert gpu.statistics().synchronizations == before
