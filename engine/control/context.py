"""Control-flow contexts: what a branch or a loop knows of the tensors around it.

While a branch of `cond` or the body of `while_loop` is being built, its context sees every operation added (`add_op`) and
brings each tensor from outside in, once: through a Switch on the predicate for a branch, through a constant Enter for a loop,
from the outermost context inward.  Structure and names of what is added are TensorFlow 1's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from engine.graph.default import get_default_graph
from engine.graph.graph import Graph
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw
from engine.types.shape import TensorShape


def is_loop_exit(op: Operation) -> bool:
    return op.opdef.flow == "exit"


def is_loop_enter(op: Operation) -> bool:
    return op.opdef.flow == "enter"


def is_constant_enter(op: Operation) -> bool:
    return op.opdef.flow == "enter" and bool(op.attrs["is_constant"])


def is_call(op: Operation) -> bool:
    """Whether `op` calls a function of the graph, or its gradient."""
    return op.opdef.name in op.graph._functions or op.opdef.name == "SymbolicGradient"


def output_context(op: Operation) -> Any:
    """The context in which the outputs of `op` are used: its own, or for a loop's Exit the one around the loop."""
    context = op._context
    return context.outer if context is not None and is_loop_exit(op) else context


def switch_ref_or_tensor(data: Tensor, pred: Tensor) -> tuple[Tensor, Tensor]:
    """(false output, true output) of a Switch beside `data`; a reference stays one."""
    with get_default_graph().colocate_with(data, ignore_existing=True):
        made = (
            raw.RefSwitch(data, pred, name="Switch")
            if data.dtype._is_ref_dtype
            else raw.Switch(data, pred, name="Switch")
        )
    return made[0], made[1]


