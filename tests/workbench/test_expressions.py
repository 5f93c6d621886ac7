"""Expressions against Python and NumPy, on random ones; and that hostile ones neither hang, nor take memory, nor get out."""

from __future__ import annotations

import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from searches import examples

from workbench.debugger.expressions import (
    CONDITION,
    PRINTED,
    VALUE,
    AbsentError,
    Dialect,
    Expression,
    ExpressionError,
    Given,
    evaluate,
    evaluating,
    table,
)

X = np.array([[1.0, -2.5, 3.0], [4.0, 5.0, -6.0]], np.float32)
W = np.array([0.5, -1.0, 2.0])
K = np.array([[3, 1, 2], [0, -7, 5]], np.int32)
B = np.array([True, False, True])
NAMES: dict[str, Any] = {"x": X, "out1": np.int32(7), "in0": W, "iteration": 5, "row": 12, "frame": "while"}


class Names:
    def name(self, name: str) -> Any:
        if name not in NAMES:
            raise AbsentError(f"no {name}")
        return NAMES[name]

    def variable(self, name: str) -> Any:
        return {"k": K, "b": B}[name]

    def tensor(self, name: str) -> Any:
        return W


# What Python and NumPy make of the same text: every name is what it is to Python, too.
HERE: dict[str, Any] = {
    **{name: getattr(np, name) for name in table.FUNCTIONS if hasattr(np, name)},
    **NAMES,
    "nan": np.nan,
    "inf": np.inf,
    "pi": np.pi,
    "e": np.e,
    "len": len,
    "norm": lambda value: np.linalg.norm(np.ravel(np.asarray(value, np.float64))),
    "var": lambda name: {"k": K, "b": B}[name],
    "tensor": lambda name: W,
}

