"""How a tape looks its operands over at level values: the calls of `engine.native.summary`, and where they work."""

from __future__ import annotations

import numpy as np

from engine.native import summary
from engine.native.layout import View
from engine.native.tape import TapeBuilder

_ALIGN = 64
_SHORT = 10_000  # elements that are looked at in a few microseconds, with the interpreter's lock


class Looker:
    """Appends what looks arrays over; the slot "work" is where it works, with `nbytes` of space."""

    def __init__(self, builder: TapeBuilder) -> None:
        self._builder = builder
        self._stack = builder.stack(summary.RECORD.itemsize)
        self._work = builder.slot("work")
        self._record = View.of(self._work, np.dtype(np.uint8), (summary.RECORD.itemsize,))
        self.nbytes = summary.RECORD.itemsize

    def look(self, number: int, view: View) -> None:
        """Put the record of an operand onto the stack.  One that does not lie densely is copied, and its mean is that of the
        copy."""
        builder, dtype, count = self._builder, view.dtype, view.size
        found = _dense(view)
        used = -(-summary.workspace(dtype, count) // _ALIGN) * _ALIGN
        if found is None:
            found = View.of(self._work, dtype, view.shape, used)
            used += found.nbytes
            builder.copy(view, found)
        self.nbytes = max(self.nbytes, used)
        loops = summary.loops(dtype)
        assert loops is not None  # or nobody would look
        table = builder.constant(loops)
        address, library = summary.address(dtype)
        places = [(found.slot, found.offset), (self._work, 0), (table.slot, table.offset)]
        end = count if view.shape else -1
        builder.call(address, places, number, end, name="look", keep=library, held=count <= _SHORT)
        builder.push(self._stack, self._record)


def _dense(view: View) -> View | None:
    """The view's elements in the order of memory, if nothing lies between them: as NumPy's reductions take them."""
    axes = sorted(range(len(view.shape)), key=lambda axis: -abs(view.strides[axis]))
    shape, strides = tuple(view.shape[a] for a in axes), tuple(view.strides[a] for a in axes)
    found = View(view.slot, view.dtype, shape, strides, view.offset)
    return found if found.is_contiguous else None
