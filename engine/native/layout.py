"""How an n-dimensional operation becomes calls of an inner loop, as NumPy's iterator (nditer) would make them.

NumPy chooses the order of the axes from the strides of all operands, turns axes around that every operand walks backwards, and
joins axes that all operands walk in one stride; the innermost of what remains is what the loop gets.  Some loops (sums in
pairs, vector math with a scalar rest) give other bits for another inner axis, so the same rules are followed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """An operand: where in the table of pointers its buffer is, and how its elements lie there.

    offset: bytes from the buffer's address to the first element; strides: bytes, of any sign, one an axis.
    """

    slot: int
    dtype: np.dtype[Any]
    shape: Ints = ()
    strides: Ints = ()
    offset: int = 0

    @staticmethod
    def of(slot: int, dtype: npt.DTypeLike, shape: Sequence[int] = (), offset: int = 0) -> View:
        """A C-contiguous operand."""
        kind = np.dtype(dtype)
        return View(slot, kind, tuple(shape), contiguous(shape, kind.itemsize), offset)

    @staticmethod
    def like(slot: int, array: npt.NDArray[Any]) -> View:
        """An operand that lies as an array does; the slot is to be bound to the address of its first element."""
        return View(slot, array.dtype, array.shape, array.strides)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements follow each other in C order (axes of length one aside)."""
        wanted = contiguous(self.shape, self.dtype.itemsize)
        return self.size == 0 or all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, wanted))

    def extent(self) -> tuple[int, int]:
        """The first byte that the elements touch and the one after the last, from the buffer's address; (0, 0) if there are
        none."""
        if self.size == 0:
            return 0, 0
        reach = [(n - 1) * stride for n, stride in zip(self.shape, self.strides)]
        low = self.offset + sum(min(0, each) for each in reach)
        return low, self.offset + sum(max(0, each) for each in reach) + self.dtype.itemsize

    def at(self, axis: int, start: int, length: int) -> View:
        """The elements [start, start + length) along an axis."""
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        return View(self.slot, self.dtype, shape, self.strides, self.offset + start * self.strides[axis])


