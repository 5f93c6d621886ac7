"""Loops with gradients, TensorArrays and rows picked by number, as one segment: the interpreter's bits and its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from random_programs import Program, build, programs
from searches import examples

import engine as tf
from engine.native import compiler
from engine.runtime.plan import specials
from engine.runtime.plan.ir import Compute, Loop

pytestmark = [
    pytest.mark.skipif(not compiler.available(), reason=compiler.why_not()),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
RUNS = 4


@pytest.fixture(autouse=True, scope="module")
def _however_small() -> Iterator[None]:
    """A program of a few ops gets a specialisation, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(specials, "TINY", 0)
        yield


Outcome = list[Any]


def outcome(
    make: Callable[[], Any], feeds: list[dict[str, Any]], plans: str, exact: bool = True
) -> tuple[Outcome, Any]:
    """What a program gives for these feeds (by placeholder's name), one after the other: values, or an error's type and text.

    Behind each are the values of its variables.  Also given is the specialisation, if there is one.
    """
    with tf.Graph().as_default() as graph:
        fetches = make()
        start = tf.global_variables_initializer()
        variables = [each.value() for each in tf.global_variables()]
    told: Outcome = []
    config = tf.ConfigProto(plans=plans, exact=exact)
    with tf.Session(graph=graph, config=config) as session:
        session.run(start)
        for feed in feeds:
            given = {graph.get_tensor_by_name(f"{name}:0"): value for name, value in feed.items()}
            try:
                told.append(session.run(fetches, given))
            except tf.errors.OpError as error:
                told.append((type(error), str(error), error.op.name if error.op else None))
            if variables:
                told.append(session.run(variables))
        special = None
        if plans == "always":
            plan = max(
                (each.choice.plan for each in session._executables.values() if each.choice.plan is not None),
                key=lambda each: len(list(each.linear.walk())),
            )
            specials = [each for each in plan.specials.made.values() if each is not None]
            special = specials[0] if specials else None
    return told, special


def same(one: Any, other: Any) -> None:
    """Raise AssertionError unless two nests are equal, arrays bit for bit."""
    if isinstance(one, list | tuple):
        assert type(one) is type(other) and len(one) == len(other), (one, other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, np.ndarray | np.generic):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), (one, other)
    else:
        assert one == other


def left(special: Any) -> list[str]:
    """The types of the loops and ops that stay in Python and are more than a name, a number or a result."""
    names = []
    for each in special.linear.walk():
        if isinstance(each, Loop):
            names.append("Loop")
        elif isinstance(each, Compute):
            names.append(each.item.node.type)
    return [name for name in names if name not in ("_Arg", "_Retval", "VariableV2", "Const", "NoOp")]


def check(
    make: Callable[[], Any],
    *feeds: dict[str, Any],
    whole: bool = True,
    exact: bool = True,
    fails: bool = False,
) -> Outcome:
    """The program through plans as through the interpreter, bit for bit.

    whole: as segments alone; fails: there is a segment that may fail, whose instructions then run as Python.
    """
    many = list(feeds or [{}]) * RUNS
    wanted, _ = outcome(make, many, "off")
    given, special = outcome(make, many, "always", exact)
    same(given, wanted)
    if whole:
        assert special is not None
        assert not left(special), (left(special), [why for _, why in special.refused])
    if fails:
        assert special is not None and any(each.segment.may_fail for each in special.segments), special
    return wanted


def random(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


# Gradients of loops: what iterations computed, on stacks.


def test_the_gradient_of_a_loop() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [3, 4], name="x")
        w = tf.placeholder(tf.float32, [4, 4], name="w")
        _, y = tf.while_loop(
            lambda i, y: i < 5, lambda i, y: (i + 1, tf.tanh(tf.matmul(y, w)) + x), (tf.constant(0), x)
        )
        return [y, *tf.gradients(tf.reduce_sum(y * y), [x, w])]

    check(make, {"x": random(3, 4), "w": random(4, 4, seed=1)})


def test_the_gradient_of_a_loop_in_a_loop() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float64, [2], name="x")
        n = tf.placeholder(tf.int32, [], name="n")

        def outer(i: Any, y: Any) -> Any:
            _, z = tf.while_loop(
                lambda j, z: j < i, lambda j, z: (j + 1, tf.sin(z) * y), (tf.constant(0), y + 0.5)
            )
            return i + 1, z + x

        _, y = tf.while_loop(lambda i, y: i < n, outer, (tf.constant(0), x))
        return [y, *tf.gradients(y, [x])]

    feeds = [{"x": random(2, dtype=np.float64), "n": np.int32(n)} for n in (4, 0, 1, 6)]
    check(make, *feeds)


