"""Every row of the table of arithmetic rules: a program in which it applies; and programs in which rules must not be fooled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optimizing import plain, same_bits, types

import engine as tf
from engine.op.registry import raw
from engine.passes import pipeline
from engine.passes.arithmetic import RULES
from engine.passes.settings import RewriterConfig

X = np.array([[-2.0, -0.0, 3.5], [0.0, 7.25, -1e-3]], np.float32)
I = np.array([[-2, 0, 3], [5, 7, -1]], np.int32)  # noqa: E741 (integers)
B = np.array([[True, False, True], [False, False, True]])
POSITIVE = np.abs(X) + 1


def zeros(value: float = 0.0) -> Any:
    return tf.constant(value, tf.float32)


def twice(parts: list[Any]) -> Any:
    two = zeros(2.0)
    return tf.concat([part * two for part in parts], 0)


# What to build, from a tensor that holds the input; the rule that must fire; the op types left, but for constants.
CASES: dict[str, tuple[Any, Callable[[Any], Any], list[str]]] = {
    "x + -0": (X, lambda x: tf.sqrt(x + -0.0), ["Sqrt"]),
    "x + 0": (I, lambda x: tf.square(0 + x), ["Square"]),
    "x - 0": (X, lambda x: tf.sqrt(x - zeros()), ["Sqrt"]),
    "x * 1": (X, lambda x: tf.sqrt(tf.ones([3]) * x), ["Sqrt"]),
    "x / 1": (X, lambda x: tf.sqrt(x / 1.0), ["Sqrt"]),
    "x // 1": (I, lambda x: tf.square(x // 1), ["Square"]),
    "x and true": (B, lambda x: tf.reduce_any(tf.logical_and(x, tf.constant(True)), 0), ["Any"]),
    "x or false": (B, lambda x: tf.reduce_any(tf.logical_or(x, tf.constant(False)), 0), ["Any"]),
    "x ** n": (X, lambda x: tf.sqrt(tf.pow(x, 1.0)), ["Sqrt"]),
    "x ** special": (I, lambda x: tf.pow(x, 2), ["Square"]),
    "x * 0": (I, lambda x: tf.stack([tf.square(x) * 0, x]), ["Pack"]),
    "x and false": (B, lambda x: tf.stack([tf.logical_and(x, tf.constant(False)), x]), ["Pack"]),
    "x or true": (B, lambda x: tf.stack([tf.logical_or(x, tf.constant(True)), x]), ["Pack"]),
    "x ** 0": (X, lambda x: tf.sqrt(x) + tf.pow(x, 0.0), ["AddV2", "Sqrt"]),
    "x - x": (I, lambda x: tf.stack([x - x, x]), ["Pack"]),
    "0 - x": (I, lambda x: 0 - tf.square(x), ["Neg", "Square"]),
    "x + -y": (X, lambda x: -tf.square(x) + x, ["Square", "Sub"]),
    "x - -y": (X, lambda x: x - -tf.square(x), ["AddV2", "Square"]),
    "even of -x": (X, lambda x: tf.abs(-x), ["Abs"]),
    "f(f(x)) = x": (X, lambda x: tf.sqrt(-tf.negative(x)), ["Sqrt"]),
    "f(f(x)) = f(x)": (X, lambda x: tf.nn.relu(tf.nn.relu(x)), ["Relu"]),
    "not (x = y)": (X, lambda x: tf.logical_not(tf.equal(x, tf.sqrt(x))), ["NotEqual", "Sqrt"]),
    "not (x < y)": (I, lambda x: tf.logical_not(x < tf.square(x)), ["GreaterEqual", "Square"]),
    "cast to the same": (X, lambda x: tf.sqrt(raw.Cast(x, DstT=tf.float32)), ["Sqrt"]),
    "cast of cast": (I, lambda x: tf.cast(tf.cast(x, tf.float64), tf.int64), ["Cast"]),
    "transpose of nothing": (X, lambda x: tf.sqrt(tf.transpose(x, [0, 1])), ["Sqrt"]),
    "two transposes": (X, lambda x: tf.sqrt(tf.transpose(tf.transpose(x))), ["Sqrt"]),
    "reshape of reshape": (X, lambda x: tf.reshape(tf.reshape(x, [6]), [3, 2]), ["Reshape"]),
    "same shape": (X, lambda x: tf.sqrt(tf.reshape(x, [2, 3])), ["Sqrt"]),
    "whole slice": (X, lambda x: tf.sqrt(tf.slice(x, [0, 0], [-1, 3])), ["Sqrt"]),
    "whole strided": (X, lambda x: tf.sqrt(x[:, 0:]), ["Sqrt"]),
    "tile once": (X, lambda x: tf.sqrt(tf.tile(x, [1, 1])), ["Sqrt"]),
    "pad nothing": (X, lambda x: tf.sqrt(tf.pad(x, [[0, 0], [0, 0]])), ["Sqrt"]),
    "over no axis": (X, lambda x: tf.sqrt(tf.reduce_sum(x, tf.zeros([0], tf.int32))), ["Sqrt"]),
    "sum of one": (X, lambda x: tf.sqrt(raw.AddN([x])), ["Sqrt"]),
    "select": (X, lambda x: raw.Select(np.ones([2, 3], bool), tf.sqrt(x), tf.exp(x)), ["Sqrt"]),
    "(x + c) + d": (I, lambda x: (x + 3) + 4, ["AddV2"]),
    "(x * c) * d": (I, lambda x: 3 * (x * 4), ["Mul"]),
    "a*x + a*y": (I, lambda x: x * tf.square(x) + tf.abs(x) * x, ["Abs", "AddV2", "Mul", "Square"]),
    "concat of alike": (X, lambda x: twice([x, tf.sqrt(x)]), ["ConcatV2", "Mul", "Sqrt"]),
}  # fmt: skip
AGGRESSIVE: dict[str, tuple[Any, Callable[[Any], Any], list[str]]] = {
    "x * 0": (X, lambda x: tf.sqrt(x) * 0.0, []),
    "x ** special": (POSITIVE, lambda x: tf.pow(x, 0.5), ["Sqrt"]),
    "1/(1/x)": (POSITIVE, lambda x: tf.reciprocal(tf.reciprocal(x)), []),
    "a*x + a*y": (X, lambda x: x * tf.sin(x) + tf.cos(x) * x, ["AddV2", "Cos", "Mul", "Sin"]),
}
# Here the result would not be the same, or not always: nothing may change.
TRAPS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "minus zero plus zero": (X, lambda x: x + 0.0),
    "minus zero less minus zero": (X, lambda x: x - -0.0),
    "a float times zero": (np.array([np.nan, np.inf, -1], np.float32), lambda x: x * 0.0),
    "not less, of NaN": (np.array([np.nan, 1], np.float32), lambda x: tf.logical_not(x < 1.0)),
    "a zero that widens": (I[:1], lambda x: x + tf.zeros([4, 3], tf.int32)),
    "a one that widens": (X[:1], lambda x: x * tf.ones([4, 1])),
    "a cast that loses": (
        np.array([2**24 + 1], np.int32),
        lambda x: tf.cast(tf.cast(x, tf.float32), tf.int32),
    ),
    "a cast that wraps": (np.array([300], np.int32), lambda x: tf.cast(tf.cast(x, tf.int8), tf.int32)),
    "float floor division": (X, lambda x: x // 1.0),
    "a transpose that is one": (X, lambda x: tf.transpose(x, [1, 0])),
    "constants of floats": (X, lambda x: (x + 1e8) + -1e8),
    "a reshape of a view": (X, lambda x: tf.reshape(tf.reshape(tf.transpose(x), [6]), [3, 2])),
}


def both(value: Any, make: Callable[[Any], Any], **options: Any) -> tuple[Any, Any, Any]:
    """The result as written, the result as optimized by the arithmetic pass, and the optimized stage."""
    x = tf.placeholder(tf.as_dtype(value.dtype), value.shape, name="x")
    y = tf.identity(make(x), name="y")
    found = []
    chosen = {row.name: row.name in ("arithmetic", "fold", "dependencies") for row in pipeline.PASSES}
    rewriting = tf.ConfigProto(
        graph_options=tf.GraphOptions(rewrite_options=RewriterConfig(passes=chosen, **options))
    )
    for config in (plain(), rewriting):
        with tf.Session(config=config) as session:
            found.append(session.run(y, {x: value}))
            stage = session.stage_for(y, [x])
    return found[0], found[1], stage


def rest(stage: Any) -> list[str]:
    return [each for each in types(stage) if each not in ("Const", "Identity")]


def test_every_rule_has_a_case() -> None:
    assert {rule.name for rule in RULES} == CASES.keys() | AGGRESSIVE.keys()
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_makes_it_smaller_and_keeps_every_bit(name: str) -> None:
    value, make, expected = CASES[name]
    before, after, stage = both(value, make)
    assert same_bits(before, after)
    assert rest(stage) == expected
    (why,) = {rule.why for rule in RULES if rule.name == name}
    said = [node.lineage.reason for each in stage.chain() for node in each] + [
        r for each in stage.chain() for r in each.removed.values()
    ]
    assert any(why in reason for reason in said)


@pytest.mark.parametrize("name", AGGRESSIVE)
def test_an_inexact_rule_needs_to_be_asked_for(name: str) -> None:
    value, make, expected = AGGRESSIVE[name]
    before, after, stage = both(value, make)
    assert same_bits(before, after)
    assert rest(stage) != expected
    with tf.Graph().as_default():
        before, after, stage = both(value, make, arithmetic_optimization=RewriterConfig.AGGRESSIVE)
    np.testing.assert_allclose(after, np.nan_to_num(before), rtol=1e-6)
    assert rest(stage) == expected


@pytest.mark.parametrize("name", TRAPS)
def test_what_looks_equal_and_is_not_stays(name: str) -> None:
    value, make = TRAPS[name]
    before, after, stage = both(value, make)
    assert same_bits(before, after)
    assert len(rest(stage)) == len(
        [each for each in types(stage.chain()[1]) if each not in ("Const", "Identity")]
    )
