"""Common subexpressions: what is computed twice from the same inputs is computed once.

As Grappler's `common_subgraph_elimination`: two nodes are the same if they have the same type, attrs, device, inputs and control
inputs (so they are in one frame, and alive together), the order of inputs not counting where the op is commutative.  Nothing that
has state is merged, nor anything that reads a variable through its reference, since it matters when that runs.
"""

from __future__ import annotations

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
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if not node.output_dtypes or node.type in _NEVER or not _mergeable(facts, node):
            continue
        alike = seen.setdefault(_key(node), [])
        for i, other in enumerate(alike):
            if other in draft.nodes and same_attrs(draft.nodes[other].attrs, node.attrs):
                if not draft.is_kept(name):
                    draft.merge(name, other, f"computes the same as '{other}'")
                elif not draft.is_kept(other):
                    draft.merge(other, name, f"computes the same as '{name}'")
                    alike[i] = name
                break
        else:
            alike.append(name)


def _mergeable(facts: Facts, node: StageNode) -> bool:
    if node.opdef.flow not in _FLOWS or not facts.quiet(node.name):
        return False
    return node.opdef.flow != "enter" or bool(node.attrs["is_constant"])


def _key(node: StageNode) -> Any:
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
            frozenset(node.control_inputs),
            node.device,
        )
    inputs = tuple(sorted(node.inputs)) if node.type in COMMUTATIVE else node.inputs
    return node.opdef, inputs, frozenset(node.control_inputs), node.device


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
