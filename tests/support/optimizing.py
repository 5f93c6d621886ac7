"""Configs that choose passes, and what optimized graphs are compared by."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

import engine as tf
from engine import observe
from engine.passes import pipeline
from engine.passes.settings import OptimizerOptions, RewriterConfig

# The passes that change the graph as such; the others make kernels of it.
CORE = ("fold", "arithmetic", "branches", "invariants", "cse", "dependencies")


def plain(**options: Any) -> Any:
    """A ConfigProto without passes: what runs is the graph as written, pruned."""
    return tf.ConfigProto(
        graph_options=tf.GraphOptions(optimizer_options=OptimizerOptions(opt_level=OptimizerOptions.L0)),
        **options,
    )


def only(*names: str, **options: Any) -> Any:
    """A ConfigProto with these passes and no others."""
    chosen = {row.name: row.name in names for row in pipeline.PASSES}
    return tf.ConfigProto(
        graph_options=tf.GraphOptions(
            rewrite_options=RewriterConfig(passes=chosen, meta_optimizer_iterations=20)
        ),
        **options,
    )


def same_bits(a: Any, b: Any) -> bool:
    """Whether two results are the same array, to the bit."""
    a, b = np.asarray(a), np.asarray(b)
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and (a.tobytes() == b.tobytes() or (a.dtype.hasobject and bool((a == b).all())))
    )


class Executed(observe.Observer):
    """Counts the nodes that ran, alive, in the last step."""

    level = observe.TraceLevel.TIMES

    def __init__(self) -> None:
        self.alive = 0

    def step_begin(self, step: observe.StepInfo) -> None:
        self.alive = 0

    def executions(self, step: observe.StepInfo, batch: observe.Executions) -> None:
        self.alive += int((~batch.dead).sum())


def executed(run: Any) -> int:
    """How many nodes ran, alive, in the last step of ``run()``."""
    observer = Executed()
    observe.install(observer)
    try:
        run()
    finally:
        observe.uninstall(observer)
    return observer.alive


def types(stage: Any) -> list[str]:
    """The op types of a stage, but for those at its edges."""
    return sorted(node.type for node in stage if node.type not in ("_Arg", "_Retval"))


def reasons(stage: Any) -> Collection[str]:
    """Everything that passes said about what they did, over a stage's whole chain."""
    return {node.lineage.reason for each in stage.chain() for node in each if node.lineage.reason}
