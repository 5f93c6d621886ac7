"""NumPy's inner loops as found in the ufunc objects, and the refusals."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.native import layout, ufuncs
from engine.native.layout import View

USED = [
    ("add", "fff"),
    ("multiply", "ddd"),
    ("subtract", "iii"),
    ("true_divide", "fff"),
    ("floor_divide", "iii"),
    ("remainder", "fff"),
    ("less", "ii?"),
    ("greater_equal", "dd?"),
    ("logical_and", "???"),
    ("logical_not", "??"),
    ("exp", "ff"),
    ("tanh", "dd"),
    ("log1p", "ee"),
    ("power", "fff"),
    ("maximum", "hhh"),
    ("bitwise_xor", "BBB"),
    ("absolute", "Fff"[:2]),
    ("clip", "ffff"),
    ("isnan", "d?"),
    ("left_shift", "lll"),
    ("conjugate", "DD"),
]


@pytest.mark.parametrize(("name", "kinds"), USED)
def test_loops_that_plans_use_are_offered(name: str, kinds: str) -> None:
    loop = ufuncs.find(name, list(kinds))
    assert loop is not None, ufuncs.why_not(name, list(kinds))
    assert ufuncs.why_not(name, list(kinds)) is None
    resolved = ufuncs.resolve(name)
    assert resolved is not None
    assert (loop.nin, loop.nout, loop.nargs) == (resolved.nin, resolved.nout, len(kinds))
    assert loop.dtypes == tuple(np.dtype(kind) for kind in kinds)
    assert ufuncs.find(resolved, list(kinds)) == loop


def test_a_loop_called_directly() -> None:
    loop = ufuncs.find("add", ["f4"] * 3)
    assert loop is not None
    a, b, out = np.arange(7, dtype="f4"), np.ones(14, "f4")[::2], np.zeros(7, "f4")
    ufuncs.call(loop, [a, b, out], 5)
    assert out.tolist() == [1, 2, 3, 4, 5, 0, 0]


@pytest.mark.parametrize(
    ("name", "kinds", "why"),
    [
        ("no_such", "ff", "no ufunc named"),
        ("matmul", "fff", "whole arrays"),
        ("add", "ff", "3 operands"),
        ("add", "fdd", "without a cast"),
        ("add", "OOO", "own numbers"),
        ("add", [">f4", ">f4", ">f4"], "byte order"),
        ("power", "iii", "raise a Python error"),
        ("sin", "ii", "without a cast"),
    ],
)
def test_refusals_say_why(name: str, kinds: Any, why: str) -> None:
    assert ufuncs.find(name, list(kinds)) is None
    assert why in (ufuncs.why_not(name, list(kinds)) or "")


def test_what_python_defines_is_no_native_loop() -> None:
    mine = np.frompyfunc(lambda x: x, 1, 1)
    assert ufuncs.find(mine, ["O", "O"]) is None
    assert ufuncs.find(mine, ["f4", "f4"]) is None


def test_a_struct_that_looks_otherwise_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved(ctypes.Structure):
        _fields_ = [("new", ctypes.c_int), *ufuncs._UFunc._fields_]

    monkeypatch.setattr(ufuncs, "_UFunc", Moved)
    assert "is not where" in str(ufuncs._struct.__wrapped__(np.add))


def test_a_loop_that_computes_something_else_is_not_offered() -> None:
    """The self-test itself: another ufunc's loop in the place of this one's."""
    other = ufuncs.find("subtract", ["f4"] * 3)
    assert other is not None
    assert "other results" in (ufuncs._self_test(np.add, other) or "")
    assert ufuncs._self_test(np.subtract, other) is None
    assert not ufuncs._is_code(8)


def test_same_bits() -> None:
    a = np.array([0.0, np.nan, 1])
    assert ufuncs.same_bits(a, a.copy())
    assert not ufuncs.same_bits(a, np.array([-0.0, np.nan, 1]))
    assert not ufuncs.same_bits(a, a.astype("f4"))
    assert ufuncs.same_bits(a + 1j, a + 1j)


# How operands become loops.


def test_contiguous_operands_are_one_loop() -> None:
    strides = layout.contiguous((3, 4, 5), 4)
    assert layout.nest((3, 4, 5), [strides] * 3) == layout.Nest((60,), ((4, 4, 4),), (0, 0, 0))


def test_a_row_is_broadcast_in_an_outer_loop() -> None:
    rows, row = View.of(0, "f4", (8, 5)), View.of(0, "f4", (5,))
    nest = layout.nest((8, 5), [rows.strides, layout.broadcast(row.shape, row.strides, (8, 5)), rows.strides])
    assert nest == layout.Nest((5, 8), ((4, 4, 4), (20, 0, 20)), (0, 0, 0))


def test_transposed_alike_operands_are_one_loop_and_reversed_ones_are_turned() -> None:
    assert layout.nest((4, 3), [(4, 16), (4, 16)]).lengths == (12,)
    assert layout.nest((5,), [(-4,), (-8,)]) == layout.Nest((5,), ((4, 8),), (-16, -32))
    assert layout.nest((5,), [(-4,), (8,)]) == layout.Nest((5,), ((-4, 8),), (0, 0))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data(), st.lists(st.integers(1, 5), max_size=4).map(tuple))
def test_a_nest_visits_every_element_once(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """The pairs of places that a nest visits are those of the two operands' elements."""
    operands = []
    for _ in range(2):
        axes = data.draw(st.permutations(range(len(shape))))
        base = (
            np.arange(int(np.prod(shape))).reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
        )
        turns = [data.draw(st.sampled_from([1, -1])) for _ in shape]
        operands.append(base[(..., *(slice(None, None, turn) for turn in turns))])
    origin = [int(each[(0,) * len(shape)]) * 8 for each in operands]
    nest = layout.nest(shape, [each.strides for each in operands])
    visited = []
    for index in np.ndindex(*nest.lengths):
        places = [
            origin[k] + nest.offsets[k] + sum(i * row[k] for i, row in zip(index, nest.strides))
            for k in range(2)
        ]
        visited.append(tuple(place // 8 for place in places))
    assert sorted(visited) == sorted(zip(*(each.ravel().tolist() for each in operands)))


def test_views() -> None:
    array = np.zeros((4, 6), "f4")[:, ::-2]
    view = View.like(1, array)
    assert view.extent() == (-16, 76) and not view.is_contiguous
    assert view.at(0, 1, 2) == View(1, np.dtype("f4"), (2, 3), (24, -8), 24)
    assert View.of(1, "f8", (0, 3)).extent() == (0, 0)
    with pytest.raises(ValueError, match="does not broadcast"):
        layout.broadcast((2, 3), (12, 4), (3, 3))


def test_uneven_loops_are_found_out() -> None:
    """Sums and comparisons give the same bits wherever operands lie; integers always do."""
    for name, kinds in (("add", "fff"), ("multiply", "ddd"), ("less", "ff?"), ("add", "iii")):
        loop = ufuncs.find(name, list(kinds))
        assert loop is not None and not ufuncs.is_uneven(loop)
