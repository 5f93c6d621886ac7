"""What native kernels find in an array, against `engine.runtime.health.measure`."""

from __future__ import annotations

import numpy as np
import pytest

from engine.native import compiler, summary
from engine.runtime.health import measure

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs llvmlite")
SHAPES = [(), (1,), (3,), (129,), (7, 5, 3), (8191,), (8192,), (8193,), (300, 77), (40_001,)]
ODD = (np.nan, np.inf, -np.inf, -0.0, 0.0)


def found(array: np.ndarray) -> str:
    record = summary.look(array)
    return repr(tuple(record[name].item() for name in ("minimum", "maximum", "mean", "nan", "inf")))


def expected(array: np.ndarray) -> str:
    health = measure(array)
    return repr((health.minimum, health.maximum, health.mean, health.nan, health.inf))


@pytest.mark.parametrize("char", "?bBhHiIlLqQfd")
def test_as_measured(char: str) -> None:
    assert summary.checked(np.dtype(char))
    random = np.random.default_rng(ord(char))
    for shape in SHAPES:
        array = np.asarray(random.normal(size=shape) * 100).astype(char).reshape(shape)
        assert found(array) == expected(array)


@pytest.mark.parametrize("char", "fd")
@pytest.mark.parametrize("share", [0.001, 0.5, 1.0])
@pytest.mark.parametrize("odd", range(1, 1 << len(ODD)))
def test_what_is_not_finite(char: str, share: float, odd: int) -> None:
    random = np.random.default_rng(odd)
    for shape in SHAPES[:-1]:
        array = np.asarray(random.normal(size=shape)).astype(char)
        for value in (each for bit, each in enumerate(ODD) if odd >> bit & 1):
            array = np.where(random.random(shape) < share, array.dtype.type(value), array)
        array = np.asarray(array, char).reshape(shape)
        assert found(array) == expected(array)


def test_others_have_no_kernel() -> None:
    assert not summary.checked(np.dtype(np.float16))
    assert not summary.checked(np.dtype(np.complex64))
    assert not summary.checked(np.dtype(">f4"))
