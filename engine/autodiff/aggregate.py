"""Adding up the gradients that meet at one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.autodiff.slices import alike
from engine.graph.convert import convert_to_tensor
from engine.graph.default import get_default_graph, name_scope
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.operation import Operation
from engine.graph.tensor import Tensor
from engine.op.registry import raw


class AggregationMethod:
    """How gradients that meet at one tensor are added up, as in TensorFlow 1.  The sum is the same, its rounding may differ.

    ADD_N: one AddN of all.  EXPERIMENTAL_TREE and EXPERIMENTAL_ACCUMULATE_N: one after the other, so that each can be let go when
    it has been added.
    """

    ADD_N = 0
    DEFAULT = ADD_N
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


def check_method(method: int | None) -> int:
    """The method to use.  Raises ValueError if it is none."""
    if method is None:
        return AggregationMethod.DEFAULT
    if method not in (0, 1, 2):
        raise ValueError(f"Invalid `aggregation_method` specified {method}. Accepted values are [0, 1, 2].")
    return method


def aggregate(grads: Sequence[Any], op: Operation, method: int) -> Any:
    """The sum of two or more gradients at an output of `op`; slices only are put in a row, anything else becomes dense."""
    if all(isinstance(grad, IndexedSlices) for grad in grads):
        same = alike(grads)
        values = raw.ConcatV2([grad.values for grad in same], 0, name="concat")
        indices = raw.ConcatV2([grad.indices for grad in same], 0, name="concat")
        return IndexedSlices(values, indices, same[0].dense_shape)
    if any(isinstance(grad, IndexedSlices) for grad in grads):
        return _add(grads)
    return _ADDERS[method](grads, op)


def _add(grads: Sequence[Any]) -> Tensor:
    if len(grads) == 1:
        return convert_to_tensor(grads[0])
    total: Tensor = raw.AddN(list(grads))
    return total


def _by_device(grads: Sequence[Tensor], op: Operation) -> Tensor:
    """Those of one device are added up there, so that one tensor leaves each device."""
    del op
    devices: dict[str, list[Tensor]] = {}
    for grad in grads:
        devices.setdefault(grad.device, []).append(grad)
    sums = []
    for device in sorted(devices):
        with get_default_graph().colocate_with(devices[device][0], ignore_existing=True):
            sums.append(_add(devices[device]))
    return _add(sums)


def _one_by_one(grads: Sequence[Tensor], op: Operation) -> Tensor:
    total = grads[0]
    with name_scope(f"{op.name}_gradient_sum"):
        for grad in grads[1:]:
            total = _add([total, grad])
    return total


_ADDERS: dict[int, Callable[[Sequence[Tensor], Operation], Tensor]] = {
    AggregationMethod.ADD_N: _by_device,
    AggregationMethod.EXPERIMENTAL_TREE: _one_by_one,
    AggregationMethod.EXPERIMENTAL_ACCUMULATE_N: _one_by_one,
}
