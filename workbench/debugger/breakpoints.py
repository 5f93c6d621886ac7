"""Breakpoints: where a step that runs on its own has to stop, and what is to be logged on the way.

``WHERE [if CONDITION] [after N] [once] [log EXPRESSION]``: WHERE is a place (`workbench.debugger.places`), CONDITION and
EXPRESSION are `workbench.debugger.expressions`.  A condition about outputs is looked at after the node has executed, any other
before.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.passes.stage import Stage, StageNode
from engine.runtime.frames import Activation
from engine.runtime.rendezvous import Rendezvous
from engine.runtime.resources import NO_KEY, Write
from workbench.debugger.expressions import AbsentError, Expression, ExpressionError, parts
from workbench.debugger.naming import node_name
from workbench.debugger.places import PlaceError, Where, matching, where
from workbench.debugger.scopes import NodeScope
from workbench.debugger.snapshot import BreakpointView, LogView

if TYPE_CHECKING:
    from workbench.debugger.stepping import Entry, Stepping

__all__ = ["Breakpoint", "BreakpointError", "Breakpoints", "Hit", "describe", "matching", "parse"]

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
LOGGED = 1_000  # lines that are kept
MAX_LINE = 300  # characters of one

_ITERATION = re.compile(r"iteration\s*(?P<comparison>[<>=!]=|[<>])\s*(?P<iteration>\d{1,18})")
_WORDS = ("if", "after", "once", "log")


class BreakpointError(ValueError):
    """A breakpoint that cannot be understood, or that does not exist."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A step is to stop: because of this breakpoint (None: an error), and why in one line."""

    breakpoint: BreakpointView | None
    reason: str


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A breakpoint ready to be looked at: its view, where it is, and its expressions."""

    view: BreakpointView
    where: Where
    condition: Expression | None = None
    log: Expression | None = None

    @property
    def looks_back(self) -> bool:
        """Whether it is looked at after a node has executed."""
        about = self.condition is not None and (
            self.condition.outputs or self.condition.names & {"old", "new"}
        )
        logs = self.log is not None and self.log.outputs
        return self.view.kind == "watch" or self.where.after is not None or bool(about) or logs


def parse(text: str, number: int, kind: str = "break") -> Breakpoint:
    """The text of a breakpoint (or, with kind ``watch``, of a watch on a variable) as number `number`; raises BreakpointError."""
    (_, place), *options = parts(text, _WORDS)
    found: dict[str, str] = {}
    for word, rest in options:
        if word in found:
            raise BreakpointError(f"'{word}' is there twice")
        found[word] = rest
    if not place and "if" not in found and kind != "watch":
        raise BreakpointError("where? NODE, a pattern (*/add), type:OP …, or if CONDITION (h b says more)")
    if found.get("once"):
        raise BreakpointError(
            f"'{found['once']}' after once is not understood (if, after N and log go before or after it)"
        )
    after = found.get("after", "0")
    if not after.isdecimal() or len(after) > 9:
        raise BreakpointError(f"after how many hits? 'after {after}' has no whole number")
    for word in ("if", "log"):
        if word in found and not found[word]:
            raise BreakpointError(
                f"{word} what? an expression is missing (iteration >= 3, abs(x).max() > 1e3, has_inf_or_nan)"
            )
    try:
        at = _watched(place) if kind == "watch" else where(place)
        simple = _ITERATION.fullmatch(found.get("if", ""))
        condition = Expression(found["if"]) if "if" in found else None
        log = Expression(found["log"]) if "log" in found else None
    except (PlaceError, ExpressionError) as error:
        raise BreakpointError(str(error)) from None
    view = BreakpointView(
        number,
        at.text,
        int(simple["iteration"]) if simple else None,
        simple["comparison"] if simple else ">=",
        kind=kind,
        condition="" if simple or condition is None else condition.text,
        once="once" in found,
        after=int(after),
        log=log.text if log is not None else "",
    )
    return Breakpoint(view, at, condition, log)


def _watched(name: str) -> Where:
    if not name or any(character.isspace() for character in name):
        raise PlaceError("watch which variable? watch NAME (info resources lists them)")
    name = node_name(name)
    return Where(name, lambda names: lambda node: True)


def describe(breakpoint: BreakpointView) -> str:
    """The breakpoint as it would be typed."""
    said = [*(["watch"] if breakpoint.kind == "watch" else []), breakpoint.node or "any node"]
    if breakpoint.iteration is not None:
        said.append(f"if iteration {breakpoint.comparison} {breakpoint.iteration}")
    elif breakpoint.condition:
        said.append(f"if {breakpoint.condition}")
    if breakpoint.after:
        said.append(f"after {breakpoint.after}")
    said += ["once"] if breakpoint.once else []
    said += [f"log {breakpoint.log}"] if breakpoint.log else []
    return " ".join(said)


class Breakpoints:
    """The breakpoints of a debugger; changed by one thread while another asks.

    `views` are plain data, the same in the order in which they were made; `logged` the last lines that `log` gave, `logged_count`
    how many there were.  `catch` is a pattern of the errors that stop before they reach the script; None: none does.
    `changed` is called when there is something else to look out for.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.views: tuple[BreakpointView, ...] = ()
        self.logged: deque[LogView] = deque(maxlen=LOGGED)
        self.logged_count = 0
        self.catch: str | None = "*"
        self._changed = changed
        self._next = 1
        self._points: tuple[Breakpoint, ...] = ()
        self._found: dict[Stage, _Index] = {}

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to look out for but errors."""
        return not self._points

    # Changing them.

    def add(self, text: str, kind: str = "break") -> BreakpointView:
        """A new breakpoint or watch from its text; raises BreakpointError."""
        added = parse(text, self._next, kind)
        self._next += 1
        self._change((*self.views, added.view), (*self._points, added))
        return added.view

    def delete(self, number: int) -> BreakpointView:
        """Remove breakpoint `number` and return it; raises BreakpointError if there is none."""
        found = self._known(number)
        self._change(
            tuple(view for view in self.views if view.number != number),
            tuple(point for point in self._points if point.view.number != number),
        )
        return found

    def enable(self, number: int, enabled: bool) -> BreakpointView:
        """Let breakpoint `number` stop steps, or not; raises BreakpointError if there is none."""
        changed = replace(self._known(number), enabled=enabled)
        self._replace(changed)
        self._changed()
        return changed

    def clear(self) -> None:
        """Remove all of them."""
        self._change((), ())

    def _known(self, number: int) -> BreakpointView:
        found = next((view for view in self.views if view.number == number), None)
        if found is None:
            known = ", ".join(str(view.number) for view in self.views) or "none"
            raise BreakpointError(f"there is no breakpoint {number} (there is: {known})")
        return found

    def _change(self, views: tuple[BreakpointView, ...], points: tuple[Breakpoint, ...]) -> None:
        self.views, self._points = views, points
        self._found = {}
        self._changed()

    def _replace(self, changed: BreakpointView) -> None:
        self.views = tuple(changed if view.number == changed.number else view for view in self.views)

    # Looking out.

    def at(self, activation: Activation, stage: Stage) -> BreakpointView | None:
        """The first breakpoint on the node of `activation`, whose condition (but for that on its iteration) may not hold."""
        if not self._points:
            return None
        for point in self._index(stage).at.get(activation.name, ()):
            view = self._now(point)
            if (
                view is not None
                and point.view.kind == "break"
                and _is_special(point) is False
                and _in_iteration(view, activation)
            ):
                return view
        return None

    def before(self, stepping: Stepping, activation: Activation, passing: bool = False) -> Hit | None:
        """The breakpoint at which the step is to stop before `activation` executes.

        passing: going back; nothing is counted or logged.
        """
        if not self._points:
            return None
        index = self._index(stepping.step.stage)
        found = index.before.get(activation.name)
        if not found:
            return None
        for point in found:
            view = self._now(point)
            if view is None or (
                point.where.before is not None and not point.where.before(stepping, activation)
            ):
                continue
            scope = NodeScope(stepping, activation)
            hit = self._judge(point, view, scope, f"at {activation.name}", stepping, passing)
            if hit is not None:
                return hit
        return None

    def after(self, stepping: Stepping, entry: Entry, passing: bool = False) -> Hit | None:
        """The breakpoint at which the step is to stop now that `entry`, its last execution, has happened."""
        if not self._points:
            return None
        activation = entry.activation
        found = self._index(stepping.step.stage).after.get(activation.name)
        if not found:
            return None
        for point in found:
            view = self._now(point)
            if view is None:
                continue
            if point.view.kind == "watch":
                hit = self._watch(point, view, stepping, entry, passing)
            else:
                if point.where.after is not None and not point.where.after(stepping, entry):
                    continue
                if point.where.before is not None and not _was(point, stepping, entry):
                    continue
                scope = NodeScope(stepping, activation, entry)
                hit = self._judge(
                    point, view, scope, f"after {activation.name} #{entry.row}", stepping, passing
                )
            if hit is not None:
                return hit
        return None

    def failed(self, stepping: Stepping, error: BaseException) -> Hit | None:
        """Whether to stop before `error`, of the next node, reaches the script."""
        name = stepping.ready[0].name
        if self.catch is None or not any(
            fnmatch.fnmatchcase(kind.__name__, self.catch) for kind in type(error).__mro__
        ):
            return None
        return Hit(None, f"error in {name}")

    def _watch(
        self, point: Breakpoint, view: BreakpointView, stepping: Stepping, entry: Entry, passing: bool
    ) -> Hit | None:
        for write in entry.writes:
            name = write.resource.name
            if isinstance(write.resource, Rendezvous) or not (
                name == view.node or fnmatch.fnmatchcase(name, view.node)
            ):
                continue
            if not _differs(write):
                continue
            scope = NodeScope(stepping, entry.activation, entry, (write.old, write.new))
            what = f"{name} changed by {entry.activation.name} #{entry.row}{_from_to(write)}"
            hit = self._judge(point, view, scope, what, stepping, passing)
            if hit is not None:
                return hit
        return None

    def _judge(
        self,
        point: Breakpoint,
        view: BreakpointView,
        scope: NodeScope,
        what: str,
        stepping: Stepping,
        passing: bool,
    ) -> Hit | None:
        """Whether the condition holds, and what follows: counting, logging, stopping."""
        title = f"{'watch' if view.kind == 'watch' else 'breakpoint'} {view.number}"
        if point.condition is not None:
            try:
                if not point.condition.holds(scope):
                    return None
            except AbsentError:
                return None
            except ExpressionError as error:
                return self._puzzled(
                    view, stepping, f"{title} {what}: its condition cannot be judged: {error}", passing
                )
        said = f"{title} {what}" + (f" if {view.condition}" if view.condition else "")
        if passing:
            return None if point.log is not None else Hit(view, said)
        line = ""
        if point.log is not None:
            try:
                line = _shown(point.log.value(scope))
            except AbsentError:  # as of a dead execution
                return None
            except ExpressionError as error:
                line = f"({error})"
        view = replace(view, hits=view.hits + 1)
        self._replace(view)
        if view.hits <= view.after:
            return None
        if view.once:
            self.delete(view.number)
        if point.log is None:
            return Hit(view, said)
        self.logged.append(LogView(view.number, int(scope.name("row")), what, line))
        self.logged_count += 1
        return None

    def _puzzled(self, view: BreakpointView, stepping: Stepping, problem: str, passing: bool) -> Hit | None:
        """A condition that cannot be judged stops where it is on one node; on many, it is for those where it can be."""
        if view.problem != problem:
            self._replace(replace(view, problem=problem))
        single = self._index(stepping.step.stage).counts.get(view.number, 0) <= 1
        return Hit(view, problem) if single and not passing else None

    def _now(self, point: Breakpoint) -> BreakpointView | None:
        """The view of `point` as it is now, if it is enabled and still there."""
        number = point.view.number
        view = next((view for view in self.views if view.number == number), None)
        return view if view is not None and view.enabled else None

    def _index(self, stage: Stage) -> _Index:
        found = self._found.get(stage)
        if found is None:
            found = self._found[stage] = _Index(self._points, stage)
        return found

    def count_in(self, number: int, stage: Stage) -> int:
        """On how many nodes of `stage` breakpoint `number` is."""
        return self._index(stage).counts.get(number, 0)


class _Index:
    """For each node of a stage, the breakpoints that are on it: all, and those that are looked at before and after it."""

    def __init__(self, points: Sequence[Breakpoint], stage: Stage) -> None:
        self.at: dict[str, tuple[Breakpoint, ...]] = {}
        self.before: dict[str, tuple[Breakpoint, ...]] = {}
        self.after: dict[str, tuple[Breakpoint, ...]] = {}
        self.counts: dict[int, int] = {}
        for point in points:
            meant: Callable[[StageNode], bool] = point.where.nodes(stage.nodes)
            when = self.after if point.looks_back else self.before
            for name, node in stage.nodes.items():
                if meant(node):
                    for table in (self.at, when):
                        table[name] = (*table.get(name, ()), point)
                    self.counts[point.view.number] = self.counts.get(point.view.number, 0) + 1


def _is_special(point: Breakpoint) -> bool:
    """Whether where it is says nothing about nodes: it is not shown beside each."""
    return not point.view.node or point.where.before is not None or point.where.after is not None


def _in_iteration(view: BreakpointView, activation: Activation) -> bool:
    return view.iteration is None or COMPARISONS[view.comparison](activation.iteration, view.iteration)


def _was(point: Breakpoint, stepping: Stepping, entry: Entry) -> bool:
    """Whether an execution was where a place that is looked at before would have had it."""
    assert point.where.before is not None
    if point.where.text.startswith("dead"):
        return entry.outputs is None
    return point.where.before(stepping, entry.activation)


def _differs(write: Write) -> bool:
    """Whether a write has changed anything."""
    old, new = write.old, write.new
    if (
        write.key is NO_KEY
        and isinstance(old, np.ndarray | np.generic)
        and isinstance(new, np.ndarray | np.generic)
    ):
        if old.dtype == new.dtype and old.shape == new.shape:
            return bool(old.dtype.hasobject and not np.array_equal(old, new)) or (
                not old.dtype.hasobject and old.tobytes() != new.tobytes()
            )
    return True


def _from_to(write: Write) -> str:
    """``: 1.0 → 2.0`` where both are short."""
    if write.key is not NO_KEY:
        return f" [{write.key}]"
    shown = [
        _shown(value) if isinstance(value, np.ndarray | np.generic) else ""
        for value in (write.old, write.new)
    ]
    if not shown[1] or max(map(len, shown)) > 40:
        return ""
    return f": {shown[0] or 'uninitialized'} → {shown[1]}"


def _shown(value: Any) -> str:
    """The value of a logged expression in one line."""
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value))
    if isinstance(value, np.ndarray) and value.size > 12:
        return f"{value.dtype.name}{list(value.shape)}"
    said = str(value.item() if isinstance(value, np.generic) else value)
    return " ".join(said.split())[:MAX_LINE]
