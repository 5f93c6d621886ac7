"""``origin nan``: where a value that is not finite came from.  ``slice``: all executions that one descends from.

Every NaN and infinity was made by some execution, out of what it took in.  Going back from one that is not finite to the inputs
that were not finite either, through loops, gradients and whatever resources held, ends at executions that made it out of finite
inputs: the origins.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.runtime.frames import Activation
from viz.format import plural
from workbench.debugger import text
from workbench.debugger.command import CommandError
from workbench.debugger.frame_notes import path
from workbench.debugger.questions.reasoning import Reason, Reasoning, about, about_activation, bounded, elided
from workbench.debugger.questions.trail import CONTROL, DATA, STACK, VARIABLE, Arrival, Trail, made
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference, summarize

MAX_ORIGINS = 6
MAX_INPUTS = 8
MAX_ROWS = 60  # of a slice
LINKS = 6  # of the way at either end, where it is long

NAN, INF, ANY = "nan", "inf", "nan or inf"


def is_unfinite(value: Any, kind: str = ANY) -> bool:
    """Whether an array or NumPy scalar has a NaN, an infinity, or either; False for what is no floating array."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or dtype.kind not in "fcV":
        return False
    try:
        if dtype.kind == "f" and not value.ndim and math.isfinite(value):
            return False
        if bool(np.isfinite(value).all()):
            return False
        if kind == ANY:
            return True
        return bool((np.isnan(value) if kind == NAN else np.isinf(value)).any())
    except TypeError:  # a dtype that has no NaN
        return False


@dataclass(frozen=True)
class Spread:
    """The executions through which what is not finite came to `asked`, by row.

    `came` leads from each, by row, one step nearer to `asked`.  `origins` took in nothing that was not finite, or (`outside`)
    got it from where the history does not reach; the first is the earliest.
    """

    asked: Entry
    entries: Mapping[int, Entry]
    came: Mapping[int, int]
    origins: tuple[Entry, ...]
    outside: Mapping[int, Arrival]

    def way(self, origin: Entry) -> list[Entry]:
        """The executions from `origin` to `asked`."""
        rows = [origin.row]
        while rows[-1] != self.asked.row:
            rows.append(self.came[rows[-1]])
        return [self.entries[row] for row in rows]


def spread_of(trail: Trail, asked: Entry) -> Spread:
    """Where what is not finite in the outputs of `asked` came from."""
    entries = {asked.row: asked}
    came: dict[int, int] = {}
    origins: list[Entry] = []
    outside: dict[int, Arrival] = {}
    queue = deque([asked])
    while queue:
        entry = queue.popleft()
        origin = True
        for arrival in trail.arrivals(entry):
            source = arrival.source
            if arrival.how == CONTROL or not is_unfinite(arrival.value):
                continue
            if source is None:
                outside[entry.row] = arrival
                continue
            origin = False
            if source.row not in entries:
                entries[source.row] = source
                came[source.row] = entry.row
                queue.append(source)
        if origin:
            origins.append(entry)
    origins.sort(key=lambda each: each.row)
    return Spread(asked, entries, came, tuple(origins), outside)


def origin(
    stepping: Stepping, kind: str = NAN, asked: Entry | None = None, output: int | None = None
) -> Reasoning:
    """Where the first NaN (`kind`: NAN, INF or ANY) came from that `asked` gave, at its output `output` (None: any).

    Without `asked`: the latest execution of this step that gave one.  The way is followed through every value that is not
    finite, since an infinity often becomes a NaN.  Raises CommandError if there is none.
    """
    trail = Trail.of(stepping)
    if asked is None:
        asked = _latest(stepping, kind)
    elif not any(is_unfinite(value, kind) for _, value in _outputs(asked, output)):
        name = asked.activation.name + ("" if output is None else f":{output}")
        raise CommandError(
            f"'{name}' of #{asked.row} has no {kind}; "
            + ("it was dead" if asked.outputs is None else "its latest value is shown by p " + name)
        )
    spread = spread_of(trail, asked)
    question = f"origin {kind} {asked.activation.name} #{asked.row}"
    reasons: list[Reason] = []
    told: set[int] = set()
    for number, each in enumerate(spread.origins[:MAX_ORIGINS]):
        reasons += _origin(trail, spread, each, root=number == 0)
        whole = spread.way(each)[1:]
        way = [entry for entry in whole if entry.row not in told]
        told.update(entry.row for entry in way)
        long = len(way) > 2 * LINKS
        for entry in way[:LINKS] if long else way:
            reasons.append(_link(entry))
        if long:
            reasons.append(elided(len(way) - 2 * LINKS, 1, "execution"))
            reasons += [_link(entry) for entry in way[-LINKS:]]
        if len(way) < len(whole):
            reasons.append(Reason(f"and on from #{whole[len(way)].row} as above", 1))
    first = spread.origins[0]
    here = first.activation
    answer = (
        f"{asked.activation.name} #{asked.row} is not finite because of {here.name} ({here.item.node.type}) "
        f"#{first.row} in {path(here.frame, here.iteration)}"
    )
    if len(spread.origins) > 1:
        answer += f", and of {plural(len(spread.origins) - 1, 'later one')}"
    return bounded(question, answer, reasons, max(0, len(spread.origins) - MAX_ORIGINS))


