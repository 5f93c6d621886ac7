"""What a fused node runs: several ops in order, each by its own kernel, so that the bits are those of the nodes it stands for.

A program is text, one step a line, that people can read and a compiler can make one loop of::

    t0 = Mul(x0, x1)
    t1 = Cast(t0; DstT=float32)
    t2 = Tanh(t1)

``x0``, ``x1``, … are the node's inputs, ``t0``, ``t1``, … the results; the last one is the node's output (of an op with several
outputs, the first).  Attrs that have their default value are left out, as are those that follow from the inputs.

Where a step's operand is a result that nothing needs any more, the step writes over it instead of taking new memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from engine.op.bias import channel_axis
from engine.op.registry import Kernel, OpDef, lookup
from engine.op.signature import AttrSpec, parse_default
from engine.types.dtypes import DType

NAMES = (
    "_fused_from"  # the attr of a fused node that holds, step by step, the names of the nodes it stands for
)


class StepFailed(Exception):
    """A step of a fused node failed: which one, the name of the node that it stands for (or ""), and what it raised."""

    def __init__(self, type: str, name: str, cause: Exception) -> None:
        super().__init__(type, name, cause)
        self.type = type
        self.name = name
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Step:
    """One op of a program: its operands (``"x0"``, ``"t3"``) and those of its attrs that do not have their default value."""

    type: str
    operands: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


# Text.

_LINE = re.compile(r"t(\d+) = (\w+)\(([^;)]*)(?:; (.*))?\)")
_OPERAND = re.compile(r"([xt])(\d+)")


def step(opdef: OpDef, operands: Iterable[str], attrs: Mapping[str, Any]) -> Step:
    """A step for a node of type `opdef` with these attrs."""
    signature = opdef.signature
    kept = {
        name: attrs[name]
        for name, spec in signature.attrs.items()
        if name in attrs
        and name not in signature.inferred
        and not (spec.has_default and attrs[name] == spec.default)
    }
    return Step(opdef.name, tuple(operands), kept)


def write(steps: Sequence[Step]) -> str:
    """The program's text."""
    lines = []
    for i, each in enumerate(steps):
        attrs = ", ".join(f"{name}={_value_text(value)}" for name, value in each.attrs.items())
        lines.append(f"t{i} = {each.type}({', '.join(each.operands)}{'; ' + attrs if attrs else ''})")
    return "\n".join(lines)


def _value_text(value: Any) -> str:
    return value.name if isinstance(value, DType) else repr(value)


@lru_cache(maxsize=4096)
def read(text: str) -> Program:
    """The program that `text` says.  Raises ValueError, naming the line, where it is none."""
    steps = []
    for number, line in enumerate(text.splitlines()):
        found = _LINE.fullmatch(line.strip())
        if found is None or int(found[1]) != number:
            raise ValueError(
                f"line {number + 1} of a fused program is {line!r}, not of the form 't{number} = Op(x0, t0; attr=value)'"
            )
        operands = tuple(piece.strip() for piece in found[3].split(",") if piece.strip())
        opdef = _known(found[2], line)
        given = (pair.partition("=") for pair in (found[4] or "").split(", ") if pair)
        attrs = {name: _attr_value(opdef.signature.attrs.get(name), text, line) for name, _, text in given}
        steps.append(Step(opdef.name, operands, attrs))
    return Program(steps)


def _known(op_type: str, where: str) -> OpDef:
    opdef = lookup(op_type)
    if opdef is None or opdef.stateful or opdef.flow or opdef.kernel is None:
        raise ValueError(f"{where!r} in a fused program: there is no op '{op_type}' that can be a step")
    return opdef


def _attr_value(spec: AttrSpec | None, text: str, line: str) -> Any:
    if spec is None:
        raise ValueError(f"{line!r} in a fused program sets an attr that the op does not have")
    return parse_default(spec.kind, text)


# Running.


