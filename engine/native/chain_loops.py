"""The code that runs a chain of elementwise steps over memory.

The loop works on whole vectors.  What is left at the end of a run is copied to the stack, worked on there as a vector of its own,
and copied back, so that there is one loop only and no element is touched twice: outputs may lie where inputs do.

Where the result has several dimensions it is walked in rows if they are long, with each input a row or one number; if they are
short, in blocks, for which inputs that are not laid out like the result are spread out first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine.native import element_types, elements
from engine.native.chain import Chain
from engine.native.element_types import types_of
from engine.native.ir import Function, Module, arguments, entry
from engine.native.values import Value

LONG_ROW = 64  # elements from which on a row is walked as such
BLOCK = 1024  # elements that are spread out or reduced at a time


class Loops:
    """Writes the functions for `chain` into `module`; `ulps`: what the functions in it are off, together."""

    def __init__(self, chain: Chain, module: Module) -> None:
        self.chain = chain
        self.module = module
        self.ulps = 0.0
        self._spreaders: dict[int, Function] = {}

    def _loop(self, scalars: Sequence[bool]) -> Function:
        """void run(view pointers, output pointers, n): one pass over n elements; `scalars` says which views are one number."""
        views = list(self.chain.views)
        count = len(views) + len(self.chain.outputs)
        f = Function(self.module, "vectors", [("ptr", 0)] * count + [("i64", 0)], lanes=self.chain.lanes)
        pointers, n = f.parameters[:-1], f.parameters[-1]
        fixed = {
            i: f.spread(element_types.load(f, pointers[i], self.chain.dtype_of(i), 0))
            for i in range(len(views))
            if scalars[i]
        }

        ahead = self._compute(f, fixed, {})

        def body(at: Value, _: list[Value]) -> list[Value]:
            values = dict(fixed)
            for i in range(len(views)):
                if i not in fixed:
                    dtype = self.chain.dtype_of(i)
                    values[i] = element_types.load(f, f.address(pointers[i], at, types_of(dtype)[0]), dtype)
            results = self._compute(f, values, ahead)
            for number, pointer, dtype in zip(
                self.chain.outputs, pointers[len(views) :], self.chain.out_dtypes
            ):
                where = f.address(pointer, at, types_of(dtype)[0])
                element_types.store(f, results[number], where, dtype)
            return []

        f.loop(0, n, self.chain.lanes, (), body)
        f.ret()
        return self._with_rest(f, scalars)

    def _compute(self, f: Function, views: dict[int, Value], done: dict[int, Value]) -> dict[int, Value]:
        """The steps' results, as far as they follow from `views`; `done`: those that are there already."""
        results = dict(done)
        for number, node in enumerate(self.chain.nodes):
            operands = [(views if kind == "x" else results).get(i) for kind, i in node.operands]
            known = [each for each in operands if each is not None]
            if number not in done and len(known) == len(operands):
                results[number], off = elements.write(f, node.type, known, node.dtypes, node.attrs)
                self.ulps += off
        return results

    def _with_rest(self, vectors: Function, scalars: Sequence[bool]) -> Function:
        """The same for any n: what does not fill a vector goes by way of the stack."""
        f = Function(self.module, "run", [("ptr", 0)] * (len(vectors.parameters) - 1) + [("i64", 0)], lanes=0)
        pointers, n = f.parameters[:-1], f.parameters[-1]
        rest = n & (self.chain.lanes - 1)
        whole = n - rest
        f.do(vectors, *pointers, whole)

        def finish() -> None:
            padded: list[Value] = []
            back = []
            for i, pointer in enumerate(pointers):
                if i < len(scalars) and scalars[i]:
                    padded.append(pointer)
                    continue
                dtype = self.chain.dtype_of(i)
                buffer = f.stack(self.chain.lanes * dtype.itemsize)
                size = rest * dtype.itemsize
                place = f.address(pointer, whole, types_of(dtype)[0])
                if i < len(scalars):
                    f.zero(buffer, self.chain.lanes * dtype.itemsize)
                    f.copy(buffer, place, size)
                else:
                    back.append((place, buffer, size))
                padded.append(buffer)
            f.do(vectors, *padded, f.constant("i64", self.chain.lanes, 0))
            for place, buffer, size in back:
                f.copy(place, buffer, size)

        f.when(rest > 0, finish)
        f.ret()
        return f

    def pointers(self, f: Function, args: Value) -> list[Value]:
        """Of the views, then of the outputs."""
        given = arguments(f, args, len(self.chain.input_dtypes) + len(self.chain.outputs))
        return [given[view.input] for view in self.chain.views] + given[len(self.chain.input_dtypes) :]

    def flat(self) -> None:
        """phase0 over elements: everything is laid out alike, or one number."""
        scalars = [self.chain.is_scalar(i) for i in range(len(self.chain.views))]
        run = self._loop(scalars)
        f, args, begin, end = entry(self.module, "phase0", lanes=0)
        pointers = self.pointers(f, args)
        moved = [
            pointer if i < len(scalars) and scalars[i] else self.at(f, pointer, begin, i)
            for i, pointer in enumerate(pointers)
        ]
        f.do(run, *moved, end - begin)
        f.ret()

    def rows(self) -> None:
        """phase0 over rows."""
        run = self._loop([self.chain.strides[i][-1] == 0 for i in range(len(self.chain.views))])
        f, args, begin, end = entry(self.module, "phase0", lanes=0)
        pointers = self.pointers(f, args)

        def body(row: Value, _: list[Value]) -> list[Value]:
            moved = []
            for i, pointer in enumerate(pointers):
                strides = self.chain.strides[i] if i < len(self.chain.views) else self.chain.dense
                moved.append(self.at(f, pointer, self._offset(f, row, strides[:-1]), i))
            f.do(run, *moved, f.constant("i64", self.chain.inner, 0))
            return []

        f.loop(begin, end, 1, (), body)
        f.ret()

    def at(self, f: Function, pointer: Value, offset: Value | int, i: int) -> Value:
        return f.address(pointer, offset, types_of(self.chain.dtype_of(i))[0])

    def _offset(self, f: Function, row: Value, strides: Sequence[int]) -> Value | int:
        """Where row number `row` of the outer dimensions begins, in elements."""
        outer = self.chain.dims[:-1]
        if not any(strides):
            return 0
        total: Value | int = 0
        left = row
        for place in range(len(outer) - 1, -1, -1):
            index = left if place == 0 else left.bits("urem", outer[place])
            if strides[place]:
                part = index * strides[place]
                total = part + total if isinstance(total, Value) else part
            if place:
                left = left.bits("udiv", outer[place])
        return total

    def blocks(self) -> None:
        """phase0 over elements, a block at a time.  What repeats itself from block to block is spread out once."""
        step, repeating = self._step()
        walk = self.block_runner(repeating)
        f, args, begin, end = entry(self.module, "phase0", lanes=0)
        pointers = self.pointers(f, args)
        outputs = pointers[len(self.chain.views) :]
        buffers = self.buffers(f)
        for i in repeating:
            buffer = buffers[i]
            assert buffer is not None
            f.do(self._spreaders[i], pointers[i], buffer, begin, f.constant("i64", step, 0))

        def body(at: Value, _: list[Value]) -> list[Value]:
            left = end - at
            n = f.select(left < step, left, f.constant("i64", step, 0))
            places = [self.at(f, out, at, len(self.chain.views) + i) for i, out in enumerate(outputs)]
            walk(f, pointers[: len(self.chain.views)], buffers, places, at, n)
            return []

        f.loop(begin, end, step, (), body)
        f.ret()

    def _step(self) -> tuple[int, list[int]]:
        """How many elements a block has, and the views of which every block of that many wants the same elements."""
        step, repeating = 1, []
        for i in range(len(self.chain.views)):
            strides = self.chain.strides[i]
            first = next((place for place, stride in enumerate(strides) if stride), 0)
            period = math.prod(self.chain.dims[first:])
            if first and period <= BLOCK:
                repeating.append(i)
                step = max(step, period)  # each period is a multiple of the shorter ones
        return BLOCK // step * step, repeating

    def buffers(self, f: Function) -> list[Value | None]:
        """For each view that has to be spread out, a block on the stack."""
        return [
            None
            if self.chain.is_scalar(i) or self.chain.is_dense(i)
            else f.stack(BLOCK * self.chain.dtype_of(i).itemsize)
            for i, view in enumerate(self.chain.views)
        ]

    def block_runner(self, repeating: Sequence[int] = ()) -> Any:
        """A function that writes: run n elements of the result from element `at` on, into `places`.

        The buffers of views in `repeating` are filled already.
        """
        scalars = [self.chain.is_scalar(i) for i in range(len(self.chain.views))]
        run = self._loop(scalars)
        self._spreaders = {
            i: self._spreader(i)
            for i in range(len(self.chain.views))
            if not scalars[i] and not self.chain.is_dense(i)
        }

        def write(
            f: Function,
            pointers: list[Value],
            buffers: list[Value | None],
            places: list[Value],
            at: Value,
            n: Value,
        ) -> None:
            moved = []
            for i, pointer in enumerate(pointers):
                buffer = buffers[i]
                if buffer is not None:
                    if i not in repeating:
                        f.do(self._spreaders[i], pointer, buffer, at, n)
                    moved.append(buffer)
                else:
                    moved.append(pointer if scalars[i] else self.at(f, pointer, at, i))
            f.do(run, *moved, *places, n)

        return write

    def _spreader(self, view: int) -> Function:
        """void spread(from, to, at, n): elements at … at + n of the view, one for each of the result's."""
        dtype = self.chain.dtype_of(view)
        stored = f"i{8 * dtype.itemsize}"
        strides = self.chain.strides[view]
        lanes = self.chain.lanes if self.chain.inner >= LONG_ROW else 0
        f = Function(
            self.module, f"spread{view}", [("ptr", 0), ("ptr", 0), ("i64", 0), ("i64", 0)], lanes=lanes
        )
        source, target, at, n = f.parameters
        end = at + n
        first = at.bits("udiv", self.chain.inner)
        last = (end + (self.chain.inner - 1)).bits("udiv", self.chain.inner)

        def row(number: Value, _: list[Value]) -> list[Value]:
            start = number * self.chain.inner
            low = f.select(start > at, start, at)
            stop = start + self.chain.inner
            high = f.select(stop < end, stop, end)
            base = f.address(source, self._offset(f, number, strides[:-1]), stored)
            one = None if strides[-1] else f.load(base, stored, 0)
            many = None if one is None else f.spread(one)

            def single(i: Value, _: list[Value]) -> list[Value]:
                found = f.load(f.address(base, i - start, stored), stored, 0) if one is None else one
                f.store(found, f.address(target, i - at, stored))
                return []

            def vector(i: Value, _: list[Value]) -> list[Value]:
                found = f.load(f.address(base, i - start, stored), stored) if many is None else many
                f.store(found, f.address(target, i - at, stored))
                return []

            if lanes:
                whole = high - ((high - low) & (lanes - 1))
                f.loop(low, whole, lanes, (), vector)
                low = whole
            f.loop(low, high, 1, (), single)
            return []

        f.loop(first, last, 1, (), row)
        f.ret()
        return f
