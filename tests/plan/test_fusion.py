"""Fused groups of a tape's steps: what they compute, what bounds them, when they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import examples

import engine as tf
from engine.native import compiler
from engine.native.layout import View
from engine.runtime.plan import fusion, fusion_costs, specials
from engine.runtime.plan.recording import Home, Recorder
from engine.runtime.plan.segment import Segment

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def whatever_it_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays are fused too, and whatever can end in a reduction does."""
    monkeypatch.setattr(fusion, "_LEAST", -1e9)
    monkeypatch.setattr(fusion, "_SHARE", -1e9)
    monkeypatch.setattr(specials, "TINY", 0)
    monkeypatch.setattr(fusion_costs, "_FUSED_FOLD", dict.fromkeys(fusion_costs.FOLDS, (-9.0, -9.0)))


def config(plans: str = "always", exact: bool = False) -> tf.ConfigProto:
    return tf.ConfigProto(plans=plans, exact=exact)


def segments_of(session: tf.Session) -> list[Segment]:
    found = []
    for executable in session._executables.values():
        plan = executable.choice.plan
        if plan is not None and plan.specials is not None:
            found += [n.segment for s in plan.specials.made.values() if s is not None for n in s.segments]
    return found


def quiet(session: tf.Session) -> list[Segment]:
    """The segments, none of which is going to be fused by itself."""
    found = segments_of(session)
    for segment in found:
        if segment.heat is not None:
            segment.heat.left = 0
    return found


def ran(make: Make, arrays: list[Any], variables: bool = False) -> dict[str, list[Any]]:
    """What `make` of placeholders gives: by the interpreter, an exact plan, a plan, and the same plan fused.

    Under "fusions" the calls, under "segments" the plan's segments.
    """
    results: dict[str, list[Any]] = {}
    for name, options in (
        ("off", config("off")),
        ("exact", config(exact=True)),
        ("plan", config()),
    ):
        with tf.Graph().as_default():
            inputs = [tf.placeholder(each.dtype, each.shape) for each in arrays]
            fetches = make(*inputs)
            fetches = list(fetches) if isinstance(fetches, list | tuple) else [fetches]
            with tf.Session(config=options) as session:
                feed = dict(zip(inputs, arrays, strict=True))
                session.run(tf.global_variables_initializer())
                for _ in range(1 if variables else 3):
                    results[name] = session.run(fetches, feed)
                if name == "exact":
                    assert not any(segment.heat or segment.fusions for segment in segments_of(session))
                if name == "plan" and not variables:
                    for segment in (found := quiet(session)):
                        segment.fuse()
                    results["fused"] = session.run(fetches, feed)
                    results["fusions"] = [each for segment in found for each in segment.fusions]
                    results["segments"] = found
    return results


def bits(one: Any) -> tuple[Any, ...]:
    array = np.asarray(one)
    return array.dtype, array.shape, (array + 0 if array.dtype.kind == "f" else array).tobytes()


def same(given: list[Any], wanted: list[Any]) -> None:
    for one, other in zip(given, wanted, strict=True):
        assert bits(one) == bits(other), (one, other)


