"""Breakpoints: where a step that runs on its own has to stop."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Collection
from dataclasses import replace

from engine.passes.stage import Stage
from engine.runtime.state import Activation
from workbench.debugger.snapshot import BreakpointView

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}

_CONDITION = re.compile(
    r"\s*(?P<node>\S+)(?:\s+if\s+iteration\s*(?P<comparison>[<>=!]=|[<>])\s*(?P<iteration>\d{1,18}))?\s*"
)


class BreakpointError(ValueError):
    """A breakpoint that cannot be understood, or that does not exist."""


def parse(text: str, number: int) -> BreakpointView:
    """``NODE`` or ``NODE if iteration >= N`` as breakpoint `number`.  Raises BreakpointError for anything else."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise BreakpointError(f"'{text.strip()}' is not NODE or NODE if iteration >= N")
    node = re.sub(r":\d+$", "", found["node"].removeprefix("^"))  # a tensor stands for the node that makes it
    if found["iteration"] is None:
        return BreakpointView(number, node)
    return BreakpointView(number, node, int(found["iteration"]), found["comparison"])


def describe(breakpoint: BreakpointView) -> str:
    """The breakpoint as it would be typed."""
    if breakpoint.iteration is None:
        return breakpoint.node
    return f"{breakpoint.node} if iteration {breakpoint.comparison} {breakpoint.iteration}"


def matching(pattern: str, names: Collection[str]) -> Callable[[str], bool]:
    """What tells whether a node of a graph with these `names` is meant by `pattern`.

    The node of that name if there is one; else all in that scope (a slash at the end insists on it), or those that match its
    ``*``, ``?`` and ``[…]``.
    """
    if pattern in names:
        return pattern.__eq__
    scope = pattern.rstrip("/") + "/"
    if any(mark in pattern for mark in "*?["):
        return lambda name: name.startswith(scope) or fnmatch.fnmatchcase(name, pattern)
    return lambda name: name.startswith(scope)


class Breakpoints:
    """The breakpoints of a debugger; changed by one thread while another asks."""

    def __init__(self) -> None:
        self.views: tuple[BreakpointView, ...] = ()
        self._next = 1
        self._found: dict[Stage, dict[str, tuple[int, ...]]] = {}  # for each node of a stage, those on it

    def add(self, text: str) -> BreakpointView:
        """A new breakpoint from its text; raises BreakpointError."""
        added = parse(text, self._next)
        self._next += 1
        self._change((*self.views, added))
        return added

    def delete(self, number: int) -> BreakpointView:
        """Remove breakpoint `number` and return it; raises BreakpointError if there is none."""
        found = next((view for view in self.views if view.number == number), None)
        if found is None:
            known = ", ".join(str(view.number) for view in self.views) or "none"
            raise BreakpointError(f"there is no breakpoint {number} (there is: {known})")
        self._change(tuple(view for view in self.views if view.number != number))
        return found

    def clear(self) -> None:
        """Remove all of them."""
        self._change(())

    def at(self, activation: Activation, stage: Stage) -> BreakpointView | None:
        """The first breakpoint that `activation`, in a step of `stage`, is at; None if there is none."""
        if not self.views:
            return None
        found = self._found.get(stage)
        if found is None:
            found = self._found[stage] = self._look(stage)
        numbers = found.get(activation.name)
        if numbers is None:
            return None
        return next((v for v in self.views if v.number in numbers and _holds(v, activation.iteration)), None)

    def _look(self, stage: Stage) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for view in self.views:
            meant = matching(view.node, stage.nodes)
            for name in stage.nodes:
                if meant(name):
                    found[name] = (*found.get(name, ()), view.number)
        return found

    def count(self, hit: BreakpointView) -> None:
        """Note that `hit` has stopped a step."""
        counted = replace(hit, hits=hit.hits + 1)
        self.views = tuple(counted if view.number == hit.number else view for view in self.views)

    def _change(self, views: tuple[BreakpointView, ...]) -> None:
        self.views = views
        self._found = {}


def _holds(view: BreakpointView, iteration: int) -> bool:
    return view.iteration is None or COMPARISONS[view.comparison](iteration, view.iteration)
