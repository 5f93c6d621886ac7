"""Tapes against NumPy, bit for bit, and against plain Python for what jumps."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from running import PATIENCE, interrupt, wait_until

from engine.native import compiler, loops, ufuncs
from engine.native.driver import Kind, Status
from engine.native.frame import Frame
from engine.native.kernel import NativeKernel
from engine.native.kernel import Phase as Stage
from engine.native.tape import TapeBuilder, View
from engine.native.ufuncs import same_bits
from engine.types.errors import (
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnimplementedError,
)

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs llvmlite")

Array = np.ndarray[Any, np.dtype[Any]]
PLAIN = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)

UNARY = [
    "negative",
    "square",
    "absolute",
    "exp",
    "tanh",
    "sin",
    "sqrt",
    "log",
    "sign",
    "isnan",
    "logical_not",
    "rint",
]
BINARY = [
    "add",
    "multiply",
    "subtract",
    "divide",
    "maximum",
    "less",
    "equal",
    "arctan2",
    "power",
    "logical_and",
    "remainder",
]
DTYPES = ["?", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]


@st.composite
def arrays(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> Array:
    """An array of this shape, or one that broadcasts to it: transposed, sliced, reversed or with axes of length one."""
    want = [1 if n > 1 and draw(st.integers(0, 5)) == 0 else n for n in shape]
    lead = draw(st.integers(0, len(want))) if draw(st.integers(0, 3)) == 0 else 0
    want = want[lead:]
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -2])) for _ in want]
    axes = draw(st.permutations(range(len(want))))
    big = [want[axis] * abs(steps[axis]) for axis in axes]
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    base = fresh(rng, dtype, tuple(big))
    base = base.transpose(np.argsort(axes)) if want else base
    view = base[(..., *(slice(None, None, step) for step in steps))]
    assert view.shape == tuple(want)
    return view


def fresh(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if kind.kind in "iu":
        low, high = (0, 200) if kind.kind == "u" else (-100, 100)
        return np.asarray(rng.integers(low, high, shape)).astype(kind)
    values = np.asarray(rng.normal(size=shape) * 10 ** rng.uniform(-2, 2))
    if kind.kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return np.asarray(values).astype(kind)


shapes = (
    st.lists(st.sampled_from([0, 1, 1, 2, 3, 4, 5, 7, 17]), max_size=5)
    .map(tuple)
    .filter(lambda s: np.prod(s) < 5000)
)


def execute(build: Callable[[TapeBuilder, list[View]], object], *operands: Array) -> None:
    """Build a tape over arrays and run it twice, the second time to see that a run leaves nothing behind."""
    builder = TapeBuilder()
    views = [View.like(builder.slot(f"a{k}"), array) for k, array in enumerate(operands)]
    build(builder, views)
    frame = Frame(builder.build())
    for view, array in zip(views, operands):
        frame.bind_view(view, array)
    frame.run()
    frame.run()


def spread_out(dtype: np.dtype[Any], shape: tuple[int, ...], data: st.DataObject) -> Array:
    """An output, contiguous or not, full of a pattern."""
    axes = data.draw(st.permutations(range(len(shape))))
    step = data.draw(st.sampled_from([1, 1, 2]))
    base = np.full([shape[axis] * step for axis in axes], 1, dtype)
    view = base.transpose(np.argsort(axes)) if shape else base
    return view[(..., *(slice(None, None, step) for _ in shape))]


@PLAIN
@given(st.data(), st.sampled_from(UNARY + BINARY), st.sampled_from(DTYPES), shapes)
def test_elementwise(data: st.DataObject, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    ufunc = getattr(np, name)
    inputs = [data.draw(arrays(dtype, shape)) for _ in range(ufunc.nin)]
    shape = np.broadcast_shapes(*(each.shape for each in inputs))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out = ufunc(*inputs).dtype
        except (TypeError, ValueError):
            return
        if ufuncs.find(name, [*(each.dtype for each in inputs), out]) is None:
            return
        result = spread_out(out, shape, data)
        wanted = np.lib.stride_tricks.as_strided(np.empty_like(result), result.shape)
        ufunc(*inputs, out=wanted)
    try:
        execute(lambda b, v: b.ufunc(name, v[:-1], v[-1]), *inputs, result)
    except UnimplementedError as error:
        assert "buffers" in str(error)  # noqa: PT017
        return
    assert same_bits(result, wanted)


@PLAIN
@given(
    st.data(),
    st.sampled_from(["exp", "sin", "tanh", "log", "cos", "expm1"]),
    st.sampled_from(["f4", "f8"]),
    shapes,
)
def test_vector_math_has_numpys_inner_axis(
    data: st.DataObject, name: str, dtype: str, shape: tuple[int, ...]
) -> None:
    x = data.draw(arrays(dtype, shape))
    result = spread_out(x.dtype, x.shape, data)
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(x, out=np.empty(x.shape, x.dtype))
    execute(lambda b, v: b.ufunc(name, v[:1], v[1]), x, result)
    assert same_bits(result, wanted)


@PLAIN
@given(
    st.data(),
    st.sampled_from(["add", "multiply", "maximum", "minimum", "fmax", "logical_or", "bitwise_and"]),
    st.sampled_from(DTYPES),
    shapes.filter(len),
)
def test_reductions(data: st.DataObject, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    x = data.draw(arrays(dtype, shape))
    axes = tuple(axis for axis in range(x.ndim) if data.draw(st.booleans()))
    keep = data.draw(st.booleans())
    ufunc = getattr(np, name)
    if ufuncs.find(name, [x.dtype] * 3) is None or (x.size == 0 and ufunc.identity is None):
        return
    with np.errstate(all="ignore"):
        wanted = np.asarray(ufunc.reduce(x, axes, dtype=x.dtype, keepdims=keep))
    result = spread_out(x.dtype, wanted.shape, data)
    try:
        execute(lambda b, v: b.reduce(name, v[0], v[1], axes), x, result)
    except UnimplementedError as error:
        assert "buffer" in str(error) and x.dtype.kind in "fc" and len(axes) > 1  # noqa: PT017
        return
    assert same_bits(result, wanted), (x.shape, x.strides, axes)


@PLAIN
@given(st.data(), st.sampled_from(DTYPES), shapes)
def test_copies(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    x = data.draw(arrays(dtype, shape))
    result = spread_out(x.dtype, shape, data)
    execute(lambda b, v: b.copy(v[0], v[1]), x, result)
    assert same_bits(result, np.broadcast_to(x, shape).copy())


@PLAIN
@given(st.data(), st.sampled_from(DTYPES), shapes)
def test_selections(data: st.DataObject, dtype: str, shape: tuple[int, ...]) -> None:
    condition = data.draw(arrays("?", shape))
    x, y = data.draw(arrays(dtype, shape)), data.draw(arrays(dtype, shape))
    shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
    result = spread_out(x.dtype, shape, data)
    execute(lambda b, v: b.select(*v), condition, x, y, result)
    assert same_bits(result, np.asarray(np.where(condition, x, y)))


@pytest.mark.parametrize("source", DTYPES[:11])
@pytest.mark.parametrize("target", DTYPES[:11])
def test_casts(source: str, target: str) -> None:
    if loops.cast(source, target) is None and source != target:
        assert "f2" in (source, target)
        return
    rng = np.random.default_rng(3)
    x = fresh(rng, source, (5, 7))
    if x.dtype.kind == "f" and target[0] == "u":
        x = np.abs(x)
    result = np.zeros((5, 7), target)
    execute(lambda b, v: b.cast(v[0], v[1]), x, result)
    assert same_bits(result, x.astype(target))
    result = np.zeros((5, 7), target).T
    execute(lambda b, v: b.cast(v[0], v[1]), x.T, result)
    assert same_bits(result, x.T.astype(target))
    one = np.zeros((), target)
    execute(lambda b, v: b.cast(v[0], v[1]), x[0, 0, ...], one)
    assert one == x[0, 0].astype(target)


@pytest.mark.parametrize("dtype", "?bBhHiIlLfd")
def test_one_element(dtype: str) -> None:
    values = ufuncs._values(np.dtype(dtype))
    tried = 0
    for name in dir(np):
        ufunc = getattr(np, name)
        if not isinstance(ufunc, np.ufunc) or ufunc.nout != 1:
            continue
        for out in {dtype, "?"}:
            small = loops.scalar(name, [dtype] * ufunc.nin + [out])
            if small is None:
                continue
            assert ufuncs.find(name, [dtype] * ufunc.nin + [out]) is not None
            tried += 1
            for k, x in enumerate(values):
                inputs = [np.array(x), np.array(values[(k * 7 + 3) % len(values)])][: ufunc.nin]
                got, wanted = np.zeros((), out), np.zeros((), out)
                with np.errstate(all="ignore"):
                    ufunc(*inputs, out=wanted)
                if k < 4:
                    execute(lambda b, v: b.ufunc(name, v[:-1], v[-1]), *inputs, got)  # noqa: B023
                else:
                    scalar_call(small[0], *inputs, got)
                assert same_bits(got, wanted), (name, inputs)
    assert tried >= 6


def scalar_call(address: int, *operands: Array) -> None:
    import ctypes

    kinds = [ctypes.c_void_p] * len(operands)
    ctypes.CFUNCTYPE(None, *kinds)(address)(*(each.ctypes.data for each in operands))


def test_in_place() -> None:
    for shape in ((), (5,), (1000,), (7, 5)):
        x = np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
        wanted = x + x * 2
        builder = TapeBuilder()
        slot, other = builder.slot("x"), builder.slot("y")
        v, w = View.like(slot, x), View.like(other, x)
        builder.ufunc("multiply", [v, builder.constant(2, "f4")], w)
        builder.ufunc("add", [v, w], v)
        frame = Frame(builder.build())
        frame.bind(slot, x)
        frame.bind(other, np.empty_like(x))
        frame.run()
        assert same_bits(x, wanted)


def test_overlaps_are_refused() -> None:
    builder = TapeBuilder()
    slot = builder.slot("x")
    a, b = View.of(slot, "f4", (10,)), View.of(slot, "f4", (10,), 4)
    with pytest.raises(InternalError, match="overlaps"):
        builder.ufunc("negative", [a], b)
    with pytest.raises(InternalError, match="overlaps"):
        builder.ufunc("isnan", [a], View.of(slot, "?", (10,)))
    with pytest.raises(InternalError, match="overlaps"):
        builder.copy(View(slot, np.dtype("f4"), (3, 3), (12, 4)), View(slot, np.dtype("f4"), (3, 3), (4, 12)))
    builder.ufunc("negative", [a], View.of(slot, "f4", (10,), 40))


def test_what_does_not_fit_is_refused() -> None:
    builder = TapeBuilder()
    f, i = View.of(builder.slot(), "f4", (3,)), View.of(builder.slot(), "i4", (3,))
    for wrong in (
        lambda: builder.copy(f, i),
        lambda: builder.ufunc("add", [f, View.of(f.slot, "f4", (2,), 100)], View.of(f.slot, "f4", (3,), 200)),
        lambda: builder.jump_if_false(f, builder.label()),
        lambda: builder.reduce("add", f, View.of(f.slot, "f4", (2,), 100), [0]),
        lambda: builder.reduce("maximum", View.of(f.slot, "f4", (0,)), View.of(f.slot, "f4", (), 100), [0]),
    ):
        with pytest.raises(InternalError):
            wrong()
    for missing in (
        lambda: builder.ufunc("add", [f, i], f),
        lambda: builder.ufunc("matmul", [f, f], f),
        lambda: builder.ufunc("power", [i, i], i),
        lambda: builder.reduce("subtract", f, View.of(f.slot, "f4", (), 100), [0]),
    ):
        with pytest.raises(UnimplementedError):
            missing()
    builder.jump(builder.label())
    with pytest.raises(InternalError, match="not placed"):
        builder.build()


# Loops, pointers, stacks.


def counting(limit: int | None, *, forever: bool = False) -> tuple[Any, dict[str, Array]]:
    """while i < n: i += 1; a *= 1.001"""
    b = TapeBuilder()
    i, n, a, t = (View.of(b.slot(name), dtype) for name, dtype in zip("inat", ("i4", "i4", "f4", "?")))
    top, done = b.place(b.label()), b.label()
    b.ufunc("less", [i, n], t)
    if not forever:
        b.jump_if_false(t, done)
    b.ufunc("add", [i, b.constant(1, "i4")], i)
    b.ufunc("multiply", [a, b.constant(1.001, "f4")], a)
    b.jump(top)
    b.place(done)
    tape = b.build()
    assert tape.loops and not tape.held
    arrays = {
        "i": np.array(0, "i4"),
        "n": np.array(limit or 0, "i4"),
        "a": np.array(1, "f4"),
        "t": np.array(False),
    }
    return tape, arrays


def bound(tape: Any, arrays: dict[str, Array], **options: Any) -> Frame:
    frame = Frame(tape, **options)
    for name, array in arrays.items():
        frame.bind(tape.slot(name), array)
    return frame


@pytest.mark.parametrize("limit", [0, 1, 63, 64, 65, 5000])
def test_loop(limit: int) -> None:
    tape, arrays = counting(limit)
    checks: list[int] = []
    bound(tape, arrays).run(check=lambda: checks.append(int(arrays["i"])))
    a = np.float32(1)
    for _ in range(limit):
        a = a * np.float32(1.001)
    assert arrays["i"] == limit and arrays["a"] == a
    assert bool(checks) == (limit >= 64)


def test_an_endless_loop_is_interrupted() -> None:
    tape, arrays = counting(None, forever=True)
    frame = bound(tape, arrays)
    times: list[float] = []

    def check() -> None:
        times.append(time.perf_counter())
        if len(times) == 30:
            raise KeyboardInterrupt

    for _ in range(2):  # the frame can be used again
        times.clear()
        with pytest.raises(KeyboardInterrupt):
            frame.run(check=check)
    # Often, however slow the machine; and not after every few turns, but for the first times.
    assert len(times) == 30 and np.median(np.diff(times)) < 0.5
    assert frame._budget > 8


def test_ctrl_c_ends_a_loop() -> None:
    tape, arrays = counting(None, forever=True)
    frame = bound(tape, arrays)

    def press() -> None:
        wait_until(lambda: arrays["i"] != 0)
        interrupt()

    thread = threading.Thread(target=press)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        frame.run()
    thread.join()
    assert arrays["i"] != 0


def test_a_run_that_was_given_up_is_not_gone_on_with() -> None:
    tape, arrays = counting(1000)
    frame = bound(tape, arrays)
    assert frame.enter() == Status.INTERRUPTED and arrays["i"] == 64
    arrays["i"][...] = 990
    frame.run()
    assert arrays["i"] == 1000 and arrays["a"] == pytest.approx(1.001 ** (64 + 10), rel=1e-5)


def test_swap_and_point() -> None:
    """Two buffers change places in every iteration, as loop variables do."""
    b = TapeBuilder()
    x, y, third = b.slot("x"), b.slot("y"), b.slot("third")
    n, limit, t = (
        View.of(b.slot(name), dtype) for name, dtype in zip(("n", "limit", "t"), ("i8", "i8", "?"))
    )
    top, done = b.place(b.label()), b.label()
    b.ufunc("less", [n, limit], t)
    b.jump_if_false(t, done)
    b.ufunc("add", [View.of(x, "f8", (3,)), b.constant(np.ones(3))], View.of(y, "f8", (3,)))
    b.swap(x, y)
    b.count(n)
    b.jump(top)
    b.place(done)
    b.point(third, x, 8)
    b.copy(View.of(third, "f8"), View.of(x, "f8"))
    tape = b.build()
    first, second, counter = np.zeros(3), np.zeros(3), np.zeros((), np.int64)
    frame = bound(tape, {"x": first, "y": second, "n": counter, "limit": np.array(5), "t": np.array(False)})
    for _ in range(2):
        first[:] = [1, 2, 3]
        counter[...] = 0
        frame.run()
        assert counter == 5 and second.tolist() == [7, 7, 8] and first.tolist() == [5, 6, 7]
        assert frame.read(View.of(x, "f8", (3,))).tolist() == [
            7,
            7,
            8,
        ]  # after five swaps x points to the second buffer
        assert frame.read(View(y, np.dtype("f8"), (2,), (-8,), 16)).tolist() == [7, 6]


@pytest.mark.parametrize("pointer", [False, True])
def test_stacks(pointer: bool) -> None:
    """Forward pushes i*i, backward takes them and folds them in the other order."""
    b = TapeBuilder()
    names = ("i", "n", "s", "sum", "square")
    i, n, s, total, square = (View.of(b.slot(name), "f8") for name in names)
    t = View.of(b.slot("t"), "?")
    stack = b.stack(8)
    top, middle = b.place(b.label()), b.label()
    b.ufunc("less", [i, n], t)
    b.jump_if_false(t, middle)
    b.ufunc("multiply", [i, i], s)
    b.push(stack, s)
    b.ufunc("add", [i, b.constant(1.0)], i)
    b.jump(top)
    b.place(middle)
    back, done = b.place(b.label()), b.label()
    b.ufunc("less", [b.constant(0.0), i], t)
    b.jump_if_false(t, done)
    if pointer:
        b.pop_pointer(stack, square.slot)
    else:
        b.pop(stack, square)
    b.ufunc("multiply", [total, b.constant(0.5)], total)
    b.ufunc("add", [total, square], total)
    b.ufunc("subtract", [i, b.constant(1.0)], i)
    b.jump(back)
    b.place(done)
    tape = b.build()
    arrays = {name: np.zeros(()) for name in names} | {"t": np.zeros((), bool)}
    frame = bound(tape, arrays)
    for limit in (3, 1000, 20):
        arrays["i"][...], arrays["sum"][...], arrays["n"][...] = 0, 0, limit
        frame.run()
        wanted = 0.0
        for k in reversed(range(limit)):
            wanted = wanted * 0.5 + k * k
        assert arrays["sum"] == wanted
        assert frame.stack_length(stack) == 0


def test_stacks_are_bounded_and_may_be_empty() -> None:
    b = TapeBuilder()
    x, stack = View.of(b.slot("x"), "f8", (100,)), b.stack(800)
    top = b.place(b.label())
    b.push(stack, x)
    b.jump(top)
    frame = bound(b.build(), {"x": np.ones(100)}, stack_bytes=1 << 20)
    with pytest.raises(ResourceExhaustedError, match="stacks"):
        frame.run()
    assert 1000 < frame.stack_length(stack) <= (1 << 20) // 800
    with pytest.raises(ResourceExhaustedError, match="stacks"):  # the next run begins with an empty one
        frame.run()

    b = TapeBuilder()
    x, stack = View.of(b.slot("x"), "f8", (2,)), b.stack(16)
    b.push(stack, x)
    b.reset(stack)
    b.pop(stack, x)
    with pytest.raises(InternalError, match="empty"):
        bound(b.build(), {"x": np.ones(2)}).run()
    with pytest.raises(InternalError, match="16 bytes"):
        b.push(stack, View.of(x.slot, "f8", (3,)))


def test_escapes() -> None:
    b = TapeBuilder()
    x = View.of(b.slot("x"), "f4", (4,))
    b.ufunc("add", [x, x], x)
    b.escape(7)
    b.ufunc("add", [x, b.constant(1, "f4")], x)
    b.escape(9)
    array = np.ones(4, "f4")
    frame = bound(b.build(), {"x": array})
    seen: list[tuple[int, float]] = []

    def escape(number: int) -> None:
        seen.append((number, float(array[0])))
        if number == 7:
            array[:] *= 10

    frame.run(escape=escape)
    assert seen == [(7, 2.0), (9, 21.0)]
    with pytest.raises(InternalError, match="escaped with 7"):
        frame.run()
    frame.run(escape=escape)

    def fail(number: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        frame.run(escape=fail)


def test_inputs() -> None:
    b = TapeBuilder()
    x, y, out = (View.of(b.input(name), "f4", (3,)) for name in ("x", "y", "out"))
    b.ufunc("subtract", [x, y], out)
    frame = Frame(b.build())
    a, c, result = np.arange(3, dtype="f4"), np.ones(3, "f4"), np.empty(3, "f4")
    frame.run(a, c, result)
    assert result.tolist() == [-1, 0, 1]
    raw = np.zeros(17, np.uint8)[1:13].view("f4")
    for wrong in ((a, c), (a, c, result, result), (a, c, [1, 2, 3]), (a, c, raw)):
        with pytest.raises(InvalidArgumentError, match="aligned arrays for its 3 inputs"):
            frame.run(*wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="not aligned"):
        frame.bind(x.slot, raw)
    with pytest.raises(InvalidArgumentError, match="strides"):
        frame.bind_view(x, np.zeros(6, "f4")[::2])


def test_calls() -> None:
    text = """