def floats(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(dtype)


# Random chains.

SHAPES = [(), (3, 70), (70,), (3, 1), (1, 70), (2, 3, 70), (2, 1, 1), (5, 4), (4,), (5, 1)]
BINARY = [tf.add, tf.subtract, tf.multiply, tf.maximum, tf.minimum, tf.squared_difference]
UNARY = [tf.negative, tf.abs, tf.square, tf.floor, tf.nn.relu, tf.sign]


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Any], Make]:
    """Arithmetic, comparisons, choices and casts, of values that broadcast, some used several times, and several results."""
    dtype = draw(st.sampled_from(["float32", "float64", "int32"]))
    family = draw(st.sampled_from([SHAPES[:7], [(), (4,), (5, 1), (5, 4)]]))
    arrays = [
        (floats(*draw(st.sampled_from(family)), seed=i) * 3).astype(dtype)
        for i in range(draw(st.integers(1, 4)))
    ]
    plan = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["binary", "unary", "where", "cast", "sum", "max", "transpose"]),
                st.integers(0, 5),
                st.integers(0, 20),
                st.integers(0, 20),
                st.integers(0, 20),
            ),
            min_size=3,
            max_size=14,
        )
    )
    kept = draw(st.lists(st.integers(0, 20), min_size=1, max_size=3))

    def make(*inputs: Any) -> list[Any]:
        values = list(inputs)
        for kind, which, a, b, c in plan:
            x, y, z = (values[k % len(values)] for k in (a, b, c))
            if kind == "binary":
                made = BINARY[which % len(BINARY)](x, y)
            elif kind == "unary":
                made = (tf.square if dtype == "int32" else UNARY[which])(x)
            elif kind == "where":
                made = tf.where_v2(
                    tf.less(x, y) if which % 2 else tf.logical_not(tf.greater_equal(x, z)), y, z
                )
            elif kind == "cast":
                made = tf.cast(
                    tf.cast(tf.clip_by_value(x, tf.cast(-9, x.dtype), tf.cast(9, x.dtype)), "int32"), dtype
                )
            elif kind == "max" and x.shape.ndims:
                made = tf.reduce_max(x, axis=-1, keepdims=bool(which % 2))
            elif kind == "sum" and dtype == "int32" and x.shape.ndims:
                made = tf.reduce_sum(x, axis=-1, keepdims=True)
            elif kind == "transpose" and x.shape.ndims == 2:
                made = tf.transpose(tf.transpose(x) + tf.cast(1, x.dtype))
            else:
                made = x - y
            values.append(made)
        return [values[-1], *(values[k % len(values)] for k in kept)]

    return arrays, make


def compatible(arrays: list[Any], make: Make) -> bool:
    with tf.Graph().as_default():
        try:
            make(*(tf.placeholder(each.dtype, each.shape) for each in arrays))
        except (ValueError, tf.errors.InvalidArgumentError):
            return False
    return True


@given(chains())
@examples(15)
def test_arithmetic_keeps_its_bits(chain: tuple[list[Any], Make]) -> None:
    arrays, make = chain
    if not compatible(arrays, make):
        return
    found = ran(make, arrays)
    same(found["exact"], found["off"])
    same(found["plan"], found["off"])
    same(found["fused"], found["off"])


