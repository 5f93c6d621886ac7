"""Which passes run and how far they go: `OptimizerOptions` and `RewriterConfig`, under TensorFlow's names."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.passes.pipeline import Pass


class Level(enum.IntEnum):
    """`OptimizerOptions.opt_level`: L1, the default, runs the passes; L0 none but pruning."""

    L1 = 0
    L0 = -1


class Toggle(enum.IntEnum):
    """What a `RewriterConfig` says of a kind of pass.

    AGGRESSIVE lets arithmetic be rewritten where the result is equal in real numbers and may differ in the last bits, in the sign
    of a zero, or where NaN and infinity take part.  TensorFlow does that at DEFAULT; here results stay the same bit for bit.
    """

    DEFAULT = 0
    ON = 1
    OFF = 2
    AGGRESSIVE = 3


class MemOptType(enum.IntEnum):
    """`RewriterConfig.memory_optimization`."""

    DEFAULT_MEM_OPT = 0
    NO_MEM_OPT = 1
    MANUAL = 2
    HEURISTICS = 3
    SWAPPING_HEURISTICS = 4
    RECOMPUTATION_HEURISTICS = 5
    SCHEDULING_HEURISTICS = 6


class NumIterationsType(enum.IntEnum):
    """`RewriterConfig.meta_optimizer_iterations`: how many rounds of all passes at most."""

    DEFAULT_NUM_ITERS = 0
    ONE = 1
    TWO = 2


@dataclass(slots=True)
class OptimizerOptions:
    """The older, coarser options; as in TensorFlow, the two `do_` options only add, and `opt_level` L0 switches all off.

    max_folded_constant_in_bytes: how large a folded constant may be, unless it is no larger than what it was made of (0: 100 KiB,
    Grappler's limit).
    """

    do_common_subexpression_elimination: bool = False
    do_constant_folding: bool = False
    max_folded_constant_in_bytes: int = 0
    do_function_inlining: bool = False
    opt_level: int = Level.L1


@dataclass(slots=True)
class RewriterConfig:
    """Which kinds of pass run.

    Each kind is ON unless it is OFF; `disable_meta_optimizer` switches all off.  `passes` (ours) chooses by the names of the
    pipeline's rows, ``passes={"fold": False}``, and goes before all else.  Graphs of fewer than `min_graph_nodes` nodes are left
    as they are.  Memory is saved by `recompute` and `swap` as long as the estimated peak is above `memory_budget_bytes` (ours),
    or, of a device, above its memory; nodes under `memory_optimizer_target_node_name_scope` count as parts of a gradient.
    """

    constant_folding: int = Toggle.DEFAULT
    arithmetic_optimization: int = Toggle.DEFAULT
    common_subgraph_elimination: int = Toggle.DEFAULT
    dependency_optimization: int = Toggle.DEFAULT
    loop_optimization: int = Toggle.DEFAULT
    shape_optimization: int = Toggle.DEFAULT
    remapping: int = Toggle.DEFAULT
    layout_optimizer: int = Toggle.DEFAULT
    memory_optimization: int = MemOptType.DEFAULT_MEM_OPT
    memory_optimizer_target_node_name_scope: str = "gradients/"
    memory_budget_bytes: int = 0
    meta_optimizer_iterations: int = NumIterationsType.DEFAULT_NUM_ITERS
    min_graph_nodes: int = 0
    disable_meta_optimizer: bool = False
    passes: Mapping[str, bool] = field(default_factory=dict)


for _enum in (Toggle, MemOptType, NumIterationsType):
    for _member in _enum:
        setattr(RewriterConfig, _member.name, _member)
for _level in Level:
    setattr(OptimizerOptions, _level.name, _level)

DEFAULT_FOLDED_BYTES = 100 << 10
DEFAULT_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """What the two say together, as the pipeline asks for it."""

    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    rewriter: RewriterConfig = field(default_factory=RewriterConfig)

    @property
    def rounds(self) -> int:
        return int(self.rewriter.meta_optimizer_iterations) or DEFAULT_ROUNDS

    @property
    def max_folded_bytes(self) -> int:
        return self.optimizer.max_folded_constant_in_bytes or DEFAULT_FOLDED_BYTES

    def toggle(self, option: str) -> int:
        """What the rewriter config says of one of its options; ON for no option."""
        return int(getattr(self.rewriter, option)) if option else Toggle.ON

    def aggressive(self, option: str) -> bool:
        return self.toggle(option) == Toggle.AGGRESSIVE

    def runs(self, row: Pass, nodes: int) -> bool:
        """Whether the pass runs on a stage of so many nodes.

        Raises ValueError if the settings name a pass that there is not.
        """
        if row.name in self.rewriter.passes:
            return self.rewriter.passes[row.name]
        if self.optimizer.opt_level == Level.L0 or self.rewriter.disable_meta_optimizer:
            return False
        if nodes < self.rewriter.min_graph_nodes:
            return False
        said = self.toggle(row.option)
        if row.option == "memory_optimization":
            return row.default if said == MemOptType.DEFAULT_MEM_OPT else said != MemOptType.NO_MEM_OPT
        return said in (Toggle.ON, Toggle.AGGRESSIVE) or (said == Toggle.DEFAULT and row.default)
