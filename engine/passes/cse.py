"""Common subexpressions: what is computed twice from the same inputs is computed once.

As Grappler's `common_subgraph_elimination`: two nodes are the same if they have the same type, attrs, device, inputs and control
inputs (so they are in one frame, and alive together), the order of inputs not counting where the op is commutative.  Nothing that
has state is merged, nor anything that reads a variable through its reference, since it matters when that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.passes.facts import Facts
from engine.passes.rewrite import Draft
from engine.passes.stage import StageNode

# The same to the bit with inputs exchanged, but for which of two NaNs it is.  Maximum is not: of 0.0 and -0.0 it gives the first.
COMMUTATIVE = frozenset({
    "Add", "AddV2", "Mul", "Equal", "NotEqual", "LogicalAnd", "LogicalOr", "BitwiseAnd", "BitwiseOr",
    "BitwiseXor", "SquaredDifference",
})  # fmt: skip
_FLOWS = frozenset({"", "switch", "merge", "exit", "loop_cond", "enter"})
_NEVER = frozenset({"PyFuncStateless", "NoOp", "_Send", "_Recv"})
_HASHED_BYTES = 1 << 16


def run(draft: Draft, facts: Facts) -> None:
    seen: dict[Any, list[str]] = {}
    stands: dict[str, str] = {}
    merges: list[tuple[str, str, str]] = []

    def now(name: str) -> str:
        while name in stands:
            name = stands[name]
        return name

    for name, node in draft.nodes.items():
        if not node.output_dtypes or node.type in _NEVER or not _mergeable(facts, node):
            continue
        alike = seen.setdefault(_key(node, now), [])
        for i, other in enumerate(alike):
            if other not in stands and same_attrs(draft.nodes[other].attrs, node.attrs):
                if not draft.is_kept(name):
                    stands[name] = other
                    merges.append((name, other, f"computes the same as '{other}'"))
                elif not draft.is_kept(other):
                    stands[other] = name
                    merges.append((other, name, f"computes the same as '{name}'"))
                    alike[i] = name
                break
        else:
            alike.append(name)
    if merges:
        draft.merge_all(merges)


def _mergeable(facts: Facts, node: StageNode) -> bool:
    if node.opdef.flow not in _FLOWS or not facts.quiet(node.name):
        return False
    return node.opdef.flow != "enter" or bool(node.attrs["is_constant"])


def _key(node: StageNode, now: Callable[[str], str]) -> Any:
    """What alike nodes share; `now` names the node that stands for another by now."""
    controls = frozenset([now(each) for each in node.control_inputs])
    if node.type == "Const":
        value = node.attrs["value"]
        content: Any = (
            value.tobytes() if value.nbytes <= _HASHED_BYTES and not value.dtype.hasobject else id(value)
        )
        return (
            node.output_dtypes[0],
            value.shape,
            value.strides,
            content,
            controls,
            node.device,
        )
    inputs = [(now(source), slot) for source, slot in node.inputs]
    if node.type in COMMUTATIVE:
        inputs.sort()
    return node.opdef, tuple(inputs), controls, node.device


def same_attrs(a: Any, b: Any) -> bool:
    """Whether two nodes' attrs say the same."""
    if a is b:
        return True
    return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and (a.shape, a.strides) == (b.shape, b.strides)
            and (bool((a == b).all()) if a.dtype.hasobject else a.tobytes() == b.tobytes())
        )
    return type(a) is type(b) and bool(a == b)
