"""Going back is exact: random programs stepped to random points, back and forth, against what was there at each point before."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, evaluate, programs
from step_states import plain, state_of

import engine as tf
from engine.op.queues import Blocked
from engine.runtime import driver
from engine.runtime.driver import StepRun
from engine.runtime.queues import Queue
from workbench.debugger.stepping import Stepping

DEVICES = ["/cpu:0", "/cpu:1", "/cpu:2"]


class Walker:
    """A driver that walks about in each step: forward, sometimes in another order, and back; and compares all at every point."""

    record = True

    def __init__(self, seed: int, moves: int, prefers: bool = True) -> None:
        self.random = random.Random(seed)
        self.moves = moves
        self.prefers = prefers
        self.compared = 0

    def drive(self, step: StepRun) -> None:
        stepping, choose = Stepping(step), self.random
        before = [state_of(stepping)]  # at each point of the way here
        ahead: list[dict[str, Any]] = []  # and of what was taken back, the next last

        def check(expected: dict[str, Any], again: bool = False) -> None:
            self.compared += 1
            now = state_of(stepping)
            for key, value in expected.items():
                if again and key == "ready":  # what was preferred here was so for what is still to come
                    assert sorted(now[key]) == sorted(value), key
                else:
                    assert now[key] == value, key

        def forward() -> None:
            if self.prefers and not stepping.future and choose.random() < 0.3:
                wanted = choose.choice(list(stepping.ready))
                stepping.prefer(lambda each: each == wanted)
                before[-1] = state_of(stepping)
            known = [
                (e.activation.name, e.activation.frame.id, e.activation.iteration)
                for e in stepping.future[-1:]
            ]
            done = stepping.execute().activation
            if known == [(done.name, done.frame.id, done.iteration)]:
                check(ahead.pop(), again=True)
            else:
                ahead.clear()
            before.append(state_of(stepping))

        for _ in range(self.moves):
            for _ in range(choose.randint(1, 30)):
                if stepping.ready:
                    forward()
            for _ in range(choose.randint(0, 30)):
                if stepping.history:
                    ahead.append(before.pop())
                    stepping.back()
                    check(before[-1])
            if choose.random() < 0.5:
                while stepping.future:
                    wanted = stepping.future[-1].activation
                    stepping.prefer(
                        lambda each, w=wanted: (
                            (each.name, each.frame.id, each.iteration)  # type: ignore[misc]
                            == (w.name, w.frame.id, w.iteration)
                        )
                    )
                    before[-1] = state_of(stepping)
                    stepping.redo()
                    assert stepping.history[-1].activation.name == wanted.name
                    check(ahead.pop(), again=True)
                    before.append(state_of(stepping))
            elif choose.random() < 0.3:
                stepping.branch()
                ahead.clear()
        while stepping.ready:
            stepping.execute()


def walked(walker: Walker, run: Callable[[], Any]) -> Any:
    driver.install(walker)
    try:
        return run()
    finally:
        driver.uninstall()


@given(programs(), st.integers(0, 1 << 30), st.integers(1, 6), st.booleans())
@settings(max_examples=6)
def test_random_programs_are_the_same_at_every_point(
    program: Program, seed: int, moves: int, spread: bool
) -> None:
    built = build(program, tf, device=anywhere(seed, DEVICES) if spread else None)
    outcome = evaluate(program)
    with tf.Session(graph=built.graph, config=tf.ConfigProto(device_count={"CPU": 3})) as session:
        session.run(built.initializer)
        results = walked(Walker(seed, moves), lambda: session.run(built.fetches, built.feeds))
        variables = session.run(built.variables)
    assert results[0] == outcome.results[0]
    np.testing.assert_allclose(results[1], outcome.results[1], rtol=1e-9, atol=1e-12)
    for name, value in variables.items():
        np.testing.assert_allclose(value, outcome.variables[name], rtol=1e-9, atol=1e-12, err_msg=name)


def _loop_gradient() -> Any:
    """A loop, its gradient (stacks), random numbers in it, and an update of a variable in each iteration."""
    v = tf.Variable([0.5, -0.25], name="v")
    noise = tf.Variable(0.0, name="noise")

    def body(i: Any, x: Any) -> Any:
        drawn = tf.random_uniform([], seed=3)
        with tf.control_dependencies([tf.assign_add(noise, drawn)]):
            return i + 1, tf.sin(x) * v + drawn

    _, x = tf.while_loop(lambda i, x: i < 4, body, (0, tf.constant([1.0, 2.0])))
    (gradient,) = tf.gradients(tf.reduce_sum(x), [v])
    return [x, gradient, tf.assign_sub(v, gradient * 0.1)]


def _arrays() -> Any:
    """TensorArrays: written, read and cleared, in a loop, and the gradient of it."""
    x = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    mapped = tf.map_fn(lambda row: row * row + tf.random_normal([], seed=5), x)
    summed = tf.scan(lambda total, row: total + row, mapped)
    return [summed, tf.gradients(summed, [x])[0]]


def _dead_branches() -> Any:
    """Branches not taken, in a loop, with a loop in one."""

    def body(i: Any, x: Any) -> Any:
        inner = tf.cond(
            tf.equal(i % 2, 0),
            lambda: tf.while_loop(lambda j, y: j < 2, lambda j, y: (j + 1, y + 1.0), (0, x))[1],
            lambda: tf.multiply(x, 2.0),
        )
        return i + 1, inner

    return [tf.while_loop(lambda i, x: i < 3, body, (0, tf.constant(1.0)), parallel_iterations=2)[1]]


@pytest.mark.parametrize("make", [_loop_gradient, _arrays, _dead_branches])
@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_stacks_arrays_random_numbers_and_frames_are_the_same_at_every_point(
    make: Callable[[], Any], spread: bool, seed: int
) -> None:
    if spread and make is _arrays:
        pytest.skip("an array and what reads it are on one device")
    place = anywhere(seed, DEVICES)
    with tf.Graph().as_default() as graph, graph.device(place if spread else None):
        tf.set_random_seed(7)
        fetches = make()
        init = tf.global_variables_initializer()
    config = tf.ConfigProto(device_count={"CPU": 3})
    with tf.Session(graph=graph, config=config) as session:
        session.run(init)
        straight = [session.run(fetches) for _ in range(2)]
    with tf.Session(graph=graph, config=config) as session:
        session.run(init)
        walker = Walker(seed, 6)
        for expected in straight:
            got = walked(walker, lambda: session.run(fetches))
            for mine, theirs in zip(got, expected, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    assert walker.compared > 50


def test_what_has_effects_has_them_once() -> None:
    called: list[float] = []

    def effect(value: Any) -> Any:
        called.append(float(value))
        return value * np.float32(2)

    x = tf.constant(3.0)
    y = tf.add(tf.py_func(effect, [x], tf.float32), 1.0)

    class Twice:
        record = True

        def drive(self, step: StepRun) -> None:
            stepping = Stepping(step)
            while stepping.ready:
                stepping.execute()
            marked = [entry.effect for entry in stepping.history if entry.effect]
            assert marked == ["it called a Python function"]
            while stepping.history:
                stepping.back()
            while stepping.future:
                stepping.redo()
            assert not stepping.ready

    with tf.Session() as session:
        driver.install(Twice())
        try:
            assert session.run(y) == 7.0
        finally:
            driver.uninstall()
    assert called == [3.0]


def test_a_queue_is_as_before_and_who_waits_for_it_tries_again() -> None:
    queue = tf.FIFOQueue(3, [tf.int32], [()], name="queue")
    fill = [queue.enqueue(i) for i in range(2)]
    size = queue.size()
    taken = queue.dequeue()
    with tf.Session() as session:
        session.run(fill)

        class Back:
            record = True

            def drive(self, step: StepRun) -> None:
                stepping = Stepping(step)
                held: list[Any] = []
                for _ in range(2):
                    while stepping.ready:
                        stepping.execute()
                    (found,) = (each for each in step.resources if isinstance(each, Queue))
                    held.append(plain(found.value))
                    while stepping.history:
                        stepping.back()
                    held.append(plain(found.value))
                while stepping.ready:
                    stepping.execute()
                assert held[0] == held[2] and held[1] == held[3] and held[0] != held[1]

        first = walked(Back(), lambda: session.run(taken))  # type: ignore[arg-type]
        assert session.run(size) == 1

        class Waits:
            record = True

            def drive(self, step: StepRun) -> None:
                stepping = Stepping(step)
                blocked = 0
                while stepping.ready or step.blocked:
                    if not stepping.ready:
                        stepping.wait(0.01)
                        continue
                    try:
                        stepping.execute()
                    except Blocked:
                        blocked += 1
                        while stepping.history:
                            stepping.back()
                        assert not step.blocked
                        assert {each.name for each in stepping.ready} == {each.name for each in step.ready}
                        if blocked == 2:
                            driver.uninstall()
                            session.run(fill[0])
                            driver.install(self)
                assert blocked >= 2

        second = session.run(taken)
        third = walked(Waits(), lambda: session.run(taken))  # type: ignore[arg-type]
    assert {int(first), int(second)} == {0, 1} and third == 0
