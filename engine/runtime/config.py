"""Options of sessions and runs, under TensorFlow 1's names."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.device.modelled.parameters import GPUModel
from engine.passes.settings import OptimizerOptions, RewriterConfig


class TraceLevel(enum.IntEnum):
    """`RunOptions.trace_level`."""

    NO_TRACE = 0
    SOFTWARE_TRACE = 1
    HARDWARE_TRACE = 2
    FULL_TRACE = 3


@dataclass(slots=True)
class GPUOptions:
    """Options of GPU devices, which `ConfigProto.device_count` asks for.

    per_process_gpu_memory_fraction: how much of the memory to use (0: all); visible_device_list: "1,0" maps GPU:0 to the second
    card and GPU:1 to the first.  allow_growth has no effect: memory is always taken as needed.
    modelled (ours): False for real GPUs, True for models of them, "auto" for models where there are no real ones, or the
    figures of the model, a `GPUModel`.
    """

    per_process_gpu_memory_fraction: float = 0.0
    allow_growth: bool = False
    visible_device_list: str = ""
    modelled: bool | str | GPUModel = False


@dataclass(slots=True)
class GraphOptions:
    """Options of graph optimization: `optimizer_options` and `rewrite_options` say which passes run."""

    optimizer_options: OptimizerOptions = field(default_factory=OptimizerOptions)
    rewrite_options: RewriterConfig = field(default_factory=RewriterConfig)
    infer_shapes: bool = False
    place_pruned_graph: bool = False
    build_cost_model: int = 0


@dataclass(slots=True)
class ConfigProto:
    """Options of a `Session`.

    inter_op_parallelism_threads: how many threads run nodes of one step (0: one a CPU device; 1, or less than 0: only
        the caller's own).
    allow_soft_placement, log_device_placement, device_count, gpu_options: as in TensorFlow.
    operation_timeout_in_ms: how long a run may take where its `RunOptions` say nothing (0: for ever).

    These are ours:
    placement: "simple", TensorFlow's rules, or "greedy", the white paper's simulation.
    wire_compression: "bfloat16" sends float32 tensors between devices with their lower 16 bits dropped; "" sends them whole.
    late_receive_bytes: a tensor of so many bytes is received shortly before it is needed (None: as soon as it can be).
    plans: when a run is compiled (`engine.runtime.plan`) instead of interpreted: "auto", from a signature's second run on, or at
        once if there is a loop in it; "always"; "off".
    native: whether plans use machine code (llvmlite) where shapes are known; otherwise they are Python throughout.
    exact: whether machine code must give the bits of NumPy's kernels; otherwise some ops have kernels of their own, which differ
        in the last bits.
    expensive_kernel_ns: a kernel that takes longer goes to another thread, if there are any; 0: what has been measured to pay.
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
    placement: str = "simple"
    wire_compression: str = ""
    late_receive_bytes: int | None = 64 << 10
    expensive_kernel_ns: int = 0
    plans: str = "auto"
    native: bool = True
    exact: bool = False


@dataclass(slots=True)
class RunOptions:
    """Options of one `Session.run`.

    trace_level: FULL_TRACE fills the run's `run_metadata`.  output_partition_graphs: put the graphs that ran on each device into
    its `partition_graphs`.  timeout_in_ms: raise DeadlineExceededError after so long (0: never).
    """

    trace_level: int = TraceLevel.NO_TRACE
    timeout_in_ms: int = 0
    inter_op_thread_pool: int = 0
    output_partition_graphs: bool = False
    report_tensor_allocations_upon_oom: bool = False


for _level in TraceLevel:
    setattr(RunOptions, _level.name, _level)