def contiguous(shape: Sequence[int], itemsize: int) -> Ints:
    """The strides, in bytes, of a C-contiguous array."""
    strides: list[int] = []
    step = itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def broadcast(view_shape: Ints, strides: Ints, shape: Sequence[int]) -> Ints:
    """The strides with which an operand is walked in a shape to which it broadcasts; ValueError if it does not."""
    if view_shape == shape and 1 not in view_shape:
        return strides
    lead = len(shape) - len(view_shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(view_shape, shape[max(lead, 0) :])):
        raise ValueError(f"shape {view_shape} does not broadcast to {tuple(shape)}")
    return (0,) * lead + tuple(0 if n == 1 else stride for n, stride in zip(view_shape, strides))


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops around an inner loop, innermost first.

    lengths[d] and strides[d][k]: the length of loop d, and how far operand k moves in it; loop 0 is the inner loop's own.
    offsets[k]: what is added to operand k's offset, because its axes were turned around.
    """

    lengths: Ints
    strides: tuple[Ints, ...]
    offsets: Ints

    @property
    def count(self) -> int:
        return self.lengths[0]

    @property
    def calls(self) -> int:
        return math.prod(self.lengths[1:])


def nest(
    shape: Sequence[int], strides: Sequence[Sequence[int]], by: Sequence[int] | None = None, turn: bool = True
) -> Nest:
    """The loops for operands with these strides (one sequence an operand) over one shape without zeros in it.

    by: the operands whose strides decide the order of the axes (None: all of them).  turn: whether axes that all of these walk
    backwards are turned around; NumPy does not where it makes the output itself, as in reductions.
    """
    operands = range(len(strides))
    deciding = operands if by is None else by
    offsets = [0] * len(strides)
    loops: list[tuple[int, Ints]] = []
    for axis in order(shape, [strides[k] for k in deciding]):
        n, steps = shape[axis], tuple(each[axis] for each in strides)
        decisive = [steps[k] for k in deciding]
        if turn and any(step < 0 for step in decisive) and all(step <= 0 for step in decisive):
            for k in operands:
                offsets[k] += steps[k] * (n - 1)
            steps = tuple(-step for step in steps)
        if loops and all(loops[-1][0] * inner == outer for inner, outer in zip(loops[-1][1], steps)):
            loops[-1] = (loops[-1][0] * n, loops[-1][1])
        else:
            loops.append((n, steps))
    if not loops:
        loops.append((1, (0,) * len(strides)))
    return Nest(tuple(n for n, _ in loops), tuple(steps for _, steps in loops), tuple(offsets))


def order(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """The axes longer than one, innermost first, sorted by the size of the strides as nditer does: ties and conflicts keep C
    order."""
    done: list[int] = []
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] == 1:
            continue
        place = len(done)
        for index in range(len(done) - 1, -1, -1):
            other = done[index]
            verdicts = [abs(each[other]) > abs(each[axis]) for each in strides if each[other] and each[axis]]
            if not verdicts:
                continue
            if not all(verdicts):
                break
            place = index
        done.insert(place, axis)
    return done


def reduction_parts(shape: Ints, strides: Ints, axes: Sequence[int]) -> list[tuple[Ints, Ints]]:
    """What a reduction that begins with a copy of the first elements still has to visit, as (start, length) boxes in order.

    shape, strides: the input's; axes: the reduced ones.  The first elements along the reduced axes are the result so far, so
    the boxes leave them out and together hold everything else.
    """
    reduced = [axis for axis in order(shape, [strides]) if axis in axes]
    parts = []
    for done, axis in enumerate(reduced):
        start, length = [0] * len(shape), list(shape)
        start[axis], length[axis] = 1, shape[axis] - 1
        for outer in reduced[done + 1 :]:
            length[outer] = 1
        parts.append((tuple(start), tuple(length)))
    return parts


@lru_cache(maxsize=8192)
def elementwise(operands: tuple[tuple[Ints, Ints, int], ...]) -> Nest | None:
    """The loops of an elementwise operation; None if there are no elements.

    operands: (shape, strides, bytes an element) of each, outputs last; all broadcast to the last one's shape, or ValueError.
    """
    shape = operands[-1][0]
    strides = [broadcast(each, steps, shape) for each, steps, _ in operands]
    if 0 in shape:
        return None
    return _one_element(operands) if math.prod(shape) == 1 else nest(shape, strides)


def _one_element(operands: tuple[tuple[Ints, Ints, int], ...]) -> Nest:
    """The call for operands of one element each, with the strides that NumPy passes, which some loops look at.

    Where all operands that have axes have equally many, NumPy calls the loop without its iterator and passes strides; else
    zeros.
    """
    ranks = {len(shape) for shape, _, _ in operands if shape}
    none = (0,) * len(operands)
    if len(ranks) > 1 or len(operands[-1][0]) != max(ranks, default=0):
        return Nest((1,), (none,), none)
    steps = [
        strides[0] if len(shape) == 1 else itemsize if shape or k == len(operands) - 1 else 0
        for k, (shape, strides, itemsize) in enumerate(operands)
    ]
    return Nest((1,), (tuple(steps),), none)


def regroups(loops: Nest, reduced: Sequence[bool], buffer: int) -> bool:
    """Whether NumPy would reduce two loops as one, through a buffer, so that sums come in other groups than loop by loop.

    loops: as `nest` gives them; reduced: which of them the result does not have; buffer: NumPy's buffer in
    elements.  Only two innermost reduced loops can become one.  NumPy since 2.3 estimates for each loop what buffering
    everything inside of it would cost, (1 + buffers) / elements at a time, and takes the cheapest.
    """
    if len(reduced) < 2 or not (reduced[0] and reduced[1]):
        return False
    size = best_size = loops.lengths[0]
    best_cost, cost = (
        1,
        2,
    )  # the input is in no single stride from loop 1 on: `nest` would have joined the two
    for n, inside in zip(loops.lengths[1:], reduced[1:]):
        if size >= buffer:
            break
        cost += not inside
        size *= n
        if cost * best_size <= best_cost * min(size, buffer):
            return True
        if not inside:
            break
    return False
