"""One op of the linear program as steps of the segment under way.

Its kernel is traced (`engine.runtime.plan.tracer`), unless there are native kernels for it (`native_rules`), or it is one on a
stack or an array of tensors (`native_state`).  What cannot be done raises: the instruction stays in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.passes.fuse import ELEMENTWISE
from engine.passes.stage import StageNode
from engine.runtime.plan.draft import Draft, Use
from engine.runtime.plan.ir import Compute, Linear
from engine.runtime.plan.native_rows import Rows
from engine.runtime.plan.native_rules import RULES
from engine.runtime.plan.native_state import HANDLERS, Handle
from engine.runtime.plan.native_writes import Effect, effect_of
from engine.runtime.plan.python import writes_resources
from engine.runtime.plan.recording import Home, NotRecordable, Recorder
from engine.runtime.plan.tracer import Traced, TracedContext, TracedVariable

if TYPE_CHECKING:
    from engine.native.layout import View
    from engine.runtime.executable import Executable

EARLY = frozenset({"_Arg", "VariableV2", "Variable"})  # look something up, and may do it before the segment
_IDLE = frozenset({"NoOp", "ControlTrigger", "Const"})
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


@dataclass(eq=False, repr=False)
class Ops:
    """Puts ops into a draft; `nodes` have the shapes of this specialisation."""

    linear: Linear
    executable: Executable
    nodes: Mapping[str, StageNode]
    exact: bool
    threads: int = 0

    def __post_init__(self) -> None:
        self._inside = 0  # branches and loops around what is being lowered
        self._apart: set[int] = set()  # makers of handles that are needed outside of their segment
        self._draft: Draft = self._new_draft()

    def _new_draft(self) -> Draft:
        return Draft(Recorder(self.exact, self.threads))

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

    # Ops.

    def _compute(self, each: Compute) -> None:
        item = each.item
        node = self.nodes[item.node.name]
        draft, recorder = self._draft, self._draft.recorder
        if node.type in _IDLE or (node.type in EARLY and self._inside):
            if node.type in EARLY:
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
