"""From the linear program to segments: stretches of it that a tape runs, between what stays in Python.

Instructions are tried one after the other.  Those whose kernels can be traced (`engine.runtime.plan.tracer`) become steps of the
segment under way, branches and loops included where all that is in them can be; the first one that cannot ends the segment.
What only looks something up (a feed, a variable's name) does not.  A variable is read once, where the segment begins, and
written where it ends; a loop that follows a write begins another segment, so that nobody waits for its end to hear of the write.

Between the steps stand those for who watches (`recording.MARKS`): they make the log that `engine.runtime.plan.paths` describes,
but for the time at which the segment's first run of instructions begins, which whoever runs the segment takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.passes.fuse import ELEMENTWISE
from engine.passes.stage import StageNode
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
    Pass,
    reads,
    walk,
    writes,
)
from engine.runtime.plan.native_rows import Rows
from engine.runtime.plan.native_rules import RULES
from engine.runtime.plan.native_state import HANDLERS, MAKERS, Handle
from engine.runtime.plan.native_writes import Effect, effect_of
from engine.runtime.plan.python import stamped, writes_resources
from engine.runtime.plan.recording import MARKS, Home, NotRecordable, Recorder
from engine.runtime.plan.tracer import Traced, TracedContext, TracedVariable

if TYPE_CHECKING:
    from engine.native.layout import View
    from engine.runtime.executable import Executable

_IDLE = frozenset({"NoOp", "ControlTrigger", "Const"})
_EARLY = frozenset({"_Arg", "VariableV2", "Variable"})  # look something up, and may do it before the segment
_OPAQUE = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "Print", "PrintV2", "Assert"})
_UPDATES = frozenset({"AssignAdd", "AssignSub", "ScatterAdd", "ScatterSub", "ScatterUpdate"})
_KINDS = {  # what the kernels of updates call their writes
    "ApplyGradientDescent": "gradient_descent",
    "ApplyMomentum": "momentum",
    "ApplyAdam": "adam",
    "ApplyAdagrad": "adagrad",
    "ApplyAdagradV2": "adagrad",
    "ApplyRMSProp": "rms_prop",
    "ApplyCenteredRMSProp": "rms_prop",
}
_WORTH = 4  # steps: fewer are as fast in Python,
_LARGE = 1 << 15  # unless one makes so many elements


@dataclass(slots=True, eq=False)
class Use:
    """A variable that a segment uses: the value that is its reference, who reads it first, and what it holds in the segment.

    writes: the kind of each write, and who writes.
    """

    reference: int
    reader: StageNode | None = None
    entry: View | None = None
    now: View | None = None
    writes: tuple[tuple[str, StageNode], ...] = ()


@dataclass(slots=True, eq=False)
class Draft:
    """A segment under way."""

    recorder: Recorder
    covers: list[Instruction] = field(default_factory=list)
    inputs: dict[int, View] = field(default_factory=dict)
    known: dict[int, Any] = field(
        default_factory=dict
    )  # value -> View, constant array, or the name of a variable
    variables: dict[str, Use] = field(default_factory=dict)
    late: list[Instruction] = field(default_factory=list)  # what comes behind the segment
    moved: set[int] = field(default_factory=set)  # the Moves that are in it
    effects: dict[int, Effect] = field(default_factory=dict)  # by item: what it does to a resource
    handles: dict[int, int] = field(default_factory=dict)  # by the id of a handle: the item that made it
    made: Sequence[Any] = ()  # the outputs of the op that was lowered last, as they are known
    looks: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # by item: its outputs, as `Native.looks`
    opened: bool = True  # whether there is a time for the beginning of the run of instructions under way
    computes: int = 0
    loops: int = 0


class Lowering:
    """Rewrites a linear program; `nodes` have the shapes of this specialisation."""

    def __init__(
        self,
        linear: Linear,
        executable: Executable,
        nodes: Mapping[str, StageNode],
        exact: bool,
        threads: int = 0,
    ) -> None:
        self.linear = linear
        self.executable = executable
        self.nodes = nodes
        self.exact = exact
        self.threads = threads
        self.readers: dict[int, set[int]] = {}
        for each in linear.walk():
            for value in reads(each):
                self.readers.setdefault(value, set()).add(id(each))
        # Of what a Merge gives, its Moves in the order of the text; of flags, the instructions that deal with them.
        self.moves: dict[int, list[int]] = {}
        self.flagged: dict[int, set[int]] = {}
        for each in linear.walk():
            if isinstance(each, Move):
                self.moves.setdefault(each.target, []).append(id(each))
            flag = each.flag if isinstance(each, Move | Lower) else -1
            if isinstance(each, Branch) and each.test.is_flag:
                flag = each.test.value
            if flag >= 0:
                self.flagged.setdefault(flag, set()).add(id(each))
        self.segments: list[Native] = []
        self.refused: list[tuple[Instruction, str]] = []  # what stayed in Python, and why
        self._inside = 0  # branches and loops around what is being lowered
        self._apart: set[int] = set()  # makers of handles that are needed outside of their segment
        self._draft: Draft = Draft(Recorder(exact, threads))

    def run(self) -> Linear:
        """The program with segments."""
        body = self._block(self.linear.body)
        return Linear(body, self.linear.sources, self.linear.flags, self.linear.unreachable)

    # Blocks that stay in Python.

    def _block(self, block: Block) -> Block:
        made = Block()
        self._draft = Draft(Recorder(self.exact, self.threads))
        for each in block.code:
            if isinstance(each, Compute) and (each.item.node.type in _EARLY or self._comes_before(each)):
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
        draft, self._draft = self._draft, Draft(Recorder(self.exact, self.threads))
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

    # Operands.

    def _view(self, value: int) -> View:
        """A value as an operand."""
        found = self._find(value)
        if isinstance(found, str | Handle):
            raise NotRecordable("a reference to a variable, or a handle, as an operand")
        return self._draft.recorder.constant(found) if isinstance(found, np.ndarray | np.generic) else found

    def _find(self, value: int) -> Any:
        """What is known of a value: a View, a constant array, or the name of the variable that it refers to."""
        draft = self._draft
        found = draft.known.get(value)
        if found is None:
            found = draft.known[value] = self._outside(value)
        return found

    def _outside(self, value: int) -> Any:
        item, output = self.linear.sources[value]
        node = self.nodes[item.node.name]
        if node.type == "Const":
            bound = self.executable.bound[item.index]
            return bound.kernel(bound.context)
        dtype = node.output_dtypes[output]
        if dtype._is_ref_dtype:
            if node.type not in ("VariableV2", "Variable"):
                raise NotRecordable("which variable it is, is known only at run time")
            name = f"{node.attrs['container']}/{node.attrs['shared_name'] or node.name}"
            use = self._draft.variables.setdefault(name, Use(value))
            use.reference = min(use.reference, value)
            return name
        if dtype.name == "resource":
            raise NotRecordable("a resource from outside of the segment")
        dims = node.output_shapes[output].dims_or_none
        if dims is None or None in dims:
            raise NotRecordable(f"the shape of '{item.name}:{output}' is not known beforehand")
        view = self._draft.recorder.new(dtype.np_dtype, dims, home=Home.INPUT)  # type: ignore[arg-type]  # just asked
        self._draft.inputs[value] = view
        return view

    def _held(self, name: str, reader: StageNode) -> View:
        """What a variable holds at this point of the segment."""
        use = self._draft.variables[name]
        if use.now is None:
            if self._inside:
                raise NotRecordable(
                    "a variable that is read in a branch or a loop, and may have no value yet"
                )
            item, _ = self.linear.sources[use.reference]
            shape = item.node.attrs["shape"].dims_or_none
            if item.node.type == "Variable" or shape is None or None in shape:
                raise NotRecordable(f"the shape of variable '{item.name}' may change")
            dtype = item.node.output_dtypes[0].base_dtype.np_dtype
            use.entry = use.now = self._draft.recorder.new(dtype, shape, home=Home.INPUT)
            use.reader = reader
        return use.now

    # Instructions.

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

    def _compute(self, each: Compute) -> None:
        item = each.item
        node = self.nodes[item.node.name]
        draft, recorder = self._draft, self._draft.recorder
        if node.type in _IDLE or (node.type in _EARLY and self._inside):
            if node.type in _EARLY:
                raise NotRecordable(f"a {node.type} in a branch or a loop")
            return
        bound = self.executable.bound[item.index]
        if node.type in _OPAQUE or bound.device is not None:
            raise NotRecordable(f"{node.type} is not a kernel on arrays")
        update = node.type in _UPDATES or (node.type.startswith("Apply") and bool(node.opdef.ref_inputs))
        handler = HANDLERS.get(node.type)
        if node.opdef.stateful and not update and node.type != "Assign" and handler is None:
            raise NotRecordable(f"{node.type} has a state")
        recorder.owner = item.index
        draft.computes += 1
        inputs: list[Any] = []
        for slot, value in enumerate(each.inputs):
            found = self._find(value)
            if isinstance(found, str):
                found = self._held(found, node) if slot in item.derefs else found
            inputs.append(found)
        if writes_resources(each):
            draft.effects[item.index] = Effect(node.type)
        if node.type == "Assign":
            self._assign(each, node, inputs)
            return
        views = None
        if handler is not None:
            if id(each) in self._apart:
                raise NotRecordable(f"what the {node.type} makes is needed elsewhere, too")
            views = self._by_handler(node, inputs)
            if views is not None and node.opdef.stateful:
                draft.effects[item.index] = effect_of(
                    recorder, node, item.index, inputs, views, draft.handles
                )
        if views is None:
            views = self._by_rule(node, inputs)
        if views is None:
            views = self._by_trace(each, node, bound, inputs)
        draft.made = views
        for value, view in zip(each.outputs, views, strict=True):
            if value >= 0:
                draft.known[value] = view

    def _look(self, index: int) -> None:
        """The outputs of the op that was lowered last are looked over."""
        draft = self._draft
        found = []
        for each in draft.made:
            if isinstance(each, str):
                each = draft.variables[each].now
            if each is not None and not isinstance(each, Handle | np.ndarray | np.generic):
                each = draft.recorder.look(each) if each.size else np.empty(each.shape, each.dtype)
            found.append(each)
        draft.looks[index] = tuple(found)

    def _by_handler(self, node: StageNode, inputs: Sequence[Any]) -> list[Any] | None:
        """The op on a stack or TensorArray of the segment's own; None if its kernel is to be traced."""
        recorder = self._draft.recorder
        if node.opdef.stateful:
            return HANDLERS[node.type](recorder, node, inputs)
        if any(isinstance(each, str) for each in inputs) or all(
            isinstance(each, np.ndarray | np.generic) for each in inputs
        ):
            return None
        mark = recorder.mark()
        try:
            return HANDLERS[node.type](recorder, node, inputs)
        except NotRecordable:
            recorder.back(mark)
            return None

    def _by_rule(self, node: StageNode, inputs: Sequence[Any]) -> list[Any] | None:
        """The op as native kernels of its own; None where there are none, or none whose bits will do."""
        rule = RULES.get(node.type)
        if rule is None or (self.exact and not rule.exact):
            return None
        recorder = self._draft.recorder
        mark = recorder.mark()
        uses = [self._draft.variables[each] if isinstance(each, str) else None for each in inputs]
        operands = [self._held(each, node) if isinstance(each, str) else each for each in inputs]
        made = rule(recorder, node, operands)
        if made is None:
            recorder.back(mark)
            return None
        results, updated = made
        for slot, view in updated.items():
            use = uses[slot]
            assert use is not None
            self._write(use, view, _KINDS.get(node.type, node.type), node)
        return [inputs[0]] if updated else results

    def _by_trace(self, each: Compute, node: StageNode, bound: Any, inputs: Sequence[Any]) -> list[Any]:
        """The op as its kernel does it."""
        draft, recorder = self._draft, self._draft.recorder
        if any(isinstance(found, Handle) for found in inputs):
            return list(inputs) if node.type == "Identity" else self._by_rows(each, node, bound, inputs)
        k = TracedContext(recorder, node)
        arguments: list[Any] = []
        for found in inputs:
            if isinstance(found, str):
                arguments.append(TracedVariable(found, self._reader(found)))
            elif isinstance(found, np.ndarray | np.generic):
                arguments.append(found)
            else:
                arguments.append(Traced(recorder, found))
        result = bound.kernel(k, *arguments)
        results = result if isinstance(result, tuple | list) else (result,)
        if not each.outputs:
            results = ()
        if len(results) != len(each.outputs):
            raise NotRecordable("the kernel gave another number of outputs")
        for variable, value, kind in k.writes:
            held = draft.variables[variable.name]
            view = value.view if isinstance(value, Traced) else recorder.constant(value)
            self._write(held, view, kind, node)
        found_views: list[Any] = []
        for i, one in enumerate(results):
            if isinstance(one, TracedVariable):
                found_views.append(one.name)
                continue
            dtype, shape = node.output_dtypes[i].np_dtype, node.output_shapes[i]
            if one.dtype != dtype or not shape.is_compatible_with(one.shape):
                raise NotRecordable(f"the kernel gave {one.dtype}{list(one.shape)}")
            found_views.append(one.view if isinstance(one, Traced) else np.asarray(one))
        return found_views

    def _by_rows(self, each: Compute, node: StageNode, bound: Any, inputs: Sequence[Any]) -> list[Any]:
        """An elementwise op on rows of which only so many count: done for all."""
        rows = [found for found in inputs if isinstance(found, Rows)]
        others = [found for found in inputs if not isinstance(found, Rows)]
        if (
            not rows
            or not (node.type in ELEMENTWISE or node.type == "_FusedElementwise")
            or any(isinstance(found, str | Handle) or found.shape for found in others)
            or any(found.count != rows[0].count or found.view.shape != rows[0].view.shape for found in rows)
        ):
            raise NotRecordable(f"a {node.type} of a handle, or of rows whose number is not known beforehand")
        whole = [found.view if isinstance(found, Rows) else found for found in inputs]
        made = self._by_trace(each, node, bound, whole)
        if any(
            isinstance(one, str | np.ndarray | np.generic) or one.shape != rows[0].view.shape for one in made
        ):
            raise NotRecordable(f"a {node.type} of rows whose number is not known beforehand")
        return [Rows(one, rows[0].count, rows[0]) for one in made]

    def _reader(self, name: str) -> Callable[[Any], Traced]:
        return lambda node: Traced(self._draft.recorder, self._held(name, node))

    def _assign(self, each: Compute, node: StageNode, inputs: Sequence[Any]) -> None:
        item, _ = self.linear.sources[self._draft.variables[inputs[0]].reference]
        view = self._view(each.inputs[1]) if not isinstance(inputs[1], str) else None
        shape = item.node.attrs["shape"].dims_or_none
        if view is None or shape != view.shape or not node.attrs["validate_shape"]:
            raise NotRecordable("an assignment whose shapes are not known to be equal")
        self._write(self._draft.variables[inputs[0]], view, "assign", node)
        self._draft.made = [inputs[0]]
        if each.outputs[0] >= 0:
            self._draft.known[each.outputs[0]] = inputs[0]

    def _write(self, use: Use, view: View, kind: str, node: StageNode) -> None:
        if self._inside:
            raise NotRecordable("a variable that is written in a branch or a loop")
        item, _ = self.linear.sources[use.reference]
        if item.node.attrs["shape"].dims_or_none != view.shape:
            raise NotRecordable(f"the shape of variable '{item.name}' changes")
        use.now, use.writes = view, (*use.writes, (kind, node))
        if view.shape == ():  # another write may follow in this segment, and what a scalar becomes is told
            effects, index = self._draft.effects, self._draft.recorder.owner
            effects[index] = effects[index].wrote(use, self._draft.recorder.note(view))

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
