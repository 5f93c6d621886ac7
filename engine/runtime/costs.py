"""Which kernels are worth another thread: the ones that have been seen to take long.

The rule is TensorFlow's (`ExecutorState::ScheduleReady`): a thread goes on with cheap kernels itself, and hands expensive ones to
whoever is free.  What a kernel takes is an average that forgets, with TensorFlow's weight of one tenth for the newest; before it
has run, its op type says what to expect.
"""

from __future__ import annotations

from engine.runtime.executable import BoundItem

# What waking a second thread was measured to add to a step (benchmarks/handover.py: 0.1 ms, and 3 µs for each kernel that is
# handed over): a kernel that takes less than that has run before anybody else could have begun it.
EXPENSIVE_NS = 100_000

_DECAY = 0.1
_LIKELY_EXPENSIVE = frozenset(
    {
        "AvgPool", "AvgPoolGrad", "BatchMatMul", "BatchMatMulV2", "Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput",
        "FusedBatchNorm", "FusedBatchNormGrad", "FusedBatchNormGradV3", "FusedBatchNormV3", "MatMul", "MaxPool", "MaxPoolGrad",
        "PyFunc", "RandomStandardNormal", "RandomUniform", "Svd", "TopKV2", "UnsortedSegmentSum", "_FusedConv2D",
        "_FusedMatMul",
    }
)  # fmt: skip


def is_expensive(bound: BoundItem, op_type: str, threshold_ns: int) -> bool:
    """Whether the kernel's next run is expected to take longer than `threshold_ns`."""
    cost = bound.cost_ns
    return op_type in _LIKELY_EXPENSIVE if cost < 0 else cost > threshold_ns


def note(bound: BoundItem, took_ns: int) -> None:
    """The kernel has taken so long."""
    cost = bound.cost_ns
    bound.cost_ns = float(took_ns) if cost < 0 else cost + _DECAY * (took_ns - cost)
