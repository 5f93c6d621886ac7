"""Shapes as they are in one specialisation of a plan: those of the feeds are known, and others follow.

Ops' own shape rules are asked again with what is known now.  A loop variable has the shape that it starts with if an iteration
gives it back with that shape, else whatever its static shape says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.passes.stage import StageNode
from engine.passes.views import infer_shapes
from engine.runtime.plan.ir import Block, Branch, Compute, Linear, Loop, Move, Pass
from engine.runtime.program import ENTER, NEXT_ITERATION, Item, Program
from engine.types.shape import TensorShape


def nodes_with_shapes(
    linear: Linear, program: Program, feeds: Sequence[tuple[int, ...]]
) -> Mapping[str, StageNode]:
    """The stage's nodes, with output shapes as they are when the feeds have these shapes."""
    work = _Shapes(program, feeds)
    work.block(linear.body)
    return work.nodes


class _Shapes:
    def __init__(self, program: Program, feeds: Sequence[tuple[int, ...]]) -> None:
        self.program = program
        self.feeds = feeds
        self.nodes: dict[str, StageNode] = dict(program.stage.nodes)

    def block(self, block: Block) -> None:
        for each in block.code:
            if isinstance(each, Compute | Pass):
                self.node(each.item)
            elif isinstance(each, Move):
                self.merge(each)
            elif isinstance(each, Branch):
                self.block(each.then)
                self.block(each.orelse)
            elif isinstance(each, Loop):
                self.loop(each)

    def node(self, item: Item) -> None:
        node = self.nodes[item.node.name]
        if all(shape.is_fully_defined() for shape in node.output_shapes):
            return
        if node.type == "_Arg":
            self.give(node, (TensorShape.of(self.feeds[node.attrs["index"]]),))
        else:
            self.give(node, infer_shapes(node, self.nodes))

    def give(self, node: StageNode, shapes: Sequence[TensorShape]) -> None:
        """The node's outputs have these shapes, as far as they say more than what was known."""
        merged = []
        for old, new in zip(node.output_shapes, shapes, strict=True):
            merged.append(old.merge_with(new) if old.is_compatible_with(new) else old)
        self.nodes[node.name] = replace(node, output_shapes=tuple(merged))

    def shape(self, item: Item, slot: int) -> TensorShape:
        name, output = item.node.inputs[slot]
        return self.nodes[name].output_shapes[output]

    def merge(self, move: Move) -> None:
        """A Merge has the shape that all its sides have, if they agree; each side comes by, and the last one decides."""
        item = move.item
        shapes = [self.shape(item, slot) for slot in range(item.n_inputs)]
        node = self.program.stage.nodes[item.node.name]
        if all(shape.is_fully_defined() and shape == shapes[0] for shape in shapes):
            self.give(node, (shapes[0], *node.output_shapes[1:]))

    def loop(self, loop: Loop) -> None:
        starts = {}
        for merge in loop.merges:
            flows = [self.program.by_name[name].flow for name, _ in merge.node.inputs]
            starts[merge.index] = flows.index(ENTER), flows.index(NEXT_ITERATION)
        trusted = list(loop.merges)
        while True:
            for merge in loop.merges:
                node = self.program.stage.nodes[merge.node.name]
                self.nodes[merge.node.name] = node
                if merge in trusted:
                    start = self.shape(merge, starts[merge.index][0])
                    self.give(node, (start, *node.output_shapes[1:]))
            self._forget(loop)
            for block in (loop.cond, loop.body, loop.after):
                self.block(block)
            kept = [merge for merge in trusted if self._comes_back(merge, starts[merge.index][1])]
            if len(kept) == len(trusted):
                return
            trusted = kept

    def _comes_back(self, merge: Item, slot: int) -> bool:
        mine = self.nodes[merge.node.name].output_shapes[0]
        return not mine.is_fully_defined() or mine == self.shape(merge, slot)

    def _forget(self, loop: Loop) -> None:
        """What was found out about the loop's inside may not hold any more."""
        merges = {merge.index for merge in loop.merges}
        for item in loop.spec.items:
            if item.index not in merges:
                self.nodes[item.node.name] = self.program.stage.nodes[item.node.name]
