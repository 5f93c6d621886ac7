"""From a call of an op to a node: inputs converted, attrs inferred, defaulted and checked, the node added to the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph
from engine.graph.graph import Graph
from engine.graph.tensor import Tensor
from engine.op.const import to_array
from engine.op.registry import OpDef, set_builder
from engine.op.signature import ArgSpec, AttrSpec
from engine.types import site
from engine.types.dtypes import DType, as_dtype
from engine.types.shape import as_shape

_SEQUENCES = (list, tuple)


def build(opdef: OpDef, args: Sequence[Any], keywords: dict[str, Any], name: str | None) -> Any:
    """Add a node of type `opdef`; see `OpDef.__call__`."""
    values = _bind(opdef, args, keywords)
    attrs = _given_attrs(opdef, keywords)
    default = get_default_graph()
    if default._building_function:
        return _build(opdef, default.capture_all(values), attrs, default, name)  # type: ignore[attr-defined]
    graph = _graph_of(values, default)
    if graph is not default:  # as TensorFlow does: a node goes where its inputs are
        with graph.as_default():
            return _build(opdef, values, attrs, graph, name)
    return _build(opdef, values, attrs, graph, name)


def _build(opdef: OpDef, values: Sequence[Any], attrs: dict[str, Any], graph: Graph, name: str | None) -> Any:
    signature = opdef.signature
    full_name = graph._full_name(name or opdef.default_name)
    scopes = graph._scopes
    made_at = site.stack(skip=3)
    # What the node needs, constants and a control-flow context's Switches and Enters, is named inside its own scope.
    outer, scopes.name = scopes.name, full_name
    try:
        inputs = _convert_inputs(opdef, values, attrs, full_name) if values else ()
        _fill_attrs(opdef, attrs, full_name)
        if scopes.container and "container" in signature.attrs and not attrs["container"]:
            attrs["container"] = scopes.container
        dtypes = output_dtypes(opdef, attrs)
        if opdef.ref_inputs:
            with _beside_variables(graph, opdef, inputs):
                op = graph._add(opdef, full_name, inputs, attrs, dtypes, made_at)
        else:
            op = graph._add(opdef, full_name, inputs, attrs, dtypes, made_at)
    finally:
        scopes.name = outer
    specs = signature.outputs
    if len(specs) == 1:
        return (
            op.outputs[0] if not specs[0].is_list else op.outputs or op
        )  # a list that is empty: nothing to return but the op
    if not specs:
        return op
    return opdef.result_type(*_grouped_outputs(opdef, attrs, op.outputs))


@contextlib.contextmanager
def _beside_variables(graph: Graph, opdef: OpDef, inputs: Sequence[Tensor]) -> Iterator[None]:
    """What takes a variable's reference runs where the variable is."""
    with contextlib.ExitStack() as stack:
        for i in opdef.ref_inputs:
            stack.enter_context(graph.colocate_with(inputs[i].op))
        yield


def _convert_inputs(
    opdef: OpDef, values: Sequence[Any], attrs: dict[str, Any], full_name: str
) -> list[Tensor]:
    """The input tensors, flat; type attrs that follow from them are set in `attrs`."""
    specs = opdef.signature.inputs
    for spec, value in zip(specs, values):
        if spec.is_list or spec.type_attr not in attrs:
            _infer_from(opdef, spec, value, attrs)
    inputs: list[Tensor] = []
    for spec, value in zip(specs, values):
        if spec.is_list:
            inputs += _convert_list(opdef, spec, value, attrs, full_name)
            continue
        if type(value) is not Tensor:
            value = _convert_one(opdef, spec, value, attrs, spec.name, full_name)
        _check_input(opdef, spec, value, attrs, full_name)
        inputs.append(value)
    return inputs


def _bind(opdef: OpDef, args: Sequence[Any], keywords: dict[str, Any]) -> Sequence[Any]:
    """The inputs in order, those given by name taken out of `keywords`."""
    specs = opdef.signature.inputs
    if len(args) > len(specs):
        raise TypeError(
            f"{opdef.name} takes {len(specs)} inputs ({', '.join(spec.name for spec in specs)}), {len(args)} were given"
        )
    if len(args) == len(specs):
        return args
    values = list(args)
    for spec in specs[len(args) :]:
        key = spec.name if spec.name in keywords else spec.name + "_"
        if key not in keywords:
            raise TypeError(f"{opdef.name} needs the input '{spec.name}'")
        values.append(keywords.pop(key))
    return values


