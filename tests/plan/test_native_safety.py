"""Memory and threads of plans with machine code, seen through sessions: nothing is shared, lost, leaked or left running."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from running import PATIENCE, Clock, interrupt, looks, once_it_runs

import engine as tf
from engine.passes.settings import Level, OptimizerOptions
from engine.runtime.plan.specials import MOST
from engine.types import errors

AS_WRITTEN = tf.GraphOptions(optimizer_options=OptimizerOptions(opt_level=Level.L0))


def session_of(**options: Any) -> Any:
    options = {"plans": "always", "exact": True, "graph_options": AS_WRITTEN, **options}
    return tf.Session(config=tf.ConfigProto(**options))


def chain(x: Any) -> Any:
    """Enough steps that a segment pays."""
    y = x
    for _ in range(5):
        y = tf.tanh(y * 0.5 + x) - 0.25
    return y


def by_hand(x: Any) -> Any:
    y = x
    half, quarter = x.dtype.type(0.5), x.dtype.type(0.25)
    for _ in range(5):
        y = np.tanh(y * half + x) - quarter
    return y


def warm(session: Any, fetches: Any, feed: dict[Any, Any]) -> Any:
    """Run until machine code does, if it ever will; the last result."""
    for _ in range(6):
        found = session.run(fetches, feed)
    return found


def segments(session: Any) -> int:
    """How many native segments the session's plans have."""
    choices = [each.choice for each in session._executables.values()]
    specials = [choice.plan.specials for choice in choices if choice.plan is not None]
    made = [special for each in specials if each is not None for special in each.made.values()]
    return sum(len(special.segments) for special in made if special is not None)


def same(one: Any, other: Any) -> bool:
    a, b = np.asarray(one), np.asarray(other)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def x() -> Any:
    return tf.placeholder(tf.float32, [None], name="x")


# Arrays that are fed.


@pytest.mark.parametrize("size", [7, 3000])
def test_fed_arrays_are_never_written_and_fetched_ones_never_change(x: Any, size: int) -> None:
    y = chain(x)
    same_place = tf.identity(x)  # gives what was fed
    with session_of() as session:
        taken: list[tuple[Any, Any]] = []
        for number in range(40):
            fed = np.random.default_rng(number).normal(size=size).astype(np.float32)
            before = fed.copy()
            result, again = session.run([y, same_place], {x: fed})
            assert same(fed, before) and same(result, by_hand(fed))
            taken.append((result, result.copy()))
            assert not np.shares_memory(result, again)
            fed[:] = np.nan  # the caller may do with it what he likes
            assert same(again, before)
            taken.append((again, before))
            if number % 7 == 0:
                gc.collect()
        assert segments(session)
        assert all(same(*pair) for pair in taken)
        for i, (one, _) in enumerate(taken):
            assert not any(np.shares_memory(one, other) for other, _ in taken[:i])
        taken[0][0][:] = 1.0  # results are the caller's own: writing one changes nothing
        assert same(session.run(y, {x: before}), by_hand(before))


@pytest.mark.parametrize("native", [False, True])
def test_a_fed_array_that_a_variable_keeps_is_a_copy(x: Any, native: bool) -> None:
    v = tf.Variable(np.zeros(2000, np.float32), name="v")
    keep = tf.assign(v, x)
    more = tf.assign_add(v, tf.ones([2000]))
    with session_of(native=native) as session:
        session.run(v.initializer)
        for number in range(8):
            fed = np.full(2000, number, np.float32)
            kept = session.run(keep, {x: fed})
            fed[:] = -1.0
            held = session.run(v)
            assert (kept == number).all() and (held == number).all()
            kept[:] = 7.0
            held[:] = 9.0
            assert (session.run(v) == number).all()
            after = session.run(more)
            assert (
                (after == number + 1).all() and (session.run(v) == number + 1).all() and (held == 9.0).all()
            )


