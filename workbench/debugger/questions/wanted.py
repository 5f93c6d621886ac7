"""``why NODE``: which fetch or target needs it.  ``needs TENSOR``: who still needs a value."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from engine.passes.stage import Stage
from engine.runtime.frames import DEAD, Activation, Frame
from engine.runtime.program import ENTER, EXIT, NEXT_ITERATION, Item
from engine.runtime.rendezvous import Parcel, Rendezvous
from engine.runtime.resources import Stack, TensorArray
from viz.format import plural
from workbench.debugger.frame_notes import path
from workbench.debugger.questions.reasoning import (
    Reason,
    Reasoning,
    about,
    about_activation,
    bounded,
    elided,
)
from workbench.debugger.questions.trail import consumers_of
from workbench.debugger.questions.waits import Waits
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference

MAX_ENDS = 8  # fetches and targets that are led to, the nearest first
MAX_USERS = 24  # users that are told of
MAX_CELLS = 10_000  # elements of a stack that are looked at
LINKS = 4  # of a chain at either end, where it is long


def ends(stage: Stage) -> dict[str, str]:
    """What a step is for: each node whose result is fetched, or that is a target, with which; in the stage's own nodes."""
    found = {
        node.name: f"the fetch {_fetched(stage, node.attrs['index'])}"
        for node in stage
        if node.type == "_Retval"
    }
    found.update((name, f"the target {name}") for name in stage.targets if name in stage.nodes)
    return found


def _fetched(stage: Stage, index: int) -> str:
    return stage.fetches[index] if index < len(stage.fetches) else str(index)


def paths_to(stage: Stage, name: str) -> Mapping[str, tuple[str, ...]]:
    """For each end that needs node `name`, the shortest path from the node to it, both among its nodes; nearest first."""
    found: dict[str, tuple[str, ...]] = {}
    came: dict[str, str] = {name: ""}
    queue = deque([name])
    wanted = ends(stage)
    while queue:
        at = queue.popleft()
        if at in wanted:
            way = [at]
            while came[way[-1]]:
                way.append(came[way[-1]])
            found[at] = tuple(reversed(way))
        for user in stage.consumers[at]:
            if user not in came:
                came[user] = at
                queue.append(user)
    return found


def why(stepping: Stepping, name: str) -> Reasoning:
    """Which fetches and targets of this step need node `name`, with the shortest path to each."""
    stage = stepping.step.stage
    question = f"why {name}"
    found = paths_to(stage, name)
    wanted = ends(stage)
    if not found:
        kept = "nothing that is fetched needs it; it is in the step for its effect, or a pass left it over"
        return Reasoning(
            question, f"no fetch or target needs {name}", (about(kept, stage.nodes[name], root=True),)
        )
    reasons: list[Reason] = []
    for end, way in list(found.items())[:MAX_ENDS]:
        reasons.append(about(f"needed by {wanted[end]}", stage.nodes[end], root=True))
        reasons += _way(stage, way)
    count = len(found)
    near = next(iter(found))
    answer = f"{name} is needed by {wanted[near]}" + (
        f" and {plural(count - 1, 'other fetch or target', 'other fetches and targets')}" if count > 1 else ""
    )
    return bounded(question, answer, reasons, max(0, count - MAX_ENDS))


def _way(stage: Stage, way: tuple[str, ...]) -> Iterator[Reason]:
    """The edges of a path, the user of each node after it."""
    steps = list(pairwise(way))
    long = len(steps) > 2 * LINKS + 1
    for source, user in steps[:LINKS] if long else steps:
        yield _edge(stage, source, user)
    if long:
        yield elided(len(steps) - 2 * LINKS, 1)
        for source, user in steps[-LINKS:]:
            yield _edge(stage, source, user)


def _edge(stage: Stage, source: str, user: str) -> Reason:
    node = stage.nodes[user]
    slots = [slot for slot, (name, _) in enumerate(node.inputs) if name == source]
    if not slots:
        return about(f"{user} ({node.type}) waits for {source}", node, depth=1)
    tensor = f"{source}:{node.inputs[slots[0]][1]}"
    return about(f"{user} ({node.type}) reads {tensor} as input {slots[0]}", node, depth=1)


# Who still needs a value.


