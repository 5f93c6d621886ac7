"""A chain or tree of elementwise ops as one node.

Its program says what it computes, one op a line (`engine.op.fused_program`); `engine.passes.fuse` makes such nodes of graphs.
Every op runs over whole arrays, one after the other, and writes over what is no longer needed: the bits are those of the ops
apart, without a token, a place in the queue and an array for each.
"""

from __future__ import annotations

from typing import Any

from engine.op import fused_samples
from engine.op.fused_program import NAMES, Program, read
from engine.op.kernels import invalid
from engine.op.registry import op
from engine.types.shape import TensorShape

__all__: list[str] = []


def _program(text: str, count: int) -> Program:
    try:
        program = read(text)
    except ValueError as error:
        raise invalid(str(error)) from None
    if program.n_inputs != count:
        raise invalid(f"the program of a fused node reads {program.n_inputs} inputs, it has {count}:\n{text}")
    return program


def _run(k: Any, *args: Any) -> Any:
    return _program(k.attrs["program"], len(args)).run(k.xp, args, k.attrs.get(NAMES, ()))


def _shape(node: Any) -> TensorShape:
    text = node.attrs["program"]
    found = read(text).shape([tensor.shape for tensor in node.inputs])
    return TensorShape.of(None) if found is None else found


op(
    "_FusedElementwise(args: list(Targs); Targs: list(type), T: type, program: string) -> output: T",
    kernel=_run,
    shape=_shape,
    samples=fused_samples.elementwise_samples,
    reference=fused_samples.elementwise_reference,
    int32_on_host=True,
)
