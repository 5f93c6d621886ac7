"""What a plan with tapes tells observers, against what the interpreter tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradient_programs import PROGRAMS
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_programs import Program, build, programs
from recorded import MADE, Made, agree, check_sample, config, counting, gradient_of_loop, traced_run
from running import interrupt, once_it_runs
from searches import examples
from traced import Told, check_order, told

import engine as tf
from engine.function import Defun
from engine.native import compiler
from engine.observe import FrameChange, TraceLevel
from engine.runtime.plan import record, replay, segment

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs llvmlite")
TIMES, VALUES = TraceLevel.TIMES, TraceLevel.VALUES
LEVELS = [TIMES, VALUES]


def on_tape(make: Callable[[], Made], level: TraceLevel = TIMES, runs: int = 3, **how: Any) -> Told:
    """What is told of a run that has a tape; the same program has run a few times before."""
    return traced_run(make, "always", level, native=True, runs=runs, **how)


def interpreted(make: Callable[[], Made], level: TraceLevel = TIMES, runs: int = 3, **how: Any) -> Told:
    return traced_run(make, "off", level, runs=runs, **how)


# --- the same record ------------------------------------------------------------------------------------------------------


def traced(program: Program, plans: str, optimized: bool, level: TraceLevel) -> Told:
    built = build(program, tf)
    with tf.Session(graph=built.graph, config=config(plans, optimized, native=True)) as session:
        session.run(built.initializer)
        with told(level) as watching:
            session.run(built.fetches, built.feeds)
    assume(plans == "off" or watching.steps[0].executor == "plan (tape)")
    return watching


@pytest.mark.parametrize("level", LEVELS)
@given(program=programs(), optimized=st.booleans())
@examples(5)
def test_as_the_interpreter(level: TraceLevel, program: Program, optimized: bool) -> None:
    agree(traced(program, "always", optimized, level), traced(program, "off", optimized, level))


@pytest.mark.deep
@pytest.mark.slow
@given(programs(depth=4), st.sampled_from(LEVELS))
@settings(max_examples=25)
def test_deeper_programs(program: Program, level: TraceLevel) -> None:
    agree(traced(program, "always", True, level), traced(program, "off", True, level))


def nested() -> Made:
    """A loop with a branch, a loop and a branch in that, on vectors."""

    def inner(j: Any, a: Any) -> Any:
        return j + 1, tf.cond(tf.reduce_sum(a) < 6.0, lambda: a + 1.5, lambda: a * 0.5)

    def outer(i: Any, a: Any) -> Any:
        a = tf.while_loop(lambda j, a: j < i, inner, [0, a])[1]
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: tf.sqrt(a), lambda: a - 0.25)

    return list(tf.while_loop(lambda i, a: i < 7, outer, [0, tf.ones([3])])), {}


def recurrent(gradient: bool) -> Made:
    x = tf.placeholder(tf.float32, [6, 2, 3])
    w = tf.Variable(np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3))
    inputs, outputs = tf.TensorArray(tf.float32, 6).unstack(x), tf.TensorArray(tf.float32, 6)

    def body(t: Any, h: Any, o: Any) -> Any:
        h = tf.tanh(tf.matmul(tf.concat([inputs.read(t), h], 1), w))
        return t + 1, h, o.write(t, h)

    *_, found = tf.while_loop(lambda t, h, o: t < 6, body, [0, tf.zeros([2, 3]), outputs])
    loss = tf.reduce_sum(found.stack() ** 2)
    fetches = [loss]
    if gradient:
        fetches.append(tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss))
    return fetches, {x: np.linspace(-1, 1, 36, dtype=np.float32).reshape(6, 2, 3)}


def scalars_in_arrays() -> Made:
    """Arrays of scalars, whose values are told; their gradients add up what is written twice."""
    x = tf.placeholder(tf.float32, [4])
    source = tf.TensorArray(tf.float32, 4, clear_after_read=False).unstack(x)
    _, total, squares = tf.while_loop(
        lambda i, a, o: i < 4,
        lambda i, a, o: (i + 1, a + source.read(i) * source.read(3 - i), o.write(i, source.read(i) ** 2)),
        [0, 0.0, tf.TensorArray(tf.float32, 4)],
    )
    y = total + tf.reduce_sum(squares.stack())
    return [y, *tf.gradients(y, x)], {x: np.array([0.5, -1.0, 2.0, 3.0], np.float32)}


def parts_of_arrays() -> Made:
    x = tf.placeholder(tf.float32, [4, 2])
    parts = tf.TensorArray(tf.float32, 2, infer_shape=False, clear_after_read=False).split(x, [2, 2])
    return [parts.concat() * 2.0, *tf.gradients(parts.concat(), x)], {x: np.ones((4, 2), np.float32)}


def python_around() -> Made:
    """A loop that stays Python, with a tape in it that has a loop and writes nothing."""

    def body(i: Any, a: Any) -> Any:
        a = tf.while_loop(lambda j, a: j < 3, lambda j, a: (j + 1, tf.sin(a) + 0.5), [0, a])[1]
        a = tf.py_func(lambda v: v, [a], tf.float32)
        a.set_shape([2])
        return i + 1, a

    return list(tf.while_loop(lambda i, a: i < 4, body, [0, tf.ones([2])])), {}


def python_between() -> Made:
    """Tapes and Python in turn, with variables that are written by both, and a loop behind a write."""
    v, u = tf.Variable(tf.ones([4]), name="v"), tf.Variable(2.0, name="u")
    x = tf.placeholder(tf.float32, [4])
    first = tf.assign_add(v, tf.sin(x) * tf.cos(x) + tf.exp(x))
    with tf.control_dependencies([first]):
        seen = tf.py_func(lambda a: a, [tf.identity(first) * 2.0], tf.float32)
        seen.set_shape([4])
        _, total = tf.while_loop(lambda i, a: i < 5, lambda i, a: (i + 1, a * 1.5 + seen), [0, x])
    with tf.control_dependencies([total]):
        last = tf.assign_sub(u, tf.reduce_sum(tf.tanh(total) * 0.1))
    return [total, last], {x: np.linspace(0, 1, 4, dtype=np.float32)}


def stack_after_a_tape() -> Made:
    """A loop in a tape, and behind it one in Python with a stack, whose name has the number of its frame."""
    x = tf.placeholder(tf.float32, [2])
    _, a = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.sin(a) + 0.5), [0, x])

    def body(i: Any, b: Any) -> Any:
        inner = tf.while_loop(lambda j, b: j < 2, lambda j, b: (j + 1, tf.sin(b) * x), [0, b])[1]
        with tf.control_dependencies([tf.py_func(lambda v: v, [i], tf.int32)]):
            return i + 1, tf.tanh(inner)

    b = tf.while_loop(lambda i, b: i < 3, body, [0, a])[1]
    return tf.gradients(b, x), {x: np.array([0.5, 2.0], np.float32)}


def several_writes() -> Made:
    """One tape that writes a scalar and a vector several times."""
    v, u = tf.Variable(1.5, name="v"), tf.Variable(tf.ones([4]), name="u")
    x = tf.placeholder(tf.float32, [4])
    last: Any = x
    for k in range(3):
        with tf.control_dependencies([last]):
            a = tf.assign_add(v, tf.reduce_sum(tf.sin(x)) * (k + 1.0))
            b = tf.assign_sub(u, tf.cos(x) * 0.5)
        last = tf.identity(a + tf.reduce_sum(b))
    return [last], {x: np.linspace(0, 1, 4, dtype=np.float32)}


def straight_with_python_in_it() -> Made:
    x = tf.placeholder(tf.float32, [8])
    a = tf.sin(x) * 2 + tf.cos(x) * tf.exp(x)
    b = tf.py_func(lambda v: v, [a], tf.float32)
    b.set_shape([8])
    return [tf.sqrt(tf.abs(b)) + tf.tanh(b) * a - tf.exp(b)], {x: np.linspace(0, 1, 8, dtype=np.float32)}


def merges_without_a_condition_in_common() -> Made:
    p, q = tf.placeholder(tf.bool, []), tf.placeholder(tf.bool, [])
    x = tf.placeholder(tf.float32, [3])
    from engine.op.registry import raw

    one, other = raw.Switch(x * 2, p)[1], raw.Switch(x + 3, q)[1]
    merged = raw.Merge([one, other])[0]
    return [tf.sin(merged) * 2 + tf.cos(merged) - tf.exp(merged)], {
        p: True,
        q: True,
        x: np.ones(3, np.float32),
    }


BY_HAND = [
    *MADE,
    nested,
    lambda: recurrent(False),
    lambda: recurrent(True),
    scalars_in_arrays,
    parts_of_arrays,
    python_around,
    python_between,
    several_writes,
    stack_after_a_tape,
    straight_with_python_in_it,
    merges_without_a_condition_in_common,
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("optimized", [True, False])
@pytest.mark.parametrize("make", BY_HAND)
def test_programs_by_hand(make: Callable[[], Made], optimized: bool, level: TraceLevel) -> None:
    agree(on_tape(make, level, optimized=optimized), interpreted(make, level, optimized=optimized))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("make", [nested, scalars_in_arrays, lambda: recurrent(True)])
def test_fused_groups(make: Callable[[], Made], level: TraceLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are fused leave the marks where they are."""
    made: list[Any] = []
    born = segment.Segment.__init__

    def init(self: Any, *args: Any) -> None:
        born(self, *args)
        made.append(self)
        self.fuse()

    monkeypatch.setattr(segment.Segment, "__init__", init)
    plan = on_tape(make, level, runs=0)  # fused kernels would give the variables other last bits
    assert made
    agree(plan, interpreted(make, level, runs=0))


