"""Tapes: straight machine programs over buffers, made of NumPy's inner loops and whatever else has an address.

A `TapeBuilder` appends instructions and makes a `Tape`, which never changes; a `Frame` (`engine.native.frame`) runs it.
Operands are `View`s: a slot of the frame's table of pointers, a byte offset, shape, strides, dtype.  No address of data is
in a tape, so several frames run one tape at the same time.

Rules for operands: elements are aligned; an output is either one of the inputs exactly (same place, same strides) or shares no
byte with any.  The builder refuses what breaks this within a slot; between slots whoever binds them answers for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.native import layout, loops, ufuncs
from engine.native.assembler import Assembler, Label, Note, Tape, places_of, wrong
from engine.native.driver import DEEPEST, OPERANDS, Kind
from engine.native.layout import Nest, View
from engine.native.ufuncs import Loop
from engine.types.errors import UnimplementedError

__all__ = ["Label", "Tape", "TapeBuilder", "View"]

_CALL, _ELEMENT = 16, 0.5  # ns of estimated work: a call of a loop, an element in it


class TapeBuilder(Assembler):
    """Appends instructions; each method returns the number of the first instruction that it made, or the next one's if none was
    needed (operands without elements)."""

    # Elementwise.

    def ufunc(self, name: str | np.ufunc, inputs: Sequence[View], outputs: Sequence[View] | View) -> int:
        """An elementwise function; inputs broadcast to the outputs' one shape.  No casts: dtypes are those of one of its loops.

        Raises UnimplementedError if that loop is not offered (ask `engine.native.ufuncs.find` first) or is uneven and
        would need more than one call or writes to elements that are apart; InternalError on operands that do not fit.
        """
        targets = (outputs,) if isinstance(outputs, View) else tuple(outputs)
        views = (*inputs, *targets)
        loop, small = _functions(name, tuple([view.dtype for view in views]))
        return self._elementwise(loop, views, small)

    def loop(self, loop: Loop, inputs: Sequence[View], outputs: Sequence[View]) -> int:
        """Any loop with NumPy's signature and at most four operands, like `ufunc`."""
        return self._elementwise(loop, (*inputs, *outputs), None)

    def select(self, condition: View, x: View, y: View, output: View) -> int:
        """``output = x if condition else y`` for each element, all broadcast to the output's shape."""
        loop = loops.select(output.dtype)
        if loop is None:
            raise _refused(f"There is no native selection for {output.dtype}")
        return self._elementwise(loop, (condition, x, y, output), None)

    def cast(self, source: View, target: View) -> int:
        """``target = source.astype(target.dtype)``; the source broadcasts.  UnimplementedError where `loops.cast` has none."""
        if source.dtype == target.dtype:
            return self.copy(source, target)
        loop = loops.cast(source.dtype, target.dtype)
        if loop is None:
            raise _refused(f"There is no native cast from {source.dtype} to {target.dtype}")
        small = loops.scalar_cast(source.dtype, target.dtype)
        return self._elementwise(loop, (source, target), small)

    def copy(self, source: View, target: View) -> int:
        """Copy elements; the source broadcasts to the target.  Transposes, slices, tiles, parts of a concatenation."""
        if source.dtype != target.dtype:
            wrong(f"copying {source.dtype} to {target.dtype} needs a cast")
        if target.dtype.hasobject:
            raise _refused(
                f"Python objects ({target.dtype}) are not copied natively: somebody has to count references"
            )
        at = len(self)
        if source.shape == target.shape and source.is_contiguous and target.is_contiguous:
            size = target.nbytes
            _check_overlap((source, target), 1)
            small = loops.scalar_copy(size)
            note = Note("copy", (source, target), 1)
            if small is not None and target.size == 1:
                self._keep_for(small[1])
                self._add(Kind.SCALAR2, note, places_of(source, target), function=small[0])
            elif size:
                self._add(Kind.BYTES, note, places_of(source, target), count=size, work=size / 8)
            return at
        loop = loops.copy(target.dtype)
        if loop is None:
            raise _refused(f"There is no native copy of {target.dtype} with strides")
        return self._elementwise(loop, (source, target), None)

    def fill(self, target: View, value: npt.ArrayLike = 0) -> int:
        """Set every element to a value known now."""
        constant = self.constant(value, target.dtype)
        if target.is_contiguous and not any(self._constants[constant.offset :][: target.dtype.itemsize]):
            at = len(self)
            if target.size:
                work = target.nbytes / 8
                self._add(
                    Kind.ZERO, Note("zero", (target,), 1), places_of(target), count=target.nbytes, work=work
                )
            return at
        return self.copy(constant, target)

    def _elementwise(self, loop: Loop, views: tuple[View, ...], small: tuple[int, Any] | None) -> int:
        if tuple([view.dtype for view in views]) != loop.dtypes:
            wrong(f"{loop.name} is for {loop.dtypes}, not for {tuple(view.dtype for view in views)}")
        if loop.nout > 1 and any(view.shape != views[-1].shape for view in views[loop.nin :]):
            wrong(f"the outputs of {loop.name} differ in shape")
        try:
            walk = layout.elementwise(
                tuple([(view.shape, view.strides, view.dtype.itemsize) for view in views])
            )
        except ValueError as error:
            wrong(f"{loop.name}: {error}")
        if len({view.slot for view in views}) < len(views):
            _check_overlap(views, loop.nout)
        at = len(self)
        if walk is None:
            return at
        self._keep_for(loop.keep)
        note = Note(loop.name, views, loop.nout)
        if small is not None and walk.lengths == (1,):
            self._keep_for(small[1])
            kind = Kind.SCALAR2 if len(views) == 2 else Kind.SCALAR3
            self._add(kind, note, places_of(*views), function=small[0])
            return at
        outputs = zip(walk.strides[0][loop.nin :], loop.dtypes[loop.nin :])
        dense = all(step == dtype.itemsize or (walk.count == 1 and not step) for step, dtype in outputs)
        if (walk.calls > 1 or not dense) and ufuncs.is_uneven(loop):
            raise _refused(
                f"{loop.name} of {views[0].dtype} depends on how operands lie, and NumPy gathers such as {views} in buffers"
            )
        self._nest(loop, note, places_of(*views), walk)
        return at

    def _nest(self, loop: Loop, note: Note, places: list[tuple[int, int]], nest: Nest) -> None:
        """The instruction that walks operands at these places through a nest of loops."""
        nargs, depth = len(places), len(nest.lengths) - 1
        if depth > DEEPEST:
            raise _refused(f"{loop.name} over {depth + 1} axes is more than {DEEPEST + 1}")
        moved = [(slot, offset + extra) for (slot, offset), extra in zip(places, nest.offsets)]
        fields: dict[str, Any] = {"function": loop.address, "data": loop.data, "count": nest.count}
        fields["strides"] = nest.strides[0]
        work = nest.calls * (_CALL + nest.count * _ELEMENT)
        plain = {2: Kind.LOOP2, 3: Kind.LOOP3, 4: Kind.LOOP4}.get(nargs)
        if depth == 0 and plain is not None:
            self._add(plain, note, moved, work=work, **fields)
            return
        fields |= {"depth": depth, "pool": len(self._pool)}
        self._pool += nest.lengths[1:]
        for row in nest.strides[1:]:
            self._pool += (*row, *(0,) * (OPERANDS - nargs))
        self._add(Kind.NEST, note, moved, work=work, **fields)

    # Reductions.

    def reduce(self, name: str | np.ufunc, source: View, target: View, axes: Sequence[int]) -> int:
        """``target = ufunc.reduce(source, axes)`` with NumPy's bits; target: the source's shape without these axes, or with
        ones there.

        Raises UnimplementedError if the loop is not offered, if NumPy would group floats in another way (see `layout.regroups`;
        operands that lie densely never do), or the ufunc cannot be reduced over several axes at once (as
        `subtract`), InternalError if shapes do not fit, or if there is nothing to reduce and no identity.
        """
        ufunc = ufuncs.resolve(name)
        loop, _ = _functions(name, (target.dtype, source.dtype, target.dtype))
        assert ufunc is not None
        rank = len(source.shape)
        if loop.nin != 2 or ufunc.__name__ not in _REORDERABLE:
            raise _refused(f"{loop.name} has no native reduction")
        reduced = sorted({axis % rank for axis in axes} if rank else set())
        kept = [axis for axis in range(rank) if axis not in reduced]
        if target.shape == tuple(1 if axis in reduced else source.shape[axis] for axis in range(rank)):
            out = tuple(0 if axis in reduced else target.strides[axis] for axis in range(rank))
        elif target.shape == tuple(source.shape[axis] for axis in kept):
            out = tuple(0 if axis in reduced else target.strides[kept.index(axis)] for axis in range(rank))
        else:
            wrong(f"reducing {source.shape} over axes {tuple(reduced)} does not give {target.shape}")
        _check_overlap((source, target), 1, exact=False)
        at = len(self)
        if target.size == 0:
            return at
        if source.size and source.dtype.kind in "fc":
            walk = layout.nest(source.shape, (out, source.strides, out), by=(1,), turn=False)
            if layout.regroups(walk, [not steps[0] for steps in walk.strides], np.getbufsize()):
                raise _refused(
                    f"NumPy would gather {source.shape} with strides {source.strides} in a buffer to reduce it over axes "
                    f"{tuple(reduced)}; copy it first"
                )
        result = _along(target, source.shape, out, kept)
        if ufunc.identity is not None:
            self.fill(result, np.array(ufunc.identity).astype(target.dtype))
            parts = [((0,) * rank, source.shape)]
        elif source.size == 0:
            wrong(f"{loop.name} of no elements, which has no identity")
        else:
            self.copy(_along(source, source.shape, source.strides, kept), result)
            parts = layout.reduction_parts(source.shape, source.strides, reduced)
        if source.size == 0:
            return at
        self._keep_for(loop.keep)
        note = Note(f"{loop.name}.reduce", (source, target), 1, f"axes {tuple(reduced)}")
        for start, shape in parts:
            begin = source.offset + sum(s * stride for s, stride in zip(start, source.strides))
            place = target.offset + sum(s * stride for s, stride in zip(start, out))
            walk = layout.nest(shape, (out, source.strides, out), by=(1,), turn=False)
            self._nest(loop, note, [(target.slot, place), (source.slot, begin), (target.slot, place)], walk)
        return at


