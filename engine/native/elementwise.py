"""A chain of elementwise ops as one native kernel, with a reduction at its end if one is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.native import chain_reductions, compiler
from engine.native.chain import Chain, Reduction, Steps
from engine.native.chain_loops import LONG_ROW, Loops
from engine.native.element_types import Inexpressible
from engine.native.ir import Module
from engine.native.kernel import NativeKernel, Phase

_GRAIN = 16384  # elements worth handing to another thread
_OPT = 2  # of LLVM; the IR is written so that its passes find nothing to do


def fused(
    steps: Steps,
    input_dtypes: Sequence[Any],
    input_shapes: Sequence[Sequence[int]],
    outputs: Sequence[int] = (-1,),
    reduction: Reduction | None = None,
    name: str = "fused",
) -> NativeKernel | None:
    """A kernel that computes the results numbered `outputs` of `steps`, or None if they cannot be expressed (`why_not`).

    steps: (op type, operands, attrs) each, in order; operands are "x0" for an input and "t0" for the result of a step, as in
    `engine.op.fused_program`; attrs that are left out have their default.  input_dtypes: NumPy's; input_shapes: static.  All
    outputs have the shape to which everything broadcasts, or with `reduction` (which goes with one output), that without the
    dimensions reduced.

    Arithmetic, comparisons, choices and conversions have NumPy's bits (a zero's sign in Maximum and Minimum: x86's).  Functions
    are within `vector_math.ULPS`; the kernel's `ulps` is their sum, what a result is off where no step magnifies errors.
    """
    try:
        return _kernel(Chain(steps, input_dtypes, input_shapes, outputs, reduction), name)
    except Inexpressible:
        return None


def why_not(
    steps: Steps,
    input_dtypes: Sequence[Any],
    input_shapes: Sequence[Sequence[int]],
    outputs: Sequence[int] = (-1,),
    reduction: Reduction | None = None,
) -> str:
    """Why `fused` gives None for these arguments, or ""; compiles nothing."""
    try:
        _text(Chain(steps, input_dtypes, input_shapes, outputs, reduction))
    except Inexpressible as error:
        return str(error)
    return ""


def _kernel(chain: Chain, name: str) -> NativeKernel:
    text, phases, scratch, ulps = _text(chain)
    library = compiler.compile(text, _OPT, passes=False) if phases else None
    if library is not None:
        phases = [replace(each, address=library.address(f"phase{i}")) for i, each in enumerate(phases)]
    return NativeKernel(
        name=name,
        phases=tuple(phases),
        inputs=len(chain.input_dtypes),
        outputs=len(chain.outputs),
        scratch=tuple(scratch),
        overwrites=chain.overwrites(),
        ulps=ulps,
        keep=library,
    )


def _text(chain: Chain) -> tuple[str, list[Phase], list[int], float]:
    """The IR, the phases (without addresses), the sizes of the scratch buffers, and the functions' errors."""
    loops = Loops(chain, Module())
    if chain.reduction is not None:
        phases, scratch, more = chain_reductions.write(loops, chain.reduction, _GRAIN)
        return str(loops.module), phases, scratch, loops.ulps + more
    if not chain.size:
        return "", [], [], 0.0
    args = tuple(range(len(chain.input_dtypes) + len(chain.outputs)))
    extent, grain = chain.size, _GRAIN
    if len(chain.dims) == 1:
        loops.flat()
    elif chain.inner >= LONG_ROW:
        extent, grain = chain.size // chain.inner, max(1, _GRAIN // chain.inner)
        loops.rows()
    else:
        loops.blocks()
    return str(loops.module), [Phase(0, extent, args, grain)], [], loops.ulps


__all__ = ["Reduction", "fused", "why_not"]