def targets_of(
    stepping: Stepping, entry: Entry, output: int | None
) -> Iterator[tuple[Item, int, Frame, int]]:
    """Who gets a token of this execution: the item, its input (-1: a control edge), and the frame and iteration it arrives in.

    Only iterations that are open: what has ended needs nothing.
    """
    item, frame, iteration = entry.activation
    places: list[tuple[Frame, int]] = [(frame, iteration)]
    if item.flow == EXIT:
        places = [(frame.parent, frame.parent_iteration)] if frame.parent is not None else []
    elif item.flow == NEXT_ITERATION:
        places = [(frame, iteration + 1)]
    elif item.flow == ENTER and item.child is not None:
        child = stepping.state.frames.get((frame.id, iteration, item.child.index))
        places = []
        if child is not None:
            places = [(child, n) for n in (child.iterations if item.is_constant_enter else (0,))]
    for each, number in places:
        if number in each.iterations and (each.parent is None or stepping.is_open(each)):
            for target, slot in consumers_of(item, output):
                yield target, slot, each, number


def needs(stepping: Stepping, entry: Entry, output: int | None = None) -> Reasoning:
    """Who still needs what an execution gave (output `output`, None: any, control edges included).

    Nodes that have not executed with it, and resources that hold it.
    """
    name = entry.activation.name if output is None else f"{entry.activation.name}:{output}"
    question = f"needs {name} #{entry.row}"
    waits = Waits(stepping)
    reasons: list[Reason] = []
    users = done = 0
    for target, slot, frame, number in targets_of(stepping, entry, output):
        if waits.has_run(target, frame, number):
            done += 1
            continue
        users += 1
        if users > MAX_USERS:
            continue
        at = Activation(target, frame, number)
        state = "is ready" if at in stepping.state.outstanding else "waits for more"
        edge = f"as input {slot}" if slot >= 0 else "as a control input"
        reasons.append(
            about_activation(
                f"{target.name} ({target.node.type}) needs it {edge}, and {state}", at, root=True
            )
        )
    holders = list(_holders(stepping, entry, output))
    reasons += [Reason(said, root=True) for said in holders[:MAX_USERS]]
    deferred = _deferred(entry)
    if deferred:
        reasons.append(Reason(deferred, root=True))
    where = path(entry.activation.frame, entry.activation.iteration)
    who = [plural(users, "node")] if users else []
    who += [plural(len(holders), "resource")] if holders else []
    who += ["the next iteration"] if deferred else []
    answer = f"{name} of #{entry.row} in {where} is needed by {' and '.join(who) or 'nobody any more'}"
    if done:
        answer += f"; {plural(done, 'user')} in open iterations had it"
    return bounded(question, answer, reasons, max(0, users - MAX_USERS) + max(0, len(holders) - MAX_USERS))


def _deferred(entry: Entry) -> str:
    item, frame, iteration = entry.activation
    if (
        item.flow == NEXT_ITERATION
        and iteration == frame.count
        and any(each is item for each, _ in frame.deferred)
    ):
        return f"iteration {iteration + 1} takes it when it begins; it is held back by parallel_iterations"
    return ""


def _holders(stepping: Stepping, entry: Entry, output: int | None) -> Iterator[str]:
    """The resources that hold one of the values, that very array."""
    values: set[int] = set()
    for slot, value in enumerate(entry.outputs or ()):
        if value is not DEAD and not isinstance(value, Reference) and output in (None, slot):
            values.add(id(value))
    if not values:
        return
    mine = stepping.step.context.container
    for resource in stepping.step.resources:
        if resource.container.startswith("_step_") and resource.container != mine:
            continue
        for what, value in _held(resource):
            if id(value) in values:
                yield f"{what} holds it"


def _held(resource: Any) -> Iterator[tuple[str, Any]]:
    named = f"the {resource.kind} '{resource.name}'"
    if isinstance(resource, Stack):
        for count, element in enumerate(resource.elements()):
            if count >= MAX_CELLS:
                return
            yield named, element
    elif isinstance(resource, TensorArray):
        for index, element in resource.value.items():
            yield f"{named}[{index}]", element
    elif isinstance(resource, Rendezvous):
        for key, parcel in resource.value.items():
            if isinstance(parcel, Parcel):
                yield f"the rendezvous, under {key}", parcel.token
    else:
        yield named, resource.value
