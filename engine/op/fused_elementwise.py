"""A chain or tree of elementwise ops as one node.

Its program says what it computes, one op a line (`engine.op.fused_program`); `engine.passes.fuse` makes such nodes of graphs.
Every op runs over whole arrays, one after the other, and writes over what is no longer needed: the bits are those of the ops
apart, without a token, a place in the queue and an array for each.  On a GPU one kernel does it all, with the same bits but for
stated ulps (`engine.op.cuda_elementwise`).
"""

from __future__ import annotations

from typing import Any

from engine.op import cuda_elementwise, fused_samples
from engine.op.fused_program import NAMES, Program, read
from engine.op.kernels import invalid
from engine.op.registry import op, register_kernel
from engine.types.shape import TensorShape

__all__: list[str] = []


def _read(text: str, count: int) -> Program:
    """The program `text`.  Raises ValueError if it is none, or not one of so many inputs."""
    program = read(text)
    if program.n_inputs != count:
        raise ValueError(
            f"the program of a fused node reads {program.n_inputs} inputs, it has {count}:\n{text}"
        )
    return program


def _program(text: str, count: int) -> Program:
    try:
        return _read(text, count)
    except ValueError as error:
        raise invalid(str(error)) from None


def _run(k: Any, *args: Any) -> Any:
    return _program(k.attrs["program"], len(args)).run(k.xp, args, k.attrs.get(NAMES, ()))


def _shape(node: Any) -> TensorShape:
    program = _read(node.attrs["program"], len(node.inputs))
    found = program.shape([tensor.shape for tensor in node.inputs])
    return TensorShape.of(None) if found is None else found


op(
    "_FusedElementwise(args: list(Targs); Targs: list(type), T: type, program: string) -> output: T",
    kernel=_run,
    shape=_shape,
    samples=fused_samples.elementwise_samples,
    reference=fused_samples.elementwise_reference,
    int32_on_host=True,
)


@register_kernel("_FusedElementwise", device="CUDA")
def _in_one_kernel(k: Any, *args: Any) -> Any:
    """The whole program as one CUDA kernel, or op by op where it cannot be one (and on the host, for int32)."""
    if hasattr(k.xp, "RawKernel"):
        text = k.attrs["program"]
        _program(text, len(args))  # which says what is wrong with it
        found = cuda_elementwise.run(k.xp, text, args)
        if found is not None:
            return found
    return _run(k, *args)
