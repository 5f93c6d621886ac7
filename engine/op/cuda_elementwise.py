"""One CUDA kernel for a program of elementwise steps: every value in between stays in a register.

The kernel's text follows from the program, the dtypes of its inputs and which of them broadcast along which dimensions (the
pattern); sizes and strides are arguments, so that another shape of the same pattern needs no compiler.  What cannot be expressed
(integer division, whose zeros are errors; complex numbers; operands that do not fit, whose op says so) is left to the steps' own
kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from engine.op.bias import channel_axis
from engine.op.cuda import THREADS
from engine.op.cuda_expressions import C_TYPES, HELPERS, CType, expression
from engine.op.fused_program import Program, Step, read
from engine.types.dtypes import as_dtype

Shape = tuple[int, ...]

OPTIONS = ("-fmad=false",)  # a product and a sum round twice, as they do apart
_MOST_POINTERS = 64  # a kernel's arguments are 4 KB at most
_NARROW = 1 << 31  # elements that 32 bits can count; dividing is several times faster in them


@dataclass(frozen=True, slots=True)
class Operand:
    """An input as the kernel reads it: which one, and with how many dimensions of size 1 behind it (a bias along channels)."""

    number: int
    behind: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """How the kernel finds the elements of an operand: along these dimensions of the output, or (`direct`) in its order."""

    along: tuple[int, ...]
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What one signature of inputs needs: the kernel's source, the output's shape and dtype, and the arguments after pointers."""

    source: str
    operands: tuple[Operand, ...]
    shape: Shape
    dtype: np.dtype[Any]
    blocks: int
    scalars: tuple[Any, ...]


def run(xp: Any, text: str, inputs: Sequence[Any]) -> Any:
    """The output of the program `text` for these arrays by one kernel, or None if there cannot be one."""
    found = plan(text, tuple((x.dtype.name, x.shape, x.strides) for x in inputs))
    if found is None:
        return None
    result = xp.empty(found.shape, found.dtype)
    if result.size:
        arguments = (*(inputs[each.number] for each in found.operands), result, *found.scalars)
        _kernel(xp, found.source)((found.blocks,), (THREADS,), arguments)
    return result


@cache
def _kernel(xp: Any, source: str) -> Any:
    return xp.RawKernel(source, "fused", options=OPTIONS)


