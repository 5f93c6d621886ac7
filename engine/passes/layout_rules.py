"""What each op does with the layout of images: which of its inputs and outputs are images, and what else speaks of dimensions.

A rule takes a node and gives its `Ports`, or None where the op, as it is used, can work in one layout only.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.op.fused_program import read, write
from engine.passes.facts import Facts
from engine.passes.fuse import ELEMENTWISE
from engine.passes.rewrite import Edge
from engine.passes.stage import StageNode


class Kind(enum.Enum):
    """What an input or output is, as far as the layout goes."""

    IMAGE = "a tensor of rank 4, one dimension each for batch, height, width, channels"
    SIZES = "a vector of 4 numbers, one a dimension"
    CHANNELS = "values that broadcast along the channels"
    AXES = "constant: numbers of dimensions"
    ROWS = "constant: a matrix with a row for each dimension"


@dataclass(frozen=True)
class Ports:
    """The inputs and outputs that depend on the layout, by slot; all others do not."""

    inputs: Mapping[int, Kind] = field(default_factory=dict)
    outputs: Mapping[int, Kind] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may ask: the facts, the layout that is left behind, and which tensors are in the new one already."""

    facts: Facts
    source: str
    inside: Collection[Edge]


Rule = Callable[[StageNode, Context], "Ports | None"]
IMAGE, SIZES, CHANNELS, AXES, ROWS = Kind

# Ops that are told the layout by `data_format`: images in, images out, vectors of sizes in.
_SENSITIVE: Mapping[str, Ports] = {
    "Conv2D": Ports({0: IMAGE}, {0: IMAGE}),
    "Conv2DBackpropInput": Ports({0: SIZES, 2: IMAGE}, {0: IMAGE}),
    "Conv2DBackpropFilter": Ports({0: IMAGE, 2: IMAGE}),
    "MaxPool": Ports({0: IMAGE}, {0: IMAGE}),
    "MaxPoolGrad": Ports({0: IMAGE, 1: IMAGE, 2: IMAGE}, {0: IMAGE}),
    "MaxPoolGradGrad": Ports({0: IMAGE, 1: IMAGE, 2: IMAGE}, {0: IMAGE}),
    "AvgPool": Ports({0: IMAGE}, {0: IMAGE}),
    "AvgPoolGrad": Ports({0: SIZES, 1: IMAGE}, {0: IMAGE}),
    **{f"FusedBatchNorm{version}": Ports({0: IMAGE}, {0: IMAGE}) for version in ("", "V2", "V3")},
    **{
        f"FusedBatchNormGrad{version}": Ports({0: IMAGE, 1: IMAGE}, {0: IMAGE})
        for version in ("", "V2", "V3")
    },
    "_FusedBatchNormEx": Ports({0: IMAGE}, {0: IMAGE}),
}
_BY_DIMENSION = ("strides", "ksize", "dilations")


def sensitive(node: StageNode) -> Ports | None:
    """The ports of an op that has kernels for both layouts and works in the one that its `data_format` says."""
    if node.type == "_FusedConv2D":
        # Of its further inputs, what is added to the whole is an image.
        extra = {}
        slot = 2
        for part in node.attrs["fused_ops"]:
            if part == "Add":
                extra[slot] = IMAGE
            slot += {"BiasAdd": 1, "Add": 1, "FusedBatchNorm": 4}.get(part, 0)
        return Ports({0: IMAGE, **extra}, {0: IMAGE})
    return _SENSITIVE.get(node.type)


def agnostic(node: StageNode, context: Context) -> Ports | None:
    """The ports of an op that works in any layout; None if it does not."""
    rule = _AGNOSTIC.get(node.type)
    return None if rule is None else rule(node, context)


def new_attrs(node: StageNode, permutation: tuple[int, ...], data_format: str) -> dict[str, Any]:
    """The node's attrs for the other layout; dimension i there is dimension permutation[i] here."""
    attrs = dict(node.attrs)
    if "data_format" in attrs:
        attrs["data_format"] = data_format
    for name in _BY_DIMENSION:
        if len(attrs.get(name, ())) == 4:
            attrs[name] = tuple(attrs[name][i] for i in permutation)
    around = attrs.get("explicit_paddings", ())
    if len(around) == 8:
        attrs["explicit_paddings"] = tuple(around[2 * i + side] for i in permutation for side in (0, 1))
    if node.type == "_FusedElementwise":
        steps = [
            replace(each, attrs={"data_format": data_format} if data_format == "NCHW" else {})
            if each.type == "BiasAdd"
            else each
            for each in read(attrs["program"]).steps
        ]
        attrs["program"] = write(steps)
    return attrs


