"""Every op's signature is TensorFlow's: so a GraphDef means the same here and there."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto import op_def_pb2

import engine  # noqa: F401 (registers the ops)
from engine.graph.attr_value import attr_from_proto
from engine.op import registry
from engine.op.signature import ArgSpec, AttrSpec
from engine.types.dtypes import as_dtype, by_name

# What the engine has of its own, and why; anything else must be TensorFlow's.
OWN: dict[str, str] = {
    "_FusedElementwise": "TensorFlow's _UnaryOpsComposition takes unary ops only",
    "_FusedLayerNorm": "TensorFlow has no op of it, and runs what it is written with",
    "_StackCopy": "a gradient taken inside a loop of what is outside of it reads the same history in each iteration",
    "_TensorArrayGradIn": "a gradient taken inside a loop of what is outside of it has an array of its own in each iteration",
}


@cache
def tensorflows() -> dict[str, Any]:
    data = lzma.decompress(Path(__file__).with_name("op_defs.pb.xz").read_bytes())
    return {definition.name: definition for definition in op_def_pb2.OpList.FromString(data).op}


def ours_as_row(arg: ArgSpec) -> tuple[Any, ...]:
    dtype = None if arg.dtype is None else arg.dtype.name
    return arg.name, dtype or arg.type_attr, arg.number_attr, arg.type_list_attr, arg.is_ref


def theirs_as_row(arg: Any) -> tuple[Any, ...]:
    dtype = as_dtype(arg.type).name if arg.type else None
    return (
        arg.name,
        dtype or arg.type_attr or None,
        arg.number_attr or None,
        arg.type_list_attr or None,
        arg.is_ref,
    )


def allowed(attr: Any) -> set[Any]:
    """The allowed values of TensorFlow's attr, without the dtypes that the engine does not have."""
    values = attr.allowed_values.list
    names = (
        op_def_pb2.DESCRIPTOR.pool.FindEnumTypeByName("tensorboard.DataType").values_by_number[t].name
        for t in values.type
    )
    spelled = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
    found = {by_name(spelled.get(name, name.removeprefix("DT_").lower())) for name in names}
    return (found - {None}) | {value.decode() for value in values.s}


def check_attr(ours: AttrSpec, theirs: Any) -> None:
    assert (f"list({ours.kind})" if ours.is_list else ours.kind) == theirs.type
    assert ours.has_default == theirs.HasField("default_value")
    if ours.has_default:
        default = attr_from_proto(theirs.default_value)
        assert ours.default == (
            pytest.approx(default, rel=1e-6) if ours.kind == "float" and not ours.is_list else default
        )
    if theirs.HasField("allowed_values") and ours.kind in ("type", "string"):
        assert ours.allowed is not None, "accepts anything"
        assert set(ours.allowed) <= allowed(theirs)
    if theirs.has_minimum and theirs.minimum > 0:
        assert (ours.minimum or 0) >= theirs.minimum, f"needs a minimum of {theirs.minimum}"


def test_every_op_has_tensorflows_signature() -> None:
    wrong = []
    for definition in registry.all_ops():
        if definition.name in OWN:
            continue
        theirs = tensorflows().get(definition.name)
        try:
            assert theirs is not None, "TensorFlow has no such op"
            assert [ours_as_row(arg) for arg in definition.signature.inputs] == [
                theirs_as_row(arg) for arg in theirs.input_arg
            ]
            assert [ours_as_row(arg) for arg in definition.signature.outputs] == [
                theirs_as_row(arg) for arg in theirs.output_arg
            ]
            attrs = {attr.name: attr for attr in theirs.attr}
            assert set(definition.signature.attrs) == set(attrs)
            for name, attr in attrs.items():
                try:
                    check_attr(definition.signature.attrs[name], attr)
                except AssertionError as error:
                    raise AssertionError(f"attr '{name}': {error}") from None
            # More is stateful here: whatever reads or writes a variable, and what must not be folded.
            assert definition.stateful or not theirs.is_stateful, "stateful in TensorFlow"
        except AssertionError as error:
            wrong.append(f"{definition.name}: {error}")
    assert not wrong, "\n\n".join(wrong)
