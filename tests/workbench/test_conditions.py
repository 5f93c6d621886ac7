"""Expressions of breakpoints: what they come to against plain Python, and that nothing else gets through."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.debugger.expressions import AbsentError, Expression, ExpressionError, parts

X = np.array([[1.0, -2.5, 3.0], [4.0, 5.0, -6.0]], np.float32)
NAMES: dict[str, Any] = {
    "x": X,
    "out1": np.int32(7),
    "in0": np.array([np.nan, 1.0]),
    "iteration": 5,
    "frame": "while",
    "outputs": (X, np.int32(7)),
    "row": 12,
}


class Names:
    def name(self, name: str) -> Any:
        if name not in NAMES:
            raise AbsentError(f"no {name}")
        return NAMES[name]

    def variable(self, name: str) -> Any:
        return {"w": np.float32(0.5), "none": None}[name]

    def tensor(self, name: str) -> Any:
        return np.arange(3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("iteration >= 900", False),
        ("1 < iteration <= 5", True),
        ("abs(x).max() > 5.5", True),
        ("x.mean(axis=0)[1] == 1.25", True),
        ("x[0, 1:].sum()", 0.5),
        ("x[:, -1]", X[:, -1]),
        ("x[x > 0].size", 4),
        ("x.shape == (2, 3) and x.dtype == 'float32'", True),
        ("has_nan(in0) and not has_inf(in0)", True),
        ("isnan(in0).any() or 1 / 0", True),
        ("frame == 'while' and frame in ('while', 'in')", True),
        ("var('w') * 2 + tensor('t:0')[2]", 3.0),
        ("out1 % 4 ** 2 // 2 - -1", 4),
        ("iteration, x.max(), 'label'", (5, 5.0, "label")),
        ("quantile(x, 0.5) < median(x) + 1e-3", True),
        ("len(outputs) == 2 and outputs[1] == 7", True),
        ("norm(x - x) == 0", True),
        ("where(x > 0, x, 0).sum() == 13", True),
    ],
)
def test_expressions_come_to_what_numpy_says(text: str, value: Any) -> None:
    found = Expression(text).value(Names())
    if isinstance(value, tuple):
        assert tuple(np.asarray(each).item() for each in found) == value
    else:
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an expression is missing"),
        ("x >", "'x >»«'"),
        ("foo > 1", "there is no name 'foo' in '»foo« > 1'"),
        ("open('f')", "there is no function 'open' in '»open«('f')'"),
        ("x.__class__", "there is no attribute '__class__'"),
        ("x.tofile('f')", "there is no method 'tofile'"),
        ("x.max", "it is a method: .max()"),
        ("().__class__.__bases__", "there is no attribute '__bases__'"),
        ("[y for y in x]", "cannot be used"),
        ("lambda: 1", "lambda cannot be used"),
        ("(y := 3)", ":= cannot be used"),
        ("f'{x}'", "a formatted string cannot be used"),
        ("'a' * 1000", "a string can only be compared with"),
        ("frame * 1000000", "a string cannot be computed with"),
        ("(1, 2) * 1000000", "a tuple cannot be computed with"),
        ("10 ** 10 ** 10", "the number would be too large in '»10 ** 10 ** 10«'"),
        ("1 << 1000000", "cannot be used"),
        ("9" * 30, "the number is too large"),
        ("x is None", "== compares"),
        ("max(x, foo=1)", "there is no argument 'foo'"),
        ("var(x)", "takes one name in quotes"),
        ("zeros(1000000)", "there is no function 'zeros'"),
        ("x > 1", "neither true nor false"),
        ("1 / 0", "division by zero in '»1 / 0«'"),
        ("x[9]", "out of bounds"),
        ("x[out1, [1, 2]]", "an index is"),
        ("(" * 150 + "1" + ")" * 150 + "+", ""),
        ("1" + "+1" * 300, "too large"),
        ("x" * 2000, "longer than"),
        ("x\0", ""),
        ("ü + foo", "'»ü« + foo'"),
        ("import os", "invalid syntax"),
    ],
)
def test_what_is_not_in_the_language_is_said_with_its_place(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text).holds(Names())
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_broadcasting_to_something_huge_is_refused_before_it_is_made() -> None:
    NAMES["in1"] = np.zeros(100_000, np.float32)
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError, match="would have 10,000,000,000 elements"):
            Expression("(in1[:, None] + in1[None, :]).sum() > 0").holds(Names())
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_what_is_not_there_is_told_apart() -> None:
    for text in ("out3 > 1", "var('none') > 1"):
        with pytest.raises(AbsentError):
            Expression(text).holds(Names())


def test_outputs_and_inputs_are_known_beforehand() -> None:
    assert [Expression(text).outputs for text in ("x > 1", "out3 > 1", "has_inf_or_nan", "in0 > 1", "row > 1")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert Expression("in2 > 1").inputs and not Expression("x > 1").inputs


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_error(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        Expression(text).holds(Names())


_leaf = st.sampled_from(["iteration", "row", "3", "0.5", "2"])


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, st.sampled_from(["+", "-", "*", "<", "==", "and", "or"]), inner)
    return st.one_of(pair.map(lambda p: f"({p[0]} {p[1]} {p[2]})"), inner.map(lambda e: f"(not {e})"))


@given(st.recursive(_leaf, _joined, max_leaves=8))
def test_arithmetic_and_logic_are_pythons(text: str) -> None:
    expected = eval(text, {"__builtins__": {}}, {"iteration": 5, "row": 12})
    assert Expression(text).holds(Names()) == bool(expected)


def test_words_are_found_outside_of_brackets_and_quotes_only() -> None:
    text = "a/* if log(x) > 3 and var('if x') == 1 log x, y after 3 once"
    assert list(parts(text, ("if", "log", "after", "once"))) == [
        ("", "a/*"),
        ("if", "log(x) > 3 and var('if x') == 1"),
        ("log", "x, y"),
        ("after", "3"),
        ("once", ""),
    ]