class _Context:
    """What a step's kernel is given as `k`."""

    __slots__ = ("attrs", "n_outputs", "op", "xp")

    def __init__(self, opdef: OpDef, attrs: Mapping[str, Any], xp: Any) -> None:
        self.xp = xp
        self.attrs = attrs
        self.op = Step(opdef.name, ())
        self.n_outputs = len(opdef.signature.outputs)


class _Bound:
    """A step ready to run: `operands` and `dying` number the program's values, inputs first."""

    __slots__ = ("attrs", "contexts", "dying", "kernel", "opdef", "operands", "over")

    def __init__(self, opdef: OpDef, operands: tuple[int, ...], attrs: dict[str, Any]) -> None:
        kernel = opdef.kernel
        assert kernel is not None, opdef.name
        self.kernel: Kernel = kernel
        self.opdef = opdef
        self.operands = operands
        self.attrs = attrs
        self.dying: tuple[int, ...] = ()
        self.over = _writer(opdef)
        self.contexts: dict[Any, _Context] = {}

    def context(self, xp: Any) -> _Context:
        found = self.contexts.get(xp)
        if found is None:
            found = self.contexts[xp] = _Context(self.opdef, self.attrs, xp)
        return found


class Program:
    """Steps, ready to run on arrays.  Raises ValueError for an operand that is not there."""

    def __init__(self, steps: Sequence[Step]) -> None:
        if not steps:
            raise ValueError("a fused program has no step")
        self.steps = tuple(steps)
        inputs = [int(name[1:]) for each in steps for name in each.operands if name[:1] == "x"]
        self.n_inputs = max(inputs, default=-1) + 1
        self.bound = [self._bind(i, each) for i, each in enumerate(steps)]
        last = {value: i for i, each in enumerate(self.bound) for value in each.operands}
        for i, each in enumerate(self.bound):
            results = (value for value in each.operands if value >= self.n_inputs)
            each.dying = tuple(value for value in dict.fromkeys(results) if last[value] == i)

    def _bind(self, number: int, each: Step) -> _Bound:
        opdef = _known(each.type, each.type)
        values = []
        for name in each.operands:
            found = _OPERAND.fullmatch(name)
            if found is None or (found[1] == "t" and int(found[2]) >= number):
                raise ValueError(f"step t{number} of a fused program reads '{name}', which is not there yet")
            values.append(int(found[2]) + (self.n_inputs if found[1] == "t" else 0))
        defaults = {name: spec.default for name, spec in opdef.signature.attrs.items() if spec.has_default}
        return _Bound(opdef, tuple(values), {**defaults, **each.attrs})

    def run(self, xp: Any, inputs: Sequence[Any], names: Sequence[str] = ()) -> Any:
        """The output for these inputs.  Raises StepFailed if a step fails; `names` are those of the nodes it stands for."""
        values = list(inputs)
        for i, each in enumerate(self.bound):
            operands = [values[number] for number in each.operands]
            try:
                result = None
                if each.over is not None and each.dying:
                    result = _written_over(xp, each, operands, values)
                if result is None:
                    result = each.kernel(each.context(xp), *operands)
            except StepFailed:
                raise
            except Exception as error:
                raise StepFailed(each.opdef.name, names[i] if i < len(names) else "", error) from error
            values.append(result[0] if type(result) is tuple else result)
            for number in each.dying:
                values[number] = None
        return values[-1]

    def shape(self, inputs: Sequence[Any]) -> Any:
        """The static shape of the output for inputs of these static shapes, by the steps' own rules."""
        values = [_Value(shape) for shape in inputs]
        for each in self.bound:
            rule = each.opdef.shape
            found = None if rule is None else rule(_Node([values[number] for number in each.operands], each))
            if found is None:
                return None
            values.append(_Value(found[0] if isinstance(found, list) else found))
        return values[-1].shape


class _Value:
    """A tensor, to a shape rule."""

    __slots__ = ("_shape", "shape")

    def __init__(self, shape: Any) -> None:
        self.shape = self._shape = shape


