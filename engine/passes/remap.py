"""Remap: a product or convolution and what follows it as one node, under TensorFlow's names.

====================================================  ===========================================================
these, each read by the next only                     become one
====================================================  ===========================================================
MatMul, bias, activation                              `_FusedMatMul`
Conv2D, bias or batch normalization (inference),      `_FusedConv2D`
another summand, activation
batch normalization, Relu                             `_FusedBatchNormEx`
moments along the last axis, what they normalize      `_FusedLayerNorm` (ours; see `engine.passes.layer_norm`)
====================================================  ===========================================================

A bias is a BiasAdd, or an addition of a vector along the channels.  The result is the same bit for bit.  Where the option
`remapping` is AGGRESSIVE, batch normalization with constant parameters after a convolution with a constant filter is folded into
filter and bias instead, which rounds differently (by a few units in the last place of the largest summand).

As in TensorFlow's remapper; see there for why these patterns: they are what layers are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.op.fused import ACTIVATIONS
from engine.op.fused_program import NAMES
from engine.op.registry import OpDef, lookup
from engine.passes import layer_norm
from engine.passes.facts import Facts
from engine.passes.fuse import in_words
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode

_FUSED = {"MatMul": "_FusedMatMul", "Conv2D": "_FusedConv2D"}
_NORMALIZATIONS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_ADDITIONS = ("Add", "AddV2")
_BIASES = ("BiasAdd", "BiasAddV1", *_ADDITIONS)


@dataclass
class _Match:
    """A product and what has been found to follow it: members in order, what they are fused as, the further inputs."""

    members: list[StageNode]
    fused_ops: list[str] = field(default_factory=list)
    args: list[Edge] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> StageNode:
        return self.members[-1]

    def follow(
        self, node: StageNode, part: str, args: Sequence[Edge] = (), attrs: Mapping[str, Any] | None = None
    ) -> None:
        self.members.append(node)
        self.fused_ops.append(part)
        self.args.extend(args)
        self.attrs.update(attrs or {})


def run(draft: Draft, facts: Facts) -> None:
    folds = facts.settings.aggressive("remapping")
    for name in list(draft.nodes):
        node = draft.nodes.get(name)
        if node is None or not facts.pure(name):
            continue
        if node.type in _FUSED:
            if folds and node.type == "Conv2D":
                _fold_normalization(node, draft, facts)
            match = _match(draft.nodes[name], draft, facts)
            if match is not None:
                _fuse(match, draft)
        elif node.type in _NORMALIZATIONS:
            _fuse_normalization(node, draft, facts)
    layer_norm.run(draft, facts)


def _following(
    node: StageNode, fused: OpDef, draft: Draft, facts: Facts
) -> tuple[StageNode, Edge | None] | None:
    """What alone uses the node's first output, once, and its other operand if it has two; None if nothing that can join it."""
    users = draft.consumers(node.name)
    if len(users) != 1 or draft.is_kept(node.name):
        return None
    user = draft.nodes[users[0]]
    read = [edge for edge in user.inputs if edge[0] == node.name]
    if read != [(node.name, 0)] or node.name in user.control_inputs:
        return None
    if not facts.pure(user.name) or user.device != node.device or not facts.shares(user.name, fused):
        return None
    others = [edge for edge in user.inputs if edge[0] != node.name]
    return user, others[0] if len(others) == 1 else None


def _match(node: StageNode, draft: Draft, facts: Facts) -> _Match | None:
    """The longest pattern that begins at the product `node`."""
    opdef = _opdef(_FUSED[node.type])
    allowed = opdef.signature.attrs["T"].allowed
    if (allowed is not None and node.output_dtypes[0] not in allowed) or not facts.shares(node.name, opdef):
        return None
    match = _Match([node])
    for part in (_bias, _normalization, _summand, _activation):
        found = _following(match.last, opdef, draft, facts)
        if found is None:
            break
        part(match, *found, facts)
    return match if match.fused_ops else None