class ControlFlowContext:
    """Base of the two kinds of context.

    `known` are the tensors that may be used inside as they are; `brought_in` maps tensors from outside to what stands for them
    inside.
    """

    def __init__(self, name: str) -> None:
        self.graph: Graph = get_default_graph()
        self.name = self.graph.unique_name(name)
        self.outer: ControlFlowContext | None = self.graph._scopes.context
        self.nested: list[ControlFlowContext] = []  # the contexts whose outer one this is
        if self.outer is not None:
            self.outer.nested.append(self)
        self.known: set[Tensor] = set()
        self.brought_in: dict[Tensor, Tensor] = {}

    @property
    def outer_context(self) -> ControlFlowContext | None:
        return self.outer

    def to_proto(self) -> Any:
        """The context as a CondContextDef or WhileContextDef message."""
        from engine.control.context_def import context_to_def

        return context_to_def(self)

    @staticmethod
    def from_proto(context_def: Any, import_scope: str | None = None) -> Any:
        """The context of a message, for nodes that are in the default graph, in the name scope `import_scope`."""
        from engine.control.context_def import context_from_def

        return context_from_def(context_def, import_scope)

    def while_context(self) -> WhileContext | None:
        """The innermost loop that this context is, or is in."""
        raise NotImplementedError

    def control_pivot(self) -> Tensor | None:
        """The tensor on which an operation without inputs inside this context must wait."""
        raise NotImplementedError

    def add_value(self, value: Tensor) -> Tensor:
        """What stands for `value` inside this context."""
        raise NotImplementedError

    def add_op(self, op: Operation) -> None:
        """An operation has been added inside this context."""
        raise NotImplementedError

    def check_use(self, tensor: Tensor, user: ControlFlowContext | None, flow: str, name: str) -> None:
        """Raise ValueError if `name`, an operation in the context `user`, may not use `tensor`, which is in this context.

        What is inside a loop has a value in each iteration, which only this loop and those inside it can use.
        """
        context = self.outer if is_loop_exit(tensor.op) else self
        home = context.while_context() if context is not None else None
        if home is None:
            return
        loop = user.while_context() if user is not None else None
        if loop is None:
            if flow not in ("enter", "switch"):  # those bring it in, for an operation that has been checked
                raise ValueError(
                    f"Cannot use '{tensor.op.name}' as input to '{name}' because '{tensor.op.name}' is in a while loop. "
                    "Make it a loop variable, and use what tf.while_loop returns for it."
                )
        elif not (loop.is_inside(home) or loop.is_backward or home.is_backward):
            raise ValueError(
                f"Cannot use '{tensor.op.name}' as input to '{name}' because they are in different while loops. "
                "Make it a loop variable of its loop, and use what tf.while_loop returns for it."
            )

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Build inside this context."""
        scopes = self.graph._scopes
        before, scopes.context = scopes.context, self
        try:
            yield
        finally:
            scopes.context = before

    def leave(self, results: Iterable[Tensor]) -> None:
        """`results` of this context may be used in the one around it."""
        if self.outer is not None:
            self.outer.known.update(results)

    def _bring_in_inputs(self, op: Operation) -> None:
        for index, tensor in enumerate(op._inputs):
            if op.opdef.flow == "merge" and tensor.op.opdef.flow == "next_iteration":
                continue  # the back edge of a loop
            inside = self.add_value(tensor)
            if inside is not tensor:
                op._update_input(index, inside)

    def _split_control_inputs(self, op: Operation) -> tuple[list[Operation], list[Operation]]:
        """The control inputs from inside the enclosing loop, which stay, and those from outside of it, which are removed."""
        loop = self.while_context()
        if loop is None:
            return op.control_inputs, []
        internal: list[Operation] = []
        external: list[Operation] = []
        for source in op._control_inputs:
            context = output_context(source)
            inside = context is not None and context.while_context() is loop
            (internal if inside else external).append(source)
        if external:
            op._remove_all_control_inputs()
            op._add_control_inputs(internal)
        return internal, external

    def _hide(self, op: Operation) -> None:
        """What is inside a context may be dead, and in a loop has many values: only an outermost loop's results can be fetched.

        What is fed is there once, so that outside of loops it may stand for what a branch computes.
        """
        if self.outer is not None or not is_loop_exit(op):
            self.graph.prevent_fetching(op)
            if self.while_context() is not None:
                for tensor in op.outputs:
                    self.graph.prevent_feeding(tensor)


class CondContext(ControlFlowContext):
    """One branch of a `cond`: `branch` is 1 where `pred` must be true, 0 where it must be false."""

    def __init__(self, pred: Tensor, pivot: Tensor, branch: int, name: str = "cond_text") -> None:
        super().__init__(name)
        self.pred = pred
        self.pivot = pivot
        self.branch = branch
        self.known.update((pred, pivot))
        self.brought_in[pred] = pred
        pivot.op._context = self

    def while_context(self) -> WhileContext | None:
        return self.outer.while_context() if self.outer is not None else None

    def control_pivot(self) -> Tensor:
        return self.pivot

    def add_value(self, value: Tensor) -> Tensor:
        if value in self.known:
            return self.brought_in.get(value, value)
        self.known.add(value)
        result = value
        if self.outer is not None:
            result = self.outer.add_value(value)
            self.known.add(result)
            self.brought_in[result] = result
        with self.graph.control_dependencies(None):
            result = switch_ref_or_tensor(result, self.pred)[self.branch]
        self.graph.prevent_fetching(result.op)
        result.op._context = self
        self._know_in_all([result])
        self.brought_in[value] = result
        return result

    def add_op(self, op: Operation) -> None:
        if not op._inputs:
            self._split_control_inputs(op)
            if not any(_inside(source, self) for source in op._control_inputs):
                op._add_control_input(self.pivot.op)
        else:
            self._bring_in_inputs(op)
            self._split_control_inputs(op)
            if is_call(op):  # its body may have operations without inputs
                op._add_control_input(self.pivot.op)
        self._know_in_all(op.outputs)
        self._hide(op)

    def _know_in_all(self, tensors: Sequence[Tensor]) -> None:
        context: ControlFlowContext | None = self
        while context is not None:
            context.known.update(tensors)
            context = context.outer

    def output(self, value: Tensor) -> Tensor:
        """A result of the branch, as the Merge takes it: a tensor from outside goes through a Switch of its own."""
        if value.op._context is not None:
            value.op._context.check_use(value, self, "", self.name)
        if value in self.known:
            return self.brought_in.get(value, value)
        self.known.add(value)
        result = value
        if self.outer is not None:
            result = self.outer.add_value(value)
            self.known.add(result)
        result = switch_ref_or_tensor(result, self.pred)[self.branch]
        self.brought_in[value] = result
        return result


def _inside(op: Operation, context: ControlFlowContext) -> bool:
    found = output_context(op)
    while found is not None:
        if found is context:
            return True
        found = found.outer
    return False


class WhileContext(ControlFlowContext):
    """A loop: its frame's name is the context's."""

    is_backward = (
        False  # whether it is the loop of a gradient, which has its own way to the values of another loop
    )

    def __init__(
        self,
        parallel_iterations: int = 10,
        back_prop: bool = True,
        swap_memory: bool = False,
        maximum_iterations: Tensor | None = None,
        name: str = "while_context",
    ) -> None:
        super().__init__(name)
        self.parallel_iterations = parallel_iterations
        self.back_prop = back_prop
        self.swap_memory = swap_memory
        self.maximum_iterations = maximum_iterations
        self.pivot: Tensor | None = None
        self.pivot_for_pred: Tensor | None = None
        self.pivot_for_body: Tensor | None = None
        self.loop_enters: list[Tensor] = []
        self.loop_exits: list[Tensor] = []

    def while_context(self) -> WhileContext:
        return self

    def is_inside(self, loop: WhileContext) -> bool:
        """Whether this loop is `loop`, or is nested in it."""
        found: WhileContext | None = self
        while found is not None and found is not loop:
            found = found.outer.while_context() if found.outer is not None else None
        return found is loop

    def control_pivot(self) -> Tensor | None:
        return self.pivot_for_body if self.pivot_for_body is not None else self.pivot_for_pred

    def add_value(self, value: Tensor) -> Tensor:
        if value in self.known or value.op._context is self:
            return self.brought_in.get(value, value)
        self.known.add(value)
        result = self.outer.add_value(value) if self.outer is not None else value
        with self.graph.control_dependencies(None):
            enter = self._enter(result, is_constant=True)
        self.fix_control_inputs([enter])
        self.known.add(enter)
        self.brought_in[value] = enter
        return enter

    def _enter(self, value: Tensor, is_constant: bool) -> Tensor:
        make = raw.RefEnter if value.dtype._is_ref_dtype else raw.Enter
        enter: Tensor = make(
            value, frame_name=self.name, is_constant=is_constant, parallel_iterations=self.parallel_iterations
        )
        self.graph.prevent_feeding(enter)
        return enter

    def enter_loop_vars(
        self, values: Sequence[Tensor], invariants: Sequence[TensorShape] | None
    ) -> list[Tensor]:
        """The Enters of the loop variables.  Raises ValueError for an invariant that excludes the initial shape."""
        for value in values:
            if value.op._context is not None:
                value.op._context.check_use(value, self, "", self.name)
        self.known = set(values)
        real = [self.outer.add_value(value) for value in values] if self.outer is not None else list(values)
        with self.graph.control_dependencies(None):
            enters = [self._enter(value, is_constant=False) for value in real]
        pivot = self._enclosing_pivot()
        for value, enter in zip(real, enters, strict=True):
            if pivot is not None and is_constant_enter(value.op):
                enter.op._add_control_input(pivot.op)
        if invariants is not None:
            for value, enter, invariant in zip(real, enters, invariants, strict=True):
                if not _is_at_least(value._shape, invariant):
                    raise ValueError(
                        f"The shape invariant specified for {value.name} is not compatible with the initial shape of the loop "
                        f"variable. It enters the loop with shape {value._shape}, but the specified shape invariant is "
                        f"{invariant}."
                    )
                enter._shape = invariant
        self.fix_control_inputs(enters)
        self.known = set(enters)
        self.loop_enters = enters
        return enters

    def _enclosing_pivot(self) -> Tensor | None:
        context = self.outer
        while context is not None:
            pivot = context.control_pivot()
            if pivot is not None:
                return pivot
            context = context.outer
        return None

    def fix_control_inputs(self, enters: Sequence[Tensor]) -> None:
        """Enters belong to this context; of the control inputs around the loop they keep those that are in reach."""
        scopes = self.graph._scopes
        for enter in enters:
            kept = [
                op for op in scopes.control_inputs_for(enter.op._inputs) if self._reaches(output_context(op))
            ]
            enter.op._context = self
            enter.op._add_control_inputs(kept)
            for block in scopes.control:
                block.seen.add(enter.op)

    def _reaches(self, context: ControlFlowContext | None) -> bool:
        """Whether `context` is around this loop and inside the next loop around it."""
        outer = self.outer
        limit = outer.while_context() if outer is not None else None
        while outer is not context:
            if outer is None or outer is limit:
                return False
            outer = outer.outer
        return True

    def add_op(self, op: Operation) -> None:
        if op._inputs:
            self._bring_in_inputs(op)
            _, external = self._split_control_inputs(op)
            # An operation fed by loop invariants alone would run in iterations that never come; the pivot holds it back.
            free = not op._control_inputs and (
                is_call(op) or all(is_constant_enter(tensor.op) for tensor in op._inputs)
            )
            if free:
                self._wait_for_pivot(op)
        else:
            internal, external = self._split_control_inputs(op)
            if not internal:
                self._wait_for_pivot(op)
        self.known.update(op.outputs)
        if external:
            # What is waited for outside the loop comes in as data, and is waited for in here.
            with self.graph.control_dependencies(None), self.entered():
                inside = [raw.Identity(source.outputs[0]).op for source in external if source.outputs]
            op._add_control_inputs(inside)
        self._hide(op)

    def _wait_for_pivot(self, op: Operation) -> None:
        pivot = self.control_pivot()
        if pivot is not None:
            op._add_control_input(pivot.op)


def _is_at_least(shape: TensorShape, general: TensorShape) -> bool:
    """Whether every tensor of static shape `shape` is also of the (less specific) shape `general`."""
    dims, wider = shape._dims, general._dims
    if wider is None:
        return True
    if dims is None or len(dims) != len(wider):
        return False
    return all(size is None or size == actual for size, actual in zip(wider, dims, strict=True))


def check_invariant(merge: Tensor, following: Tensor) -> None:
    """Raise ValueError if a loop variable has another shape after an iteration than the loop was built for."""
    if not _is_at_least(following._shape, merge._shape):
        entered = merge.op._inputs[0].op._inputs[0]
        raise ValueError(
            f"Input tensor '{entered.name}' enters the loop with shape {merge._shape}, but has shape "
            f"{following._shape} after one "
            "iteration. To allow the shape to vary across iterations, use the `shape_invariants` argument of tf.while_loop to "
            "specify a less-specific shape."
        )