def _given_attrs(opdef: OpDef, keywords: dict[str, Any]) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    if not keywords:
        return attrs
    known = opdef.signature.attrs
    for key, value in keywords.items():
        spec = known.get(key) or known.get(key.removesuffix("_"))
        if spec is None:
            raise TypeError(
                f"{opdef.name} has no input or attr named '{key}'; its attrs: {', '.join(known) or 'none'}"
            )
        if value is not None:
            attrs[spec.name] = normalize_attr(opdef, spec, value)
    return attrs


def _graph_of(values: Sequence[Any], default: Graph) -> Graph:
    """The graph of the first tensor (variable, …) among the inputs, or the default graph."""
    for value in values:
        if type(value) is Tensor:
            return value.op.graph
        if isinstance(value, _SEQUENCES):
            found = _graph_of(value, default)
            if found is not default:
                return found
        elif isinstance(getattr(value, "graph", None), Graph):
            return value.graph  # type: ignore[no-any-return]  # a Variable, IndexedSlices
    return default


def _infer_from(opdef: OpDef, spec: ArgSpec, value: Any, attrs: dict[str, Any]) -> None:
    """Let an input that has a dtype already decide the type attr; numbers and arrays follow it, wherever they stand."""
    if spec.number_attr is not None:
        if not isinstance(value, _SEQUENCES):
            raise TypeError(
                f"Input '{spec.name}' of {opdef.name} is a list of tensors, not {type(value).__name__}: {value!r}"
            )
        attrs[spec.number_attr] = len(value)
        if spec.type_attr is not None and spec.type_attr not in attrs:
            for item in value:
                dtype = _own_dtype(item)
                if dtype is not None:
                    attrs[spec.type_attr] = dtype
                    break
    elif spec.type_attr is not None and spec.type_attr not in attrs:
        dtype = _own_dtype(value)
        if dtype is not None:
            attrs[spec.type_attr] = dtype


def _own_dtype(value: Any) -> DType | None:
    if type(value) is Tensor:
        return value.dtype.base_dtype
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, DType):  # a Variable, IndexedSlices, a registered type
        return dtype.base_dtype
    if isinstance(value, _SEQUENCES):
        for item in value:
            found = _own_dtype(item)
            if found is not None:
                return found
    return None


def _convert_list(
    opdef: OpDef, spec: ArgSpec, value: Any, attrs: dict[str, Any], full_name: str
) -> list[Tensor]:
    """The tensors of one list input, and the attrs that follow from them."""
    if spec.type_list_attr is None:
        return [
            _convert_one(opdef, spec, item, attrs, f"{spec.name}_{i}", full_name)
            for i, item in enumerate(value)
        ]
    if not isinstance(value, list | tuple):
        raise TypeError(
            f"Input '{spec.name}' of {opdef.name} is a list of tensors, not {type(value).__name__}: {value!r}"
        )
    wanted = attrs.get(spec.type_list_attr) or (None,) * len(value)
    if len(wanted) != len(value):
        raise ValueError(
            f"Input '{spec.name}' of {opdef.name} needs {len(wanted)} tensors, {len(value)} were given"
        )
    tensors = [
        convert_to_tensor(item, dtype, f"{spec.name}_{i}")
        for i, (item, dtype) in enumerate(zip(value, wanted, strict=True))
    ]
    attrs[spec.type_list_attr] = tuple(tensor.dtype.base_dtype for tensor in tensors)
    return tensors


def _convert_one(
    opdef: OpDef, spec: ArgSpec, value: Any, attrs: dict[str, Any], const_name: str, full_name: str
) -> Tensor:
    dtype = spec.dtype
    preferred = None
    if dtype is None and spec.type_attr is not None:
        dtype = attrs.get(spec.type_attr)
        attr = opdef.signature.attrs[spec.type_attr]
        if dtype is None and attr.has_default and not _natural(value, attr):
            preferred = attr.default
    try:
        tensor = convert_to_tensor(value, dtype, const_name, preferred, as_ref=spec.is_ref)
    except (TypeError, ValueError) as error:
        own = _own_dtype(value)
        if own is None or dtype is None or own.base_dtype is dtype:  # its dtype is not what is wrong with it
            raise type(error)(f"Input '{spec.name}' of {opdef.name} '{full_name}': {error}") from None
        raise TypeError(
            f"Input '{spec.name}' of '{opdef.name}' Op has type {own.name} that does not match "
            f"{'expected type of' if spec.dtype is not None else 'type'} {dtype.name}"
            f"{'' if spec.dtype is not None else _who_decided(opdef, spec)}."
        ) from None
    if spec.type_attr is not None:
        attrs.setdefault(spec.type_attr, tensor.dtype.base_dtype)
    if spec.is_list:
        _check_input(opdef, spec, tensor, attrs, full_name)
    return tensor


