"""Every op with samples on the modelled GPU: the values are the CPU's, and everything is where the op's block says.

What runs here uses only what CuPy has, takes only what CuPy takes, and orders its work on the streams.
"""

from __future__ import annotations

import pytest
from model_runs import compare_case, gpu_cases, modelled, one_each
from op_cases import Case

ALL = gpu_cases()

# What has to look at values on the device before it knows its outputs' shapes, or whether its inputs are right.
WAITS = {
    "CheckNumerics", "DynamicPartition", "SegmentMax", "SegmentMean", "SegmentMin", "SegmentProd", "SegmentSum", "Unique",
    "UniqueWithCounts", "UnsortedSegmentProd", "Where",
}  # fmt: skip

ONE_EACH = one_each()
REST = [case for case in ALL if case not in ONE_EACH and case.dtype_name != "string"]


def run_case(case: Case) -> int:
    return compare_case(case, *modelled(capacity=2**30, delay_ns=5_000, seed=7))


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_op(case: Case) -> None:
    waits = run_case(case)
    if case.op_type in WAITS:
        assert waits > 0, f"{case.op_type} does not wait: strike it off WAITS"
    else:
        assert waits == 0, f"{case.op_type} makes the host wait {waits} times"


@pytest.mark.slow
@pytest.mark.parametrize("case", REST, ids=str)
def test_other_dtypes(case: Case) -> None:
    run_case(case)
