"""Variables, as TensorFlow 1 has them: four nodes (initial value, variable, Assign, read) and an object that knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engine.control.cond import cond
from engine.control.group import group, no_op
from engine.graph.convert import convert_to_tensor, register_tensor_conversion_function
from engine.graph.default import get_collection, get_default_graph, name_scope
from engine.graph.keys import GraphKeys
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op import row_updates
from engine.op.indexing import getitem
from engine.op.masking import boolean_mask
from engine.op.registry import raw
from engine.op.state import assign, assign_add, assign_sub, count_up_to, is_variable_initialized
from engine.types.dtypes import DType, as_dtype, string
from engine.types.shape import TensorShape, as_shape

if TYPE_CHECKING:
    from engine.graph.graph import Graph
    from engine.graph.indexed_slices import IndexedSlices

__all__ = [
    "Variable",
    "all_variables",
    "global_variables",
    "global_variables_initializer",
    "initialize_all_variables",
    "local_variables",
    "local_variables_initializer",
    "model_variables",
    "moving_average_variables",
    "report_uninitialized_variables",
    "trainable_variables",
    "variables_initializer",
]


class Variable:
    """A tensor that keeps its value from one `Session.run` to the next, as `tf.Variable`.

    initial_value: what converts to a tensor, or a function without arguments that returns it (built where the variable is).
    trainable: whether it joins the collection of trainable variables.  collections: those it joins (None: the global
    variables).  validate_shape: False lets it change its shape.  dtype: what the initial value is converted to.  shape (or
    expected_shape): the static shape, if the initial value's is not it.  constraint: a function of the variable that
    optimizers apply after an update.

    It has a value in a session only after its `initializer` has run there.  Arithmetic reads it: ``v + 1`` adds to `value()`.
    Raises ValueError without an initial value, or if that has no static shape and `validate_shape` asks for one.
    """

    # The operators are Tensor's, on the value; installed below.
    __add__: Callable[[Any, Any], Any]
    __radd__: Callable[[Any, Any], Any]
    __sub__: Callable[[Any, Any], Any]
    __rsub__: Callable[[Any, Any], Any]
    __mul__: Callable[[Any, Any], Any]
    __rmul__: Callable[[Any, Any], Any]
    __truediv__: Callable[[Any, Any], Any]
    __rtruediv__: Callable[[Any, Any], Any]
    __floordiv__: Callable[[Any, Any], Any]
    __mod__: Callable[[Any, Any], Any]
    __pow__: Callable[[Any, Any], Any]
    __rpow__: Callable[[Any, Any], Any]
    __matmul__: Callable[[Any, Any], Any]
    __neg__: Callable[[Any], Any]
    __array_priority__ = 100.0  # so that `array * variable` asks the variable

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Iterable[str] | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: str | None = None,
        constraint: Callable[[Any], Any] | None = None,
        use_resource: bool | None = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> None:
        del variable_def, import_scope, use_resource, synchronization, aggregation
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        if isinstance(collections, str) or not isinstance(collections, Iterable | None):
            raise ValueError(
                f"The collections of a Variable are a list, tuple or set of names, not {collections!r}"
            )
        self._trainable = trainable is None or bool(trainable)
        self._constraint = constraint
        self._save_slice_info: Any = None
        names = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self._trainable and GraphKeys.TRAINABLE_VARIABLES not in names:
            names.append(GraphKeys.TRAINABLE_VARIABLES)
        wanted = None if dtype is None else as_dtype(dtype)
        static = expected_shape if shape is None else shape
        graph = get_default_graph()
        # Outside of loops, branches and control dependencies: the initializer must be able to run on its own.
        with graph.control_dependencies(None):
            values = [] if callable(initial_value) else [initial_value]
            with name_scope(name, "Variable", values) as scope:
                self._build(graph, scope, initial_value, wanted, validate_shape, static, caching_device)
        graph.add_to_collections(names, self)

    def _build(
        self,
        graph: Graph,
        scope: str,
        given: Any,
        dtype: DType | None,
        validate: bool,
        static: Any,
        caching_device: Any,
    ) -> None:
        if callable(given):
            # The variable that these nodes belong with is not there yet; its name is known.  (Where the variable itself
            # belongs with something else, so do they.)
            beside = {} if graph._scopes.colocation else {"_class": (f"loc:@{scope[:-1]}",)}
            with graph._attr_scope(beside):
                with name_scope("Initializer"), graph.device(None):
                    self._initial_value = convert_to_tensor(given(), dtype=dtype, name="initial_value")
                self._variable = self._variable_node(scope, validate, static)
        else:
            self._initial_value = convert_to_tensor(given, dtype=dtype, name="initial_value")
            if self._initial_value.op._get_control_flow_context() is not None:
                raise ValueError(
                    f"The initial value of the variable '{scope[:-1]}' is made inside a loop or a branch "
                    f"('{self._initial_value.name}'), so it cannot be initialized outside. Pass a function that makes it."
                )
            self._variable = self._variable_node(scope, validate, static)
        self._initializer_op: Operation = raw.Assign(
            self._variable, self._guarded_initial_value(), validate_shape=validate, name="Assign"
        ).op
        with graph.colocate_with(self._variable.op):
            if caching_device is None:
                self._snapshot: Tensor = raw.Identity(self._variable, name="read")
            else:
                with graph.device(caching_device):
                    self._snapshot = raw.Identity(self._variable, name="read")

    def _variable_node(self, scope: str, validate: bool, static: Any) -> Tensor:
        if static is not None:
            shape = as_shape(static)
        else:
            shape = self._initial_value.shape if validate else TensorShape(None)
            if validate and not shape.is_fully_defined():
                raise ValueError(
                    f"The initial value of the variable '{scope[:-1]}' must have a fully defined static shape, not {shape}. "
                    "Give it one, or pass validate_shape=False."
                )
        node: Tensor = raw.VariableV2(shape=shape, dtype=self._initial_value.dtype.base_dtype, name=scope)
        return node

    # The initial value, when it depends on other variables.

    def _guarded_initial_value(self) -> Tensor:
        """The initial value, with every variable that it reads replaced by that variable's own initial value until that has one.

        So all initializers may run at once, in any order, as TensorFlow 1 allows it.
        """
        return self._guarded(self._initial_value, {}, ())

    def _guarded(
        self, tensor: Tensor, done: dict[Operation, Operation], path: tuple[Operation, ...]
    ) -> Tensor:
        op = tensor.op
        if op in path:  # a loop: left as it is
            return tensor
        if op not in done:
            done[op] = self._guarded_op(op, done, (*path, op))
        return done[op].outputs[tensor.value_index]

    def _guarded_op(
        self, op: Operation, done: dict[Operation, Operation], path: tuple[Operation, ...]
    ) -> Operation:
        if op.type == "IsVariableInitialized":
            return op
        if op.type in ("Variable", "VariableV2"):
            for key in (GraphKeys.GLOBAL_VARIABLES, GraphKeys.LOCAL_VARIABLES):
                for variable in op.graph.get_collection(key):
                    if isinstance(variable, Variable) and variable.op is op:
                        return variable.initialized_value().op
            return op
        inputs = [self._guarded(tensor, done, path) for tensor in op.inputs]
        if all(new is old for new, old in zip(inputs, op.inputs, strict=True)):
            return op
        kind = "Switch" if op.type == "RefSwitch" else op.type
        name = f"{op.name}_{self.op.name}".replace(":", "_")
        with op.graph.name_scope(None):
            return op.graph.create_op(kind, inputs, name=name, attrs=op.attrs)

    def initialized_value(self) -> Tensor:
        """The variable's value if it has one when this runs, else its initial value."""
        with self.graph.control_dependencies(None):
            found: Tensor = cond(
                is_variable_initialized(self), self.read_value, lambda: self.initializer.inputs[1]
            )
            return found

    # What it is.

    @property
    def name(self) -> str:
        return self._variable.name

    @property
    def op(self) -> Operation:
        """The VariableV2 operation."""
        return self._variable.op

    @property
    def graph(self) -> Graph:
        return self._variable.graph

    @property
    def device(self) -> str:
        return self._variable.device

    @property
    def dtype(self) -> DType:
        """The reference dtype, as in TensorFlow 1: `float32_ref`."""
        return self._variable.dtype

    @property
    def shape(self) -> TensorShape:
        return self._variable.shape

    def get_shape(self) -> TensorShape:
        return self._variable.shape

    def set_shape(self, shape: Any) -> None:
        """Refine the static shape.  Raises ValueError if it contradicts what is known."""
        self._variable.set_shape(shape)
        self._snapshot.set_shape(shape)

    @property
    def trainable(self) -> bool:
        return self._trainable

    @property
    def constraint(self) -> Callable[[Any], Any] | None:
        return self._constraint

    @property
    def initializer(self) -> Operation:
        """The operation that gives the variable its initial value."""
        return self._initializer_op

    @property
    def initial_value(self) -> Tensor:
        return self._initial_value

    # Reading.

    def value(self) -> Tensor:
        """The node "read": the value at some time in a step, the same for all of the step's readers of this node."""
        return self._snapshot

    def read_value(self) -> Tensor:
        """A read of its own, which comes after what it has as control dependencies."""
        found: Tensor = raw.Identity(self._variable, name="read")
        return found

    def _current(self) -> Tensor:
        """The value as a use of the variable here means it.

        That is `value()`, or, after a control dependency that changes the variable, a read of its own.  TensorFlow's `value()`
        shares the variable's buffer, so that there, too, such a use sees the change.
        """
        blocks = self.graph._scopes.control
        if blocks:
            writers = [
                op
                for op in self._variable.consumers()
                if op.opdef.stateful and op.type != "IsVariableInitialized"
            ]
            if any(op in block.before for block in blocks for op in writers):
                return self.read_value()
        return self.value()

    def _ref(self) -> Tensor:
        return self._variable

    def _as_graph_element(self) -> Tensor:
        return self._variable

    def to_proto(self) -> Any:
        """The variable as a VariableDef message: the names of its nodes."""
        from engine.variable_def import variable_to_def

        return variable_to_def(self)

    @staticmethod
    def from_proto(variable_def: Any, import_scope: str | None = None) -> Variable:
        """The variable of a VariableDef, whose nodes are in the default graph, in the name scope `import_scope`."""
        from engine.variable_def import variable_from_def

        return variable_from_def(variable_def, import_scope)

    def eval(self, session: Any = None) -> Any:
        """The value in `session`, or in the default session."""
        return self._variable.eval(session=session)

    def load(self, value: Any, session: Any = None) -> None:
        """Give the variable a value in `session`, or in the default session, without adding a node."""
        from engine.graph.default import get_default_session

        session = session or get_default_session()
        if session is None:
            raise ValueError(
                "Either a session argument should be provided or a default session should be established"
            )
        session.run(self.initializer, {self.initializer.inputs[1]: value})

    # Changing.  Each returns a reference to the variable, to be run or read.

    def assign(
        self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """A node that sets the variable to `value`."""
        node = assign(self._variable, value, use_locking=use_locking, name=name)
        return node if read_value else node.op

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """A node that adds `delta` to the variable."""
        node = assign_add(self._variable, delta, use_locking=use_locking, name=name)
        return node if read_value else node.op

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """A node that subtracts `delta` from the variable."""
        node = assign_sub(self._variable, delta, use_locking=use_locking, name=name)
        return node if read_value else node.op

    def _scatter(self, kind: Any, delta: IndexedSlices, use_locking: bool, name: str | None) -> Tensor:
        if not hasattr(delta, "indices"):
            raise TypeError(f"sparse_delta is not IndexedSlices: {delta!r}")
        found: Tensor = kind(self._variable, delta.indices, delta.values, use_locking=use_locking, name=name)
        return found

    def scatter_update(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """A node that sets the rows `sparse_delta.indices` to `sparse_delta.values`."""
        return self._scatter(row_updates.scatter_update, sparse_delta, use_locking, name)

    def scatter_add(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """A node that adds `sparse_delta.values` to the rows `sparse_delta.indices`."""
        return self._scatter(row_updates.scatter_add, sparse_delta, use_locking, name)

    def scatter_sub(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """A node that subtracts `sparse_delta.values` from the rows `sparse_delta.indices`."""
        return self._scatter(row_updates.scatter_sub, sparse_delta, use_locking, name)

    def count_up_to(self, limit: int) -> Any:
        """A node that adds 1 and returns what was before, and fails with OutOfRangeError at `limit`."""
        return count_up_to(self._variable, limit)

    def __getitem__(self, spec: Any) -> Any:
        """A slice of the value; its `assign` changes that part of the variable."""
        return getitem(self._current(), spec, self)

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    def __iter__(self) -> Any:
        raise TypeError("'Variable' object is not iterable.")

    def __bool__(self) -> bool:
        raise TypeError(f"Variable '{self.name}' has no truth value while the graph is built; use tf.cond")


def _on_value(operator: str) -> Callable[..., Any]:
    def apply(self: Variable, *others: Any) -> Any:
        return getattr(Tensor, operator)(self._current(), *others)

    apply.__name__ = operator
    return apply


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
_OPERATORS = (
    *(f"__{name}__" for name in _BINARY), *(f"__r{name}__" for name in _BINARY),
    "__neg__", "__abs__", "__invert__", "__lt__", "__le__", "__gt__", "__ge__",
)  # fmt: skip

for _operator in _OPERATORS:
    setattr(Variable, _operator, _on_value(_operator))


def _convert(value: Variable, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Tensor:
    del name
    if dtype is not None and not as_dtype(dtype).is_compatible_with(value.dtype):
        raise ValueError(
            f"Incompatible type conversion requested to type '{as_dtype(dtype).name}' for variable of type '{value.dtype.name}'"
        )
    return value._ref() if as_ref else value._current()


register_tensor_conversion_function(Variable, _convert)


# Collections of variables.


def global_variables(scope: str | None = None) -> list[Any]:
    """The variables of the default graph that all of its users share; with `scope`, those whose names begin so."""
    return get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


all_variables = global_variables


def trainable_variables(scope: str | None = None) -> list[Any]:
    """The variables that optimizers train."""
    return get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Any]:
    """The variables that are not saved."""
    return get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Any]:
    """The variables that inference needs."""
    return get_collection(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Any]:
    """The variables that have moving averages."""
    return get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def variables_initializer(var_list: Sequence[Any], name: str = "init") -> Operation:
    """An operation that initializes these variables."""
    if not var_list:
        return no_op(name=name)
    return group(*[variable.initializer for variable in var_list], name=name)


def global_variables_initializer() -> Operation:
    """An operation, named "init", that initializes all global variables."""
    return variables_initializer(global_variables())


initialize_all_variables = global_variables_initializer


def local_variables_initializer() -> Operation:
    """An operation that initializes all local variables."""
    return variables_initializer(local_variables())


def report_uninitialized_variables(
    var_list: Sequence[Any] | None = None, name: str = "report_uninitialized_variables"
) -> Any:
    """A string vector with the names of the variables (by default all global and local ones) that have no value yet."""
    variables = [*global_variables(), *local_variables()] if var_list is None else list(var_list)
    with name_scope(name):
        if not variables:
            return convert_to_tensor([], dtype=string, name="Const")
        missing = raw.LogicalNot(
            raw.Pack([is_variable_initialized(each) for each in variables], axis=0, name="stack")
        )
        names = convert_to_tensor([each.op.name for each in variables], dtype=string, name="Const")
        return boolean_mask(names, missing)
