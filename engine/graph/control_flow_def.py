"""The protocol buffer classes of control-flow contexts, which no package here brings: TensorFlow's `control_flow.proto`.

The messages are few, so they are described here as a table and made from it; names, field numbers and types are TensorFlow's.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

# message: its fields as (name, number, kind).  A kind is a scalar type or a message; "*" in front of it: any number of them.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ValuesDef": (("values", 1, "*string"), ("external_values", 2, "*ValuesDef.ExternalValuesEntry")),
    "ControlFlowContextDef": (("cond_ctxt", 1, "CondContextDef"), ("while_ctxt", 2, "WhileContextDef")),
    "CondContextDef": (
        ("context_name", 1, "string"),
        ("pred_name", 2, "string"),
        ("pivot_name", 3, "string"),
        ("branch", 4, "int32"),
        ("values_def", 5, "ValuesDef"),
        ("nested_contexts", 6, "*ControlFlowContextDef"),
    ),
    "WhileContextDef": (
        ("context_name", 1, "string"),
        ("parallel_iterations", 2, "int32"),
        ("back_prop", 3, "bool"),
        ("swap_memory", 4, "bool"),
        ("pivot_name", 5, "string"),
        ("pivot_for_pred_name", 6, "string"),
        ("pivot_for_body_name", 7, "string"),
        ("loop_exit_names", 8, "*string"),
        ("loop_enter_names", 10, "*string"),
        ("values_def", 9, "ValuesDef"),
        ("maximum_iterations_name", 11, "string"),
        ("nested_contexts", 12, "*ControlFlowContextDef"),
    ),
}
_PACKAGE = "tensorflow"


@cache
def messages() -> Any:
    """The classes ValuesDef, ControlFlowContextDef, CondContextDef and WhileContextDef, as attributes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {
        "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
        "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    }

    def add_fields(message: Any, fields: tuple[tuple[str, int, str], ...]) -> None:
        for name, number, kind in fields:
            field = message.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in kinds:
                field.type = kinds[kind]
            else:
                field.type = field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"

    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow/core/protobuf/control_flow.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        add_fields(file.message_type.add(name=name), fields)
    entry = file.message_type[0].nested_type.add(
        name="ExternalValuesEntry"
    )  # a map is a list of such entries
    add_fields(entry, (("key", 1, "string"), ("value", 2, "string")))
    entry.options.map_entry = True
    either = file.message_type[1]
    either.oneof_decl.add(name="ctxt")
    for field in either.field:
        field.oneof_index = 0
    # A pool of our own: another package in this process may have described the same file.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
            for name in _MESSAGES
        }
    )