def layouts() -> dict[str, Callable[[Any], Any]]:
    def unaligned(a: Any) -> Any:
        raw = np.zeros(a.nbytes + 1, np.uint8)
        raw[1:] = a.view(np.uint8)
        found = raw[1:].view(a.dtype)
        assert not found.flags.aligned
        return found

    def read_only(a: Any) -> Any:
        found = a.copy()
        found.setflags(write=False)
        return found

    def from_bytes(a: Any) -> Any:
        return np.frombuffer(a.tobytes(), a.dtype)

    class Own(np.ndarray):
        pass

    return {
        "every other element": lambda a: np.repeat(a, 2)[::2],
        "backwards": lambda a: a[::-1].copy()[::-1],
        "a column": lambda a: np.stack([a, a], 1)[:, 1],
        "one element everywhere": lambda a: np.broadcast_to(a[:1], a.shape),
        "read-only": read_only,
        "bytes": from_bytes,
        "unaligned": unaligned,
        "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
        "wider": lambda a: a.astype(np.float64),
        "a subclass": lambda a: a.copy().view(Own),
        "a list": lambda a: a.tolist(),
    }


@pytest.mark.parametrize("layout", layouts())
@pytest.mark.parametrize("size", [3, 515])
def test_feeds_in_any_layout(x: Any, layout: str, size: int) -> None:
    y = chain(x)
    plain = np.random.default_rng(1).normal(size=size).astype(np.float32)
    fed = layouts()[layout](plain)
    want = by_hand(np.ascontiguousarray(fed).astype(np.float32))
    with session_of() as session:
        for _ in range(6):
            before = np.array(fed)
            assert same(session.run(y, {x: fed}), want)
            assert same(session.run(y, {x: plain}), by_hand(plain))
            assert (np.array(fed) == before).all()
        run = session.make_callable(y, [x])
        assert same(run(fed), want) and same(run(fed), want)
        assert segments(session)


def test_a_transposed_matrix() -> None:
    x = tf.placeholder(tf.float32, [None, None], name="x")
    y = tf.matmul(chain(x), x, transpose_b=True)
    a = np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32)
    with session_of() as session:
        want = warm(session, y, {x: np.ascontiguousarray(a.T)})
        for fed in (a.T, np.asfortranarray(a.T), np.ascontiguousarray(a.T)):
            assert same(session.run(y, {x: fed}), want)