def written_last(stepping: Stepping, entry: Entry, output: int) -> Entry | None:
    """Of an execution that gave a reference to a variable: the last one that changed the variable, if the history has it."""
    value = (entry.outputs or (None,))[output:][:1]
    if not value or not isinstance(value[0], Reference):
        return None
    changes = Trail.of(stepping).changes(value[0].resource)
    return changes[-1].entry if changes else None


def _latest(stepping: Stepping, kind: str) -> Entry:
    for entry in reversed(stepping.history):
        if any(is_unfinite(value, kind) for _, value in made(entry)):
            return entry
    raise CommandError(f"nothing that has executed in this step, as far as the history goes, gave a {kind}")


def _outputs(entry: Entry, output: int | None) -> list[tuple[str, Any]]:
    name = f"{entry.activation.name}:{output}"
    return [(each, value) for each, value in made(entry) if output is None or each == name]


def _origin(trail: Trail, spread: Spread, entry: Entry, *, root: bool) -> list[Reason]:
    at, node = entry.activation, entry.activation.item.node
    gave = ", ".join(
        f"{name} = {_said(value)}" for name, value in list(made(entry))[:MAX_INPUTS] if is_unfinite(value)
    )
    before = spread.outside.get(entry.row)
    if before is not None:
        what = f"the variable '{before.name}'" if before.how == VARIABLE else before.name
        lead = f"{what} was not finite before what the history has; {at.name} took it in"
    elif entry.change is not None:
        lead = f"{at.name} was given {gave} by hand"
    elif node.inputs:
        lead = f"{at.name} ({node.type}) made {gave} out of finite inputs"
    else:
        lead = f"{at.name} ({node.type}) brought {gave} in" + (" (fed)" if node.type == "_Arg" else "")
    reasons = [about_activation(lead, at, row=entry.row, root=root)]
    stage = trail.stage
    if node.original:
        forward = stage.nodes.get(node.original)
        said = f"it is part of the gradient of {node.original}"
        reasons.append(about(said, forward, depth=1) if forward is not None else Reason(said, 1))
    arrivals = [each for each in trail.arrivals(entry) if each.how != CONTROL]
    for arrival in arrivals[:MAX_INPUTS]:
        if isinstance(arrival.value, Reference):
            continue
        reasons.append(Reason(f"took in {arrival.name} = {_said(arrival.value)}{_kept(trail, arrival)}", 1))
    if len(arrivals) > MAX_INPUTS:
        reasons.append(elided(len(arrivals) - MAX_INPUTS, 1, "input"))
    return reasons


def _kept(trail: Trail, arrival: Arrival) -> str:
    """Of a value that a stack kept for a gradient: which forward execution it is from."""
    source = arrival.source
    if source is None:
        return ""
    pushed = source if arrival.how == STACK else None
    if arrival.how == DATA and source.activation.item.node.type.startswith("StackPop"):
        pushed = next((each.source for each in trail.arrivals(source) if each.how == STACK), None)
    if pushed is None:
        return ""
    at = pushed.activation
    name = at.item.node.inputs[1][0] if len(at.item.node.inputs) > 1 else at.name
    return f", kept of {name} in {path(at.frame, at.iteration)}"


def _link(entry: Entry) -> Reason:
    at = entry.activation
    bad = next(((name, value) for name, value in made(entry) if is_unfinite(value)), None)
    said = f"{at.name} ({at.item.node.type})" + (f" → {_said(bad[1])}" if bad is not None else "")
    if at.item.node.original:
        said += f", gradient of {at.item.node.original}"
    return about_activation(said, at, depth=1, row=entry.row)


def _said(value: Any) -> str:
    if not isinstance(value, np.ndarray | np.generic):
        return repr(value)[:60]
    return text.value(summarize(value), short=True)


# The slice.


def backward_slice(stepping: Stepping, asked: Entry, *, control: bool = True) -> Reasoning:
    """The executions that `asked` descends from, in the order in which they happened; without `control`, by values alone.

    Where the history does not reach back to the step's beginning, so the slice does not.
    """
    trail = Trail.of(stepping)
    found = trail.slice_of(asked, control=control)
    rows = sorted(found)
    at = asked.activation
    answer = (
        f"{at.name} #{asked.row} in {path(at.frame, at.iteration)} descends from {len(rows) - 1:,} of "
        f"{plural(stepping.executed, 'execution')}"
    )
    shown = rows if len(rows) <= MAX_ROWS else [*rows[: MAX_ROWS // 4], *rows[-(MAX_ROWS - MAX_ROWS // 4) :]]
    reasons = [_in_slice(found[row]) for row in shown]
    if len(shown) < len(rows):
        reasons.insert(MAX_ROWS // 4, elided(len(rows) - len(shown), 0, "execution"))
    if stepping.history and stepping.history[0].row > 0:
        reasons.insert(0, Reason(f"what was before #{stepping.history[0].row} is no longer in the history"))
    return bounded(f"slice {at.name} #{asked.row}", answer, reasons)


def _in_slice(entry: Entry) -> Reason:
    at: Activation = entry.activation
    dead = ", dead" if entry.outputs is None else ""
    return about_activation(f"{at.name} ({at.item.node.type}){dead}", at, row=entry.row)