def test_the_gradient_of_a_cond_in_a_loop() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [3], name="x")

        def body(i: Any, y: Any) -> Any:
            z = tf.cond(
                tf.reduce_sum(y) > 0,
                lambda: tf.sin(y) * x - 1.0,
                lambda: tf.exp(-y * y) + tf.cast(i, tf.float32),
            )
            return i + 1, z

        _, y = tf.while_loop(lambda i, y: i < 6, body, (tf.constant(0), x))
        return [y, *tf.gradients(tf.reduce_sum(y), [x])]

    check(make, *({"x": random(3, seed=i)} for i in range(4)))


def test_the_gradient_of_a_gradient_of_a_loop() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float64, [2], name="x")
        _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * y * x), (tf.constant(0), x))
        (g,) = tf.gradients(y, [x])
        return [g, *tf.gradients(tf.reduce_sum(g * g), [x])]

    check(make, {"x": random(2, dtype=np.float64)}, whole=False)


def test_a_training_step_through_a_loop() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [7, 5, 4], name="x")
        w = tf.Variable(random(8, 4, seed=2) * 0.5, name="w")

        def body(i: Any, h: Any) -> Any:
            return i + 1, tf.tanh(tf.matmul(tf.concat([x[i], h], 1), w))

        _, h = tf.while_loop(lambda i, h: i < 7, body, (tf.constant(0), tf.zeros([5, 4])))
        loss = tf.reduce_mean(tf.square(h - 0.5))
        return [loss, tf.train.AdamOptimizer(0.05).minimize(loss)]

    check(make, {"x": random(7, 5, 4)}, whole=False)


# Stacks made by hand.


def test_a_stack_of_what_is_the_same_each_time() -> None:
    def make() -> Any:
        n = tf.placeholder(tf.int32, [], name="n")
        stack = tf.raw_ops.StackV2(-1, elem_type=tf.int32, name="stack")
        first = tf.while_loop(
            lambda i: i < 3, lambda i: [i + 0 * tf.raw_ops.StackPushV2(stack, 7) + 1], [tf.constant(0)]
        )
        with tf.control_dependencies([first]):
            start = tf.identity(n)

        def body(i: Any, total: Any) -> Any:
            taken = tf.raw_ops.StackPopV2(stack, elem_type=tf.int32, name="taken")
            taken.set_shape([])
            return i - 1, total + taken

        return tf.while_loop(lambda i, total: i > 0, body, (start, tf.constant(0)), parallel_iterations=1)

    wanted = check(make, {"n": np.int32(3)}, {"n": np.int32(2)}, {"n": np.int32(4)})
    assert wanted[0][1] == 21 and "is empty when calling Pop" in wanted[2][1]


def test_an_empty_stack_is_told_as_the_interpreter_tells_it() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [2], name="x")
        n = tf.placeholder(tf.int32, [], name="n")
        stack = tf.raw_ops.StackV2(-1, elem_type=tf.float32, name="stack")
        total = tf.Variable(np.zeros(2, np.float32), name="total")
        pushed = tf.raw_ops.StackPushV2(stack, tf.exp(x))
        with tf.control_dependencies([pushed]):
            start = tf.identity(n)

        def body(i: Any, y: Any) -> Any:
            taken = tf.raw_ops.StackPopV2(stack, elem_type=tf.float32, name="taken")
            taken.set_shape([2])
            return i - 1, y + taken

        _, y = tf.while_loop(lambda i, y: i > 0, body, (start, tf.sin(x)), parallel_iterations=1)
        return [y, tf.assign_add(total, y)]

    wanted = check(make, *({"x": random(2), "n": np.int32(n)} for n in (1, 0, 2, 1)), whole=False, fails=True)
    assert "is empty when calling Pop" in wanted[4][1]


# TensorArrays.


def test_scan_and_its_gradient() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [6, 3], name="x")
        y = tf.scan(lambda a, b: tf.tanh(a + b) * 1.5, x, initializer=tf.zeros([3]))
        return [y, *tf.gradients(tf.reduce_sum(y * y), [x])]

    check(make, {"x": random(6, 3)})


def test_map_and_its_gradient() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float64, [5, 2, 3], name="x")
        y = tf.map_fn(lambda a: tf.matmul(a, a, transpose_b=True), x)
        return [y, *tf.gradients(tf.exp(-y), [x])]

    check(make, {"x": random(5, 2, 3, dtype=np.float64)})


def test_an_element_that_is_read_several_times_sums_its_gradients() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [4, 3], name="x")
        array = tf.TensorArray(tf.float32, 4, clear_after_read=False).unstack(x)

        def body(i: Any, y: Any) -> Any:
            return i + 1, y * array.read(i % 4) + array.read((i + 1) % 4)

        _, y = tf.while_loop(lambda i, y: i < 9, body, (tf.constant(0), tf.ones([3])))
        return [y, *tf.gradients(y, [x])]

    check(make, {"x": random(4, 3)})