def _natural(value: Any, attr: AttrSpec) -> bool:
    """Whether the dtype that `value` has by itself is one that `attr` allows: then that is taken before the attr's default."""
    if attr.allowed is None:
        return False
    try:
        dtype = _own_dtype(value) or as_dtype(to_array(value, None).dtype)
    except (TypeError, ValueError):  # the conversion itself will say what is wrong
        return False
    return dtype in attr.allowed


def _who_decided(opdef: OpDef, spec: ArgSpec) -> str:
    first = next(arg for arg in opdef.signature.inputs if arg.type_attr == spec.type_attr)
    return f" of argument '{first.name}'" if first.name != spec.name else ""


def _check_input(opdef: OpDef, spec: ArgSpec, tensor: Tensor, attrs: dict[str, Any], full_name: str) -> None:
    wanted = spec.dtype if spec.dtype is not None else attrs.get(spec.type_attr or "")
    dtype = tensor.dtype
    if dtype is wanted and not spec.is_ref:
        return
    if spec.is_ref:
        if not dtype._is_ref_dtype:
            raise TypeError(
                f"Input '{spec.name}' of '{opdef.name}' Op ('{full_name}') requires a variable: '{tensor.name}' is a value that "
                "cannot be changed."
            )
    dtype = dtype.base_dtype
    if wanted is not None and dtype is not wanted:
        if spec.type_attr is not None:
            raise TypeError(
                f"Input '{spec.name}' of '{opdef.name}' Op has type {dtype.name} that does not match type {wanted.name}"
                f"{_who_decided(opdef, spec)}."
            )
        raise TypeError(
            f"Input '{spec.name}' of '{opdef.name}' Op has type {dtype.name} that does not match expected type of {wanted.name}."
        )


def _fill_attrs(opdef: OpDef, attrs: dict[str, Any], full_name: str) -> None:
    """Complete `attrs` with defaults and check types against the signature."""
    for spec in opdef.signature.attrs.values():
        value = attrs.get(spec.name)
        if value is None:
            if not spec.has_default:
                if spec.name in opdef.signature.inferred and not spec.is_list:
                    raise ValueError(
                        f"The attr '{spec.name}' of {opdef.name} '{full_name}' follows from its inputs, and none was given"
                    )
                raise TypeError(f"{opdef.name} '{full_name}' needs the attr '{spec.name}'")
            attrs[spec.name] = spec.default
        elif spec.accepted is not None and spec.kind == "type":
            for each in value if spec.is_list else (value,):
                if each not in spec.accepted:
                    raise TypeError(
                        f"Value passed to attr '{spec.name}' of {opdef.name} '{full_name}' has DataType {each.name} "
                        "not in list of "
                        f"allowed values: {', '.join(allowed.name for allowed in spec.allowed or ())}"
                    )
        elif spec.minimum is not None:
            size = len(value) if spec.is_list else value
            if size < spec.minimum:
                raise ValueError(
                    f"Attr '{spec.name}' of {opdef.name} '{full_name}' must be at least {spec.minimum}, not {size}"
                )


def output_dtypes(opdef: OpDef, attrs: dict[str, Any]) -> list[DType]:
    """The dtypes of a node's outputs, by its attrs."""
    found: list[DType] = []
    for spec in opdef.signature.outputs:
        if spec.type_list_attr is not None:
            found.extend(attrs[spec.type_list_attr])
            continue
        dtype = spec.dtype if spec.dtype is not None else attrs[spec.type_attr or ""]
        if spec.is_ref:
            dtype = dtype._as_ref
        if spec.number_attr is not None:
            found.extend([dtype] * attrs[spec.number_attr])
        else:
            found.append(dtype)
    return found


