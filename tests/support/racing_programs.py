"""Random small programs that read and write variables in an order that is partly open, and what all their orders come to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

import engine as tf

VARIABLES = 2


class Op(NamedTuple):
    """One operation of a random program.

    kind: 'read' of `variable`; 'assign' or 'add' to it of the value of operation `source` (-1: a number of its own) plus 1.
    after: operations that it waits for.
    """

    kind: str
    variable: int
    source: int
    after: tuple[int, ...]


@st.composite
def programs(draw: Callable[..., Any]) -> list[Op]:
    count = draw(st.integers(2, 5))
    ops: list[Op] = []
    for index in range(count):
        kind = draw(st.sampled_from(["read", "assign", "add"]))
        variable = draw(st.integers(0, VARIABLES - 1))
        reads = [i for i, op in enumerate(ops) if op.kind == "read"]
        source = -1
        if kind != "read" and reads:
            source = draw(st.sampled_from([-1, *reads]))
        after = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        ops.append(Op(kind, variable, source, tuple(sorted(after))))
    return ops


def build(ops: Sequence[Op]) -> tuple[list[Any], list[Any]]:
    """The program as a graph: what initializes it, and what to run (the values read, and the operations)."""
    variables = [tf.Variable(float(10 * i + 1), name=f"v{i}") for i in range(VARIABLES)]
    nodes: list[Any] = []
    for index, op in enumerate(ops):
        target = variables[op.variable]
        with tf.control_dependencies([nodes[i] for i in op.after]):
            if op.kind == "read":
                node = target.read_value()
            else:
                value = tf.constant(float(2 + index)) if op.source < 0 else nodes[op.source] + 1.0
                change = tf.assign if op.kind == "assign" else tf.assign_add
                node = change(target, value, name=f"op{index}").op
            nodes.append(node)
    return [each.initializer for each in variables], nodes


def naive_outcomes(ops: Sequence[Op]) -> tuple[set[tuple[float, ...]], int]:
    """What all orders come to, by trying each permutation of the operations that keeps to the edges; and how many there are."""
    found = set()
    orders = 0
    for order in itertools.permutations(range(len(ops))):
        place = {index: at for at, index in enumerate(order)}
        needs = [(i, index) for index, op in enumerate(ops) for i in (*op.after, op.source) if i >= 0]
        if any(place[early] > place[late] for early, late in needs):
            continue
        orders += 1
        held = [float(10 * i + 1) for i in range(VARIABLES)]
        read: dict[int, float] = {}
        for index in order:
            op = ops[index]
            if op.kind == "read":
                read[index] = held[op.variable]
                continue
            value = float(2 + index) if op.source < 0 else read[op.source] + 1.0
            held[op.variable] = value if op.kind == "assign" else held[op.variable] + value
        found.add((*(read[i] for i in sorted(read)), *held))
    return found, orders