# The rules.


def _rank(facts: Facts, edge: Edge) -> int | None:
    dims = facts.dims(edge)
    return None if dims is None else len(dims)


def _operands(node: StageNode, context: Context) -> dict[int, Kind] | None:
    """What the operands of an elementwise op with images as results are; scalars are nothing; None if one does not fit."""
    facts = context.facts
    if _rank(facts, (node.name, 0)) != 4:
        return None
    found: dict[int, Kind] = {}
    for slot, edge in enumerate(node.inputs):
        dims = facts.dims(edge)
        if dims is None:
            return None
        along_channels = len(dims) == 1 if context.source == "NHWC" else len(dims) == 3 and dims[1:] == (1, 1)
        if len(dims) == 4:
            found[slot] = IMAGE
        elif along_channels:
            found[slot] = CHANNELS
        elif dims:
            return None
    return found if IMAGE in found.values() else None


def _elementwise(node: StageNode, context: Context) -> Ports | None:
    found = _operands(node, context)
    return None if found is None else Ports(found, {0: IMAGE})


def _program(node: StageNode, context: Context) -> Ports | None:
    """A fused node: an elementwise op, but that what it uses as a bias is a vector in both layouts."""
    biases: set[str] = set()
    others: set[str] = set()
    for each in read(node.attrs["program"]).steps:
        is_bias = each.type == "BiasAdd" and each.attrs.get("data_format", "NHWC") == context.source
        if each.type.startswith("BiasAdd") and not is_bias:
            return None
        for position, name in enumerate(each.operands):
            (biases if is_bias and position == 1 else others).add(name)
    found = _operands(node, context)
    if found is None or biases & others or any(name[0] == "t" for name in biases):
        return None
    return Ports({slot: kind for slot, kind in found.items() if f"x{slot}" not in biases}, {0: IMAGE})


def _first(outputs: int) -> Rule:
    """The first input, and the outputs, are images."""

    def rule(node: StageNode, context: Context) -> Ports | None:
        told = node.attrs.get("data_format", context.source)
        if _rank(context.facts, node.inputs[0]) != 4 or told != context.source:
            return None
        return Ports({0: IMAGE}, dict.fromkeys(range(outputs), IMAGE))

    return rule


def _shape(node: StageNode, context: Context) -> Ports | None:
    """The sizes of what is in the new layout come in its order."""
    slots = [
        slot
        for slot, edge in enumerate(node.inputs)
        if edge in context.inside and _rank(context.facts, edge) == 4
    ]
    return Ports(dict.fromkeys(slots, IMAGE), dict.fromkeys(slots, SIZES)) if slots else None


def _reduction(node: StageNode, context: Context) -> Ports | None:
    """Sums and the like, if the dimensions that are left have one order in both layouts."""
    axes = context.facts.value(node.inputs[1])
    if axes is None or _rank(context.facts, node.inputs[0]) != 4:
        return None
    if node.attrs["keep_dims"]:
        return Ports({0: IMAGE, 1: AXES}, {0: IMAGE})
    gone = {int(axis) % 4 for axis in axes.ravel()}
    channels, image = (3, {1, 2}) if context.source == "NHWC" else (1, {2, 3})
    return Ports({0: IMAGE, 1: AXES}) if channels in gone or image <= gone else None


def _joined(node: StageNode, context: Context) -> Ports | None:
    *images, axis = range(len(node.inputs))
    if any(_rank(context.facts, node.inputs[i]) != 4 for i in images):
        return None
    known = context.facts.value(node.inputs[axis]) is not None
    return Ports({**dict.fromkeys(images, IMAGE), axis: AXES}, {0: IMAGE}) if known else None


def _padded(node: StageNode, context: Context) -> Ports | None:
    if context.facts.value(node.inputs[1]) is None or _rank(context.facts, node.inputs[0]) != 4:
        return None
    return Ports({0: IMAGE, 1: ROWS}, {0: IMAGE})


_AGNOSTIC: Mapping[str, Rule] = {
    # A vector as the condition of a Select chooses rows: it does not broadcast.
    **dict.fromkeys(ELEMENTWISE - {"BiasAdd", "BiasAddV1", "Select"}, _elementwise),
    "_FusedElementwise": _program,
    **dict.fromkeys(("Identity", "StopGradient", "PreventGradient", "BiasAdd"), _first(1)),
    "BiasAddGrad": _first(0),
    **dict.fromkeys(("Shape", "ShapeN"), _shape),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min", "Prod"), _reduction),
    "ConcatV2": _joined,
    "Pad": _padded,
}
