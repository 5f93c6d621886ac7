"""Options of sessions and runs, under TensorFlow 1's names."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class TraceLevel(enum.IntEnum):
    """`RunOptions.trace_level`."""

    NO_TRACE = 0
    SOFTWARE_TRACE = 1
    HARDWARE_TRACE = 2
    FULL_TRACE = 3


@dataclass(slots=True)
class GPUOptions:
    """Options of GPU devices."""

    per_process_gpu_memory_fraction: float = 0.0
    allow_growth: bool = False
    visible_device_list: str = ""


@dataclass(slots=True)
class GraphOptions:
    """Options of graph optimization."""

    infer_shapes: bool = False
    place_pruned_graph: bool = False
    build_cost_model: int = 0


@dataclass(slots=True)
class ConfigProto:
    """Options of a `Session`.

    inter_op_parallelism_threads: how many threads run nodes of one step (0 and 1: the caller's own).
    allow_soft_placement, log_device_placement, device_count, gpu_options: as in TensorFlow.
    operation_timeout_in_ms: how long a run may take where its `RunOptions` say nothing (0: for ever).
    """

    device_count: Mapping[str, int] = field(default_factory=dict)
    intra_op_parallelism_threads: int = 0
    inter_op_parallelism_threads: int = 0
    use_per_session_threads: bool = False
    allow_soft_placement: bool = False
    log_device_placement: bool = False
    gpu_options: GPUOptions = field(default_factory=GPUOptions)
    graph_options: GraphOptions = field(default_factory=GraphOptions)
    operation_timeout_in_ms: int = 0


@dataclass(slots=True)
class RunOptions:
    """Options of one `Session.run`.

    trace_level: FULL_TRACE fills the run's `run_metadata`.  timeout_in_ms: raise DeadlineExceededError after so long (0: never).
    """

    trace_level: int = TraceLevel.NO_TRACE
    timeout_in_ms: int = 0
    inter_op_thread_pool: int = 0
    output_partition_graphs: bool = False
    report_tensor_allocations_upon_oom: bool = False


for _level in TraceLevel:
    setattr(RunOptions, _level.name, _level)