@lru_cache(maxsize=4096)
def plan(text: str, inputs: tuple[tuple[str, Shape, Shape], ...]) -> Plan | None:
    """The plan for inputs of these dtypes, shapes and strides in bytes; None if there is none."""
    program = read(text)
    if program.n_inputs != len(inputs):
        return None
    shaped = _shapes(program, [shape for _, shape, _ in inputs])
    if shaped is None:
        return None
    shape, operands, reads = shaped
    if len(operands) > _MOST_POINTERS:
        return None
    strides = [_strides(*inputs[each.number], each.behind, shape) for each in operands]
    if any(found is None for found in strides):
        return None
    sizes, steps = collapse(shape, strides)  # type: ignore[arg-type]  # none is None
    order = _row_major(sizes)
    accesses = tuple(
        Access(tuple(d for d, stride in enumerate(each) if stride), each == order) for each in steps
    )
    count = math.prod(shape)
    wide = count >= _NARROW
    made = source(text, tuple(dtype for dtype, _, _ in inputs), operands, reads, accesses, len(sizes), wide)
    if made is None:
        return None
    code, dtype = made
    index = np.uint64 if wide else np.uint32
    scattered = any(access.along and not access.direct for access in accesses)
    scalars = [index(count), *(map(index, sizes[1:]) if scattered else ())]
    for access, each in zip(accesses, steps, strict=True):
        if not access.direct:
            scalars.extend(np.int64(each[d]) for d in access.along)
    return Plan(code, operands, shape, as_dtype(dtype).np_dtype, -(-count // THREADS), tuple(scalars))


# Shapes.


def _shapes(
    program: Program, inputs: Sequence[Shape]
) -> tuple[Shape, tuple[Operand, ...], tuple[tuple[str, ...], ...]] | None:
    """The output's shape, the operands, and the variables that each step reads; None where a step would refuse.

    Variable v2 is operand 2, t2 is the result of step 2.
    """
    shapes, n_inputs = list(inputs), len(inputs)
    operands: dict[Operand, str] = {}
    reads: list[tuple[str, ...]] = []
    for each, bound in zip(program.steps, program.bound, strict=True):
        read_here = [shapes[number] for number in bound.operands]
        found = _RULES.get(each.type, _broadcast)(each, read_here)
        if found is None:
            return None
        shapes.append(found)
        names = []
        for position, number in enumerate(bound.operands):
            behind = _behind(each, read_here) if position == 1 and each.type in _BIASES else 0
            if number < n_inputs:
                names.append(operands.setdefault(Operand(number, behind), f"v{len(operands)}"))
            elif behind:
                return None  # a bias that is computed here, and would have to be turned
            else:
                names.append(f"t{number - n_inputs}")
        reads.append(tuple(names))
    return shapes[-1], tuple(operands), tuple(reads)


def _broadcast(each: Step, shapes: Sequence[Shape]) -> Shape | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def _alike(each: Step, shapes: Sequence[Shape]) -> Shape | None:
    return shapes[0] if len(set(shapes)) == 1 else None


def _clipped(each: Step, shapes: Sequence[Shape]) -> Shape | None:
    return shapes[0] if all(bound in ((), shapes[0]) for bound in shapes[1:]) else None


def _biased(each: Step, shapes: Sequence[Shape]) -> Shape | None:
    value, bias = shapes
    axis = channel_axis(each.attrs.get("data_format", "NHWC"), len(value))
    return value if len(value) >= 2 and axis < len(value) and bias == (value[axis],) else None


def _behind(each: Step, shapes: Sequence[Shape]) -> int:
    return len(shapes[0]) - 1 - channel_axis(each.attrs.get("data_format", "NHWC"), len(shapes[0]))


_BIASES = ("BiasAdd", "BiasAddV1")
_RULES: Mapping[str, Callable[[Step, Sequence[Shape]], Shape | None]] = {
    "AddN": _alike,
    "Select": _alike,
    "ClipByValue": _clipped,
    **dict.fromkeys(_BIASES, _biased),
}


def _strides(dtype: str, shape: Shape, strides: Shape, behind: int, out: Shape) -> tuple[int, ...] | None:
    """The steps of an operand, in elements, along the output's dimensions: 0 where it broadcasts; None if they are uneven."""
    size = as_dtype(dtype).np_dtype.itemsize
    if any(stride % size for stride in strides):
        return None
    own = [0 if extent == 1 else stride // size for extent, stride in zip(shape, strides, strict=True)]
    return (*(0,) * (len(out) - len(own) - behind), *own, *(0,) * behind)


def collapse(shape: Shape, strides: Sequence[tuple[int, ...]]) -> tuple[Shape, list[tuple[int, ...]]]:
    """The same elements in the same order with as few dimensions as possible, and the operands' steps along those.

    Dimensions of size 1 go; two neighbours become one where every operand steps from one row to the next as it does within one.
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(shape):
        if size == 1:
            continue
        here = [each[d] for each in strides]
        if sizes and all(mine[-1] == step * size for mine, step in zip(steps, here, strict=True)):
            sizes[-1] *= size
            for mine, step in zip(steps, here, strict=True):
                mine[-1] = step
        else:
            sizes.append(size)
            for mine, step in zip(steps, here, strict=True):
                mine.append(step)
    return tuple(sizes), [tuple(each) for each in steps]


def _row_major(sizes: Shape) -> tuple[int, ...]:
    return tuple(math.prod(sizes[d + 1 :]) for d in range(len(sizes)))


# Text.


@lru_cache(maxsize=4096)
def source(
    text: str,
    dtypes: tuple[str, ...],
    operands: tuple[Operand, ...],
    reads: tuple[tuple[str, ...], ...],
    accesses: tuple[Access, ...],
    rank: int,
    wide: bool,
) -> tuple[str, str] | None:
    """The kernel's text and the dtype of its output, or None if a step has no expression for its dtypes."""
    program = read(text)
    if any(dtype not in C_TYPES for dtype in dtypes):
        return None
    body = _steps(program, dtypes, reads)
    if body is None:
        return None
    lines, result = body
    output = C_TYPES[result]
    pointers = [f"const {C_TYPES[dtypes[each.number]].stored}* p{i}" for i, each in enumerate(operands)] + [
        f"{output.stored}* y"
    ]
    scattered = any(access.along and not access.direct for access in accesses)
    sizes = [f"index_t n{d}" for d in range(1, rank)] if scattered else []
    steps = [
        f"long long s{i}_{d}" for i, access in enumerate(accesses) if not access.direct for d in access.along
    ]
    loads = [
        f"const {C_TYPES[dtypes[each.number]].held} v{i} = {_loaded(C_TYPES[dtypes[each.number]], i, access)};"
        for i, (each, access) in enumerate(zip(operands, accesses, strict=True))
    ]
    last = f"t{len(program.steps) - 1}"
    stored = f"{output.save}({last})" if output.save else last
    comment = "\n".join(f"// {line}" for line in text.splitlines())
    inside = "\n    ".join([*(_coordinates(rank) if scattered else ()), *loads, *lines, f"y[i] = {stored};"])
    code = f"""{comment}
typedef unsigned {"long long" if wide else "int"} index_t;
{HELPERS}
extern "C" __global__ void fused(
    {", ".join([*pointers, "index_t count", *sizes, *steps])}) {{
    const index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    {inside}
}}
"""
    return code, result


def _coordinates(rank: int) -> list[str]:
    """Where element `i` of the output is: c0, c1, …, from the last dimension to the first."""
    lines = ["index_t rest = i;"]
    for d in range(rank - 1, 0, -1):
        lines.append(f"const index_t c{d} = rest % n{d}; rest /= n{d};")
    return [*lines, "const index_t c0 = rest;"]


def _loaded(kind: CType, i: int, access: Access) -> str:
    where = "i" if access.direct else " + ".join(f"(long long)c{d} * s{i}_{d}" for d in access.along) or "0"
    return f"{kind.load}(p{i}[{where}])" if kind.load else f"p{i}[{where}]"


def _steps(
    program: Program, dtypes: Sequence[str], reads: Sequence[tuple[str, ...]]
) -> tuple[list[str], str] | None:
    """A line of C for each step, and the dtype of the last; None if one has no expression."""
    kinds = list(dtypes)
    lines = []
    for number, (each, bound) in enumerate(zip(program.steps, program.bound, strict=True)):
        found = expression(each.type, bound.attrs, reads[number], [kinds[value] for value in bound.operands])
        if found is None:
            return None
        value, dtype = found
        kind = C_TYPES[dtype]
        rounded = f"{kind.round}({value})" if kind.round else f"({kind.held})({value})"
        lines.append(f"const {kind.held} t{number} = {rounded};")
        kinds.append(dtype)
    return lines, kinds[-1]
