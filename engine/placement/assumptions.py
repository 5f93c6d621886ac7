"""Assumptions: what a prediction takes for granted where the graph does not say it, or what an earlier run was seen to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is taken for granted in a prediction.

    unknown_dimension: the size of a dimension that is not known statically.
    iterations: how often a loop's body runs; `loops` has other numbers by the name of the frame (``while/while_context``).
    taken: which way a conditional goes, by the name of its predicate's tensor (``"Less:0"``); for one that is not there both
    branches are counted, and what follows waits for both.
    """

    unknown_dimension: int = 32
    iterations: int = 4
    loops: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, bool] = field(default_factory=dict)