# Ufuncs that NumPy reduces over any axes in any order.
_REORDERABLE = frozenset(("add", "multiply", "maximum", "minimum", "fmax", "fmin")) | frozenset(
    f"{kind}_{name}" for kind in ("logical", "bitwise") for name in ("and", "or", "xor")
)


@lru_cache(maxsize=4096)
def _functions(
    name: str | np.ufunc, dtypes: tuple[np.dtype[Any], ...]
) -> tuple[Loop, tuple[int, Any] | None]:
    """The loop, and what does one element, or None.  Raises UnimplementedError."""
    loop = ufuncs.find(name, dtypes)
    if loop is None:
        raise _refused(ufuncs.why_not(name, dtypes) or "")
    if loop.nargs > OPERANDS:
        raise _refused(f"{loop.name} has {loop.nargs} operands, and an instruction {OPERANDS}")
    return loop, loops.scalar(name, dtypes)


def _along(view: View, shape: tuple[int, ...], strides: tuple[int, ...], axes: Sequence[int]) -> View:
    """The part of a view that has these axes alone, at the beginning of all others."""
    picked = tuple(shape[axis] for axis in axes), tuple(strides[axis] for axis in axes)
    return View(view.slot, view.dtype, *picked, view.offset)


def _check_overlap(views: Sequence[View], nout: int, exact: bool = True) -> None:
    """Refuse outputs that share bytes with another operand of their slot without being (`exact`) the same elements."""
    for k in range(len(views) - nout, len(views)):
        out = views[k]
        low, high = out.extent()
        for other in views[:k]:
            if other.slot != out.slot:
                continue
            start, stop = other.extent()
            if start >= high or low >= stop:
                continue
            same = (other.offset, other.dtype.itemsize) == (out.offset, out.dtype.itemsize) and all(
                n == 1 or a == b
                for n, a, b in zip(
                    out.shape, layout.broadcast(other.shape, other.strides, out.shape), out.strides
                )
            )
            if not (same and exact):
                wrong(f"an output overlaps another operand: {out} and {other}")


def _refused(why: str) -> UnimplementedError:
    hint = "Run this one in Python: an escape, or a plan without native code."
    return UnimplementedError(None, None, why, hint=hint)