FUNCTIONS: list[tuple[Any, Any]] = [
    (tf.tanh, np.tanh),
    (tf.exp, np.exp),
    (tf.sin, np.sin),
    (tf.cos, np.cos),
    (lambda x: tf.log1p(tf.square(x)), lambda x: np.log1p(np.square(x))),
    (tf.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", range(len(FUNCTIONS)))
def test_functions_are_as_near_as_stated(dtype: str, which: int) -> None:
    function, oracle = FUNCTIONS[which]
    x, half = floats(50, 70, dtype=dtype), floats(70, dtype=dtype, seed=1)
    found = ran(lambda a, b: function(tf.square(a * b) - a + b), [x, half])
    (call,) = found["fusions"]
    exact = oracle((np.square(x * half) - x + half).astype(np.longdouble))
    off = np.abs(found["fused"][0] - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert off.max() <= call.ulps + 4  # each arithmetic step after it rounds once
    same(found["exact"], found["off"])


# What is one call, and what bounds it.


def test_a_value_that_is_read_twice_and_one_that_is_fetched() -> None:
    def make(x: Any, bias: Any) -> list[Any]:
        hidden = tf.nn.relu(x + bias)
        return [hidden, hidden * hidden - x]

    found = ran(make, [floats(40, 70), floats(70)])
    same(found["fused"], found["off"])
    (call,) = found["fusions"]
    assert call.results == 2 and call.shape == (40, 70) and len(call.owners) >= 2
    assert {"add", "maximum", "multiply", "subtract"} <= set(call.steps)
    (segment,) = found["segments"]
    assert [step.kind for step in segment.steps] == ["call"]


def test_a_product_bounds_a_group() -> None:
    def make(x: Any, w: Any, bias: Any) -> list[Any]:
        hidden = tf.nn.relu(x * 2.0 + 1.0)
        return [tf.square(tf.matmul(hidden, w) + bias) - 1.0]

    found = ran(make, [floats(8, 16), floats(16, 8), floats(8)])
    first, second = found["fusions"]
    assert len(first.steps) >= 3 and len(second.steps) >= 3
    (why,) = first.apart
    assert "matmul" in why.step and "kernel of its own" in why.reason
    np.testing.assert_allclose(found["fused"][0], found["off"][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("reduce", "oracle"), [(tf.reduce_sum, np.sum), (tf.reduce_max, np.max), (tf.reduce_mean, np.mean)]
)
@pytest.mark.parametrize("axes", [(-1,), (1, 2), None])
def test_a_reduction_ends_a_group(reduce: Any, oracle: Any, axes: tuple[int, ...] | None) -> None:
    x, scale = floats(6, 5, 80), floats(80, seed=2)
    found = ran(lambda a, b: reduce(tf.square(a * b - 1.0), axis=list(axes) if axes else None), [x, scale])
    wanted = oracle(np.square(x.astype(float) * scale - 1), axis=axes)
    np.testing.assert_allclose(found["fused"][0], wanted, rtol=3e-6)
    assert any(step.endswith(".reduce") for call in found["fusions"] for step in call.steps)


def test_softmax() -> None:
    x = floats(30, 100) * 5
    found = ran(lambda a: tf.nn.softmax(a * 2.0 - 1.0), [x])
    wide = np.exp(x.astype(float) * 2 - 1)
    np.testing.assert_allclose(found["fused"][0], wide / wide.sum(-1, keepdims=True), rtol=1e-5)


def test_gradients_of_a_layer_norm_like_program() -> None:
    def make(x: Any, gain: Any) -> list[Any]:
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        centred = x - mean
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        loss = tf.reduce_sum(tf.tanh(centred * tf.rsqrt(variance + 1e-5) * gain))
        return [loss, *tf.gradients(loss, [x, gain])]

    found = ran(make, [floats(20, 96), floats(96, seed=3)])
    for one, other in zip(found["fused"], found["off"], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    assert found["fusions"]


# Loops, branches, variables.


def test_inside_a_loop() -> None:
    def make(x: Any, y: Any) -> list[Any]:
        def body(i: Any, a: Any, b: Any) -> list[Any]:
            return [i + 1, a * 0.5 + b, b - a * 0.25]

        return list(tf.while_loop(lambda i, a, b: i < 9, body, [tf.constant(0), x, y]))

    found = ran(make, [floats(40), floats(40, seed=1)])
    same(found["fused"], found["off"])
    assert found["fusions"]


def test_variables_that_swap_places_in_a_loop() -> None:
    def make(x: Any, y: Any) -> list[Any]:
        loop = tf.while_loop(
            lambda i, a, b: i < 5,
            lambda i, a, b: [i + 1, b * 2.0 - 1.0, a * 0.5 + 1.0],
            [tf.constant(0), x, y],
        )
        return list(loop)

    found = ran(make, [floats(30), floats(30, seed=1)])
    same(found["fused"], found["off"])


@pytest.mark.parametrize("side", [True, False])
def test_inside_a_branch(side: bool) -> None:
    def make(which: Any, x: Any) -> Any:
        y = x * 3.0 + 1.0
        return tf.cond(which, lambda: tf.square(y) - x, lambda: tf.nn.relu(y * x) + 2.0)

    found = ran(make, [np.array(side), floats(50)])
    same(found["fused"], found["off"])
    assert len(found["fusions"]) >= 2


def test_variables_are_updated() -> None:
    given: dict[str, list[Any]] = {}
    for plans in ("off", "always"):
        with tf.Graph().as_default():
            v = tf.Variable(floats(60), dtype=tf.float32)
            x = tf.placeholder(tf.float32, [60])
            step = tf.assign(v, tf.abs(v * 0.5 - x) + 1.0)
            with tf.control_dependencies([step]):
                after = tf.square(v.read_value()) - x
            with tf.Session(config=config(plans)) as session:
                session.run(tf.global_variables_initializer())
                given[plans] = []
                for i in range(8):
                    given[plans].append(session.run([after, step], {x: floats(60, seed=i)}))
                    given[plans].append([session.run(v)])
                    for segment in quiet(session):
                        if i == 4:
                            segment.fuse()
                if plans == "always":
                    assert any(segment.fusions for segment in segments_of(session))
    for one, other in zip(given["always"], given["off"], strict=True):
        same(one, other)


# Steps as no kernel of ours would have them: buffers written again and again, other orders of axes, parts of buffers.


class Steps:
    """Draws steps for a recorder, over buffers that hold something."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.recorder = Recorder(exact=False)
        self.inputs = [
            self.recorder.new(np.dtype("f4"), shape, home=Home.INPUT) for shape in ((4, 6), (6,), (4, 1), ())
        ]
        self.outputs = [self.recorder.new(np.dtype("f4"), (4, 6), home=Home.OUTPUT) for _ in range(2)]
        for each in self.outputs:
            self.recorder.fill(each, 0.5)
        self.known = [*self.inputs, *self.outputs]

    def operand(self) -> View:
        view = self.draw(st.sampled_from(self.known))
        if view.shape == (4, 6) and self.draw(st.integers(0, 9)) == 0:
            return view.at(0, 1, 1)  # a row
        return view

    def target(self) -> View:
        """A new buffer, in one order or the other, or one that is there."""
        kind = self.draw(st.integers(0, 5))
        if kind < 2:
            mine = [each for each in self.known if each.shape == (4, 6) and each not in self.inputs]
            return self.draw(st.sampled_from(mine))
        return self.recorder.new(np.dtype("f4"), (4, 6), (4, 16) if kind == 2 else None)

    def step(self) -> None:
        kind = self.draw(
            st.sampled_from(
                ["add", "subtract", "maximum", "minimum", "negative", "copy", "fill", "choose", "max"]
            )
        )
        target = self.target()
        operands = [self.operand() for _ in range(3)]
        if kind == "max":
            target = self.recorder.new(np.dtype("f4"), (4, 1))
            self.recorder.reduce(
                "maximum", next(v for v in (*operands, self.inputs[0]) if v.shape == (4, 6)), target, (1,)
            )
        elif any(each.slot == target.slot and each != target for each in operands):
            return
        elif kind == "fill":
            self.recorder.fill(target, self.draw(st.integers(-1, 2)))
        elif kind == "copy":
            self.recorder.copy(operands[0], target)
        elif kind == "choose":
            test = self.recorder.new(np.dtype("?"), (4, 6))
            self.recorder.ufunc("less", [operands[2], self.inputs[0]], [test])
            if operands[2].slot != target.slot:
                self.recorder.select(test, *operands[:2], target)
        else:
            self.recorder.ufunc(kind, operands[: 1 if kind == "negative" else 2], [target])
        if target not in self.known and any(target in each.writes for each in self.recorder.steps):
            self.known.append(target)

    def give(self) -> None:
        """What some of the buffers hold at the end is given."""
        self.recorder.mark_step("place", self.recorder.label())
        for each in self.draw(
            st.lists(st.sampled_from(self.known), min_size=1, max_size=6, unique_by=lambda v: v.slot)
        ):
            made = self.recorder.new(each.dtype, each.shape, home=Home.OUTPUT)
            self.recorder.copy(each, made)
            self.outputs.append(made)

    def loop(self, count: int) -> None:
        recorder = self.recorder
        at, test = recorder.new(np.dtype("i8"), ()), recorder.new(np.dtype("?"), ())
        top, out = recorder.label(), recorder.label()
        recorder.fill(at, 0)
        recorder.mark_step("loop")
        recorder.mark_step("place", top)
        recorder.ufunc("less", [at, recorder.constant(np.int64(3))], [test])
        recorder.mark_step("jump_if_false", out, [test])
        for _ in range(count):
            self.step()
        recorder.ufunc("add", [at, recorder.constant(np.int64(1))], [at])
        recorder.mark_step("jump", top)
        recorder.mark_step("place", out)
        recorder.mark_step("end")


@given(st.data())
@examples(15)
def test_steps_of_any_kind(data: st.DataObject) -> None:
    steps = data.draw(st.composite(Steps)())
    for loops, count in data.draw(
        st.lists(st.tuples(st.booleans(), st.integers(2, 7)), min_size=1, max_size=4)
    ):
        if loops:
            steps.loop(count)
        else:
            for _ in range(count):
                steps.step()
    steps.give()
    segment = Segment(steps.recorder, steps.inputs, steps.outputs)
    arrays = [floats(*view.shape, seed=i) for i, view in enumerate(steps.inputs)]
    wanted = [each.copy() for each in segment.run(None, *arrays) or ()]
    segment.fuse()
    for _ in range(2):
        for one, other in zip(segment.run(None, *arrays) or (), wanted, strict=True):
            np.testing.assert_array_equal(one, other)


# When.


def test_it_comes_in_the_background_and_changes_nothing() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [5000])
        y = tf.nn.relu(x * 2.0 - 1.0) * x + 0.5
        with tf.Session(config=config()) as session:
            feed = {x: floats(5000)}
            for _ in range(3):
                wanted = session.run(y, feed)
            (segment,) = segments_of(session)
            assert segment.heat is not None and segment.heat.left > 1 and not segment.fusions
            before = segment.tape
            for _ in range(2):  # first it is found out whether it pays
                if segment.heat.left:
                    segment.heat.left = 1
                same([session.run(y, feed)], [wanted])
                if segment.heat.future is not None:
                    segment.heat.future.result(60)
            assert segment.tape is not before and len(segment.fusions) == 1
            same([session.run(y, feed)], [wanted])
            assert segment.heat.left == 0 and segment.heat.take() is None


def test_what_is_not_worth_it_yet_is_counted_on() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [200])
        y = tf.nn.relu(x * 2.0 - 1.0) * x + 0.5
        with tf.Session(config=config()) as session:
            for _ in range(3):
                session.run(y, {x: floats(200)})
            (segment,) = segments_of(session)
            assert segment.heat is not None
            first = segment.heat.left
            segment.heat._runs = 10  # as if it had begun to count there
            segment.heat.begin(segment).result(60)
            assert not segment.fusions and segment.heat.future is None and segment.heat.left > 1000 < first


def test_what_saves_little_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "_LEAST", 1e6)
    found = ran(lambda x: [x + 1.0, x * 1.5, -x, tf.tanh(x)], [floats(2)])
    (segment,) = found["segments"]
    assert not segment.fusions and segment.heat is not None and segment.heat.left == 0
    ((owners, why),) = segment.heat.declined
    assert len(owners) == 4 and "would save" in why


def test_exact_never_fuses() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [50000])
        y = tf.exp(tf.tanh(x * 2.0) - 1.0) * 3.0
        with tf.Session(config=config(exact=True)) as session:
            for _ in range(5):
                session.run(y, {x: floats(50000)})
            (segment,) = segments_of(session)
            segment.fuse()
            assert segment.heat is None and not segment.fusions