_numbers = st.sampled_from(["0", "1", "2", "3", "-1", "0.5", "1e3", "nan", "iteration", "row"])
_arrays = st.sampled_from(["x", "in0", 'var("k")', 'tensor("t:0")', "out1"])
_bools = st.sampled_from(['var("b")', "(x > 0)", '(var("k") == 2)', "(iteration >= 5)", "True"])
_SIGNS = ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!="]
_CALLS = [
    "abs",
    "sqrt",
    "exp",
    "log",
    "sign",
    "floor",
    "isnan",
    "isfinite",
    "real",
    "square",
    "tanh",
    "ravel",
    "norm",
]
_REDUCTIONS = ["max", "min", "mean", "sum", "prod", "std", "any", "all", "ptp", "argmax"]
_INDICES = ["0", "-1", "1:", "::2", "..., 0", "None", ":, None", "0, 1", "x[0] > 0", 'var("b")']


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def form(shape: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.tuples(*parts).map(lambda found: shape.format(*found))

    return st.one_of(
        form("({} {} {})", inner, st.sampled_from(_SIGNS), inner),
        form("({} {} {})", _bools, st.sampled_from(["&", "|", "^"]), _bools),
        form("({} {} {} < {})", _numbers, st.sampled_from(["<", "=="]), _numbers, _numbers),
        form("({} {} {})", inner, st.sampled_from(["and", "or"]), inner),
        form("({}{})", st.sampled_from(["-", "+", "not "]), inner),
        form("{}({})", st.sampled_from(_CALLS), inner),
        form("{}({})", st.sampled_from(_REDUCTIONS), inner),
        form(
            "{}({}, axis={})",
            st.sampled_from(["max", "sum", "mean"]),
            inner,
            st.sampled_from(["0", "-1", "None"]),
        ),
        form("({}).{}()", _arrays, st.sampled_from(["max", "sum", "all", "argmin"])),
        form("({})[{}]", _arrays, st.sampled_from(_INDICES)),
        form("({}).{}", _arrays, st.sampled_from(["shape", "size", "ndim", "T", "dtype"])),
        form("where({}, {}, {})", _bools, inner, inner),
        form("clip({}, {}, {})", inner, inner, inner),
        form("maximum({}, {})", inner, inner),
        form("quantile({}, 0.25)", inner),
        form("({}, {})", inner, inner),
    )


def _by_python(text: str) -> Any:
    with np.errstate(all="ignore"):
        return eval(text, dict(HERE))


def _same(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert isinstance(found, tuple) and len(found) == len(expected)
        for each in zip(found, expected, strict=True):
            _same(*each)
        return
    if isinstance(expected, np.dtype):
        expected = expected.name
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    if isinstance(expected, float) and not isinstance(expected, np.generic):
        assert found == pytest.approx(expected, nan_ok=True)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6) if np.asarray(
            expected
        ).dtype.kind in "fc" else np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore")
@given(st.recursive(st.one_of(_numbers, _arrays), _larger, max_leaves=6))
@examples(100)
@example("((-1) ** 0.5)")
@example("(x[:, None] * in0)[..., 0]")
def test_what_it_comes_to_is_what_python_and_numpy_say(text: str) -> None:
    found, said = _come_to(text, PRINTED, Names())
    if not said:
        _same(found, _by_python(text))
        return
    try:
        expected = _by_python(text)
    except Exception:
        return
    # Refused, but something to Python: on purpose only.
    assert isinstance(expected, tuple) or any(why in said for why in _ON_PURPOSE), (said, expected)


_ON_PURPOSE = (
    "too large", "tuple cannot", "string cannot", "neither true nor false", "an index is", "this cannot be",
    "only integer scalar",
)  # fmt: skip


def _come_to(text: str, dialect: Dialect, scope: Any) -> tuple[Any, str]:
    """What an expression comes to, or what is said of it; one line, and not a long one."""
    try:
        return Expression(text, dialect).value(scope), ""
    except ExpressionError as error:
        said = str(error)
    assert said and "\n" not in said and len(said) < 3_000
    return None, said


# What must not happen.

_HOSTILE = st.sampled_from(
    [
        *(
            "x",
            "in0",
            "old",
            "9",
            "99",
            "1e308",
            "-1",
            "10 ** 400",
            "2 ** 1000",
            "1 << 9",
            "'a'",
            "b'a'",
            "frame",
            "outputs",
        ),
        *(
            "__import__('os')",
            "().__class__",
            "x.__array_interface__",
            "x.base",
            "x.ctypes",
            "x.tofile('f')",
            "open",
            "x.data",
        ),
        *(
            "zeros(10 ** 9)",
            "ones((1 << 12, 1 << 12))",
            "ones((4096, 4096))",
            "arange(10 ** 7)",
            "eye(4000)",
            "full(9 ** 9, 'aa')",
        ),
        *(
            "(lambda: 1)()",
            "[y for y in x]",
            "f'{x}'",
            "{1: 2}",
            "{1, 2}",
            "*x",
            "...",
            "None",
            "var('w')",
            "tensor('t')",
        ),
    ]
)


def _worse(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def form(shape: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.tuples(*parts).map(lambda found: shape.format(*found))

    calls = st.sampled_from(
        sorted({*table.FUNCTIONS, *table.MAKERS, "getattr", "eval", "exec", "type", "vars"})
    )
    attributes = st.sampled_from(
        [*table.ATTRIBUTES, *table.METHODS, "__class__", "__dict__", "dump", "tobytes", "flags"]
    )
    return st.one_of(
        form("({} {} {})", inner, st.sampled_from([*_SIGNS, "&", "|", "<<", "@", "in", "is"]), inner),
        form("{}({})", calls, inner),
        form("{}({}, {})", calls, inner, inner),
        form("({}).{}", inner, attributes),
        form("({}).{}()", inner, attributes),
        form("({})[:, None]", inner),
        form("({})[{}]", inner, inner),
        form("[{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]", inner),
        form("round({}, {})", inner, inner),
    )


class Harmless(Names):
    """A scope that knows everything."""

    def name(self, name: str) -> Any:
        return NAMES.get(name, X)

    def variable(self, name: str) -> Any:
        return np.array([b"a", b"bb"], object)


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> int:
    """The bounds scaled down, so that to come up against them takes no time; gives the bytes that may be taken."""
    for name, value in (("MAX_ELEMENTS", 1 << 16), ("MAX_BYTES", 1 << 22), ("MAX_WORK", 1 << 19)):
        monkeypatch.setattr(evaluating, name, value)
    return 1 << 22


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dialect", [CONDITION, PRINTED, VALUE], ids=["condition", "printed", "value"])
def test_hostile_expressions_take_neither_time_nor_memory(dialect: Dialect, small_bounds: int) -> None:
    @given(st.recursive(_HOSTILE, _worse, max_leaves=8))
    @examples(20)
    def check(text: str) -> None:
        tracemalloc.reset_peak()
        before, begun = tracemalloc.get_traced_memory()[0], time.process_time()
        found, said = _come_to(text, dialect, Harmless())
        assert said or _is_plain(found), text
        assert time.process_time() - begun < 2
        assert tracemalloc.get_traced_memory()[1] - before < 2 * small_bounds, text

    tracemalloc.start()
    try:
        check()
    finally:
        tracemalloc.stop()


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value.bit_length() <= evaluating.MAX_BITS + 64
    return isinstance(value, bool | float | complex | str | bytes | np.ndarray | np.generic)


@pytest.mark.parametrize(
    "text",
    [
        "square(square(square(10 ** 300)))",
        "abs(2 ** 1000)",
        "round(1.5, 10 ** 9)",
        "round(1.5, -(10 ** 9))",
        "prod([2 ** 900, 2 ** 900, 2 ** 900])",
        "full((1 << 24,), 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')".replace("1 << 24", "16777216"),
        "[" + ", ".join(["zeros(16777216)"] * 40) + "]",
        "[" + repr("a" * 100_000) + ", 'b'" * 9_000 + "]",
        "arange(0, 1, 1e-300)",
        "arange(nan)",
        "zeros([" + "1, " * 70 + "])",
        "zeros((4096, 4096, -1))",
        "reshape(zeros(6), (-1, -1))",
        "sort(zeros(16777216)) + sort(zeros(16777216))",
        "ones((4096, 1)) * ones(4096) * ones((4096, 1, 1))",
        "9 ** 9 ** 9 ** 9",
        "-" * 100_000 + "1",
        "(" * 5_000 + "1" + ")" * 5_000,
        "[" * 60 + "]" * 60,
        "1" * 5_000,
        "'a' * 1000000000",
        "complex(x)",
        "old ** 1e999",
        "\ud800",
        "1 +\n foo",
    ],
)
def test_what_would_be_too_much_is_refused_at_once(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, {"old": "a string"})
    assert time.process_time() - begun < 5
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("old[0] * 2 + [1, 2, 3]", [3.0, -3.0, 9.0]),
        ("where(old > 0, old, 0)", np.where(X > 0, X, 0)),
        ("old.clip(-1, 1).T", np.clip(X, -1, 1).T),
        ("reshape(arange(6), (2, -1))", np.arange(6).reshape(2, 3)),
        ("arange(5, 0, -2)", [5, 3, 1]),
        ("full((2, 2), true)", np.full((2, 2), True)),
        ("eye(2) * e", np.eye(2) * math.e),
        ("transpose(old, (1, 0))", X.T),
        ("sum(old, axis=0, keepdims=True)", X.sum(axis=0, keepdims=True)),
        ("zeros_like([1, 2])", [0, 0]),
        ("complex(1, 2)", 1 + 2j),
        ("['a', b'b']", ["a", b"b"]),
        ("1, 2", (1, 2)),
    ],
)
def test_values_have_all_that_conditions_have(text: str, value: Any) -> None:
    found = evaluate(text, {"old": X})
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(found, value)
    else:
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value


def test_an_expression_knows_the_names_that_it_needs() -> None:
    found = Expression('x.max() > var("w") and tensor("loss:0")[in3] < iteration')
    assert found.names == {"x", "var", "tensor", "in3", "iteration"}
    assert found.variables == {"w"} and found.tensors == {"loss:0"}
    assert found.outputs and found.inputs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("abz(x)", "there is no function 'abz' in '»abz«(x)' (did you mean abs?)"),
        ("x.meen()", "did you mean mean"),
        ("x.sum(axes=1)", "there is no argument 'axes' in '»x.sum(axes=1)«' (axis, keepdims)"),
        ("iterations > 1", "(did you mean iteration?)"),
        ("zzz", "(there is alloc, dead, device,"),
        ("x @ x", "this operator cannot be used in '»x @ x«' (+ - *"),
        ("1 if x else 2", "where(…)"),
        ("(x +\n  foo)", "there is no name 'foo' in '(x +   »foo«)'"),
        ("sqrt()", "takes 1 argument in"),
        ("old", "old"),
    ],
)
def test_an_error_points_at_the_place_and_says_what_there_is(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text).value(Names())
    assert says in str(caught.value)


def test_a_scope_of_some_names_says_what_it_has_not_got() -> None:
    with pytest.raises(AbsentError, match="there is no 'old' yet"):
        evaluate("old + 1")
    with pytest.raises(AbsentError, match="cannot be looked up here"):
        evaluate('var("w")')
    assert Expression("old * 2", VALUE).value(Given({"old": 3}, {})) == 6
