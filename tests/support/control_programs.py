"""Random programs of nested control flow as plain data, and what builds them with any module that has TensorFlow 1's interface.

Nothing of ours and nothing of TensorFlow's is imported here: the maker of `tests/golden/control_flow.npz` builds the
programs with TensorFlow, the test with the engine, and both see the same trees.

A program is a nested list, an expression whose value is three floats.  Its leaves are the inputs of the program ("x", k), the
variables of the loop around it ("v", k), those of the loop outside that ("o", k), rows of a table ("row") and, in what a
"slope" is
the gradient of, what it is the gradient by ("t").  "counter" in a predicate is that of the loop around it.  Values are
kept small, so that float32 says enough.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

INPUTS = 2
SIZE = 3
ROWS = 4
DEPTH = 3
COUNT = 80

_SIMPLE = ("sin", "tanh", "square", "scale", "turn")
_PAIRS = ("add", "sub", "mul", "max", "over", "spread")
_FLOW = ("cond", "while", "while", "array", "map", "slope")


# Making them.


def program(seed: int) -> Any:
    """The expression with that number."""
    return _expression(random.Random(seed), depth=0, variables=0, outer=0, budget=4)


def _leaf(rng: random.Random, variables: int, outer: int, slope: bool = False) -> Any:
    kinds = (
        ["x", "row"]
        + ["v"] * (3 if variables else 0)
        + ["o"] * (1 if outer else 0)
        + ["t"] * (4 if slope else 0)
    )
    kind = rng.choice(kinds)
    if kind in ("row", "t"):
        return [kind]
    return [kind, rng.randrange({"x": INPUTS, "v": variables, "o": outer}[kind])]


def _expression(
    rng: random.Random, depth: int, variables: int, outer: int, budget: int, slope: bool = False
) -> Any:
    """An expression in which control flow nests `DEPTH - depth` deep; `budget` bounds how deep it is without.

    slope: it is what a "slope" is of, and has no control flow in it.
    """

    def part(deeper: bool = False, inner: int | None = None, **options: Any) -> Any:
        inside = (inner, variables) if inner is not None else (variables, outer)
        return _expression(rng, depth + deeper, *inside, budget - 1, **{"slope": slope, **options})

    if budget <= 0:
        return _leaf(rng, variables, outer, slope)
    kinds = [*_SIMPLE, *_PAIRS, "leaf"]
    if not slope and depth < DEPTH:
        kinds += _FLOW * 4
    kind = rng.choice(kinds)
    if kind == "leaf":
        return _leaf(rng, variables, outer, slope)
    if kind == "scale":
        return [kind, rng.choice([-0.5, 0.25, 0.75, 1.5]), part()]
    if kind in _SIMPLE:
        return [kind, part()]
    if kind in _PAIRS:
        return [kind, part(), part()]
    if kind == "cond":
        pred = (
            ["counter", rng.randrange(2)]
            if variables and rng.random() < 0.6
            else ["positive", part(slope=True)]
        )
        return [kind, pred, part(deeper=True), part(deeper=True)]
    if kind == "slope":
        # Straight-line: TensorFlow has no gradients through the gradient of control flow.
        return [kind, part(slope=True), _leaf(rng, variables, outer)]
    options = {"parallel": rng.choice([1, 2, 10]), "swap": rng.random() < 0.2}
    if kind in ("array", "map"):
        return [kind, options, part(deeper=True, inner=1), part()]
    count = rng.randint(1, 3)
    times = rng.randrange(4)
    limit = rng.choice([None, None, 2])
    starts = [part() for _ in range(count)]
    bodies = [part(deeper=True, inner=count) for _ in range(count)]
    return [kind, {**options, "times": times, "limit": limit}, starts, bodies, rng.randrange(count)]


def inputs(seed: int) -> list[Any]:
    """The arrays to feed: `INPUTS` of shape [SIZE], and the table of shape [ROWS, SIZE]."""
    rng = np.random.default_rng(seed)
    shapes = [(SIZE,)] * INPUTS + [(ROWS, SIZE)]
    return [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]


# Building them.


class Scope:
    """What the leaves mean at one place of a program."""

    def __init__(
        self, inputs: list[Any], counter: Any = 1, variables: Any = (), outer: Any = (), slope: Any = None
    ) -> None:
        self.inputs, self.counter, self.variables, self.outer, self.slope = (
            inputs,
            counter,
            variables,
            outer,
            slope,
        )

    def inside(self, counter: Any, variables: Any) -> Scope:
        return Scope(self.inputs, counter, variables, self.variables)

    def along(self, slope: Any) -> Scope:
        return Scope(self.inputs, self.counter, self.variables, self.outer, slope)


def build(tf: Any, tree: Any, scope: Scope) -> Any:
    """The tensor of an expression."""
    kind, *rest = tree
    return globals()[f"_{kind}"](tf, scope, *rest)


def _x(tf: Any, scope: Scope, k: int) -> Any:
    return scope.inputs[k]


def _v(tf: Any, scope: Scope, k: int) -> Any:
    return scope.variables[k]


def _o(tf: Any, scope: Scope, k: int) -> Any:
    return scope.outer[k]


def _t(tf: Any, scope: Scope) -> Any:
    return scope.inputs[0] if scope.slope is None else scope.slope


def _row(tf: Any, scope: Scope) -> Any:
    index = scope.counter % ROWS if not isinstance(scope.counter, int) else tf.constant(scope.counter)
    return tf.gather(scope.inputs[-1], index)


def _sin(tf: Any, scope: Scope, a: Any) -> Any:
    return tf.sin(build(tf, a, scope))


def _tanh(tf: Any, scope: Scope, a: Any) -> Any:
    return tf.tanh(build(tf, a, scope))


def _square(tf: Any, scope: Scope, a: Any) -> Any:
    return tf.square(tf.tanh(build(tf, a, scope)))


def _scale(tf: Any, scope: Scope, factor: float, a: Any) -> Any:
    return build(tf, a, scope) * factor


def _turn(tf: Any, scope: Scope, a: Any) -> Any:
    value = build(tf, a, scope)
    return tf.concat([value[1:], value[:1]], 0)


def _pair(tf: Any, scope: Scope, a: Any, b: Any) -> tuple[Any, Any]:
    first = build(tf, a, scope)
    return first, build(tf, b, scope)


def _add(tf: Any, scope: Scope, a: Any, b: Any) -> Any:
    first, second = _pair(tf, scope, a, b)
    return first + second


def _sub(tf: Any, scope: Scope, a: Any, b: Any) -> Any:
    first, second = _pair(tf, scope, a, b)
    return first - second


def _mul(tf: Any, scope: Scope, a: Any, b: Any) -> Any:
    first, second = _pair(tf, scope, a, b)
    return tf.tanh(first) * second


def _max(tf: Any, scope: Scope, a: Any, b: Any) -> Any:
    first, second = _pair(tf, scope, a, b)
    return tf.maximum(first, second)


def _over(tf: Any, scope: Scope, a: Any, b: Any) -> Any:
    first, second = _pair(tf, scope, a, b)
    return first / (second * second + 1.0)


def _spread(tf: Any, scope: Scope, a: Any, b: Any) -> Any:
    first, second = _pair(tf, scope, a, b)
    return tf.reduce_mean(first) * tf.tanh(second)


def _cond(tf: Any, scope: Scope, pred: Any, a: Any, b: Any) -> Any:
    kind, argument = pred
    if kind == "counter":
        chosen = tf.equal(scope.counter % 2, argument)
    else:
        chosen = tf.reduce_sum(build(tf, argument, scope)) > 0.0
    return tf.cond(chosen, lambda: build(tf, a, scope), lambda: build(tf, b, scope))


def _while(tf: Any, scope: Scope, options: Any, starts: Any, bodies: Any, result: int) -> Any:
    def body(i: Any, *variables: Any) -> Any:
        inner = scope.inside(i, variables)
        return [i + 1, *(tf.tanh(build(tf, each, inner)) for each in bodies)]

    found = tf.while_loop(
        lambda i, *_: i < options["times"],
        body,
        [tf.constant(0), *(build(tf, each, scope) for each in starts)],
        parallel_iterations=options["parallel"],
        swap_memory=options["swap"],
        maximum_iterations=options["limit"],
    )
    return found[1 + result]


def _array(tf: Any, scope: Scope, options: Any, body: Any, start: Any) -> Any:
    """A loop that reads from one TensorArray and writes to another."""
    dtype = scope.inputs[-1].dtype
    rows = tf.TensorArray(dtype, size=ROWS).unstack(scope.inputs[-1])
    written = tf.TensorArray(dtype, size=ROWS)

    def step(i: Any, value: Any, array: Any) -> Any:
        value = tf.tanh(build(tf, body, scope.inside(i, [value + rows.read(i)])))
        return i + 1, value, array.write(i, value)

    _, _, written = tf.while_loop(
        lambda i, *_: i < ROWS,
        step,
        (tf.constant(0), build(tf, start, scope), written),
        parallel_iterations=options["parallel"],
        swap_memory=options["swap"],
    )
    return tf.reduce_mean(written.stack(), axis=0)


def _map(tf: Any, scope: Scope, options: Any, body: Any, factor: Any) -> Any:
    value = build(tf, factor, scope)
    mapped = tf.map_fn(
        lambda row: tf.tanh(build(tf, body, scope.inside(2, [row * value]))),
        scope.inputs[-1],
        parallel_iterations=options["parallel"],
        swap_memory=options["swap"],
    )
    return tf.reduce_mean(mapped, axis=0)


def _slope(tf: Any, scope: Scope, a: Any, by: Any) -> Any:
    """The gradient of one expression by a value in it ("t"), as a value."""
    t = tf.tanh(build(tf, by, scope))
    value = build(tf, a, scope.along(t)) * t
    return tf.tanh(tf.gradients(value, t)[0])


class Built:
    """A program in the default graph: inputs, the scalar that is made of its value, and that one's gradients by the inputs."""

    def __init__(self, tf: Any, tree: Any, dtype: Any = None) -> None:
        shapes = [[SIZE]] * INPUTS + [[ROWS, SIZE]]
        dtype = tf.float32 if dtype is None else dtype
        self.inputs = [tf.placeholder(dtype, shape, name=f"x{k}") for k, shape in enumerate(shapes)]
        value = build(tf, tree, Scope(self.inputs))
        self.result = tf.reduce_sum(value * [1.0, -2.0, 0.5], name="result")
        found = tf.gradients(self.result, self.inputs)
        self.kinds = "".join("-" if g is None else "s" if hasattr(g, "indices") else "d" for g in found)
        self.gradients = [
            None if g is None else tf.convert_to_tensor(g, name=f"g{k}") for k, g in enumerate(found)
        ]
        self.wanted = [self.result, *(g for g in self.gradients if g is not None)]


def nodes_of(graph_def: Any, wanted: list[Any]) -> list[Any]:
    """[name, op, inputs] of every node that the tensors `wanted` need, by name.

    TensorFlow's gradient functions also leave nodes behind that nothing needs: what they found out while building.
    """
    nodes = {node.name: node for node in graph_def.node}
    needed: set[str] = set()
    stack = [tensor.op.name for tensor in wanted]
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack.extend(each.removeprefix("^").partition(":")[0] for each in nodes[name].input)
    return sorted([name, nodes[name].op, list(nodes[name].input)] for name in needed)
