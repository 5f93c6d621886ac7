"""What each node cost in a step: executions counted and added up, for nodes and for scopes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.observe import Executions, Totals
from viz.graph_model import ScopeTree

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NodeTiming:
    """`runs` live executions that took `total_ns` in all, the longest `longest_ns`; and `dead` executions, which run nothing."""

    runs: int
    total_ns: int
    longest_ns: int
    dead: int

    @property
    def mean_ns(self) -> float:
        return self.total_ns / self.runs if self.runs else 0.0


class Timings:
    """The executions of one step (or several of one stage), added up; `totals` are exact where not all of one were told."""

    def __init__(
        self, order: Sequence[str], batches: Iterable[Executions], totals: Totals | None = None
    ) -> None:
        size = len(order)
        self._index = {name: position for position, name in enumerate(order)}
        self._runs: Int64 = np.zeros(size, np.int64)
        self._dead: Int64 = np.zeros(size, np.int64)
        self._total: Int64 = np.zeros(size, np.int64)
        self._longest: Int64 = np.zeros(size, np.int64)
        for batch in batches:
            node = np.asarray(batch.node)
            dead = np.asarray(batch.dead, np.bool_)
            taken = np.where(dead, 0, np.asarray(batch.end_ns) - np.asarray(batch.start_ns))
            self._runs += np.bincount(node[~dead], minlength=size)
            self._dead += np.bincount(node[dead], minlength=size)
            np.add.at(self._total, node, taken)
            np.maximum.at(self._longest, node, taken)
        if totals is not None:
            self._runs[totals.node] = totals.executions - totals.dead
            self._dead[totals.node] = totals.dead
            self._total[totals.node] = totals.total_ns
        self.total_ns = int(self._total.sum())

    def __len__(self) -> int:
        return int(self._runs.sum() + self._dead.sum())

    def of(self, name: str) -> NodeTiming:
        """What node `name` cost; all zero for one that did not run."""
        at = self._index.get(name)
        if at is None:
            return NodeTiming(0, 0, 0, 0)
        return NodeTiming(
            int(self._runs[at]), int(self._total[at]), int(self._longest[at]), int(self._dead[at])
        )

    def of_all(self, names: Iterable[str]) -> NodeTiming:
        """What these nodes cost together."""
        at = [self._index[name] for name in names if name in self._index]
        return NodeTiming(
            int(self._runs[at].sum()),
            int(self._total[at].sum()),
            int(self._longest[at].max(initial=0)),
            int(self._dead[at].sum()),
        )

    def by_scope(self, tree: ScopeTree) -> dict[str, int]:
        """Nanoseconds of each scope, by its path."""
        found = dict.fromkeys(tree.scopes, 0)
        # A child is made after its parent, so backward means children first.
        for path, scope in reversed(list(tree.scopes.items())):
            found[path] += sum(
                int(self._total[self._index[name]]) for name in scope.ops if name in self._index
            )
            if scope.parent is not None:
                found[scope.parent.path] += found[path]
        return found
