"""Layer normalization, found where users wrote it: the mean and variance along the last axis, and what they normalize.

What is looked for is one pattern with alternatives, rooted at its last op; μ, σ² are the means over the last axis of x and of
(x - μ)² or its like, and scale and offset may be missing:

- by a gain, as `tf.nn.batch_normalization` has it: x·g + (offset - μ·g), where g = scale / √(σ² + ε)
- by the centered x: (x - μ)·g + offset, or (x - μ)/√(σ² + ε)·scale + offset

Nothing else may read, fetch or wait for what is in between: with gradients in the graph something does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.op.fused_program import NAMES, step, write
from engine.op.registry import OpDef, lookup
from engine.passes.facts import Facts
from engine.passes.patterns import Pattern, any_, op
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode

_FAR = 6  # how many ops the last one is behind the root of the variance, at most
_ON_THE_WAY = frozenset({"Add", "AddV2", "Mul", "Neg", "RealDiv", "Sub"})
_INPUTS = ("x", "epsilon", "scale", "offset", "axes")


@dataclass(frozen=True, slots=True)
class _OneOf(Pattern):
    """The first of several patterns that an edge is, and after it the others."""

    choices: tuple[Pattern, ...] = ()

    def matches(
        self, draft: Draft, facts: Facts, edge: Edge, bound: dict[str, Edge]
    ) -> Iterator[dict[str, Edge]]:
        for each in self.choices:
            yield from each.matches(draft, facts, edge, bound)


def _one_of(*choices: Pattern) -> Pattern:
    return _OneOf(choices=choices)


def _pattern() -> Pattern:
    add, x, scale, offset = "Add AddV2", any_("x"), any_("scale"), any_("offset")
    mean = op("Mean", x, any_("axes"), name="mean")
    same = _one_of(mean, op("StopGradient", mean), op("Identity", mean))
    centered = op("Sub", x, same, name="centered")
    squares = _one_of(
        op("SquaredDifference", x, same, swaps=True),
        op("Square", centered),
        op("Mul", centered, centered),
    )
    spread = op(add, op("Mean", squares, any_("variance axes")), any_("epsilon"), swaps=True)
    inverse = op("Rsqrt", spread, name="inverse")
    gain = _one_of(op("Mul", inverse, scale, swaps=True, name="gain"), op("Rsqrt", spread, name="gain"))
    moved = _one_of(
        op("Sub", offset, op("Mul", same, gain, swaps=True)),
        op("Mul", op("Neg", same), gain, swaps=True),
        op("Neg", op("Mul", same, gain, swaps=True)),
    )
    normal = _one_of(op("Mul", centered, inverse, swaps=True), op("RealDiv", centered, op("Sqrt", spread)))
    scaled = _one_of(
        op("Mul", normal, scale, swaps=True),
        op("Mul", centered, op("Mul", inverse, scale, swaps=True), swaps=True),
        normal,
    )
    return _one_of(
        op(add, op("Mul", x, gain, swaps=True), moved, swaps=True),
        op(add, scaled, offset, swaps=True),
        scaled,
    )


_PATTERN = _pattern()


def run(draft: Draft, facts: Facts) -> None:
    """Every layer normalization of which nothing else needs a part becomes a `_FusedLayerNorm` under its last op's name."""
    for name in list(draft.nodes):
        node = draft.nodes.get(name)
        if node is None or node.type not in ("Rsqrt", "Sqrt"):
            continue
        for root in _roots(name, draft):
            if name not in draft.nodes:  # part of what was found already
                break
            if root in draft.nodes:
                _fuse_at(root, draft, facts)


def _roots(name: str, draft: Draft) -> list[str]:
    """The nodes that may be the last of what begins at `name`, the furthest first."""
    found: dict[str, None] = {}
    front = [name]
    for _ in range(_FAR):
        users = dict.fromkeys(user for each in front for user in draft.consumers(each))
        front = [user for user in users if draft.nodes[user].type in _ON_THE_WAY]
        for user in front:
            found.pop(user, None)
            found[user] = None
    return list(found)[::-1]


def _fuse_at(root: str, draft: Draft, facts: Facts) -> None:
    for bound in _PATTERN.matches(draft, facts, (root, 0), {}):
        leaves = {bound[each] for each in (*_INPUTS, "variance axes") if each in bound}
        members = _members(root, leaves, draft)
        if members is not None and _may(members, bound, draft, facts):
            _fuse(members, bound, draft)
            return


def _members(root: str, leaves: set[Edge], draft: Draft) -> list[StageNode] | None:
    """The nodes between the leaves and the root, each after what it reads; None if a leaf is one of them."""
    found: dict[str, StageNode] = {}

    def visit(name: str) -> None:
        node = draft.nodes[name]
        for edge in node.inputs:
            if edge not in leaves and edge[0] not in found:
                visit(edge[0])
        found[name] = node

    visit(root)
    return None if any(leaf[0] in found for leaf in leaves) else list(found.values())


def _may(members: Sequence[StageNode], bound: Mapping[str, Edge], draft: Draft, facts: Facts) -> bool:
    """Whether these nodes may be one: along the last axis, one dtype, one device, and nothing else needs what is in between."""
    fused, root, names = _opdef(), members[-1], {node.name for node in members}
    rank = facts.dims(bound["x"])
    dtype = root.output_dtypes[0]
    allowed = fused.signature.attrs["T"].allowed
    if rank is None or facts.dims(bound["epsilon"]) != () or (allowed is not None and dtype not in allowed):
        return False
    for key in ("axes", "variance axes"):
        axes = facts.value(bound[key])
        if axes is None or np.ravel(axes).tolist() not in ([-1], [len(rank) - 1]):
            return False
    for node in members:
        if node.type == "Mean" and not node.attrs["keep_dims"]:
            return False
        if node.output_dtypes != (dtype,) or node.device != root.device or not facts.shares(node.name, fused):
            return False
        if node is not root and (
            draft.is_kept(node.name)
            or node.control_inputs
            or not names.issuperset(draft.consumers(node.name))
        ):
            return False
    return True


def _opdef() -> OpDef:
    found = lookup("_FusedLayerNorm")
    assert found is not None
    return found


def _fuse(members: Sequence[StageNode], bound: Mapping[str, Edge], draft: Draft) -> None:
    root = members[-1]
    inputs = [bound[each] for each in _INPUTS if each in bound]
    operands = {edge: f"x{i}" for i, edge in reversed(list(enumerate(inputs)))}
    operands.setdefault(bound["variance axes"], operands[bound["axes"]])
    for i, node in enumerate(members):
        operands[node.name, 0] = f"t{i}"
    steps = [step(node.opdef, [operands[edge] for edge in node.inputs], node.attrs) for node in members]
    names = tuple(node.name for node in members)
    reason = f"{len(members)} ops that normalize along the last axis as one kernel"
    attrs: dict[str, Any] = {name: value for name, value in root.attrs.items() if name.startswith("_")}
    attrs |= {
        "program": write(steps),
        "has_scale": "scale" in bound,
        "has_offset": "offset" in bound,
        "num_args": len(inputs) - 2,
        NAMES: names,
    }
    draft.replace(root.name, opdef=_opdef(), inputs=inputs, attrs=attrs, sources=names[:-1], reason=reason)
    for name in reversed(names[:-1]):
        draft.remove(name, f"part of '{root.name}': {reason}")
