"""Operation: one node of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from engine.graph.tensor import Tensor
from engine.types.site import Captured, Site

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.op.registry import OpDef
    from engine.types.dtypes import DType


class Operation:
    """A node: its op type, inputs, control inputs, attrs, device, and the line of the user's script that made it.

    Made by `Graph.create_op`, never directly.  `attrs` holds Python values: DType, TensorShape, array, str, int, float, bool,
    or a tuple of these; `get_attr` gives them in TensorFlow 1's forms.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_control_inputs",
        "_control_outputs",
        "_device",
        "_id",
        "_inputs",
        "_original_op",
        "_site",
        "attrs",
        "graph",
        "name",
        "opdef",
        "outputs",
    )

    def __init__(
        self,
        graph: Graph,
        opdef: OpDef,
        name: str,
        inputs: Sequence[Tensor],
        control_inputs: Sequence[Operation],
        attrs: dict[str, Any],
        output_dtypes: Sequence[DType],
        site: Captured,
    ) -> None:
        self.graph = graph
        self.opdef = opdef
        self.name = name
        self._inputs = tuple(inputs)
        self._control_inputs = tuple(control_inputs)
        self._control_outputs: list[Operation] | None = None
        self.attrs = attrs
        self._device = ""
        self._site: Captured | Site | None = site
        self._context: Any = None
        self._original_op: Operation | None = None  # the forward operation, for a node of its gradient
        self._id = -1
        if len(output_dtypes) == 1:  # nearly always
            self.outputs = [Tensor(self, 0, output_dtypes[0])]
        else:
            self.outputs = [Tensor(self, i, dtype) for i, dtype in enumerate(output_dtypes)]
        for tensor in self._inputs:
            if tensor._consumers is None:
                tensor._consumers = [self]
            else:
                tensor._consumers.append(self)
        for op in self._control_inputs:
            op._add_control_output(self)

    # What the operation is.

    @property
    def type(self) -> str:
        return self.opdef.name

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self._inputs

    @property
    def control_inputs(self) -> list[Operation]:
        return list(self._control_inputs)

    @property
    def control_outputs(self) -> list[Operation]:
        """The operations that wait for this one."""
        return list(self._control_outputs or ())

    @property
    def device(self) -> str:
        return self._device

    @property
    def op_def(self) -> OpDef:
        return self.opdef

    @property
    def node_def(self) -> Any:
        """This operation as a NodeDef protocol buffer."""
        from engine.graph.graphdef import node_to_def

        return node_to_def(self)

    @property
    def site(self) -> Site | None:
        """The lines of the user's program that made the operation."""
        if self._site.__class__ is tuple:
            self._site = Site(self._site)
        return cast("Site | None", self._site)

    @site.setter
    def site(self, site: Site | None) -> None:
        self._site = site

    @property
    def traceback(self) -> list[tuple[str, int, str, str]]:
        """The user's stack when the operation was made, outermost first: (file, line, function, source text)."""
        frames = self.site.frames if self.site is not None else ()
        return [(frame.file, frame.line, frame.function, frame.source) for frame in reversed(frames)]

    def values(self) -> tuple[Tensor, ...]:
        return tuple(self.outputs)

    def get_attr(self, name: str) -> Any:
        """The attr `name` as TensorFlow 1 gives it: bytes for a string, a list for a list, a TensorShapeProto for a shape.

        Raises ValueError if the operation has no such attr.
        """
        try:
            value = self.attrs[name]
        except KeyError:
            known = ", ".join(sorted(self.attrs)) or "none"
            raise ValueError(
                f"Operation '{self.name}' ({self.type}) has no attr named '{name}'; it has: {known}"
            ) from None
        return _public_attr(value)

    def colocation_groups(self) -> list[bytes]:
        """The colocation groups, as in the `_class` attr; an operation in none is in its own."""
        groups = [value.encode() for value in self.attrs.get("_class", ()) if value.startswith("loc:@")]
        return groups or [b"loc:@" + self.name.encode()]

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run this operation in `session`, or in the default session.  Raises ValueError if there is none."""
        from engine.graph.default import eval_in_session

        eval_in_session(self, feed_dict, session)

    # What control-flow construction and graph import change after the fact.

    def _add_control_output(self, op: Operation) -> None:
        if self._control_outputs is None:
            self._control_outputs = [op]
        else:
            self._control_outputs.append(op)

    def _update_input(self, index: int, tensor: Tensor) -> None:
        """Make `tensor` the `index`-th input.  Raises ValueError if it is of another graph or dtype."""
        if tensor.graph is not self.graph:
            raise ValueError(f"Tensor '{tensor.name}' is not in the graph of operation '{self.name}'")
        old = self._inputs[index]
        if old.dtype.base_dtype != tensor.dtype.base_dtype:
            raise ValueError(
                f"Input {index} of '{self.name}' has dtype {old.dtype.name}; '{tensor.name}' has {tensor.dtype.name}"
            )
        with self.graph._lock:
            self.graph._check_not_finalized()
            inputs = list(self._inputs)
            inputs[index] = tensor
            self._inputs = tuple(inputs)
            if old._consumers is not None:
                old._consumers.remove(self)
            if tensor._consumers is None:
                tensor._consumers = []
            tensor._consumers.append(self)
            self.graph._edited()

    def _add_control_inputs(self, ops: Iterable[Operation]) -> None:
        with self.graph._lock:
            self.graph._check_not_finalized()
            before = len(self._control_inputs)
            together = dict.fromkeys((*self._control_inputs, *ops))
            for op in together:
                if op.graph is not self.graph:
                    raise ValueError(f"Operation '{op.name}' is not in the graph of operation '{self.name}'")
            self._control_inputs = tuple(together)
            for op in self._control_inputs[before:]:
                op._add_control_output(self)
            self.graph._edited()

    def _add_control_input(self, op: Operation) -> None:
        self._add_control_inputs([op])

    def _remove_all_control_inputs(self) -> None:
        with self.graph._lock:
            for op in self._control_inputs:
                if op._control_outputs is not None:
                    op._control_outputs.remove(self)
            self._control_inputs = ()
            self.graph._edited()

    def _set_device(self, device: Any) -> None:
        self._device = "" if device is None else (device if isinstance(device, str) else device.to_string())
        self.graph._edited()

    def _set_attr(self, name: str, value: Any) -> None:
        self.attrs = {**self.attrs, name: value}
        self.graph._edited()

    def _get_control_flow_context(self) -> Any:
        return self._context

    def _set_control_flow_context(self, context: Any) -> None:
        self._context = context

    def __repr__(self) -> str:
        return f"<tf.Operation '{self.name}' type={self.type}>"

    def __str__(self) -> str:
        return str(self.node_def)


def _public_attr(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, tuple):
        return [_public_attr(item) for item in value]
    if hasattr(value, "as_proto") and hasattr(value, "ndims"):
        return value.as_proto()
    if hasattr(value, "ndim") and hasattr(value, "tobytes"):
        from engine.graph.tensor_proto import tensor_to_proto

        return tensor_to_proto(value)
    return value
