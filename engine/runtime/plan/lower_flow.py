"""One instruction of the linear program as steps of the segment under way: an op, a Move of a Merge, a branch, a loop.

Between the steps stand those for who watches (`recording.MARKS`): they make the log that `engine.runtime.plan.paths` describes,
but for the time at which the segment's first run of instructions begins, which whoever runs the segment takes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from engine.runtime.plan.ir import Block, Branch, Compute, Instruction, Loop, Lower, Move, Pass
from engine.runtime.plan.lower_ops import Ops
from engine.runtime.plan.python import stamped
from engine.runtime.plan.recording import NotRecordable

if TYPE_CHECKING:
    from engine.native.layout import View


class Instructions(Ops):
    """Puts instructions into a draft, those with blocks included."""

    @cached_property
    def moves(self) -> dict[int, list[int]]:
        """Of what a Merge gives, its Moves in the order of the text."""
        found: dict[int, list[int]] = {}
        for each in self.linear.walk():
            if isinstance(each, Move):
                found.setdefault(each.target, []).append(id(each))
        return found

    def _lower(self, each: Instruction) -> None:
        if isinstance(each, Pass):
            return
        if isinstance(each, Compute):
            timed = stamped(each)
            if timed and not self._draft.opened:
                self._draft.recorder.time()
                self._draft.opened = True
            self._compute(each)
            if timed:
                if each.item.n_outputs:
                    self._look(each.item.index)
                self._draft.recorder.time()
        elif isinstance(each, Move):
            self._move(each)
        elif isinstance(each, Lower):
            view = self._flag(each.flag)
            self._draft.recorder.fill(view, False)
        elif isinstance(each, Branch):
            self._branch(each)
        elif isinstance(each, Loop):
            self._loop(each)
        else:
            raise NotRecordable("it is a segment already")

    # Branches and loops.

    def _flag(self, flag: int) -> View:
        key = -1 - flag
        found = self._draft.known.get(key)
        if found is None:
            found = self._draft.known[key] = self._draft.recorder.new(np.dtype(np.bool_), ())
        view: View = found
        return view

    def _move(self, move: Move) -> None:
        recorder = self._draft.recorder
        if move.slot in move.item.derefs or move.index >= 0:
            raise NotRecordable("a Merge of references, or whose index is asked for")
        source = self._view(move.source)
        before = self.moves[move.target][: self.moves[move.target].index(id(move))]
        if not self._draft.moved.issuperset(before):
            raise NotRecordable("another side of the Merge may have been taken before")
        self._draft.moved.add(id(move))
        target = self._draft.known.get(move.target)
        if target is None:
            target = self._draft.known[move.target] = recorder.new(source.dtype, source.shape)
        if target.shape != source.shape or target.dtype != source.dtype:
            raise NotRecordable("the sides of a Merge have different shapes")
        skip = None
        if move.flag >= 0:
            skip = recorder.label()
            recorder.mark_step("jump_if_true", skip, [self._flag(move.flag)])
            recorder.fill(self._flag(move.flag), True)
        recorder.copy(source, target)
        if skip is not None:
            recorder.mark_step("place", skip)

    def _blocks(self, *blocks: Block) -> None:
        self._inside += 1
        for block in blocks:
            self._draft.opened = False
            for each in block.code:
                self._lower(each)
        self._inside -= 1
        self._draft.opened = False

    def _branch(self, branch: Branch) -> None:
        recorder = self._draft.recorder
        test = self._flag(branch.test.value) if branch.test.is_flag else self._view(branch.test.value)
        recorder.check_condition(test)
        otherwise, over = recorder.label(), recorder.label()
        for inner in (*branch.then.code, *branch.orelse.code):
            # A constant on both sides, say: the buffer of what a Merge gives must be known before the sides part.
            if isinstance(inner, Move) and inner.target not in self._draft.known:
                self._announce(inner)
        recorder.test(test)
        recorder.mark_step("jump_if_false", otherwise, [test])
        self._blocks(branch.then)
        if branch.orelse:
            recorder.mark_step("jump", over)
        recorder.mark_step("place", otherwise)
        self._blocks(branch.orelse)
        recorder.mark_step("place", over)

    def _announce(self, move: Move) -> None:
        node = self.nodes[move.item.node.name]
        dims = node.output_shapes[0].dims_or_none
        if dims is not None and None not in dims:
            made = self._draft.recorder.new(node.output_dtypes[0].np_dtype, dims)  # type: ignore[arg-type]  # just asked
            self._draft.known[move.target] = made

    def _loop(self, loop: Loop) -> None:
        draft, recorder = self._draft, self._draft.recorder
        draft.loops += 1
        if loop.test is None:
            recorder.enter()
            self._blocks(loop.cond)
            return
        if loop.indices:
            raise NotRecordable("a loop variable's Merge whose index is asked for")
        starts = [(target, self._view(source)) for target, source in loop.inits]
        for target, start in starts:
            variable = recorder.new(start.dtype, start.shape)
            recorder.copy(start, variable)
            draft.known[target] = variable
        top, out = recorder.label(), recorder.label()
        recorder.enter()
        recorder.mark_step("loop")
        recorder.mark_step("place", top)
        self._blocks(loop.cond)
        test = self._view(loop.predicate)
        recorder.check_condition(test)
        recorder.test(test)
        recorder.mark_step("jump_if_false", out, [test])
        self._blocks(loop.body)
        self._next(loop)
        recorder.mark_step("jump", top)
        recorder.mark_step("place", out)
        recorder.mark_step("end")
        self._blocks(loop.after)

    def _next(self, loop: Loop) -> None:
        """All loop variables at once take their next values."""
        draft, recorder = self._draft, self._draft.recorder
        pairs = [(draft.known[target], self._view(source)) for target, source in loop.nexts]
        pairs = [(target, source) for target, source in pairs if target != source]
        for target, source in pairs:
            if target.shape != source.shape or target.dtype != source.dtype:
                raise NotRecordable("a loop variable changes its shape")
        targets = {target.slot for target, _ in pairs}
        moved = []
        for target, source in pairs:
            if source.slot in targets:  # its old value goes elsewhere while it gets a new one
                kept = recorder.new(source.dtype, source.shape)
                recorder.copy(source, kept)
                source = kept
            moved.append((target, source))
        for target, source in moved:
            recorder.copy(source, target)
            recorder.steps[-1].data = "next"
