"""``why not NODE``: what keeps a node from executing, back to the root causes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.runtime.frames import Activation
from engine.runtime.program import MERGE, Item
from viz.format import plural
from workbench.debugger.command import CommandError
from workbench.debugger.frame_notes import label, path
from workbench.debugger.questions import dead
from workbench.debugger.questions.blocked import Blocked, trace
from workbench.debugger.questions.reasoning import (
    Reason,
    Reasoning,
    about,
    about_activation,
    bounded,
    deeper,
    elided,
)
from workbench.debugger.questions.waits import Wait, Waits, Why
from workbench.debugger.stepping import Stepping
from workbench.debugger.views import waiting_items

MAX_MISSING = 12  # inputs of the node that are told of
MAX_ROOTS = 8  # root causes, the nearest first, that are led to
LINKS = 3  # of a chain at either end, where it is long


def why_not(stepping: Stepping, name: str, iteration: int | None = None) -> Reasoning:
    """What node `name` waits for, in the newest open iteration in which it has not executed, or in `iteration`.

    Of a node that is not in this step: which pass took it away, and why.  Of one that has executed dead: what killed it.
    Raises CommandError for an unknown node, or an iteration that is over.
    """
    question = f"why not {name}" + ("" if iteration is None else f" @{iteration}")
    item = stepping.step.program.by_name.get(name)
    if item is None:
        return _absent(stepping, question, name)
    start = _start(stepping, item, iteration)
    if start is None:
        return _has_run(stepping, question, item)
    waits = Waits(stepping)
    found = trace(waits, start)
    return _told(stepping, question, waits, found)


# Where the question is about.


def _start(stepping: Stepping, item: Item, iteration: int | None) -> Wait | None:
    """What has not happened; None if the node has executed wherever it could."""
    state = stepping.state
    waits = Waits(stepping)
    open_frames = [frame for frame in state.live_frames() if frame.spec is item.frame]
    if iteration is not None:
        if not open_frames:
            raise CommandError(
                f"no execution of the frame of '{item.name}' is open, so it has no iteration {iteration}; "
                f"why not {item.name} says why"
            )
        frame = open_frames[-1]
        if iteration > frame.count:
            return Wait(None, frame, iteration)
        if iteration not in frame.iterations:
            raise CommandError(
                f"iteration {iteration} of {label(frame)} is over; open: {_numbers(frame.iterations)}"
            )
        ran = waits.has_run(item, frame, iteration)
        return None if ran else Wait(item, frame, iteration)
    free = [
        (frame, number)
        for frame in open_frames
        for number in frame.iterations
        if not waits.has_run(item, frame, number)
    ]
    for frame, number in reversed(free):
        if Activation(item, frame, number) in state.outstanding:
            return Wait(item, frame, number)
    for frame, number in reversed(free):
        if item in set(waiting_items(stepping.step.program, frame, frame.iterations[number])):
            return Wait(item, frame, number)
    if free:
        return Wait(item, *free[-1])
    if open_frames or item.frame.parent is None:
        return None
    return None if item.index in stepping.latest else waits.frame_wait(item)


def _absent(stepping: Stepping, question: str, name: str) -> Reasoning:
    """A node that a pass took away, or that nothing in this step needs; what stands for it is asked for in its place."""
    stage = stepping.step.stage
    try:
        gone, because, heirs = stage.fate(name)
    except KeyError:
        raise CommandError(_unknown(stepping, name)) from None
    before = next((each for each in stage.chain() if name in each.nodes), None)
    verb = "merged into another node or replaced" if heirs else "taken out"
    statement = f"{name} was {verb} in {gone}" + (f": {because}" if because else "")
    assert before is not None
    reasons = [about(statement, before.nodes[name], root=True)]
    if not because:
        fetched = ", ".join((*stage.fetches, *stage.targets)[:4]) or "nothing"
        reasons.append(Reason(f"this step fetches and runs {fetched}", 1))
    for heir in heirs[:MAX_MISSING]:
        reasons += deeper(why_not(stepping, heir), 2)
    rest = f"; in its place: {', '.join(heirs[:4])}" if heirs else ""
    return bounded(question, f"{name} is not in this step{rest}", reasons, max(0, len(heirs) - MAX_MISSING))


def _unknown(stepping: Stepping, name: str) -> str:
    from workbench.debugger import looking  # which says what was perhaps meant

    return looking.no_such_node(stepping, name)


def _has_run(stepping: Stepping, question: str, item: Item) -> Reasoning:
    """A node that has executed: alive, or dead, and then why; and what its next execution waits for."""
    entry = stepping.latest.get(item.index)
    if entry is None:
        return Reasoning(question, f"{item.name} has executed, before what the history still holds")
    at = entry.activation
    if entry.outputs is None:
        told = dead.why_dead(stepping, at)
        answer = f"{item.name} has executed, but dead: its kernel did not run (#{entry.row} in {_where(at)})"
        return replace(told, question=question, answer=answer)
    answer = f"{item.name} has executed: #{entry.row} in {_where(at)}"
    reasons = [about_activation("its latest execution", at, row=entry.row, root=True)]
    frame = at.frame
    if frame.parent is not None:
        if stepping.is_open(frame):
            waits = Waits(stepping)
            found = trace(waits, Wait(None, frame, frame.count + 1))
            reasons += deeper(_told(stepping, "", waits, found))
        else:
            reasons.append(Reason(f"its loop {label(frame)} has ended", 0))
    return bounded(question, answer, reasons)


# Telling.


def _told(stepping: Stepping, question: str, waits: Waits, found: Blocked) -> Reasoning:
    start = found.start
    missing: list[tuple[str, Wait]] = []
    if (
        start.item is not None
        and start.spec is None
        and waits.why(start) is Why.WAITS
        and start.iteration in start.frame.iterations
    ):
        missing = [
            (f"{name}:{output}" if output >= 0 else f"^{name}", wait)
            for (name, output), wait in waits.missing_inputs(start.item, start.frame, start.iteration)
        ]
    reasons: list[Reason] = []
    shown = set(found.roots[:MAX_ROOTS])
    in_cycle = {wait for cycle in found.cycles for wait in cycle}
    if start in found.roots and start not in in_cycle:
        reasons.append(_reason(waits, start, 0, root=True))
    told: set[Wait] = set()
    by_first: dict[Wait, list[Wait]] = {}
    for root in found.roots[:MAX_ROOTS]:
        if root != start:
            by_first.setdefault(found.way(root)[0], []).append(root)
    firsts = list(dict.fromkeys([*(wait for _, wait in missing[:MAX_MISSING]), *by_first]))
    called: dict[Wait, str] = {}
    for name, wait in missing:
        called.setdefault(wait, name)
    for first in firsts:
        ways = [found.way(root) for root in by_first.get(first, [])]
        reasons += _branch(waits, first, ways or [[first]], called.get(first, ""), shown, in_cycle, told)
    for cycle in found.cycles:
        reasons += _cycle(cycle)
    left = max(0, len(missing) - MAX_MISSING) + max(0, len(found.roots) - MAX_ROOTS)
    return bounded(question, _answer(start, waits, missing, found), reasons, left)


def _branch(
    waits: Waits,
    first: Wait,
    ways: Sequence[Sequence[Wait]],
    name: str,
    shown: set[Wait],
    in_cycle: set[Wait],
    told: set[Wait],
) -> list[Reason]:
    """One input that is missing, and the ways from it to root causes; what has been told is not told again."""
    reasons: list[Reason] = []
    for way in ways:
        fresh = [wait for wait in way if wait not in told]
        depth = len(way) - len(fresh)
        long = len(fresh) > 2 * LINKS + 1
        parts: Iterable[Wait | None] = [*fresh[:LINKS], None, *fresh[-LINKS:]] if long else fresh
        depth = min(depth, LINKS + 1)
        for wait in parts:
            if wait is None:
                reasons.append(elided(len(fresh) - 2 * LINKS, depth, "step"))
            else:
                lead = name if wait == first else ""
                root = wait in shown and wait not in in_cycle
                told_of = _reason(waits, wait, depth, lead, root=root)
                if wait == first and not root and first not in in_cycle and ways == [[first]]:
                    told_of = replace(
                        told_of, statement=f"{told_of.statement} (its root causes are told elsewhere)"
                    )
                reasons.append(told_of)
            depth += 1
        told.update(fresh)
    return reasons


def _reason(waits: Waits, wait: Wait, depth: int, name: str = "", *, root: bool = False) -> Reason:
    """A wait in words."""
    why = waits.why(wait)
    item, frame, iteration, spec, end = wait
    if spec is not None:
        called = spec.name.rpartition("/while_context")[0] or spec.name
        return Reason(
            f"the frame {called} {Why.NOT_BEGUN.value}", depth, place=path(frame, iteration), root=root
        )
    if item is None:
        what = f"iteration {iteration} of {label(frame)}" if iteration >= 0 else f"the loop {label(frame)}"
        said = Why.OPEN.value if end else why.value
        return Reason(f"{what} {said}", depth, place=path(frame), root=root)
    lead = f"{name} is missing: {item.name} " if name else f"{item.name} "
    return about_activation(
        f"{lead}({item.node.type}) {_state(waits, wait, why)}",
        Activation(item, frame, iteration),
        depth=depth,
        root=root,
    )


def _state(waits: Waits, wait: Wait, why: Why) -> str:
    if why is Why.QUEUE:
        nobody = "" if waits.of(wait) else ", and nothing else in this step changes it"
        return f"waits for {waits.queue_reason(wait)}{nobody}"
    if why is not Why.WAITS or wait.item is None:
        return str(why.value)
    count = len(waits.missing_inputs(wait.item, wait.frame, wait.iteration))
    if wait.item.flow == MERGE and wait.frame.iterations[wait.iteration].pending[wait.item.local] & 1:
        return f"waits for one of {plural(count, 'input')}"
    return f"waits for {plural(count, 'input')}"


def _cycle(cycle: Sequence[Wait]) -> list[Reason]:
    devices = dict.fromkeys(
        wait.item.node.device.rpartition("device:")[2] for wait in cycle if wait.item is not None
    )
    among = f" on {', '.join(filter(None, devices))}" if any(devices) else ""
    reasons = [Reason(f"a deadlock: {len(cycle)} wait for each other{among}", 0, root=True)]
    for wait in cycle[:MAX_MISSING]:
        if wait.item is not None:
            reasons.append(
                about_activation(
                    f"{wait.item.name} ({wait.item.node.type})",
                    Activation(wait.item, wait.frame, wait.iteration),
                    depth=1,
                    root=True,
                )
            )
    if len(cycle) > MAX_MISSING:
        reasons.append(elided(len(cycle) - MAX_MISSING, 1))
    return reasons


def _answer(start: Wait, waits: Waits, missing: Sequence[tuple[str, Wait]], found: Blocked) -> str:
    why = waits.why(start)
    causes = ""
    if found.cycles:
        causes = f"; at the bottom {plural(len(found.cycles), 'deadlock')}"
    elif start not in found.roots:
        causes = f"; at the bottom {plural(len(found.roots), 'root cause')}"
    if start.item is None:
        return _reason(waits, start, 0).statement + causes
    item, at = start.item, Activation(start.item, start.frame, start.iteration)
    if missing:
        count = item.n_inputs + item.n_control
        one = item.flow == MERGE and start.frame.iterations[start.iteration].pending[item.local] & 1
        some = "one of " if one else ""
        return f"{item.name} in {_where(at)} waits for {some}{len(missing)} of its {plural(count, 'input')}{causes}"
    return f"{item.name} in {_where(at)} {_state(waits, start, why)}{causes}"


def _where(at: Activation) -> str:
    return path(at.frame, at.iteration)


def _numbers(numbers: Iterable[int]) -> str:
    found = sorted(numbers)
    return ", ".join(map(str, found[:8])) + (f" … {found[-1]}" if len(found) > 8 else "")
