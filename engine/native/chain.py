"""Elementwise steps with their dtypes and shapes, and how the arrays that they read lie along the result.

Inputs broadcast.  Dimensions along which every input behaves alike are made one: what is left is mostly one dimension or two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.native import compiler, elements
from engine.native.element_types import Inexpressible

Shape = tuple[int, ...]
Steps = Sequence[tuple[str, Sequence[str], Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What becomes of the last `rank` dimensions of the chain's result; kind: Sum, Mean, Max or Min."""

    kind: str
    rank: int


@dataclass(frozen=True, slots=True)
class View:
    """An input as a step reads it: `shape` is aligned with the result's from the right."""

    input: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Node:
    """A step: operands are numbers of views, or of steps (counted after the views)."""

    type: str
    operands: tuple[tuple[str, int], ...]  # ("x", view) or ("t", step)
    dtypes: tuple[np.dtype[Any], ...]
    attrs: Mapping[str, Any]
    dtype: np.dtype[Any]
    shape: Shape


def lanes_for(itemsize: int) -> int:
    """How many elements a loop works on at a time: two vector registers' worth, so that one waits while the other works."""
    return 2 * compiler.cpu().vector_bytes // max(itemsize, 4)


class Chain:
    """The steps, analysed.  Raises Inexpressible where there is no native form.

    views: the inputs as steps read them, each with its number; pointers are numbered the same way, those of outputs after them.
    dims: of the result, made one where they can be; strides: of each view along them, in elements (0: it is repeated).
    """

    def __init__(
        self,
        steps: Steps,
        input_dtypes: Sequence[Any],
        input_shapes: Sequence[Sequence[int]],
        outputs: Sequence[int],
        reduction: Reduction | None,
    ) -> None:
        if not compiler.available():
            raise Inexpressible(compiler.why_not())
        self.input_dtypes = [np.dtype(each) for each in input_dtypes]
        self.input_shapes: list[Shape] = [tuple(map(int, shape)) for shape in input_shapes]
        self.reduction = reduction
        self.views: dict[View, int] = {}
        self.nodes: list[Node] = []
        for type, operands, attrs in steps:
            self.nodes.append(self._node(type, operands, attrs))
        self.outputs = [range(len(self.nodes))[each] for each in outputs]
        self.shape: Shape = self.nodes[self.outputs[0]].shape
        if any(self.nodes[each].shape != self.shape for each in self.outputs):
            raise Inexpressible("outputs of different shapes")
        for node in self.nodes:
            if np.broadcast_shapes(node.shape, self.shape) != self.shape:
                raise Inexpressible("a step larger than the result")
        self.size = math.prod(self.shape)
        self.out_dtypes = [self.nodes[each].dtype for each in self.outputs]
        kinds = [*self.input_dtypes, *(node.dtype for node in self.nodes)]
        self.lanes = lanes_for(max(each.itemsize for each in kinds))
        self._arrange()

    def _node(self, type: str, operands: Sequence[str], attrs: Mapping[str, Any]) -> Node:
        found: list[tuple[str, int]] = []
        shapes: list[Shape] = []
        dtypes: list[np.dtype[Any]] = []
        for operand in operands:
            number = int(operand[1:])
            if operand[0] == "t":
                shapes.append(self.nodes[number].shape)
                dtypes.append(self.nodes[number].dtype)
            else:
                shapes.append(self.input_shapes[number])
                dtypes.append(self.input_dtypes[number])
            found.append((operand[0], number))
        dtype = elements.result_dtype(type, dtypes, attrs)
        aligned = self._aligned(type, shapes, attrs)
        for i, (kind, number) in enumerate(found):
            if kind == "x":
                view = View(number, aligned[i])
                found[i] = ("x", self.views.setdefault(view, len(self.views)))
            elif aligned[i] != shapes[i]:
                raise Inexpressible(f"{type} with a computed operand along another dimension than the last")
        try:
            shape = np.broadcast_shapes(*aligned)
        except ValueError as error:
            raise Inexpressible(f"{type} of shapes that do not broadcast: {shapes}") from error
        return Node(type, tuple(found), tuple(dtypes), attrs, dtype, shape)

    def _aligned(self, type: str, shapes: list[Shape], attrs: Mapping[str, Any]) -> list[Shape]:
        """The operands' shapes such that they broadcast as the op wants; errors are left to the op's own kernel."""
        if type in ("BiasAdd", "BiasAddV1"):
            value, bias = shapes
            axis = 1 if attrs.get("data_format", "NHWC") == "NCHW" else len(value) - 1
            if len(value) < 2 or axis >= len(value) or bias != (value[axis],):
                raise Inexpressible(f"{type} of shapes {value} and {bias}")
            return [value, bias + (1,) * (len(value) - 1 - axis)]
        if type == "AddN" and len(set(shapes)) > 1:
            raise Inexpressible(f"AddN of shapes {shapes}")
        if type == "Select" and (shapes[1] != shapes[2] or shapes[0] not in ((), shapes[1])):
            raise Inexpressible(f"Select of shapes {shapes}")
        if type == "ClipByValue" and any(bound not in ((), shapes[0]) for bound in shapes[1:]):
            raise Inexpressible(f"ClipByValue of shapes {shapes}")
        return shapes

    def _arrange(self) -> None:
        """Dimensions that behave alike become one: `dims`, and for each view its stride along each, in elements."""
        rank = len(self.shape)
        strides = []
        for view in self.views:
            shape = (1,) * (rank - len(view.shape)) + view.shape
            steps, size = [], 1
            for extent in reversed(shape):
                steps.append(0 if extent == 1 else size)
                size *= extent
            strides.append(steps[::-1])
        dims: list[int] = []
        columns: list[tuple[int, ...]] = []
        for axis, extent in enumerate(self.shape):
            column = tuple(each[axis] for each in strides)
            if extent == 1:
                continue
            if dims and all(old == new * extent for old, new in zip(columns[-1], column)):
                dims[-1] *= extent
                columns[-1] = column
            else:
                dims.append(extent)
                columns.append(column)
        self.dims = dims or [1]
        self.strides = [tuple(each[i] for each in columns) or (0,) for i in range(len(self.views))]
        self.inner = self.dims[-1]
        dense = []
        size = 1
        for extent in reversed(self.dims):
            dense.append(size if extent > 1 else 0)
            size *= extent
        self.dense = tuple(reversed(dense))

    def is_dense(self, view: int) -> bool:
        """Whether a view is laid out like the result."""
        return self.strides[view] == self.dense

    def is_scalar(self, view: int) -> bool:
        return not any(self.strides[view])

    def dtype_of(self, pointer: int) -> np.dtype[Any]:
        """The dtype of what view or output number `pointer` points to."""
        if pointer >= len(self.views):
            return self.out_dtypes[pointer - len(self.views)]
        found: np.dtype[Any] = self.input_dtypes[list(self.views)[pointer].input]
        return found

    def overwrites(self) -> dict[int, tuple[int, ...]]:
        """Which inputs an output may be written over.

        An element is read before it is written, and only then: an input laid out like the result may be where it goes.
        """
        if self.reduction is not None:
            return {}
        found: dict[int, tuple[int, ...]] = {}
        for i, dtype in enumerate(self.out_dtypes):
            fit = []
            for number, shape in enumerate(self.input_shapes):
                views = [place for view, place in self.views.items() if view.input == number]
                if (
                    math.prod(shape) == self.size
                    and self.input_dtypes[number].itemsize == dtype.itemsize
                    and all(self.is_dense(place) for place in views)
                ):
                    fit.append(number)
            if fit:
                found[i] = tuple(fit)
        return found
