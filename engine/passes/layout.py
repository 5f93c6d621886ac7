"""Layout: images in the order of dimensions that their device prefers, NHWC or NCHW.

The ops that are told an order by `data_format` (convolutions, pools, batch normalization, and their gradients) take the one that
`Device.layout` names.  What works in any order between them (`engine.passes.layout_rules`) goes along, so that images are turned
only where the region ends: each tensor that comes in or goes out gets one Transpose.  An op goes along if that makes no more
transposes, and follows the flow of data where it makes no difference.

Sums over an image (batch normalization, the gradient of a bias) are taken in another order then, so that they may round
differently; everything else is the same bit for bit.  TensorFlow's layout optimizer does the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from engine.passes.facts import ALWAYS, ROOT, Facts
from engine.passes.layout_rules import Context, Kind, Ports, agnostic, new_attrs, sensitive
from engine.passes.order import topological
from engine.passes.rewrite import Draft, Edge
from engine.passes.stage import StageNode
from engine.types.dtypes import as_dtype
from engine.types.shape import TensorShape

# Dimension i of the new order is dimension PERMUTATION[i] of the old one.
_PERMUTATION = {("NHWC", "NCHW"): (0, 3, 1, 2), ("NCHW", "NHWC"): (0, 2, 3, 1)}
_TURNED = (Kind.IMAGE, Kind.SIZES)


def run(draft: Draft, facts: Facts) -> None:
    for wanted in sorted({device.layout for device in facts.devices}):
        (source,) = {"NHWC", "NCHW"} - {wanted}
        here = {device.name for device in facts.devices if device.layout == wanted}
        region = _Region(draft, facts, source, here)
        if region.ports:
            _Rewriter(draft, facts, region.ports, source, wanted).run()


class _Region:
    """Which nodes change to the new order: `ports` by name, in an order in which they can run."""

    def __init__(self, draft: Draft, facts: Facts, source: str, here: Collection[str]) -> None:
        self._draft = draft
        self.ports: dict[str, Ports] = {}
        self._inside: set[Edge] = set()
        context = Context(facts, source, self._inside)

        def usable(node: StageNode) -> bool:
            return node.device in here and facts.pure(node.name) and not draft.is_kept(node.name)

        for name, node in draft.nodes.items():
            found = sensitive(node)
            if found is not None and node.attrs["data_format"] == source and usable(node):
                self._enter(name, found)
        if not self.ports:
            return
        order = topological(draft.nodes)
        grows = True
        while grows:
            grows = False
            for name in order:
                node = draft.nodes[name]
                if name in self.ports or not usable(node):
                    continue
                found = agnostic(node, context)
                if found is not None and self._pays(node, found):
                    self._enter(name, found)
                    grows = True
        self.ports = {name: self.ports[name] for name in order if name in self.ports}

    def _enter(self, name: str, ports: Ports) -> None:
        self.ports[name] = ports
        self._inside.update((name, slot) for slot in ports.outputs)

    def _reads_inside(self, user: str, slot: int) -> bool:
        return user in self.ports and slot in self.ports[user].inputs

    def _pays(self, node: StageNode, ports: Ports) -> bool:
        """Whether it takes no more transposes with the node inside: at its inputs, and at its outputs."""
        turned = {node.inputs[slot] for slot, kind in ports.inputs.items() if kind in _TURNED}
        from_inside = turned & self._inside
        outputs = [self._draft.readers((node.name, slot)) for slot in ports.outputs]
        wanted = sum(any(self._reads_inside(*reader) for reader in readers) for readers in outputs)
        left = sum(any(not self._reads_inside(*reader) for reader in readers) for readers in outputs)
        outside, inside = len(from_inside) + wanted, len(turned - from_inside) + left
        return inside < outside or (inside == outside and bool(from_inside))


class _Rewriter:
    """Puts ``<name>/<order>`` in the place of each node of a region, and turns what crosses its border."""

    def __init__(
        self, draft: Draft, facts: Facts, ports: Mapping[str, Ports], source: str, wanted: str
    ) -> None:
        self.draft = draft
        self.facts = facts
        self.ports = ports
        self.wanted = wanted
        self.source = source
        self.forward = _PERMUTATION[source, wanted]
        self.back = _PERMUTATION[wanted, source]
        self._new: dict[str, str] = {}
        self._made: dict[tuple[Any, ...], Edge] = {}

    def run(self) -> None:
        for name in self.ports:
            self._new[name] = self._twin(self.draft.nodes[name])
        for name, ports in self.ports.items():
            for slot, kind in ports.outputs.items():
                self._leave((name, slot), kind)
        for name, new in self._new.items():
            self.draft.merge(name, new, f"in {self.wanted}, which {self.draft.nodes[name].device} prefers")

    def _twin(self, node: StageNode) -> str:
        ports = self.ports[node.name]
        inputs = [self._input(edge, ports.inputs.get(slot), node) for slot, edge in enumerate(node.inputs)]
        shapes = [
            _permuted(shape, self.forward) if ports.outputs.get(slot) is Kind.IMAGE else shape
            for slot, shape in enumerate(node.output_shapes)
        ]
        return self.draft.add(
            node.opdef,
            inputs,
            new_attrs(node, self.forward, self.wanted),
            like=node,
            name=f"{node.name}/{self.wanted}",
            control_inputs=node.control_inputs,
            sources=[node.name],
            reason=f"in {self.wanted}, which {node.device} prefers",
            output_shapes=shapes,
        )

    def _input(self, edge: Edge, wanted: Kind | None, reader: StageNode) -> Edge:
        """What the twin of `reader` reads for `edge`: as it is wanted in the new order, or (None) as it has always been."""
        name, slot = edge
        made = self.ports[name].outputs.get(slot) if name in self.ports else None
        if made is not None and wanted in _TURNED:
            return self._new[name], slot
        if made is not None:
            return self._turned((self._new[name], slot), made, self.back, self.source, self.draft.nodes[name])
        return edge if wanted is None else self._turned(edge, wanted, self.forward, self.wanted, reader)

    def _leave(self, edge: Edge, kind: Kind) -> None:
        """Let the readers of `edge` that are not in the region read the twin's output, turned back."""
        new = (self._new[edge[0]], edge[1])
        for user in dict.fromkeys(user for user, _ in self.draft.readers(edge)):
            if user in self.ports:
                continue
            node = self.draft.nodes[user]
            if self._turns_it(node, edge):
                self.draft.redirect((user, 0), new, f"'{edge[0]}' is in {self.wanted} already")
                continue
            turned = self._turned(new, kind, self.back, self.source, self.draft.nodes[edge[0]])
            inputs = [turned if each == edge else each for each in node.inputs]
            self.draft.replace(user, inputs=inputs, reason=f"'{edge[0]}' is made in {self.wanted}")

    def _turns_it(self, node: StageNode, edge: Edge) -> bool:
        """Whether the node is a Transpose of the user's own to the new order: with the one back, that is nothing."""
        if node.type != "Transpose" or self.draft.is_kept(node.name):
            return False
        permutation = self.facts.value(node.inputs[1])
        return permutation is not None and tuple(permutation.tolist()) == self.forward

    def _turned(
        self, edge: Edge, kind: Kind, permutation: tuple[int, ...], order: str, like: StageNode
    ) -> Edge:
        """`edge` in the other order; made once for each device that wants it."""
        key = (edge, kind, permutation, like.device)
        if key not in self._made:
            self._made[key] = self._turn(edge, kind, permutation, order, like)
        return self._made[key]

    def _turn(
        self, edge: Edge, kind: Kind, permutation: tuple[int, ...], order: str, like: StageNode
    ) -> Edge:
        name, slot = edge
        value = self.facts.value(edge) if kind is not Kind.IMAGE else None
        base = f"{name}_{slot}/{order}" if slot else f"{name}/{order}"
        reason = f"'{name}' for {order}"
        if value is not None and kind is Kind.AXES:
            return self._constant(np.argsort(permutation).astype(value.dtype)[value % 4], base, edge, like)
        if value is not None and kind in (Kind.ROWS, Kind.SIZES):
            return self._constant(value[list(permutation)], base, edge, like)
        if kind is Kind.CHANNELS:
            shape = np.array([-1, 1, 1] if order == "NCHW" else [-1], np.int32)
            op_type, inputs = "Reshape", [edge, self._constant(shape, f"{base}/shape", edge, like)]
        else:
            indices = self._constant(np.array(permutation, np.int32), f"{base}/permutation", edge, like)
            op_type, inputs = "Transpose", [edge, indices]
        if kind is Kind.SIZES:
            op_type, axis = "GatherV2", self._constant(np.array(0, np.int32), f"{base}/axis", edge, like)
            inputs.append(axis)
        made = self.draft.add(op_type, inputs, {}, like=like, name=base, sources=[name], reason=reason)
        return made, 0

    def _constant(self, value: Any, name: str, beside: Edge, like: StageNode) -> Edge:
        """A constant in the frame, and alive when, the tensor `beside` is."""
        value = np.asarray(value)
        source = beside[0]
        free = self.facts.frame(source) == ROOT and self.facts.alive_edge(beside) == ALWAYS
        key = (value.tobytes(), value.shape, value.dtype.str, like.device, "" if free else beside)
        if key not in self._made:
            node = self.draft.nodes[source]
            control = self._anchor(beside) if not free else ()
            made = self.draft.add(
                "Const",
                [],
                {"value": value, "dtype": as_dtype(value.dtype)},
                like=like,
                name=name,
                control_inputs=control,
                sources=[node.name],
                reason=f"what turns images to and from {self.wanted}",
                output_shapes=[TensorShape.of(value.shape)],
            )
            self._made[key] = (made, 0)
        return self._made[key]

    def _anchor(self, edge: Edge) -> Sequence[str]:
        """What a constant waits for to be where `edge` is: its node, or, of a Switch, an Identity of that output."""
        node = self.draft.nodes[edge[0]]
        if node.opdef.flow not in ("switch", "enter", "exit"):
            return [node.name]
        key = ("anchor", edge)
        if key not in self._made:
            made = self.draft.add(
                "Identity",
                [edge],
                {},
                like=node,
                name=f"{node.name}/here",
                sources=[node.name],
                reason="keeps constants in its frame",
            )
            self._made[key] = (made, 0)
        return [self._made[key][0]]


def _permuted(shape: TensorShape, permutation: tuple[int, ...]) -> TensorShape:
    dims = shape.dims_or_none
    return shape if dims is None else TensorShape.of(tuple(dims[i] for i in permutation))
