"""From the linear program to segments: stretches of it that a tape runs, between what stays in Python.

Instructions are tried one after the other.  Those that become steps (`lower_flow`, `lower_ops`) go into the segment under way,
its draft, branches and loops included where all that is in them can be; the first one that cannot ends the segment.  What only
looks something up (a feed, a variable's name) does not.  A variable is read once, where the segment begins, and written where it
ends; a loop that follows a write begins another segment, so that nobody waits for its end to hear of the write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.runtime.plan.draft import Draft
from engine.runtime.plan.ir import (
    Block,
    Branch,
    Compute,
    Instruction,
    Linear,
    Loop,
    Lower,
    Move,
    Native,
    reads,
    walk,
    writes,
)
from engine.runtime.plan.lower_flow import Instructions
from engine.runtime.plan.lower_ops import EARLY
from engine.runtime.plan.native_state import MAKERS, Handle
from engine.runtime.plan.recording import MARKS, Home, NotRecordable

if TYPE_CHECKING:
    from engine.native.layout import View

_WORTH = 4  # steps: fewer are as fast in Python,
_LARGE = 1 << 15  # unless one makes so many elements


class Lowering(Instructions):
    """Rewrites a linear program; `nodes` have the shapes of this specialisation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.readers: dict[int, set[int]] = {}
        self.flagged: dict[int, set[int]] = {}  # of flags, the instructions that deal with them
        for each in self.linear.walk():
            for value in reads(each):
                self.readers.setdefault(value, set()).add(id(each))
            flag = each.flag if isinstance(each, Move | Lower) else -1
            if isinstance(each, Branch) and each.test.is_flag:
                flag = each.test.value
            if flag >= 0:
                self.flagged.setdefault(flag, set()).add(id(each))
        self.segments: list[Native] = []
        self.refused: list[tuple[Instruction, str]] = []  # what stayed in Python, and why

    def run(self) -> Linear:
        """The program with segments."""
        body = self._block(self.linear.body)
        return Linear(body, self.linear.sources, self.linear.flags, self.linear.unreachable)

    # Blocks that stay in Python.

    def _block(self, block: Block) -> Block:
        made = Block()
        self._draft = self._new_draft()
        for each in block.code:
            if isinstance(each, Compute) and (each.item.node.type in EARLY or self._comes_before(each)):
                made.code.append(each)
            elif isinstance(each, Compute) and each.item.node.type == "_Retval" and not each.item.derefs:
                self._draft.late.append(each)
            else:
                if self._waits(each):
                    self._close(made)
                if self._add(each):
                    continue
                self._close(made)
                if isinstance(each, Branch | Loop) or not self._add(each):
                    self._close(made)
                    made.code.append(self._in_python(each))
        self._close(made)
        return made

    def _waits(self, each: Instruction) -> bool:
        """Whether the instruction has a loop in it, and the segment under way has written a variable."""
        return any(use.writes for use in self._draft.variables.values()) and any(
            isinstance(inner, Loop) for inner in walk(Block([each]))
        )

    def _comes_before(self, each: Compute) -> bool:
        """Whether the op makes a handle for others than a segment, and needs nothing that one gives."""
        return id(each) in self._apart and all(
            self.linear.sources[value][0].node.type == "Const" for value in each.inputs
        )

    def _escaping(self, draft: Draft) -> set[int]:
        """The instructions of a draft that make handles which others need, too."""
        covered = [inner for each in draft.covers for inner in walk(Block([each]))]
        inside = {id(each) for each in covered}
        needed: set[int] = set()
        for value, found in draft.known.items():
            if isinstance(found, Handle) and not self.readers.get(value, set()) <= inside:
                needed.add(id(found.root))
        return {
            id(each)
            for each in covered
            if isinstance(each, Compute)
            and each.item.node.type in MAKERS
            and each.outputs[0] >= 0
            and id(getattr(draft.known.get(each.outputs[0]), "root", None)) in needed
        }

    def _in_python(self, each: Instruction) -> Instruction:
        """The instruction with segments in its blocks."""
        if isinstance(each, Branch):
            return Branch(each.test, each.item, self._block(each.then), self._block(each.orelse))
        if isinstance(each, Loop):
            return Loop(
                each.spec,
                self._block(each.cond),
                each.enters,
                each.inits,
                each.predicate,
                each.test,
                self._block(each.body),
                each.nexts,
                self._block(each.after),
                each.indices,
                each.merges,
                each.advances,
                each.exits,
            )
        return each

    def _add(self, each: Instruction) -> bool:
        """Take the instruction into the draft, if it can be."""
        draft = self._draft
        mark = draft.recorder.mark()
        known, inputs = dict(draft.known) if isinstance(each, Branch | Loop) else None, set(draft.inputs)
        variables = {
            name: (use.reader, use.entry, use.now, use.writes) for name, use in draft.variables.items()
        }
        before = set(draft.known) if known is None else set()
        computes, loops, opened = draft.computes, draft.loops, draft.opened
        effects, looks = set(draft.effects), set(draft.looks)
        try:
            self._lower(each)
        except Exception as why:  # a kernel may raise anything when it is given arrays without elements
            draft.recorder.back(mark)
            if known is not None:
                draft.known = known
            else:
                for value in set(draft.known) - before:
                    del draft.known[value]
            for value in set(draft.inputs) - inputs:
                del draft.inputs[value]
            for index in set(draft.effects) - effects:
                del draft.effects[index]
            for index in set(draft.looks) - looks:
                del draft.looks[index]
            for name in set(draft.variables) - set(variables):
                del draft.variables[name]
            for name, (reader, entry, now, written) in variables.items():
                use = draft.variables[name]
                use.reader, use.entry, use.now, use.writes = reader, entry, now, written
            draft.computes, draft.loops, draft.opened = computes, loops, opened
            draft.moved.difference_update(id(inner) for inner in walk(Block([each])))
            self._inside = 0
            self.refused.append(
                (each, f"{type(why).__name__}: {why}" if not isinstance(why, NotRecordable) else str(why))
            )
            return False
        draft.covers.append(each)
        return True

    def _close(self, made: Block) -> None:
        """Put what the draft has into `made`: as a segment, or as it was where that would not pay."""
        draft, self._draft = self._draft, self._new_draft()
        steps = sum(step.kind not in ("place", "loop", "end", *MARKS) for step in draft.recorder.steps)
        heavy = draft.loops or any(step.kind == "call" for step in draft.recorder.steps)
        if not self.exact and not heavy:  # a fused kernel of one function, even, is faster than NumPy's
            heavy = any(view.size >= _LARGE for step in draft.recorder.steps for view in step.writes)
        if draft.computes and (steps >= _WORTH or heavy):
            escaping = self._escaping(draft)
            if escaping:
                self._apart |= escaping
                made.code.extend(self._block(Block(draft.covers)).code)
                made.code.extend(draft.late)
                return
            native = self._segment(draft)
            if native is not None:
                self.segments.append(native)
                made.code.append(native)
                made.code.extend(draft.late)
                return
        made.code.extend(self._in_python(each) for each in draft.covers)
        made.code.extend(draft.late)

    def _segment(self, draft: Draft) -> Native | None:
        from engine.runtime.plan.segment import Segment

        recorder = draft.recorder
        covered = {id(inner) for each in draft.covers for inner in walk(Block([each]))}
        if any(covered & users and not users <= covered for users in self.flagged.values()):
            return None  # a flag lives in the segment or outside of it, not in both
        made = {value for each in draft.covers for inner in walk(Block([each])) for value in writes(inner)}
        outputs: list[tuple[int, View]] = []
        constants: list[tuple[int, Any]] = []
        references: list[tuple[int, int]] = []
        passed: list[tuple[int, int]] = []
        read = [use for use in draft.variables.values() if use.entry is not None]
        inputs = [*draft.inputs.values(), *(use.entry for use in read if use.entry is not None)]
        taken: dict[int, View] = {}

        def give(view: View) -> View:
            """The view as an array of the caller's."""
            if taken.get(view.slot) == view:
                return view
            if recorder.whole(view) and recorder.buffers[view.slot].home is Home.ARENA:
                recorder.buffers[view.slot].home = Home.OUTPUT
                taken[view.slot] = view
                return view
            copied = recorder.new(view.dtype, view.shape, home=Home.OUTPUT)
            recorder.copy(view, copied)
            return copied

        for value in sorted(made):
            if (
                self.readers.get(value, set()) <= covered
                or self.linear.sources[value][0].node.type == "Const"
            ):
                continue
            found = draft.known.get(value)
            if isinstance(found, np.ndarray | np.generic):
                constants.append((value, found))
            elif isinstance(found, str):
                references.append((value, draft.variables[found].reference))
            elif found is not None and found in inputs:
                passed.append((value, inputs.index(found)))
            elif found is not None:
                outputs.append((value, give(found)))
            else:
                return None
        written = [
            (use, give(use.now)) for use in draft.variables.values() if use.writes and use.now is not None
        ]
        recorder.finish()
        order = list(dict.fromkeys([view.slot for _, view in (*outputs, *written)]))
        segment = Segment(
            recorder, inputs, [next(v for _, v in (*outputs, *written) if v.slot == s) for s in order]
        )
        return Native(
            segment,
            tuple(draft.covers),
            inputs=tuple(draft.inputs),
            read=tuple((use.reference, use.reader) for use in read),
            outputs=tuple((value, order.index(view.slot)) for value, view in outputs),
            written=tuple(
                (use.reference, order.index(view.slot), kind, writer)
                for use, view in written
                for kind, writer in use.writes
            ),
            constants=tuple(constants),
            references=tuple(references),
            passed=tuple(passed),
            effects=tuple((index, effect.settled()) for index, effect in draft.effects.items()),
            looks=tuple(draft.looks.items()),
        )