def _grouped_outputs(opdef: OpDef, attrs: dict[str, Any], outputs: list[Tensor]) -> list[Any]:
    grouped: list[Any] = []
    start = 0
    for spec in opdef.signature.outputs:
        if not spec.is_list:
            grouped.append(outputs[start])
            start += 1
            continue
        count = (
            len(attrs[spec.type_list_attr])
            if spec.type_list_attr is not None
            else attrs[spec.number_attr or ""]
        )
        grouped.append(outputs[start : start + count])
        start += count
    return grouped


def complete_attrs(opdef: OpDef, attrs: dict[str, Any], inputs: Sequence[Tensor]) -> dict[str, Any]:
    """The attrs of a node made from ready tensors (an import, `Graph.create_op`): inferred, defaulted, checked.

    Attrs whose names begin with '_' are kept as they are; others that the signature does not know raise ValueError.
    """
    signature = opdef.signature
    full: dict[str, Any] = {}
    for key, value in attrs.items():
        if key.startswith("_"):
            full[key] = value
        elif key in signature.attrs:
            full[key] = normalize_attr(opdef, signature.attrs[key], value)
        else:
            raise ValueError(
                f"{opdef.name} has no attr named '{key}'; its attrs: {', '.join(signature.attrs) or 'none'}"
            )
    position = 0
    for spec in signature.inputs:
        if spec.type_list_attr is not None:
            count = len(full[spec.type_list_attr]) if spec.type_list_attr in full else len(inputs) - position
            full.setdefault(
                spec.type_list_attr, tuple(t.dtype.base_dtype for t in inputs[position : position + count])
            )
        elif spec.number_attr is not None:
            others = sum(1 for each in signature.inputs if not each.is_list)
            count = full.setdefault(spec.number_attr, len(inputs) - others)
        else:
            count = 1
        if position + count > len(inputs):
            raise ValueError(
                f"{opdef.name} needs more inputs than the {len(inputs)} given ('{spec.name}' is missing)"
            )
        for tensor in inputs[position : position + count]:
            if spec.type_attr is not None:
                full.setdefault(spec.type_attr, tensor.dtype.base_dtype)
            if spec.type_list_attr is None:
                _check_input(opdef, spec, tensor, full, opdef.name)
        position += count
    if position != len(inputs):
        raise ValueError(f"{opdef.name} takes {position} inputs, {len(inputs)} were given")
    _fill_attrs(opdef, full, opdef.name)
    return full


def normalize_attr(opdef: OpDef, spec: AttrSpec, value: Any) -> Any:
    """`value` in the form in which attrs are kept.  Raises TypeError or ValueError, naming the attr, if it does not fit."""
    try:
        if spec.is_list:
            if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
                raise TypeError(f"a list is needed, not {value!r}")
            result: Any = tuple(_NORMALIZERS[spec.kind](item) for item in value)
        else:
            result = _NORMALIZERS[spec.kind](value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Attr '{spec.name}' of {opdef.name}: {error}") from None
    if spec.kind == "string" and spec.allowed is not None:
        for item in result if spec.is_list else (result,):
            if item not in spec.allowed:
                allowed = ", ".join(f'"{each}"' for each in spec.allowed)
                raise ValueError(
                    f"Value for attr '{spec.name}' of {opdef.name}, \"{item}\", is not one of: {allowed}"
                )
    return result


def _normal_int(value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        as_int = getattr(value, "value", None)  # a Dimension
        if not isinstance(as_int, int):
            raise TypeError(f"an int is needed, not {value!r}")
        return as_int
    return int(value.__index__())


def _normal_bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"a bool is needed, not {value!r}")
    return bool(value)


def _normal_float(value: Any) -> float:
    if isinstance(value, str | bytes | Tensor):
        raise TypeError(f"a float is needed, not {value!r}")
    return float(
        np.float32(value)
    )  # a GraphDef holds no more, and the node must mean the same after a journey


def _normal_string(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise TypeError(f"a string is needed, not {value!r}")
    return value


def _normal_type(value: Any) -> DType:
    return as_dtype(value).base_dtype


def _normal_tensor(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else np.asarray(value)


_NORMALIZERS: dict[str, Callable[[Any], Any]] = {
    "type": _normal_type,
    "int": _normal_int,
    "float": _normal_float,
    "bool": _normal_bool,
    "string": _normal_string,
    "shape": as_shape,
    "tensor": _normal_tensor,
    "func": lambda message: message,
}

set_builder(build)
