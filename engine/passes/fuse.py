"""Fuse: trees of elementwise ops as one node.

A group grows from its root, whose value is the node's: an elementwise op joins if everything that reads it is in the group, if it
is computed on the root's shape and device, and if no control edge comes to it or goes from it.  Nothing outside can then see the
values in between, nor come between two of the ops, and no cycle can arise.  The result is the same bit for bit
(`engine.op.fused_program`): an op for which its device has a kernel of its own stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.op.fused_program import NAMES, Step, step, write
from engine.op.registry import OpDef, lookup
from engine.passes.facts import Facts
from engine.passes.order import topological
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode
from engine.types import dtypes

# Each output element is made of the input elements at its place, or of those that broadcast there.
ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "AddN", "AddV2", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "BiasAdd", "BiasAddV1",
    "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "ClipByValue", "Conj", "Cos", "Cosh", "Div", "DivNoNan", "Elu",
    "EluGrad", "Equal", "Erf", "Erfc", "Exp", "Expm1", "Floor", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Inv",
    "InvGrad", "Invert", "IsFinite", "IsInf", "IsNan", "LeakyRelu", "LeakyReluGrad", "LeftShift", "Less", "LessEqual",
    "Lgamma", "Log", "Log1p", "LogicalAnd", "LogicalNot", "LogicalOr", "Maximum", "Minimum", "Mod", "Mul", "MulNoNan", "Neg",
    "NotEqual", "OnesLike", "Pow", "RealDiv", "Reciprocal", "ReciprocalGrad", "Relu", "Relu6", "Relu6Grad", "ReluGrad",
    "RightShift", "Rint", "Round", "Rsqrt", "RsqrtGrad", "Select", "SelectV2", "Selu", "SeluGrad", "Sigmoid", "SigmoidGrad",
    "Sign", "Sin", "Sinh", "Softplus", "SoftplusGrad", "Softsign", "SoftsignGrad", "Sqrt", "SqrtGrad", "Square",
    "SquaredDifference", "Sub", "Tan", "Tanh", "TanhGrad", "TruncateDiv", "TruncateMod", "Xdivy", "Xlogy", "ZerosLike",
})  # fmt: skip
MOST_STEPS = 64  # of one node: a compiler's patience, and a person's


def run(draft: Draft, facts: Facts) -> None:
    """Every group of two or more becomes a `_FusedElementwise` under its root's name."""
    order = topological(draft.nodes)
    root_of: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for name in reversed(order):
        if not _fusable(draft.nodes[name], facts):
            continue
        root = _root_for(name, root_of, draft, facts)
        if root is None or len(groups[root]) == MOST_STEPS:
            root = name
            groups[root] = []
        root_of[name] = root
        groups[root].append(name)
    for members in groups.values():
        if len(members) > 1:
            _fuse(draft, members[::-1])


def _fusable(node: StageNode, facts: Facts) -> bool:
    if node.type not in ELEMENTWISE or not facts.pure(node.name) or not facts.shares(node.name, _fused()):
        return False
    kinds = (*node.input_dtypes, *node.output_dtypes)
    if dtypes.string in kinds:
        return False
    # Arithmetic on int32 is the host's on a GPU: it does not mix with what is the GPU's.
    if dtypes.int32 in kinds and any(kind is not dtypes.int32 for kind in kinds):
        return False
    if node.type == "Select":  # its condition may choose rows
        return len({facts.dims(edge) for edge in node.inputs}) == 1
    return True


def _fused() -> OpDef:
    opdef = lookup("_FusedElementwise")
    assert opdef is not None
    return opdef


def _root_for(name: str, root_of: dict[str, str], draft: Draft, facts: Facts) -> str | None:
    """The root of the group that the node can join, or None."""
    node = draft.nodes[name]
    users = draft.consumers(name)
    roots = {root_of.get(user) for user in users}
    if len(roots) != 1 or None in roots or node.control_inputs or draft.is_kept(name):
        return None
    if any(name in draft.nodes[user].control_inputs for user in users):
        return None
    (found,) = roots
    assert found is not None
    root = draft.nodes[found]
    same = (
        facts.dims((name, 0)) == facts.dims((found, 0))
        and node.device == root.device
        and (dtypes.int32 in node.output_dtypes) == (dtypes.int32 in root.output_dtypes)
    )
    return found if same else None


def _fuse(draft: Draft, members: Sequence[str]) -> None:
    """Make one node of `members`, which are in order, the root last."""
    root = draft.nodes[members[-1]]
    results = {name: f"t{i}" for i, name in enumerate(members)}
    inputs: dict[Edge, str] = {}
    steps: list[Step] = []
    for name in members:
        node = draft.nodes[name]
        operands = [
            results[source] if source in results else inputs.setdefault((source, slot), f"x{len(inputs)}")
            for source, slot in node.inputs
        ]
        steps.append(step(node.opdef, operands, node.attrs))
    attrs = {name: value for name, value in root.attrs.items() if name.startswith("_")}
    attrs |= {"T": root.output_dtypes[0], "program": write(steps), NAMES: tuple(members)}
    reason = f"{in_words([each.type for each in steps])} as one node"
    draft.replace(
        members[-1], opdef=_fused(), inputs=list(inputs), attrs=attrs, sources=members[:-1], reason=reason
    )
    for name in reversed(members[:-1]):
        draft.remove(name, f"part of '{members[-1]}': {reason}")


def in_words(types: Sequence[str]) -> str:
    """``"MatMul + BiasAdd + Relu"``, with how many more there are where they are many."""
    return " + ".join(types[:6]) + (f" and {len(types) - 6} more" if len(types) > 6 else "")