def test_split_concat_and_size() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [6, 2], name="x")
        array = tf.TensorArray(tf.float32, 3).split(tf.sin(x), [2, 2, 2])
        other = tf.TensorArray(tf.float32, 3)

        def body(i: Any, other: Any) -> Any:
            return i + 1, other.write(2 - i, tf.cos(array.read(i)) + tf.cast(array.size(), tf.float32))

        _, other = tf.while_loop(lambda i, other: i < 3, body, (tf.constant(0), other))
        y = other.concat()
        return [y, *tf.gradients(y, [x])]

    check(make, {"x": random(6, 2)})


def test_elements_that_nobody_wrote_are_zeros_where_their_shape_is_known() -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [2], name="x")
        array = tf.TensorArray(tf.float32, 4, element_shape=[2]).write(1, tf.exp(x)).write(3, x * 2.0 + 1.0)
        return array.stack()

    check(make, {"x": random(2)})


ERRORS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "written beyond the end": lambda array, i, x: array.write(i + 9, x).stack(),
    "written twice": lambda array, i, x: array.write(i, x).write(i, x).stack(),
    "read beyond the end": lambda array, i, x: array.write(i, x).read(i - 5),
    "read twice": lambda array, i, x: [(kept := array.write(i, x)).read(i), kept.read(i)],
    "never written": lambda array, i, x: array.write(i, x).read(i + 1),
    "gathered beyond the end": lambda array, i, x: array.write(i, x).gather([i, i + 7]),
    "scattered twice": lambda array, i, x: array.scatter([i, i], tf.stack([x, x])).stack(),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors_of_tensor_arrays_are_the_interpreters(what: str) -> None:
    def make() -> Any:
        x = tf.placeholder(tf.float32, [2], name="x")
        i = tf.placeholder(tf.int32, [], name="i")
        calls = tf.Variable(np.zeros(2, np.float32), name="calls")
        infers = what != "never written"
        array = tf.TensorArray(tf.float32, 4, name="the_array", infer_shape=infers)
        found = ERRORS[what](array, i, tf.exp(tf.sin(x) * 2.0))
        with tf.control_dependencies(found if isinstance(found, list) else [found]):
            return [found, tf.assign_add(calls, x * x + 1.0)]

    wanted = check(make, {"x": random(2), "i": np.int32(1)}, whole=False, fails=True)
    assert any(isinstance(each, tuple) and each[0] is tf.errors.InvalidArgumentError for each in wanted)


# Rows.


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("picks", [(), (3,), (2, 2)])
def test_rows(picks: Any, axis: int, dtype: Any) -> None:
    def make() -> Any:
        table = tf.placeholder(tf.float32, [4, 5, 6], name="table")
        numbers = tf.placeholder(dtype, picks, name="numbers")
        return tf.gather(tf.exp(table), numbers, axis=axis) * 2.0

    rng = np.random.default_rng(1)
    good = {"table": random(4, 5, 6), "numbers": rng.integers(0, 4, picks).astype(dtype)}
    bad = {**good, "numbers": np.full(picks, 4 + axis % 3, dtype)}
    worse = {**good, "numbers": np.full(picks, -1, dtype)}
    wanted = check(make, good, bad, worse, good)
    assert wanted[1][0] is tf.errors.InvalidArgumentError


def test_rows_of_a_variable_that_a_wrong_number_leaves_as_it_is() -> None:
    def make() -> Any:
        numbers = tf.placeholder(tf.int32, [3], name="numbers")
        table = tf.Variable(random(5, 4), name="table")
        rows = tf.nn.embedding_lookup(table, numbers)
        return [rows, tf.assign_sub(table, table * tf.reduce_mean(rows))]

    check(make, {"numbers": np.array([0, 4, 4], np.int32)}, {"numbers": np.array([0, 5, 1], np.int32)})


def test_a_failed_run_in_a_loop_that_stays_in_python() -> None:
    """The segment is a part of an iteration; what iterations before did to variables stays."""

    def make() -> Any:
        x = tf.placeholder(tf.float32, [3], name="x")
        numbers = tf.placeholder(tf.int32, [4], name="numbers")
        seen = tf.Variable(np.zeros(3, np.float32), name="seen")

        def body(i: Any, y: Any) -> Any:
            picked = tf.gather(tf.sin(y) + tf.cos(y), numbers[i] + tf.zeros([3], tf.int32))
            told = tf.py_func(lambda a: a * np.float32(0.5), [picked], tf.float32)
            told.set_shape([3])
            with tf.control_dependencies([tf.assign_add(seen, told)]):
                return i + 1, tf.exp(told) - 1.0

        return tf.while_loop(lambda i, y: i < 4, body, (tf.constant(0), x), parallel_iterations=1)

    feeds = [
        {"x": random(3), "numbers": np.array(each, np.int32)}
        for each in ([0, 1, 2, 0], [0, 1, 3, 0], [2, 2, 2, 2])
    ]
    wanted = check(make, *feeds, whole=False, fails=True)
    assert wanted[2][0] is tf.errors.InvalidArgumentError


