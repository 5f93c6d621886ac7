"""A step as the parts of a snapshot: activations, tokens, frames, nodes that wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.runtime.frames import ABSENT, DEAD, Activation, Frame, Iteration
from engine.runtime.program import ENTER, MERGE, Item, Program
from tracing.frames import Loop, frame_label
from workbench.debugger import source
from workbench.debugger.breakpoints import Breakpoints
from workbench.debugger.frame_notes import FrameNote, path
from workbench.debugger.snapshot import (
    MAX_ENDED,
    MAX_ENTERS,
    MAX_FRAMES,
    MAX_HISTORY,
    MAX_ITERATIONS,
    MAX_READY,
    MAX_WAITING,
    ActivationView,
    EnterView,
    ExecutedView,
    FrameView,
    IterationView,
    ReadyView,
    StepView,
    TokenState,
    TokenView,
    WaitingView,
)
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Summaries


def step_view(stepping: Stepping) -> StepView:
    info, stage = stepping.step.info, stepping.step.stage
    return StepView(
        id=info.id if info else 0,
        session=info.session if info else 0,
        step=info.step if info else 0,
        stage=stage.name,
        nodes=len(stage),
        fetches=stage.fetches,
        feeds=stage.feeds,
        targets=stage.targets,
    )


def activation_view(activation: Activation, dead: bool) -> ActivationView:
    node = activation.item.node
    return ActivationView(
        node=node.name,
        type=node.type,
        device=node.device,
        frame=activation.frame.id,
        path=path(activation.frame, activation.iteration),
        iteration=activation.iteration,
        dead=dead,
        original=node.original,
    )


def ready_views(stepping: Stepping, breakpoints: Breakpoints) -> tuple[ReadyView, ...]:
    found = []
    for index, activation in enumerate(stepping.ready):
        if index >= MAX_READY:
            break
        view = activation_view(activation, stepping.state.is_dead(activation))
        found.append(ReadyView(index, view, breakpoints.at(activation, stepping.step.stage) is not None))
    return tuple(found)


def input_views(
    stepping: Stepping, item: Item, frame: Frame, number: int, summaries: Summaries
) -> tuple[TokenView, ...]:
    """The tokens on the inputs and control inputs of `item` in an open iteration of `frame`."""
    node = item.node
    tokens = frame.iterations[number].inputs[item.start : item.end]
    found = [
        summaries.token(slot, f"{name}:{output}", token)
        for slot, ((name, output), token) in enumerate(zip(node.inputs, tokens, strict=True))
    ]
    overrides = stepping.overrides
    if overrides.active:
        at = Activation(item, frame, number)
        marked = [overrides.of_token(stepping, at, view.slot) for view in found]
        found = [
            view if mark is None or view.state is TokenState.MISSING else replace(view, tainted=mark.label)
            for view, mark in zip(found, marked)
        ]
    for name in node.control_inputs:
        state = _control_state(stepping, stepping.step.program.by_name[name], frame, number)
        found.append(TokenView(-1, f"^{name}", state))
    return tuple(found)


def _control_state(stepping: Stepping, source: Item, frame: Frame, number: int) -> TokenState:
    """Whether the control token from `source` has arrived in this iteration."""
    place = (frame.id, number)
    if source.flow == ENTER and frame.parent is not None:
        place = (frame.parent.id, frame.parent_iteration)
    dead = stepping.done.get(place, {}).get(source.index)
    if dead is None:
        return TokenState.MISSING
    return TokenState.DEAD if dead else TokenState.VALUE


def executed_view(entry: Entry, summaries: Summaries, in_passing: bool = False) -> ExecutedView:
    """The view of an execution; made once, but for one made `in_passing` with less about large arrays."""
    view: ExecutedView | None = entry.view
    if view is not None and (in_passing or not entry.view_in_passing):
        return view
    node = entry.activation.item.node
    outputs = [DEAD] * len(node.output_dtypes) if entry.outputs is None else entry.outputs
    entry.view_in_passing = in_passing
    entry.view = view = ExecutedView(
        row=entry.row,
        activation=activation_view(entry.activation, entry.outputs is None),
        outputs=tuple(
            summaries.token(slot, f"{node.name}:{slot}", value, in_passing)
            for slot, value in enumerate(outputs)
        ),
        duration_ns=entry.duration_ns,
        effect=entry.effect,
        change=entry.change.text if entry.change is not None else "",
        tainted=entry.override.label if entry.override is not None else "",
    )
    return view


def history_views(stepping: Stepping, summaries: Summaries) -> tuple[ExecutedView, ...]:
    """The latest executions, oldest first."""
    return tuple(
        executed_view(entry, summaries, in_passing=True) for entry in stepping.history[-MAX_HISTORY:]
    )


def frame_views(stepping: Stepping) -> tuple[tuple[FrameView, ...], int]:
    """The open frames, each after its parent, and how many there are."""
    program = stepping.step.program
    ready: dict[tuple[int, int], int] = {}
    for activation in stepping.ready:
        place = (activation.frame.id, activation.iteration)
        ready[place] = ready.get(place, 0) + 1
    frames = list(_nested(list(stepping.state.live_frames())))
    views = []
    for frame in frames[:MAX_FRAMES]:
        numbers = sorted(frame.iterations)
        iterations = tuple(
            IterationView(
                number,
                ready.get((frame.id, number), 0),
                sum(1 for _ in waiting_items(program, frame, frame.iterations[number])),
            )
            for number in numbers[-MAX_ITERATIONS:]
        )
        note = stepping.frames.by_id.get(frame.id)
        if note is None:
            views.append(FrameView(frame.id, frame.name, path(frame), -1, 0, frame.live, iterations))
        else:
            views.append(_frame_view(stepping, note, iterations))
    return tuple(views), len(frames)


def ended_views(stepping: Stepping) -> tuple[tuple[FrameView, ...], int]:
    """The latest frames that have ended, the oldest first, and how many are known."""
    ended = [note for note in stepping.frames.by_id.values() if note.end_row >= 0]
    latest = sorted(ended, key=lambda note: note.end_row)[-MAX_ENDED:]
    return tuple(_frame_view(stepping, note, ()) for note in latest), len(ended)


def _frame_view(stepping: Stepping, note: FrameNote, iterations: tuple[IterationView, ...]) -> FrameView:
    stage, tally = stepping.step.stage, note.tally
    loop = stepping.loops.get(note.name, Loop())
    constant = [bool(stage.nodes[each.node].attrs.get("is_constant", False)) for each in note.entered]
    # The loop's variables say more than what it uses from outside.
    order = sorted(range(len(constant)), key=lambda i: constant[i])[:MAX_ENTERS]
    return FrameView(
        id=note.id,
        name=note.name,
        path=note.path,
        parent=note.parent,
        parent_iteration=note.parent_iteration,
        live=note.live,
        iterations=iterations,
        iteration_count=tally.begun,
        ended_count=tally.ended,
        enters=tuple(
            EnterView(each.node, each.row, each.dead, constant[i])
            for i in order
            for each in (note.entered[i],)
        ),
        enter_count=len(note.entered),
        begin_row=note.begin_row,
        end_row=note.end_row,
        limit=loop.limit,
        deferred_count=tally.deferred,
        held=tally.held,
        most_under_way=tally.most,
        made_at=source.short_place(loop.site),
        made_by=loop.site.source if loop.site is not None else "",
        gradient_of=frame_label(loop.gradient_of),
    )


def _nested(frames: list[Frame]) -> Iterator[Frame]:
    """`frames` depth first, children in the order in which they were entered."""
    children: dict[int, list[Frame]] = {}
    for frame in sorted(frames, key=lambda each: each.id):
        if frame.parent is not None:
            children.setdefault(frame.parent.id, []).append(frame)
    stack = [frame for frame in frames if frame.parent is None]
    while stack:
        frame = stack.pop()
        yield frame
        stack.extend(reversed(children.get(frame.id, [])))


def waiting_items(program: Program, frame: Frame, iteration: Iteration) -> Iterator[Item]:
    """The items that hold some but not all of their inputs in this iteration."""
    pending = iteration.pending
    initial = frame.spec.pending
    if pending == initial and not iteration.dead:
        return
    for item in frame.spec.items:
        left = pending[item.local]
        if item.flow != MERGE:
            if 0 < left < initial[item.local]:
                yield item
        elif left and not is_spent(program, item, left, iteration):
            tokens = iteration.inputs[item.start : item.end]
            if left < initial[item.local] or any(token is not ABSENT for token in tokens):
                yield item


def is_spent(program: Program, merge: Item, left: int, iteration: Iteration) -> bool:
    """Whether a Merge without a live input has been made ready (and so executed) as a dead one; see ExecutorState."""
    dead = iteration.dead.get(merge.local, 0)
    if left != 1 or not dead:
        return False
    # To the Merge of a loop, a dead token can come from the Enter alone, and then it waits for nothing more.
    closes_loop = any(program.by_name[name].flow == ENTER for name, _ in merge.node.inputs)
    return dead == merge.n_inputs or closes_loop


def waiting_views(stepping: Stepping, summaries: Summaries) -> tuple[tuple[WaitingView, ...], int]:
    """What waits for inputs, frame by frame, and how much there is of it."""
    views = []
    count = 0
    for frame in _nested(list(stepping.state.live_frames())):
        for number in sorted(frame.iterations):
            for item in waiting_items(stepping.step.program, frame, frame.iterations[number]):
                count += 1
                if count <= MAX_WAITING:
                    activation = Activation(item, frame, number)
                    dead = item.local in frame.iterations[number].dead and item.flow != MERGE
                    inputs = input_views(stepping, item, frame, number, summaries)
                    views.append(WaitingView(activation_view(activation, dead), inputs))
    return tuple(views), count