define void @double_rows(ptr %args, i64 %begin, i64 %end) nounwind {
entry:
  %a = load ptr, ptr %args
  %q = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %q
  br label %next
next:
  %i = phi i64 [%begin, %entry], [%j, %next]
  %p = getelementptr double, ptr %a, i64 %i
  %r = getelementptr double, ptr %b, i64 %i
  %x = load double, ptr %p
  %y = fadd double %x, %x
  store double %y, ptr %r
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %end
  br i1 %more, label %next, label %done
done:
  ret void
}
define void @halves(ptr %f, ptr %args, i64 %begin, i64 %end, i64 %grain) nounwind {
  %middle = add i64 %begin, %grain
  call void %f(ptr %args, i64 %middle, i64 %end)
  call void %f(ptr %args, i64 %begin, i64 %middle)
  ret void
}
"""
    library = compiler.compile(text)
    b = TapeBuilder()
    x, y, z = (b.slot(name) for name in "xyz")
    f = library.address("double_rows")
    b.call(f, [(x, 8), (y, 0)], 0, 4, name="double_rows", keep=library)
    b.call(f, [(y, 0), (z, 0)], 1, 5, parallel=library.address("halves"), grain=2)
    arrays = {"x": np.arange(5.0), "y": np.full(5, 9.0), "z": np.zeros(5)}
    frame = bound(b.build(), arrays)
    frame.run()
    assert arrays["y"].tolist() == [2, 4, 6, 8, 9]
    assert arrays["z"].tolist() == [0, 8, 12, 16, 18]
    assert "double_rows" in frame.tape.disassemble()[0]

    phases = (Stage(f, 5, (0, 2)), Stage(f, 5, (2, 1), grain=2))
    kernel = NativeKernel("twice", phases, inputs=1, outputs=1, scratch=(40,), keep=library)
    b = TapeBuilder()
    x, y, z = (b.slot(name) for name in "xyz")
    b.kernel(kernel, [(x, 0), (y, 0), (z, 0)], parallel=library.address("halves"))
    arrays = {"x": np.arange(5.0), "y": np.zeros(5), "z": np.zeros(5)}
    frame = bound(b.build(), arrays)
    frame.run()
    assert arrays["y"].tolist() == [0, 4, 8, 12, 16]
    assert [row["kind"] for row in frame.tape.code] == [Kind.PARALLEL, Kind.PARALLEL, Kind.END]
    with pytest.raises(InternalError, match="3 arguments"):
        b.kernel(kernel, [(x, 0)])


def test_python_objects_are_refused() -> None:
    b = TapeBuilder()
    x, y = (View.of(b.slot(), object, (3,)) for _ in range(2))
    with pytest.raises(UnimplementedError, match="references"):
        b.copy(x, y)


# Time, threads, what is left behind.


def test_two_threads_run_one_tape() -> None:
    tape, _ = counting(0)
    limits = (30_000, 40_000)
    results: dict[int, tuple[int, float]] = {}

    def work(limit: int) -> None:
        _, arrays = counting(limit)
        frame = bound(tape, arrays)
        for _ in range(5):
            arrays["i"][...], arrays["a"][...] = 0, 1
            frame.run()
        results[limit] = int(arrays["i"]), float(arrays["a"])

    threads = [threading.Thread(target=work, args=(limit,)) for limit in limits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for limit in limits:
        _, arrays = counting(limit)
        bound(tape, arrays).run()
        assert results[limit] == (limit, float(arrays["a"]))


def test_one_frame_runs_once_at_a_time() -> None:
    tape, arrays = counting(None, forever=True)
    frame = bound(tape, arrays)
    running, stop = threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def check() -> None:
        running.set()
        if stop.is_set():
            raise KeyboardInterrupt

    def work() -> None:
        try:
            frame.run(check=check)
        except BaseException as error:
            stop.set()
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(60)
    work()  # whichever of the two finds the other in the machine
    thread.join(60)
    assert sorted(type(error).__name__ for error in ended) == ["InternalError", "KeyboardInterrupt"]
    assert any("twice" in str(error) for error in ended)


def test_arrays_live_as_long_as_they_are_bound() -> None:
    b = TapeBuilder()
    x = View.of(b.slot("x"), "f8", (1000,))
    b.ufunc("add", [x, b.constant(np.ones(1000))], x)
    frame = Frame(b.build())
    frame.bind(x.slot, np.zeros(1000))
    del b
    junk = [np.full(1000, np.nan) for _ in range(50)]
    frame.run()
    assert frame.owner(x.slot).tolist() == [1.0] * 1000
    assert len(junk) == 50


def test_no_floating_point_warning_is_left_behind() -> None:
    x = np.array([0.0, 1e308, -1.0, np.inf], "f8")
    results = [np.empty(4) for _ in range(3)]
    builder = TapeBuilder()
    v = View.like(builder.slot("x"), x)
    outs = [View.like(builder.slot(f"o{k}"), out) for k, out in enumerate(results)]
    builder.ufunc("log", [v], outs[0])
    builder.ufunc("divide", [v, v], outs[1])
    builder.ufunc("multiply", [v, v], outs[2])
    frame = Frame(builder.build())
    frame.bind(v.slot, x)
    for view, out in zip(outs, results):
        frame.bind(view.slot, out)
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        frame.run()
        np.add(np.ones(3), np.ones(3))
        np.float64(2) * np.float64(3)
        np.arange(5).astype("f4")
        np.add.reduce(np.ones(5))
        np.ones((3, 3)) @ np.ones((3, 3))


def test_large_operands() -> None:
    x = np.arange(3_000_000, dtype="f4").reshape(1000, 3, 1000).transpose(2, 1, 0)
    out = np.empty((1000, 3, 1000), "f4")
    execute(lambda b, v: b.ufunc("square", v[:1], v[1]), x, out)
    assert same_bits(out, np.square(x, out=np.empty_like(out)))
    total = np.empty((1000,), "f4")
    execute(lambda b, v: b.reduce("add", v[0], v[1], (1, 2)), out, total)
    assert same_bits(total, np.add.reduce(out, (1, 2)))


def test_disassembly() -> None:
    tape, _ = counting(3)
    text = "\n".join(tape.disassemble())
    assert text.splitlines()[0] == ">0  less           i:int32[], n:int32[] -> t:bool[]"
    assert "unless         t:bool[] => 5" in text and "jump           => 0" in text
    builder = TapeBuilder()
    x, y = View.of(builder.slot("x"), "f4", (3, 4)), View.of(builder.slot("y"), "f4", (4, 3))
    builder.copy(View(x.slot, x.dtype, (4, 3), (4, 16)), y)
    builder.reduce("add", x, View.of(builder.slot("z"), "f4", (3,)), [1])
    lines = builder.build().disassemble()
    assert lines[0] == " 0  copy           x:float32[4,3] by 4,16 -> y:float32[4,3] ; 4 x 3"
    assert lines[1] == " 1  zero           -> z:float32[3]"
    assert "add.reduce" in lines[2] and "axes (1,)" in lines[2] and "3 x 4" in lines[2]