# Random programs with gradients.


def compare(program: Program) -> None:
    """The results and the gradient of the float one by the float input, in plans and in the interpreter."""
    told = []
    for plans in ("off", "always"):
        built = build(program, tf)
        graph = built.graph
        with graph.as_default():
            _, y = built.fetches
            x = next(each for each in built.feeds if each.dtype == tf.float64)
            (slope,) = tf.gradients(tf.reduce_sum(y), [x])
            fetches = [*built.fetches, *([slope] if slope is not None else [])]
        with tf.Session(graph=graph, config=tf.ConfigProto(plans=plans, exact=True)) as session:
            session.run(built.initializer)
            told.append([session.run(fetches, built.feeds) for _ in range(RUNS)])
    same(told[1], told[0])


@given(programs(depth=2, effects=False))
@examples(8)
def test_random_programs_with_gradients(program: Program) -> None:
    compare(program)


@pytest.mark.slow
@pytest.mark.deep
@given(programs(depth=3, effects=False))
@settings(max_examples=60, deadline=None)
def test_deeper_programs_with_gradients(program: Program) -> None:
    compare(program)


# Sparse gradients: rows whose number is known only at run time.


@pytest.mark.parametrize("name", ["GradientDescent", "Adam", "Momentum", "Adagrad"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sparse_updates(name: str, dtype: Any) -> None:
    """Close to the interpreter where sums may be taken in another order, with its bits in exact plans; wrong numbers are told."""
    args = (0.1, 0.9) if name == "Momentum" else (0.1,)

    def make() -> Any:
        numbers = tf.placeholder(dtype, [4, 3], name="numbers")
        table = tf.Variable(random(9, 5), name="table")
        rows = tf.nn.embedding_lookup(table, numbers)
        loss = tf.reduce_sum(tf.square(tf.reduce_mean(rows, 1) - 0.25))
        return [loss, getattr(tf.train, f"{name}Optimizer")(*args).minimize(loss)]

    rng = np.random.default_rng(5)
    feeds = [{"numbers": rng.integers(0, 9, (4, 3)).astype(dtype)} for _ in range(6)]
    feeds[4] = {"numbers": np.full((4, 3), 9, dtype)}
    feeds.append({"numbers": np.full((4, 3), 2, dtype)})
    wanted, _ = outcome(make, feeds, "off")
    given, _ = outcome(make, feeds, "always", exact=True)
    same(given, wanted)
    given, special = outcome(make, feeds, "always", exact=False)
    if name in ("GradientDescent", "Adam"):
        assert not left(special), [why for _, why in special.refused]
    assert wanted[8][0] is tf.errors.InvalidArgumentError
    for a, b in zip(given, wanted, strict=True):
        if isinstance(a, tuple):
            assert a == b
            continue
        for one, other in zip(a, b, strict=True):
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


def test_rows_that_are_needed_elsewhere_stay_as_they_are() -> None:
    def make() -> Any:
        numbers = tf.placeholder(tf.int32, [6], name="numbers")
        values, places = tf.unique(numbers * 2)
        return [values, places, tf.unsorted_segment_sum(tf.ones([6, 2]), places, tf.size(values)) * 2.0]

    check(make, {"numbers": np.array([3, 1, 3, 2, 1, 1], np.int32)}, whole=False, exact=False)


@pytest.mark.parametrize("how", ["add", "sub", "update"])
def test_scattered_rows(how: str) -> None:
    def make() -> Any:
        numbers = tf.placeholder(tf.int64, [2, 3], name="numbers")
        rows = tf.placeholder(tf.float64, [2, 3, 4], name="rows")
        table = tf.Variable(random(7, 4, dtype=np.float64), name="table")
        twice = tf.assign(table, tf.sin(table) * 0.5)
        with tf.control_dependencies([twice]):
            return getattr(tf, f"scatter_{how}")(table, numbers, tf.exp(rows))

    rng = np.random.default_rng(2)
    good = {"numbers": rng.integers(0, 7, (2, 3)), "rows": random(2, 3, 4, dtype=np.float64)}
    check(make, good)
