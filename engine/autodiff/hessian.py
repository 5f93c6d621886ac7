"""`hessians(ys, xs)`: the matrices of second derivatives."""

from __future__ import annotations

from typing import Any

from engine.autodiff.gradients import gradients
from engine.control.tensor_array import TensorArray
from engine.control.while_loop import while_loop
from engine.graph.tensor import Tensor
from engine.op.array import reshape, shape, size
from engine.op.const import constant
from engine.op.joining import concat
from engine.types import dtypes

__all__ = ["hessians"]


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """The Hessian of sum(ys) with respect to each x in xs, as TensorFlow 1's `tf.hessians`.

    ys, xs and the other arguments are as for `gradients`; `name` is not used, as in TensorFlow.  Returns a list as long as xs of
    tensors of shape x.shape + x.shape: element [i…, j…] is the derivative by x[i…] and x[j…].  One loop for each x goes through
    the elements of its gradient.

    Raises ValueError where no y depends on an x or its gradient does not, LookupError for an operation without a gradient
    function.
    """
    options: dict[str, Any] = {
        "colocate_gradients_with_ops": colocate_gradients_with_ops,
        "gate_gradients": gate_gradients,
        "aggregation_method": aggregation_method,
    }
    xs = list(xs) if isinstance(xs, list | tuple) else [xs]
    return [_rows(gradient, x) for gradient, x in zip(gradients(ys, xs, **options), xs, strict=True)]


def _rows(gradient: Any, x: Any) -> Tensor:
    if gradient is None:
        raise ValueError(
            f"None values not supported: there is no Hessian by '{x.name}', on which no y depends"
        )
    flat = reshape(gradient, [-1])
    count = size(x)

    def body(j: Tensor, rows: TensorArray) -> Any:
        following = j + 1
        (row,) = gradients(flat[j], x)
        if row is None:
            raise ValueError(
                f"None values not supported: the gradient by '{x.name}' does not depend on it, so that its Hessian is zero"
            )
        return following, rows.write(j, row)

    start = [constant(0, dtypes.int32), TensorArray(x.dtype, count)]
    _, rows = while_loop(lambda j, _: j < count, body, start)
    whole = shape(x)
    hessian: Tensor = reshape(rows.stack(), concat((whole, whole), 0))
    return hessian