VALUES = {
    "subnormal": [1e-45, 1e-40, -1e-42, 1.1754944e-38, 5e-39],
    "not finite": [np.nan, np.inf, -np.inf, -np.nan, 0.0],
    "zeros": [0.0, -0.0, 1e-30, -1e-30, 0.0],
    "large": [3.4e38, -3.4e38, 1e30, -1e30, 1.0],
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("copies", [1, 103])
def test_values_at_the_edges(x: Any, kind: str, copies: int) -> None:
    fed = np.tile(np.array(VALUES[kind], np.float32), copies)
    y = x
    for factor in (0.5, 2.0, -1.0, 1.5, 0.25):
        y = y * factor + x
    fetches = [y, tf.maximum(y, x), tf.reduce_sum(x), tf.reduce_max(x), tf.sign(x), tf.sqrt(tf.abs(x))]
    found = []
    for plans in ("off", "always"):
        with session_of(plans=plans) as session:
            found.append(warm(session, fetches, {x: fed}))
            if plans == "always":
                assert segments(session)
    assert all(same(one, other) for one, other in zip(*found, strict=True))


def test_arrays_without_elements(x: Any) -> None:
    matrix = tf.placeholder(tf.float32, [None, 4], name="matrix")
    fetches = [
        chain(x),
        tf.reduce_sum(x),
        tf.matmul(matrix, tf.ones([4, 3])),
        tf.concat([x, x], 0),
        chain(matrix),
    ]
    feed = {x: np.zeros(0, np.float32), matrix: np.zeros((0, 4), np.float32)}
    with session_of() as session:
        for _ in range(6):
            a, total, product, joined, b = session.run(fetches, feed)
            assert a.shape == (0,) and total == 0.0 and product.shape == (0, 3) and joined.shape == (0,)
            assert b.shape == (0, 4)


def test_shapes_that_change_between_runs(x: Any) -> None:
    """The number of specialisations is bounded; what comes after runs in Python, and is as right."""
    y = tf.reduce_sum(chain(x)) + chain(x)
    with session_of(native=True) as session, session_of(native=False) as python:
        for _ in range(4):
            for size in range(1, 3 * MOST):
                fed = np.linspace(-1, 1, size).astype(np.float32)
                assert same(session.run(y, {x: fed}), python.run(y, {x: fed}))
        (plan,) = [each.choice.plan for each in session._executables.values()]
        assert 0 < len(plan.specials.made) <= MOST and len(plan.specials.runs) <= 64 * MOST + 1


def test_other_shapes_than_declared_are_refused() -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = chain(x)
    with session_of() as session:
        fed = np.ones((2, 3), np.float32)
        want = warm(session, y, {x: fed})
        for wrong in (np.ones((2, 4), np.float32), np.ones(3, np.float32), np.ones((2, 3, 1), np.float32)):
            with pytest.raises(ValueError, match="Cannot feed value of shape"):
                session.run(y, {x: wrong})
        assert same(session.run(y, {x: fed}), want)


def test_huge_arrays(x: Any) -> None:
    """160 MB once: what is done on them is right, and they are let go of afterwards."""
    y = tf.tanh(x * 0.5) + x
    total = tf.reduce_max(y)
    with session_of(exact=False) as session:
        before = resident()
        fed = np.zeros(40_000_000, np.float32)
        fed[-1] = 2.0
        for _ in range(4):
            assert session.run(total, {x: fed}) == pytest.approx(np.tanh(1.0) + 2.0, rel=1e-6)
        del fed
        session.run(total, {x: np.ones(3, np.float32)})
    gc.collect()
    assert resident() - before < 100 << 20


# Threads.


def together(work: Callable[[int], None], count: int = 4) -> None:
    """`work` in so many threads at once; raises what one of them raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(count)

    def call(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


def test_feeds_that_other_threads_write_while_a_step_runs(x: Any) -> None:
    """Results are made of old and new elements, and nothing breaks; a feed whose last reference goes away lives on."""
    y = tf.reduce_max(chain(x) * 0.0 + x)
    stop = threading.Event()
    fed = np.ones(20_000, np.float32)

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            fed[:] = 1.0 + number % 2
            time.sleep(0.0002)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with session_of() as session:
            for _ in range(200):
                assert session.run(y, {x: fed}) in (1.0, 2.0)
                assert session.run(y, {x: np.full(20_000, 3.0, np.float32)}) == 3.0
            assert segments(session)
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("native", [False, True])
def test_four_threads_lose_no_update(x: Any, native: bool) -> None:
    v = tf.Variable(np.zeros(300, np.float32), name="v")
    w = tf.Variable(np.zeros(300, np.float32), name="w")
    step = tf.assign_add(v, x), tf.assign_sub(w, x * 2.0 - x)
    y = chain(x)
    with session_of(native=native) as session:
        session.run(tf.global_variables_initializer())
        fed = np.ones(300, np.float32)
        want = by_hand(fed * 3)

        def work(number: int) -> None:
            for _ in range(150):
                session.run(step, {x: fed})
                assert same(session.run(y, {x: fed * 3}), want)

        together(work)
        assert (session.run(v) == 600.0).all() and (session.run(w) == -600.0).all()


def test_four_threads_in_a_loop_with_a_variable() -> None:
    v = tf.Variable(0.0, name="v")
    n = tf.placeholder(tf.int32, [], name="n")

    def body(i: Any, total: Any) -> Any:
        with tf.control_dependencies([tf.assign_add(v, 1.0, use_locking=True)]):
            return i + 1, total + 2.0

    loop = tf.while_loop(lambda i, _: i < n, body, [0, 0.0], parallel_iterations=1)[1]
    with session_of() as session:
        session.run(v.initializer)

        def work(number: int) -> None:
            for _ in range(10):
                assert session.run(loop, {n: 20 + number}) == 2.0 * (20 + number)

        together(work)
        assert session.run(v) == 10.0 * (20 + 21 + 22 + 23)


def test_training_from_four_threads() -> None:
    """Gradient steps that each read and write all weights: every one of them counts."""
    w = tf.Variable(np.zeros((16, 16), np.float32), name="w")
    x = tf.placeholder(tf.float32, [None, 16], name="x")
    loss = tf.reduce_sum(tf.matmul(x, w))  # the gradient does not depend on w
    train = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    fed = np.ones((4, 16), np.float32)
    with session_of() as session:
        session.run(tf.global_variables_initializer())
        together(lambda number: [session.run(train, {x: fed}) for _ in range(50)] and None)
        assert (session.run(w) == -4.0 * 200).all()


def heavy() -> tuple[list[Any], dict[Any, Any]]:
    """Kernels that share their work out to threads, with something to feed."""
    rng = np.random.default_rng(3)
    a = tf.placeholder(tf.float32, [64, 2048], name="a")
    b = tf.placeholder(tf.float32, [2048, 64], name="b")
    images = tf.placeholder(tf.float32, [16, 14, 14, 8], name="images")
    filters = tf.placeholder(tf.float32, [3, 3, 8, 16], name="filters")
    product = tf.matmul(a, b)
    convolved = tf.nn.relu(tf.nn.conv2d(images, filters, [1, 1, 1, 1], "SAME"))
    pooled = tf.nn.max_pool(convolved, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    loss = tf.reduce_sum(tf.nn.softmax(product) * product) + tf.reduce_mean(tf.tanh(pooled))
    fetches = [
        product,
        pooled,
        loss,
        *tf.gradients(loss, [a, b, images, filters]),
        tf.reduce_sum(tf.exp(-a * a)),
    ]
    feed = {
        each: rng.normal(size=each.shape.as_list()).astype(np.float32) for each in (a, b, images, filters)
    }
    return fetches, feed


@pytest.mark.parametrize("exact", [False, True])
def test_bits_do_not_depend_on_which_threads_are_free(exact: bool) -> None:
    """Another thread's step may have the pool, so that a kernel works alone: that is no reason for other last bits."""
    fetches, feed = heavy()
    with session_of(exact=exact) as session:
        for _ in range(50):  # what is worth it has been fused, and is what runs from now on
            warm(session, fetches, feed)
        want = session.run(fetches, feed)
        assert segments(session)

        def work(number: int) -> None:
            for _ in range(20):
                for one, other in zip(want, session.run(fetches, feed), strict=True):
                    assert same(one, other), np.abs(one - other).max()

        together(work)


def test_plans_are_made_by_many_threads_at_once() -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    fetches = [chain(x * float(i)) for i in range(6)]
    with session_of() as session:

        def work(number: int) -> None:
            for size in (5, 600):
                fed = np.linspace(0, 1, size).astype(np.float32)
                for _ in range(5):
                    for i, each in enumerate(fetches):
                        assert same(session.run(each, {x: fed}), by_hand(fed * np.float32(i)))

        together(work)


# Stopping.


def endless(width: int = 0) -> Any:
    start = tf.zeros([width]) if width else tf.constant(0.0)
    return tf.while_loop(
        lambda i, _: i >= 0,
        lambda i, value: (i + 1, tf.tanh(value * 0.5 + 1.0)),
        [tf.constant(0, tf.int64), start],
        name="loop",
    )[1]


@pytest.mark.parametrize("width", [0, 50, 100_000])
def test_a_timeout_stops_a_loop(width: int, clock: Clock) -> None:
    """It looks at the clock often, and stops when it first finds that the time is over."""

    def look(count: int) -> None:
        clock.now += 0.021

    loop = endless(width)
    with session_of() as session:
        for _ in range(2):
            with (
                looks(look) as seen,
                pytest.raises(errors.DeadlineExceededError, match=r"next to run: 'loop/\w+' \(root > loop/"),
            ):
                session.run(loop, options=tf.RunOptions(timeout_in_ms=200))
            assert len(seen.times) == 10
        assert np.median(np.diff(seen.times)) < 1
        assert segments(session)


@pytest.mark.parametrize("seconds", [0.0001, 0.004, 0.03])
def test_a_timeout_stops_a_loop_that_stays_python(seconds: float, clock: Clock) -> None:
    """However long an iteration takes, the step looks at the clock soon enough."""

    def work(given: Any) -> Any:
        clock.now += seconds
        return given

    def body(i: Any, value: Any) -> Any:
        worked = tf.py_func(work, [value], tf.float32)
        worked.set_shape([])
        return i + 1, worked

    loop = tf.while_loop(lambda i, _: i >= 0, body, [tf.constant(0, tf.int64), 0.0], name="loop")[1]
    with session_of() as session:
        with pytest.raises(
            errors.DeadlineExceededError, match=r"next to run: 'loop/\w+' \(root > loop/\w+ iteration"
        ):
            session.run(loop, options=tf.RunOptions(timeout_in_ms=200))
        assert 0.2 <= clock.now < 0.3


@pytest.mark.parametrize("width", [0, 50, 100_000])
def test_an_interrupt_stops_a_loop(width: int) -> None:
    loop = endless(width)
    with session_of() as session:
        with once_it_runs(interrupt), pytest.raises(KeyboardInterrupt) as caught:
            session.run(loop)
        assert any("next to run: 'loop/" in note for note in caught.value.__notes__)
        small = chain(tf.constant([1.0, 2.0]))
        assert same(warm(session, small, {}), by_hand(np.array([1.0, 2.0], np.float32)))


def test_interrupts_leave_no_variable_locked(x: Any) -> None:
    """An interrupt may come anywhere in a step; each lock that it held is given back."""
    v = tf.Variable(np.zeros(2000, np.float32), name="v")
    w = tf.Variable(np.zeros(2000, np.float32), name="w")
    step = tf.group(tf.assign_add(v, x), tf.assign_add(w, chain(x) * 0.0 + x))
    rng = np.random.default_rng(5)
    came = False

    def interrupted(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    ended = 0
    with session_of() as session:
        session.run(tf.global_variables_initializer())
        feed = {x: np.ones(2000, np.float32)}
        warm(session, step, feed)
        assert segments(session)
        try:
            for _ in range(500):
                came = False
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(5e-6, 4e-4))
                    while not came:  # an interrupt where Python itself calls something is lost
                        session.run(step, feed)
                except KeyboardInterrupt:
                    ended += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

        def free(number: int) -> None:  # in another thread: the locks can be taken twice by one
            for each in session.resources:
                if each.kind == "variable":
                    assert each.lock.acquire(timeout=PATIENCE), each.name
                    each.lock.release()

        assert ended > 400
        together(free, 1)
        held = session.run(v)
        session.run(step, feed)
        assert (session.run(v) == held + 1).all()


def test_closing_from_another_thread_stops_a_loop() -> None:
    loop = endless(50)
    session = session_of()
    with (
        once_it_runs(session.close),
        pytest.raises(
            errors.CancelledError, match=r"its session was closed while it ran; next to run: 'loop/"
        ),
    ):
        session.run(loop)


def test_a_loop_lets_other_threads_run() -> None:
    """A loop in machine code gives up the interpreter's lock, or lets others have it often."""
    session = session_of()

    def others() -> None:
        for _ in range(50):
            time.sleep(0.001)
        session.close()

    with once_it_runs(others), pytest.raises(errors.CancelledError):
        session.run(endless(2000))


# Memory.


def growth(work: Callable[[int], None], times: int) -> int:
    """Bytes by which the process grew over the second half of so many runs, Python's allocations apart."""
    for _ in range(2):
        work(times // 4)
    gc.collect()
    before = resident()
    work(times // 2)
    gc.collect()
    return resident() - before


def test_memory_stays_flat_over_runs(x: Any) -> None:
    v = tf.Variable(np.zeros(2000, np.float32), name="v")
    y = tf.reduce_sum(chain(x)), chain(x), tf.assign_add(v, x)
    with session_of() as session:
        session.run(v.initializer)
        run = session.make_callable(y, [x])
        fed = np.ones(2000, np.float32)

        def work(times: int) -> None:
            for _ in range(times):
                run(fed)

        assert growth(work, 4_000) < 4 << 20
        tracemalloc.start()
        try:
            work(50)
            before = tracemalloc.get_traced_memory()[0]
            work(200)
            assert tracemalloc.get_traced_memory()[0] - before < 20_000
        finally:
            tracemalloc.stop()
        assert segments(session)


def test_memory_stays_flat_over_iterations() -> None:
    n = tf.placeholder(tf.int32, [], name="n")
    loop = tf.while_loop(
        lambda i, _: i < n, lambda i, value: (i + 1, tf.tanh(value + 1.0)), [0, tf.zeros([20])]
    )[1]
    with session_of() as session:

        def work(times: int) -> None:
            session.run(loop, {n: times})

        assert growth(work, 400_000) < 4 << 20
        assert segments(session)


def test_memory_stays_flat_when_steps_fail(x: Any) -> None:
    """What a step held is let go of when it ends with an error."""
    bad = tf.placeholder(tf.int32, [None], name="bad")
    y = tf.reduce_sum(chain(x)) + tf.reduce_sum(tf.gather(chain(x), bad))
    fed = np.ones(5000, np.float32)
    with session_of() as session:

        def work(times: int) -> None:
            for _ in range(times):
                with pytest.raises(errors.InvalidArgumentError):
                    session.run(y, {x: fed, bad: [5000]})
                session.run(y, {x: fed, bad: [1]})

        assert growth(work, 300) < 4 << 20


def test_sessions_that_come_and_go_leave_nothing(x: Any) -> None:
    y = chain(x)
    fed = np.ones(50_000, np.float32)

    def work(times: int) -> None:
        for _ in range(times):
            with session_of() as session:
                warm(session, y, {x: fed})

    assert growth(work, 24) < 16 << 20


# Processes.


def script(text: str, **options: Any) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(text)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )


_BUILD = """
import os, signal, sys, threading, time
import numpy as np
import engine as tf

x = tf.placeholder(tf.float32, [None], name="x")
y = x
for _ in range(5):
    y = tf.tanh(y * 0.5 + x) - 0.25
w = tf.matmul(tf.reshape(tf.concat([y] * 64, 0), [64, -1]), tf.reshape(tf.concat([y] * 64, 0), [-1, 64]))
session = tf.Session(config=tf.ConfigProto(plans="always"))
fed = np.linspace(-1, 1, 4096).astype(np.float32)
for _ in range(6):
    want = session.run([y, w], {x: fed})
"""


def test_a_forked_child_runs() -> None:
    """The child has the parent's plans, but none of its threads."""
    found = script(
        _BUILD
        + """
def child():
    for _ in range(20):
        got = session.run([y, w], {x: fed})
        assert all((a == b).all() for a, b in zip(want, got))
    z = tf.reduce_sum(tf.sqrt(tf.abs(y)) * 2.0 + y * y - x)  # one that is compiled there
    values = {float(session.run(z, {x: fed})) for _ in range(6)}
    assert max(values) - min(values) < 1e-2, values

pid = os.fork()
if pid == 0:
    try:
        child()
        os._exit(0)
    except BaseException as error:
        print("child:", repr(error), flush=True)
        os._exit(1)
_, status = os.waitpid(pid, 0)
child()
print("status", status)
"""
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "status 0", (found.stdout, found.stderr)


def test_a_process_ends_while_a_loop_runs_in_another_thread() -> None:
    """The interpreter is shut down under a loop in machine code in a daemon thread: it ends, and does not crash."""
    found = script(
        _BUILD
        + """
loop = tf.while_loop(lambda i, a: i >= 0, lambda i, a: (i + 1, tf.tanh(a + 1.0)), [tf.constant(0, tf.int64), tf.zeros([50])])[1]
for _ in range(2):
    try:
        session.run(loop, options=tf.RunOptions(timeout_in_ms=1))  # it has machine code by now
    except tf.errors.DeadlineExceededError:
        pass

from engine.runtime.plan.plan import _Watch
begun, check = threading.Event(), _Watch.check

def look(*args):
    begun.set()
    return check(*args)

_Watch.check = look
threading.Thread(target=lambda: session.run(loop), daemon=True).start()
assert begun.wait(50)
print("end", flush=True)
"""
    )
    assert found.stdout.strip() == "end" and found.returncode == 0, (found.returncode, found.stderr)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.deep)])
def test_a_process_that_is_killed_leaves_the_cache_whole(number: signal.Signals, tmp_path: Any) -> None:
    """What is compiled goes to a cache on disk: one that was being written is never read half."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            _BUILD + "print('ready', flush=True)\nwhile True: session.run([y, w], {x: fed})\n",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    with process:
        ready = process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert ready.strip() == "ready", process.stderr.read()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size > 100:
            path.write_bytes(path.read_bytes()[:50])  # what a crash of the machine may leave
    found = script(_BUILD + "print(float(want[0][0]))", env=environment)
    assert found.returncode == 0, found.stderr
    value = np.float32(-1.0)
    assert float(found.stdout) == pytest.approx(float(by_hand(np.array([value]))[0]), rel=1e-5)