@pytest.mark.parametrize("level", [pytest.param(TIMES, marks=pytest.mark.deep), VALUES])
@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient_programs(name: str, level: TraceLevel) -> None:
    def make() -> Made:
        return PROGRAMS[name](tf, Defun)

    with tf.Graph().as_default() as graph:
        fetches, feeds = make()
        start = tf.global_variables_initializer()
    with tf.Session(graph=graph, config=config("always", False, native=True)) as session:
        session.run(start)
        for _ in range(3):
            session.run(fetches, feeds)
        with told(level) as plan:
            session.run(fetches, feeds)
    agree(plan, interpreted(make, level, optimized=False))


def test_names_have_the_numbers_of_frames() -> None:
    """A stack's name says in which frame it was made, around whatever pushes, whoever made it."""
    plan = on_tape(stack_after_a_tape)
    around = {event.frame: event.parent for event in plan.events if event.change is FrameChange.FRAME_BEGIN}
    pushes = [write for write in plan.writes if write.kind == "push"]
    assert len({write.frame for write in pushes}) > 1
    for write in pushes:
        frames = [write.frame]
        while frames[-1]:
            frames.append(around[frames[-1]])
        assert int(write.resource.split("/")[-2]) in frames


def of_all_kinds() -> Made:
    """Outputs that lie in several ways, of several dtypes, and that are not finite."""
    x = tf.placeholder(tf.float32, [40, 300])
    y = tf.placeholder(tf.float64, [30, 40])
    turned = tf.transpose(x * 2.0)
    poor = tf.log(x - 0.5) / tf.maximum(x - 0.25, 0.0)
    whole = tf.cast(x * 100, tf.int32) * 3
    return [
        tf.reduce_sum(turned + 1.0, 0),
        poor * 2.0,
        whole > 7,
        tf.reduce_max(whole, 1),
        tf.cast(whole, tf.int64) + 1,
        tf.transpose(tf.sqrt(y - 0.5)) * 3.0,
        tf.log(-tf.square(y)),
        tf.cast(whole, tf.uint8),
        tf.identity(x)[3:9, 5:60] * 1.5,
    ], {
        x: np.random.RandomState(0).rand(40, 300).astype(np.float32),
        y: np.random.RandomState(1).rand(30, 40),
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_health_of_all_kinds() -> None:
    agree(on_tape(of_all_kinds, VALUES), interpreted(of_all_kinds, VALUES))


def test_what_no_kernel_looks_at_is_python() -> None:
    def make() -> Made:
        x = tf.placeholder(tf.complex64, [6])
        i, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x + tf.conj(y)), [0, x])
        return [y], {x: np.linspace(1, 2, 6).astype(np.complex64) * (1 + 2j)}

    agree(on_tape(make, TIMES), interpreted(make, TIMES))
    with tf.Graph().as_default() as graph:
        fetches, feeds = make()
    with tf.Session(graph=graph, config=config("always", native=True)) as session, told(VALUES) as plan:
        said = session.explain(fetches, feeds)
        session.run(fetches, feeds)
    assert plan.steps[0].executor == "plan (python)"
    assert "watched at level values it runs as Python" in said.note and "complex64" in said.note
    agree(plan, interpreted(make, VALUES, runs=0))


