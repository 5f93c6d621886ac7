"""Shifts against Python's unbounded integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import Case

import engine as tf
from engine.op.signature import INTS


@pytest.mark.parametrize("dtype", INTS, ids=lambda d: d.name)
@pytest.mark.parametrize("op_type", ["LeftShift", "RightShift"])
def test_shifts_move_the_count_into_range(op_type: str, dtype: Any) -> None:
    bits = 8 * dtype.size
    for sample in Case(op_type, dtype.name).samples():
        x, y = sample.inputs
        with tf.Graph().as_default(), tf.Session() as session:
            found = session.run(getattr(tf.raw_ops, op_type)(x, y))

        def shifted(value: int, count: int) -> int:
            count = min(max(count, 0), bits - 1)
            return value << count if op_type == "LeftShift" else value >> count

        a, b = np.broadcast_arrays(x, y)
        wanted = [shifted(v, n) & (2**bits - 1) for v, n in zip(a.ravel().tolist(), b.ravel().tolist())]
        assert [v & (2**bits - 1) for v in np.ravel(found).tolist()] == wanted