def _opdef(op_type: str) -> OpDef:
    found = lookup(op_type)
    assert found is not None, op_type
    return found


# The parts, in the order in which they may follow.


def _bias(match: _Match, user: StageNode, other: Edge | None, facts: Facts) -> None:
    if other is not None and user.type in _BIASES:
        bias = _bias_of(match.last, user, other, facts)
        if bias is not None:
            match.follow(user, "BiasAdd", [bias])


def _bias_of(node: StageNode, user: StageNode, other: Edge, facts: Facts) -> Edge | None:
    """The vector that `user` adds to the node's channels, if it does; with channels first that is what was reshaped for it."""
    data_format = node.attrs.get("data_format", "NHWC")
    if user.type not in _ADDITIONS:
        fits = user.inputs[0][0] == node.name and user.attrs.get("data_format", "NHWC") == data_format
        return other if fits else None
    dims = facts.dims((node.name, 0))
    if not dims:
        return None
    if data_format == "NHWC":
        return other if dims[-1] is not None and facts.dims(other) == dims[-1:] else None
    reshaped = facts.nodes[other[0]]
    if reshaped.type != "Reshape" or dims[1] is None or facts.dims(other) != (dims[1], 1, 1):
        return None
    return reshaped.inputs[0] if facts.dims(reshaped.inputs[0]) == dims[1:2] else None


def _normalization(match: _Match, user: StageNode, other: Edge | None, facts: Facts) -> None:
    if not match.fused_ops:
        _inference(match, user, other, facts)


def _inference(match: _Match, user: StageNode, other: Edge | None, facts: Facts) -> None:
    """A batch normalization with given statistics, of which only the first output is used."""
    product = match.members[0]
    if product.type != "Conv2D" or user.type not in _NORMALIZATIONS or user.attrs["is_training"]:
        return
    if user.attrs["data_format"] != product.attrs["data_format"] or user.inputs[0] != (match.last.name, 0):
        return
    if any(facts.draft.readers((user.name, slot)) for slot in range(1, len(user.output_dtypes))):
        return
    match.follow(user, "FusedBatchNorm", user.inputs[1:5], {"epsilon": user.attrs["epsilon"]})


def _summand(match: _Match, user: StageNode, other: Edge | None, facts: Facts) -> None:
    if match.members[0].type != "Conv2D" or user.type not in _ADDITIONS or other is None:
        return
    dims = facts.full_dims((match.last.name, 0))
    if match.fused_ops == ["BiasAdd"] and dims is not None and facts.full_dims(other) == dims:
        match.follow(user, "Add", [other])


def _activation(match: _Match, user: StageNode, other: Edge | None, facts: Facts) -> None:
    if match.fused_ops and user.type in ACTIVATIONS:
        alpha = {"leakyrelu_alpha": user.attrs["alpha"]} if user.type == "LeakyRelu" else {}
        match.follow(user, user.type, (), alpha)


def _fuse(match: _Match, draft: Draft) -> None:
    product = match.members[0]
    opdef = _opdef(_FUSED[product.type])
    own = opdef.signature.attrs
    attrs = {name: value for name, value in product.attrs.items() if name in own and name != "T"}
    attrs |= match.attrs
    attrs |= {"fused_ops": tuple(match.fused_ops), "num_args": len(match.args)}
    if "num_host_args" in own:
        attrs["num_host_args"] = 0
    _replace_root(match.members, [*product.inputs, *match.args], opdef, attrs, draft)


def _replace_root(
    members: Sequence[StageNode], inputs: Sequence[Edge], opdef: Any, attrs: dict[str, Any], draft: Draft
) -> None:
    root = members[-1]
    names = tuple(each.name for each in members)
    attrs |= {**_private(root), NAMES: names}
    reason = f"{in_words([each.type for each in members])} as one kernel"
    control = [source for each in members for source in each.control_inputs]
    draft.replace(
        root.name,
        opdef=opdef,
        inputs=inputs,
        attrs=attrs,
        control_inputs=control,
        output_shapes=root.output_shapes[: len(opdef.signature.outputs)],
        sources=names[:-1],
        reason=reason,
    )
    for name in reversed(names[:-1]):
        draft.remove(name, f"part of '{root.name}': {reason}")


