"""Graph: the program as written, under TensorFlow 1's names."""

from __future__ import annotations

import contextlib
import difflib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from engine.graph.operation import Operation
from engine.graph.scopes import ControlDependencies, Here, NameScope, Scopes
from engine.graph.tensor import Tensor
from engine.op.registry import OpDef, lookup
from engine.types import site
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import TensorShape

_VALID_OP_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*\Z").match
_VALID_SCOPE_NAME = re.compile(r"[A-Za-z0-9_.\\/>-]*\Z").match
_NOTHING: tuple[Any, ...] = ()


class Graph:
    """A set of operations connected by tensors.

    Nodes are only ever added.  Any number of threads may build one graph; each has its own scopes.
    """

    _building_function = (
        False  # whether it is a function's body, into which tensors of other graphs are captured
    )

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._nodes: dict[str, Operation] = {}
        self._names_in_use: dict[str, int] = {}
        self._edits = 0
        self._finalized = False
        self._here = Here()
        self._collections: dict[Any, list[Any]] = {}
        self._unfeedable: set[Any] = set()
        self._unfetchable: set[Any] = set()
        self._seed: int | None = None
        self._versions_producer = 1882
        self._functions: dict[
            str, Any
        ] = {}  # the library: `Function`s by name, which is the type of their calls

    @property
    def _scopes(self) -> Scopes:
        """What surrounds the node that this thread builds next."""
        return self._here.scopes

    # Growing.

    @property
    def version(self) -> int:
        """The number of operations added so far."""
        return len(self._nodes)

    @property
    def _last_id(self) -> int:
        return len(self._nodes)

    @property
    def seed(self) -> int | None:
        """The graph-level random seed."""
        return self._seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self._seed = seed

    @property
    def finalized(self) -> bool:
        return self._finalized

    def finalize(self) -> None:
        """Make the graph read-only: adding to it raises RuntimeError from now on."""
        self._finalized = True

    def _unsafe_unfinalize(self) -> None:
        self._finalized = False

    def _check_not_finalized(self) -> None:
        if self._finalized:
            raise RuntimeError(
                "The graph is finalized and cannot be changed. Build all operations before Graph.finalize()."
            )

    def _edited(self) -> None:
        """Note that nodes that were there before have changed, so that sessions drop what they made of them."""
        self._edits += 1

    def create_op(
        self,
        op_type: str,
        inputs: Sequence[Tensor],
        dtypes: Sequence[Any] | None = None,
        input_types: Sequence[Any] | None = None,
        name: str | None = None,
        attrs: Mapping[str, Any] | None = None,
        op_def: OpDef | None = None,
        compute_shapes: bool = True,
        compute_device: bool = True,
    ) -> Operation:
        """Add an operation.

        attrs are Python values as on `Operation.attrs`.  `dtypes` are the outputs' dtypes; None: as the signature says.
        Raises TypeError for a non-Tensor input, ValueError for an unknown op type, a malformed name, an input of another
        graph, or shapes that contradict the op's shape rule.
        """
        del input_types, compute_device  # part of TensorFlow 1's signature; both follow from the rest here
        definition = op_def or lookup(op_type)
        if definition is None and op_type in self._functions:
            definition = self._functions[op_type].opdef
        if definition is None:
            near = difflib.get_close_matches(op_type, [each.name for each in _all_ops()], 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"No op of type '{op_type}' is registered.{hint}")
        for tensor in inputs:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"Input {tensor!r} of a '{op_type}' operation is not a Tensor")
        from engine.op.build import complete_attrs, output_dtypes

        full_attrs = complete_attrs(definition, dict(attrs or {}), inputs)
        outputs = (
            [as_dtype(each) for each in dtypes]
            if dtypes is not None
            else output_dtypes(definition, full_attrs)
        )
        full_name = self._full_name(name or op_type)
        return self._add(
            definition, full_name, inputs, full_attrs, outputs, site.stack(skip=1), compute_shapes
        )

    def _full_name(self, name: str) -> str:
        """The unique full name for a node asked for as `name`; one that ends in '/' is a scope's name, taken as it is."""
        try:
            valid = _is_valid_op_name(name)
        except TypeError:
            raise TypeError(f"An operation's name is a string, not {name!r}") from None
        if not valid:
            raise ValueError(
                f"'{name}' is not a valid name for an operation: letters, digits, and ._\\/>- after the first"
            )
        return name[:-1] if name[-1] == "/" else self.unique_name(name)

    def _add(
        self,
        opdef: OpDef,
        full_name: str,
        inputs: Sequence[Tensor],
        attrs: dict[str, Any],
        output_dtypes: Sequence[DType],
        made_at: site.Captured,
        compute_shapes: bool = True,
    ) -> Operation:
        """Add an operation whose parts are known to fit together; `attrs` becomes its own."""
        if self._finalized:
            self._check_not_finalized()
        for tensor in inputs:
            if tensor.op.graph is not self:
                raise ValueError(
                    f"Tensor '{tensor.name}' must be from the same graph as '{full_name}', which is being built. "
                    "Each graph has its own tensors; use one `with graph.as_default():` block for both."
                )
        scopes = self._here.scopes
        here = scopes.context
        for tensor in inputs:
            context = tensor.op._context
            if context is not None and context is not here:
                context.check_use(tensor, here, opdef.flow, full_name)
        if scopes.gradient_override and opdef.name in scopes.gradient_override:
            attrs["_gradient_op_type"] = scopes.gradient_override[opdef.name]
        if scopes.attrs:
            attrs.update(scopes.attrs)
        if scopes.colocation:
            groups = {name for op in scopes.colocation for name in _colocation_class(op)}
            attrs["_class"] = tuple(sorted({*attrs.get("_class", ()), *groups}))
        control = scopes.control_inputs_for(inputs) if scopes.control else _NOTHING
        with self._lock:
            if full_name in self._nodes:
                raise ValueError(f"There is an operation named '{full_name}' in the graph already")
            op = Operation(self, opdef, full_name, inputs, control, attrs, output_dtypes, made_at)
            if compute_shapes and opdef.shape is not None:
                try:
                    _infer_shapes(op)
                except BaseException:
                    self._withdraw(op)
                    raise
            op._original_op = scopes.original
            op._id = len(self._nodes) + 1
            self._nodes[full_name] = op
        if scopes.colocation:
            op._device = next((each.device for each in scopes.colocation if each.device), "")
        elif scopes.devices:
            op._device = scopes.device_for(op)
        for block in scopes.control:
            block.seen.add(op)
        if here is not None:
            op._context = here
            here.add_op(op)
        return op

    @staticmethod
    def _withdraw(op: Operation) -> None:
        """Unlink a node that did not make it into the graph."""
        for tensor in op._inputs:
            cast("list[Operation]", tensor._consumers).remove(op)
        for source in op._control_inputs:
            cast("list[Operation]", source._control_outputs).remove(op)

    # Names.

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` inside the current scope, with a suffix ``_1``, ``_2`` … if it is taken.  Names differ by more than case."""
        scope = self._here.scopes.name
        if scope:
            name = f"{scope}/{name}"
        key = name.lower()
        if key == name:
            key = name  # one string instead of two
        used = self._names_in_use
        with self._lock:
            count = used.get(key)
            if count is None:
                if mark_as_used:
                    used[key] = 1
                return name
            while (candidate := f"{key}_{count}") in used:
                count += 1
            if mark_as_used:
                used[key] = count + 1
                used[candidate] = 1
            return candidate if key is name else f"{name}_{count}"

    def name_scope(self, name: str | None) -> NameScope:
        """Prefix the names of operations built inside with `name`, made unique; gives the scope's full name with a '/'.

        A name that ends in '/' is a scope's full name, entered again; None or '' leaves all scopes.
        """
        return NameScope(self, name)

    def _scope_name(self, name: str | None) -> str:
        """The full name, without a '/' at the end, of the scope that `name` asks for (see `name_scope`)."""
        if not name:
            return ""
        if not isinstance(name, str):
            raise TypeError(f"A scope's name is a string, not {name!r}")
        valid = _VALID_SCOPE_NAME(name) if self._scopes.name else _is_valid_op_name(name)
        if not valid:
            raise ValueError(
                f"'{name}' is not a valid scope name: letters, digits, and ._\\/>- after the first"
            )
        return name[:-1] if name[-1] == "/" else self.unique_name(name)

    def get_name_scope(self) -> str:
        """The current scope's name without the trailing '/'."""
        return self._scopes.name

    # Scopes other than names.

    @contextlib.contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Make operations built inside wait for `control_inputs` (operations, tensors, variables).

        None forgets all surrounding blocks, and leaves the surrounding control-flow context.
        """
        scopes = self._scopes
        old_control, old_context = scopes.control, scopes.context
        if control_inputs is None:
            scopes.control, scopes.context = (), None
        else:
            ops: dict[Operation, None] = {}
            for item in control_inputs:
                element = self.as_graph_element(getattr(item, "_as_control_input", item))
                op = element.op if isinstance(element, Tensor) else element
                ops[op] = None
            scopes.control = (*old_control, ControlDependencies(tuple(ops)))
        try:
            yield
        finally:
            scopes.control, scopes.context = old_control, old_context

    @contextlib.contextmanager
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Put operations built inside on a device: a spec string, a DeviceSpec, a function of the operation, or None.

        Inner blocks override outer ones field by field; None forgets the outer ones.
        """
        scopes = self._scopes
        old = scopes.devices, scopes.device
        scopes.push_device(device_name_or_function)
        try:
            yield
        finally:
            scopes.devices, scopes.device = old

    @contextlib.contextmanager
    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Iterator[None]:
        """Put operations built inside on the device of `op`, whatever that becomes; `op` None with `ignore_existing` forgets."""
        if op is None and not ignore_existing:
            raise ValueError(
                "Trying to colocate with None: pass an operation or a tensor, or ignore_existing=True"
            )
        scopes = self._scopes
        old = scopes.colocation, scopes.devices, scopes.device
        target = _NOTHING
        if op is not None:
            element = self.as_graph_element(op)
            target = (element.op if isinstance(element, Tensor) else element,)
        scopes.colocation = target if ignore_existing else (*scopes.colocation, *target)
        if target:
            scopes.devices, scopes.device = (), ""
        try:
            yield
        finally:
            scopes.colocation, scopes.devices, scopes.device = old

    @contextlib.contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """Keep variables and queues built inside in the resource container `container_name`."""
        scopes = self._scopes
        old, scopes.container = scopes.container, container_name
        try:
            yield container_name
        finally:
            scopes.container = old

    @contextlib.contextmanager
    def gradient_override_map(self, op_type_map: Mapping[str, str]) -> Iterator[None]:
        """Use, for operations built inside, the gradient registered under another name: ``{"Sin": "MySinGradient"}``."""
        if not isinstance(op_type_map, Mapping) or not all(
            isinstance(key, str) and isinstance(value, str) for key, value in op_type_map.items()
        ):
            raise TypeError(
                "gradient_override_map takes a dictionary from op type names to names of registered gradients"
            )
        scopes = self._scopes
        old = scopes.gradient_override
        scopes.gradient_override = {**old, **op_type_map}
        try:
            yield
        finally:
            scopes.gradient_override = old

    @contextlib.contextmanager
    def _attr_scope(self, attrs: Mapping[str, Any]) -> Iterator[None]:
        """Put these attrs on operations built inside."""
        scopes = self._scopes
        old = scopes.attrs
        scopes.attrs = {**old, **attrs}
        try:
            yield
        finally:
            scopes.attrs = old

    def _get_control_flow_context(self) -> Any:
        return self._scopes.context

    def _set_control_flow_context(self, context: Any) -> None:
        self._scopes.context = context

    # Finding things.

    def get_operations(self) -> list[Operation]:
        """All operations, in the order in which they were added."""
        return list(self._nodes.values())

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of that name.  Raises KeyError, with the nearest name, if there is none."""
        if not isinstance(name, str):
            raise TypeError(f"Operation names are strings, not {type(name).__name__}")
        return cast(Operation, self.as_graph_element(name, allow_tensor=False))

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor of that name, ``"op:0"``.  Raises KeyError if there is none, ValueError for an operation's name."""
        if not isinstance(name, str):
            raise TypeError(f"Tensor names are strings, not {type(name).__name__}")
        return cast(Tensor, self.as_graph_element(name, allow_operation=False))

    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Tensor | Operation:
        """The Tensor or Operation that `obj` is or names.

        Raises TypeError for an object that is neither, ValueError for one of another graph or not allowed here, KeyError for a
        name that nothing has.
        """
        convert = getattr(obj, "_as_graph_element", None)
        if convert is not None:
            obj = convert()
        if isinstance(obj, str):
            return self._element_by_name(obj, allow_tensor, allow_operation)
        if isinstance(obj, Tensor) and allow_tensor or isinstance(obj, Operation) and allow_operation:
            if obj.graph is not self:
                what = "Tensor" if isinstance(obj, Tensor) else "Operation"
                raise ValueError(
                    f"{what} '{obj.name}' is not an element of this graph: it was made in another one."
                )
            return obj
        kinds = " or ".join(
            kind for kind, ok in (("Tensor", allow_tensor), ("Operation", allow_operation)) if ok
        )
        raise TypeError(f"Can not convert a {type(obj).__name__} into a {kinds}.")

    def _element_by_name(self, name: str, allow_tensor: bool, allow_operation: bool) -> Tensor | Operation:
        if ":" in name and allow_tensor:
            op_name, _, index_text = name.rpartition(":")
            if not index_text.isdigit():
                raise ValueError(
                    f"The name '{name}' looks like a Tensor's, which are of the form '<op_name>:<output_index>'."
                )
            op = self._nodes.get(op_name)
            if op is None:
                raise KeyError(
                    f"The name '{name}' refers to a Tensor which does not exist. "
                    f"The operation, '{op_name}', does not exist in the graph.{self._near(op_name)}"
                )
            if int(index_text) >= len(op.outputs):
                raise KeyError(
                    f"The name '{name}' refers to a Tensor which does not exist. "
                    f"The operation, '{op_name}', exists but only has {len(op.outputs)} outputs."
                )
            return op.outputs[int(index_text)]
        if ":" in name:
            raise ValueError(f"Name '{name}' appears to refer to a Tensor, not an Operation.")
        op = self._nodes.get(name)
        if op is None:
            raise KeyError(f"The name '{name}' refers to an Operation not in the graph.{self._near(name)}")
        if not allow_operation:
            raise ValueError(
                f"The name '{name}' refers to an Operation, not a Tensor. "
                f"Tensor names must be of the form '<op_name>:<output_index>', for instance '{name}:0'."
            )
        return op

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._nodes, 1)
        return f" Did you mean '{near[0]}'?" if near else ""

    def _get_operations_after(self, count: int) -> Sequence[Operation]:
        """The operations added after the first `count`."""
        with self._lock:
            return list(self._nodes.values())[count:]

    def prevent_feeding(self, tensor: Any) -> None:
        """Make feeding `tensor` an error."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Any) -> bool:
        return tensor not in self._unfeedable

    def prevent_fetching(self, op: Any) -> None:
        """Make fetching `op` an error."""
        self._unfetchable.add(op)

    def is_fetchable(self, tensor_or_op: Any) -> bool:
        op = tensor_or_op.op if isinstance(tensor_or_op, Tensor) else tensor_or_op
        return op not in self._unfetchable

    # Collections.

    @property
    def collections(self) -> list[Any]:
        """The names of the collections."""
        return list(self._collections)

    def get_all_collection_keys(self) -> list[str]:
        return [key for key in self._collections if isinstance(key, str)]

    def add_to_collection(self, name: Any, value: Any) -> None:
        self._check_not_finalized()
        with self._lock:
            self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Add `value` to each collection in `names` (or to the one, if it is a string)."""
        for name in (names,) if isinstance(names, str) else dict.fromkeys(names):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The collection's list itself: changing it changes the collection."""
        with self._lock:
            return self._collections.setdefault(name, [])

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the collection; with `scope`, only items whose `.name` matches that regular expression at its start."""
        found = list(self._collections.get(name, ()))
        if scope is None:
            return found
        matches = re.compile(scope).match
        return [item for item in found if hasattr(item, "name") and matches(item.name)]

    def clear_collection(self, name: Any) -> None:
        self._check_not_finalized()
        self._collections.pop(name, None)

    def capture(self, tensor: Tensor) -> Tensor:
        """What stands for `tensor` in this graph: itself, but in a function's body (`engine.graph.function`)."""
        return tensor

    # Default graph and GraphDef.

    def as_default(self) -> contextlib.AbstractContextManager[Graph]:
        """Make this the default graph inside a `with` block, in this thread."""
        from engine.graph.default import as_default

        return as_default(self)

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> Any:
        """The graph as a GraphDef protocol buffer; with `from_version`, only what was added after that version."""
        from engine.graph.graphdef import graph_to_def

        return graph_to_def(self, from_version, add_shapes)

    @property
    def graph_def_versions(self) -> Any:
        return self.as_graph_def().versions

    def switch_to_thread_local(self) -> None:
        """Scopes are always a thread's own here; kept for TensorFlow 1's interface."""


@lru_cache(maxsize=1024)  # a program asks for few names, many times each
def _is_valid_op_name(name: str) -> bool:
    return _VALID_OP_NAME(name) is not None


def _all_ops() -> Iterator[OpDef]:
    from engine.op.registry import all_ops

    return all_ops()


def _colocation_class(op: Operation) -> tuple[str, ...]:
    own = tuple(group for group in op.attrs.get("_class", ()) if group.startswith("loc:@"))
    return own or (f"loc:@{op.name}",)


def _infer_shapes(op: Operation) -> None:
    """Give the outputs of `op` their static shapes, by its op's rule."""
    rule = cast("Callable[[Operation], Any]", op.opdef.shape)
    try:
        found = rule(op)
    except ValueError as error:
        shapes = ", ".join(str(tensor._shape) for tensor in op._inputs)
        raise ValueError(
            f"{str(error).rstrip('.')} for '{op.name}' (op: '{op.opdef.name}') with input shapes: {shapes or 'none'}."
        ) from None
    if isinstance(found, TensorShape):
        op.outputs[0]._shape = found
    else:
        for tensor, shape in zip(op.outputs, found, strict=True):
            tensor._shape = shape