class _Node:
    """An operation, to a shape rule."""

    __slots__ = ("_inputs", "attrs", "inputs", "opdef", "outputs")

    def __init__(self, inputs: list[_Value], each: _Bound) -> None:
        self.inputs = self._inputs = inputs
        self.outputs = [None] * len(each.opdef.signature.outputs)
        self.attrs = each.attrs
        self.opdef = each.opdef


# Writing over what is no longer needed.

_Writer = Callable[[Any, Mapping[str, Any], list[Any], Any], Any]
_WORTH_IT = 1 << 13  # bytes: below, NumPy's own small arrays are as fast


def _bias_over(xp: Any, attrs: Mapping[str, Any], operands: list[Any], out: Any) -> Any:
    value, bias = operands
    axis = channel_axis(attrs.get("data_format", "NHWC"), value.ndim)
    if out is not value or value.ndim < 2 or axis >= value.ndim or bias.shape != (value.shape[axis],):
        return None  # the op's kernel says what is wrong
    return xp.add(value, bias.reshape(-1, *(1,) * (value.ndim - 1 - axis)), out=out)


def _relu_over(xp: Any, attrs: Mapping[str, Any], operands: list[Any], out: Any) -> Any:
    return xp.maximum(out, out.dtype.type(0), out=out)


def _relu6_over(xp: Any, attrs: Mapping[str, Any], operands: list[Any], out: Any) -> Any:
    return xp.minimum(_relu_over(xp, attrs, operands, out), out.dtype.type(6), out=out)


_WRITERS: dict[str, _Writer] = {
    "BiasAdd": _bias_over,
    "BiasAddV1": _bias_over,
    "Relu": _relu_over,
    "Relu6": _relu6_over,
}


def _writer(opdef: OpDef) -> _Writer | None:
    """How the op writes its result over an operand; None if it does not."""
    signature, ufunc = opdef.signature, opdef.ufunc
    if ufunc is None:
        return _WRITERS.get(opdef.name)
    (output,) = signature.outputs
    if output.type_attr is None or any(arg.type_attr != output.type_attr for arg in signature.inputs):
        return None  # the result has another dtype
    return lambda xp, attrs, operands, out: getattr(xp, ufunc)(*operands, out=out)


def _written_over(xp: Any, each: _Bound, operands: list[Any], values: list[Any]) -> Any:
    """The step's result in the memory of an operand that dies here, or None if no operand will do."""
    assert each.over is not None
    for number in each.dying:
        out = values[number]
        if _may_be_overwritten(out, values) and all(other is out or _fits(other, out) for other in operands):
            return each.over(xp, each.attrs, operands, out)
    return None


def _may_be_overwritten(array: Any, values: list[Any]) -> bool:
    """Whether nothing else holds the array, and NumPy's loops give the same bits in place as elsewhere.

    They do not for complex products and 16-bit floats, whose loops round or order differently when the result is an operand.
    """
    if not isinstance(array, np.ndarray) and not hasattr(array, "__cuda_array_interface__"):
        return False
    dtype = array.dtype
    if array.nbytes < _WORTH_IT or not (dtype.kind in "iu" or dtype.char in "fd"):
        return False
    if array.base is not None or not array.flags.c_contiguous:
        return False
    return sum(other is array or getattr(other, "base", None) is array for other in values) == 1


def _fits(other: Any, out: Any) -> bool:
    """Whether `other` broadcasts to the shape of `out` and is laid out as it is, so that the result would be, too."""
    if isinstance(out, np.ndarray) and not isinstance(other, np.ndarray | np.generic):
        return False  # an array that only takes down what is done to it: what is known of `out` stays known
    if other.shape == out.shape:
        return bool(other.flags.c_contiguous)
    if other.ndim > out.ndim:
        return False
    tail = out.shape[out.ndim - other.ndim :]
    return all(mine in (1, theirs) for mine, theirs in zip(other.shape, tail, strict=True))