def _private(node: StageNode) -> dict[str, Any]:
    """The attrs that no signature knows: colocation and the like."""
    return {name: value for name, value in node.attrs.items() if name.startswith("_")}


# Batch normalization and what follows it.


def _fuse_normalization(node: StageNode, draft: Draft, facts: Facts) -> None:
    """The Relu after a FusedBatchNormV3 becomes part of it; its other outputs are whose they were."""
    opdef = _opdef("_FusedBatchNormEx")
    own = opdef.signature.attrs
    if node.type != "FusedBatchNormV3" or any(
        allowed is not None and node.attrs[name] not in allowed
        for name in ("T", "U", "data_format")
        if (allowed := own[name].allowed) is not None
    ):
        return
    readers = draft.readers((node.name, 0))
    if len(readers) != 1 or draft.waiters(node.name):
        return
    user = draft.nodes[readers[0][0]]
    if user.type != "Relu" or user.control_inputs or draft.is_kept(user.name) or not facts.pure(user.name):
        return
    if user.device != node.device or len(user.inputs) != 1:
        return
    if not facts.shares(node.name, opdef) or not facts.shares(user.name, opdef):
        return
    attrs = {**{name: value for name, value in node.attrs.items() if name in own}, **_private(node)}
    names = (node.name, user.name)
    reason = f"{node.type} + Relu as one kernel"
    draft.replace(
        node.name,
        opdef=opdef,
        attrs={**attrs, "activation_mode": "Relu", "num_side_inputs": 0, NAMES: names},
        reason=reason,
    )
    draft.merge(user.name, node.name, reason)


def _fold_normalization(node: StageNode, draft: Draft, facts: Facts) -> None:
    """Conv2D (+ bias) + batch normalization, all parameters constant, as Conv2D + BiasAdd with other constants."""
    match = _Match([node])
    for part in (_bias, _inference):
        found = _following(match.last, _opdef(_FUSED[node.type]), draft, facts)
        if found is not None:
            part(match, *found, facts)
    if "FusedBatchNorm" not in match.fused_ops:
        return
    constants = [node.inputs[1], *match.args]
    if not all(facts.is_constant(edge) for edge in constants):
        return
    filters, *vectors = (np.asarray(facts.value(edge), np.float64) for edge in constants)
    *bias, scale, offset, mean, variance = vectors
    gain = scale / np.sqrt(variance + match.attrs["epsilon"])
    shift = offset + (sum(bias) - mean) * gain
    root, names = match.last, tuple(each.name for each in match.members)
    reason = f"{in_words([each.type for each in match.members])}: normalization folded into filter and bias"
    dtype = node.output_dtypes[0]
    made = [
        draft.add(
            "Const",
            [],
            {"value": value.astype(dtype.np_dtype), "dtype": dtype},
            like=node,
            name=f"{root.name}/{what}",
            control_inputs=draft.nodes[
                node.inputs[1][0]
            ].control_inputs,  # what keeps it in the filter's frame
            sources=[name for name, _ in constants],
            reason=reason,
        )
        for what, value in (("folded_filter", filters * gain), ("folded_bias", shift))
    ]
    draft.replace(node.name, inputs=[node.inputs[0], (made[0], 0)], reason=reason)
    draft.replace(
        root.name,
        opdef=lookup("BiasAdd"),
        inputs=[(node.name, 0), (made[1], 0)],
        attrs={"data_format": node.attrs["data_format"], **_private(root)},
        control_inputs=[source for each in match.members[1:] for source in each.control_inputs],
        output_shapes=root.output_shapes[:1],
        sources=names[:-1],
        reason=reason,
    )
    for name in names[1:-1]:
        draft.remove(name, f"part of '{root.name}': {reason}")