# --- failing, interrupts --------------------------------------------------------------------------------------------------


def failing_runs(most: int, at: int) -> Made:
    """A loop that reads outside of a TensorArray in the iteration `at`, before which Python runs nothing."""
    n = tf.placeholder(tf.int32, [])
    array = tf.TensorArray(tf.float32, at, clear_after_read=False).unstack(tf.ones([at]))
    _, y = tf.while_loop(
        lambda i, a: i < n, lambda i, a: (i + 1, a + array.read(i) * 0.5), [0, 0.0], back_prop=False
    )
    return [y], {n: np.int32(most)}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("in_parts", [False, True])
def test_a_failed_run_is_told_once(
    in_parts: bool, level: TraceLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tape fails, Python runs the same once more and raises; of the tape's run nothing is left."""

    def make() -> Made:
        return failing_runs(400, 300)

    expected = interpreted(make, level, raises=tf.errors.InvalidArgumentError, runs=0)
    if in_parts:
        monkeypatch.setattr(segment, "LOG", 100)
        monkeypatch.setattr(record, "LOG_ENTRIES", 50)
    plan = on_tape(make, level, raises=tf.errors.InvalidArgumentError, runs=0)
    assert in_parts == (len(plan.batches) > 10)
    check_order(plan)
    ran = Counter(place for place in plan.places() if place[2] < 300)
    assert ran == Counter(place for place in expected.places() if place[2] < 300)
    assert max(plan.column("iteration")) == 300
    for one, other in ((plan.written(), expected.written()), (plan.seen(), expected.seen())):
        found, wanted = (
            Counter({each: count for each, count in told_of.items() if each[2] < 300 and each[1]})
            for told_of in (one, other)
        )
        assert found == wanted


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("in_parts", [False, True])
def test_a_failed_run_that_python_finishes(
    in_parts: bool, level: TraceLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is declared failed at its very end: Python does it all again, and is told once."""
    make = scalars_in_arrays
    expected = interpreted(make, level)
    if in_parts:
        monkeypatch.setattr(segment, "LOG", 5)
        monkeypatch.setattr(record, "LOG_ENTRIES", 1)
    run = segment.Segment.run_traced

    def failed(self: Any, *args: Any) -> Any:
        found = run(self, *args)
        return None if self.may_fail else found

    monkeypatch.setattr(segment.Segment, "run_traced", failed)
    agree(on_tape(make, level), expected)


def long_loop(make: Callable[[], Made], **how: Any) -> tuple[Any, Told]:
    """What ends the run, and what is told."""
    with tf.Graph().as_default() as graph:
        fetches, feeds = make()
    options = tf.RunOptions(timeout_in_ms=how.get("timeout", 0))
    with tf.Session(graph=graph, config=config("always", native=True)) as session, told() as watching:
        try:
            session.run(fetches, feeds, options=options)
        except BaseException as error:
            return error, watching
    raise AssertionError("it ended")


def test_a_timeout() -> None:
    error, watching = long_loop(lambda: counting(1 << 30), timeout=100)
    assert isinstance(error, tf.errors.DeadlineExceededError) and watching.errors == [error]
    assert watching.steps[0].executor == "plan (tape)"
    assert len(watching.column("node")) > 100
    check_order(watching)


def test_an_interrupt() -> None:
    with once_it_runs(interrupt):
        error, watching = long_loop(nested_for_ever)
    assert isinstance(error, KeyboardInterrupt) and isinstance(watching.errors[0], KeyboardInterrupt)
    assert watching.steps[0].executor == "plan (tape)"
    check_order(watching)
    assert len(watching.column("node")) > 100


def nested_for_ever() -> Made:
    def body(i: Any, a: Any) -> Any:
        inner = tf.while_loop(lambda j: j < 3, lambda j: j + 1, [0])
        return i + 1, tf.cond(i % 3 < 1, lambda: a + inner, lambda: a - 1)

    return list(tf.while_loop(lambda i, a: i < 1 << 30, body, [0, 1])), {}


# --- long loops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("make", [lambda: counting(500), nested, gradient_of_loop, scalars_in_arrays])
def test_a_log_in_parts(make: Callable[[], Made], level: TraceLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = interpreted(make, level)
    monkeypatch.setattr(record, "LOG_ENTRIES", 1)
    monkeypatch.setattr(segment, "LOG", 7)
    plan = on_tape(make, level)
    assert len(plan.batches) > 2
    agree(plan, interpreter)


def test_a_sample_has_exact_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Made:
        def body(i: Any, a: Any) -> Any:
            inner = tf.while_loop(lambda j: j < 3, lambda j: j + 1, [0])
            return i + 1, tf.cond(i % 3 < 1, lambda: a + inner, lambda: a - 1)

        return list(tf.while_loop(lambda i, a: i < 500, body, [0, 1])), {}

    interpreter = interpreted(make, runs=0)
    monkeypatch.setattr(record, "LOG_ENTRIES", 500)
    monkeypatch.setattr(record, "TOLD_BYTES", 50_000)
    monkeypatch.setattr(segment, "LOG", 500)
    plan = on_tape(make, runs=0)
    check_sample(plan, interpreter)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0

    class Watched(replay.Replay):
        def advance(self, log: Any, measured: Any, *, final: bool) -> None:
            nonlocal longest
            longest = max(longest, len(log))
            super().advance(log, measured, final=final)

    monkeypatch.setattr(record, "Replay", Watched)
    monkeypatch.setattr(record, "LOG_ENTRIES", 5000)
    monkeypatch.setattr(record, "TOLD_BYTES", 100_000)
    monkeypatch.setattr(segment, "LOG", 1000)
    plan = on_tape(lambda: counting(200_000), runs=0)
    assert longest < 10_000
    assert len(plan.column("node")) < 30_000
    assert plan.sums[0].executions.max() == 200_001
    assert plan.steps[0].executor == "plan (tape)"
