"""Variables as VariableDef messages and back: the names of the nodes that a variable object knows."""

from __future__ import annotations

from typing import Any

from engine.graph.default import get_default_graph
from engine.graph.keys import GraphKeys
from engine.graph.meta_graph import prepend_name_scope, register_proto_function
from engine.variables import Variable


def variable_to_def(variable: Any) -> Any:
    """The VariableDef of a variable."""
    from tensorboard.compat.proto.variable_pb2 import VariableDef

    definition = VariableDef(
        variable_name=variable._variable.name,
        initial_value_name=variable.initial_value.name,
        initializer_name=variable.initializer.name,
        snapshot_name=variable._snapshot.name,
        trainable=variable.trainable,
    )
    if variable._save_slice_info is not None:
        definition.save_slice_info_def.CopyFrom(variable._save_slice_info.to_proto())
    return definition


def variable_from_def(definition: Any, import_scope: str | None = None) -> Variable:
    """The variable whose nodes are in the default graph, in the name scope `import_scope`.  Raises KeyError if they are not."""
    graph = get_default_graph()

    def tensor(name: str) -> Any:
        return graph.get_tensor_by_name(prepend_name_scope(name, import_scope))

    variable = Variable.__new__(Variable)
    variable._variable = tensor(definition.variable_name)
    variable._initializer_op = graph.get_operation_by_name(
        prepend_name_scope(definition.initializer_name, import_scope)
    )
    variable._snapshot = tensor(definition.snapshot_name)
    initial = definition.initial_value_name
    variable._initial_value = tensor(initial) if initial else variable._initializer_op.inputs[1]
    variable._trainable = definition.trainable
    variable._constraint = None
    variable._save_slice_info = None
    return variable


def _definition_class() -> Any:
    from tensorboard.compat.proto.variable_pb2 import VariableDef

    return VariableDef


for _collection in (
    GraphKeys.GLOBAL_VARIABLES,
    GraphKeys.LOCAL_VARIABLES,
    GraphKeys.METRIC_VARIABLES,
    GraphKeys.MODEL_VARIABLES,
    GraphKeys.TRAINABLE_VARIABLES,
    GraphKeys.MOVING_AVERAGE_VARIABLES,
    GraphKeys.CONCATENATED_VARIABLES,
    GraphKeys.GLOBAL_STEP,
):
    register_proto_function(
        _collection, _definition_class, to_proto=variable_to_def, from_proto=variable_from_def
    )
