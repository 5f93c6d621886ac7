"""Snapshots as text, for people without the terminal application: compact, aligned, plain characters.

Everything is drawn from a `Snapshot`, so what is said here is what any other front end could say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from viz.format import duration, number, plural, shape, shorten
from workbench.debugger.breakpoints import describe
from workbench.debugger.snapshot import (
    ActivationView,
    ExecutedView,
    FrameView,
    LogView,
    Snapshot,
    SourceView,
    Status,
    TokenState,
    TokenView,
    ValueSummary,
)
from workbench.debugger.source import short_path

SHOWN = 12  # executions told of at one stop
MAX_SOURCE = 80  # cells of a line of the user's source
MAX_NAME = 44  # cells of a name before a column gives up its alignment


def stop(snapshot: Snapshot, since: int = 0) -> str:
    """What happened since `since` executions, and where the step stands now."""
    if snapshot.status is not Status.STOPPED or snapshot.step is None:
        return status(snapshot)
    lines = []
    if since == 0 and snapshot.executed == 0:
        lines += [*_header(snapshot), ""]
    lines += executed([entry for entry in snapshot.history if entry.row >= since][-SHOWN:])
    hidden = snapshot.executed - since - SHOWN
    if hidden > 0:
        lines.insert(0, f"     … {plural(hidden, 'execution')} before these")
    lines += [f"log   {line}" for line in logged([each for each in snapshot.logged if each.row >= since])]
    if snapshot.reason:
        lines.append(f"stop  {snapshot.reason}")
    if snapshot.error is not None:
        lines += [f"      {line}" for line in f"{snapshot.error.type}: {snapshot.error.message}".splitlines()]
        raised = "the script has it" if snapshot.past else "going on raises it in the script"
        lines.append(f"      ({raised})")
    if snapshot.past:
        lines.append(f"past  {run(snapshot)}: nothing can be changed here (present comes forward)")
    if snapshot.next is not None:
        lines.append("next  " + activation(snapshot.next))
        if snapshot.next.original:
            lines.append(f"        gradient of {snapshot.next.original}")
        lines += [f"        ← {line}" for line in tokens(snapshot.next_inputs)]
        if snapshot.source is not None:
            lines.append(f"        {_place(snapshot.source)}")
        counts = (
            f"{snapshot.executed} executed, {snapshot.ready_count} ready, {snapshot.waiting_count} waiting"
        )
        if snapshot.frame_count > 1:
            counts += f", {plural(snapshot.frame_count - 1, 'open frame')}"
        lines.append(f"      {counts}")
    else:
        where = "on into the next run" if snapshot.past else "back to the script"
        lines.append(f"      nothing is left after {plural(snapshot.executed, 'execution')}; n goes {where}")
    return "\n".join(lines)


def run(snapshot: Snapshot) -> str:
    """``run 3 of 7, in the past``."""
    return f"run {snapshot.run} of {snapshot.runs}" + (", in the past" if snapshot.past else "")


def status(snapshot: Snapshot) -> str:
    """Where the script is, when no step is stopped."""
    name = snapshot.script
    if snapshot.status is Status.WAITING_FOR_RUN:
        return f"{name} runs its own code; no Session.run is under way"
    if snapshot.status is Status.RUNNING:
        return f"{name} is inside Session.run: {snapshot.executed} executed"
    if snapshot.status is Status.FINISHED:
        return f"{name} has finished with exit status {snapshot.exit_code or 0}"
    if snapshot.status is Status.DETACHED:
        return f"{name} runs on by itself"
    error = snapshot.error
    if error is None:
        return f"{name} failed"
    return f"{name} failed: {error.type}: {error.message}" if error.type else f"{name}: {error.message}"


def _header(snapshot: Snapshot) -> list[str]:
    step = snapshot.step
    assert step is not None
    lines = [f"step {step.step} of session {step.session}, {plural(step.nodes, 'node')}"]
    for what, names in (("fetch", step.fetches), ("run", step.targets), ("feed", step.feeds)):
        if names:
            lines.append(f"  {what:<6}{shorten(', '.join(names), 90)}")
    if snapshot.run_source is not None:
        lines.append(f"  from  {_place(snapshot.run_source)}")
    return lines


def _place(source: SourceView) -> str:
    text = next((t for n, t in enumerate(source.lines, source.first) if n == source.line), "").strip()
    where = f"{short_path(source.file)}:{source.line}"
    if source.function not in ("", "<module>"):
        where += f" in {source.function}"
    return f"{where}  {shorten(text, MAX_SOURCE)}".rstrip()


def activation(view: ActivationView) -> str:
    """One node, its type, its frame and iteration."""
    return f"{view.node}  ({view.type})  {view.path}" + ("  DEAD" if view.dead else "")


def executed(entries: Sequence[ExecutedView]) -> list[str]:
    """Executions, one a line."""
    rows = []
    for entry in entries:
        view = entry.activation
        stays = f"  ({entry.effect}: that stays)" if entry.effect else ""
        gave = f"→ {_outputs(entry)}{stays}{_changed(entry)}"
        rows.append((f"#{entry.row:<4}", view.node, f"({view.type})", view.path, gave))
    return table(rows)


def _changed(entry: ExecutedView) -> str:
    """Whether it is a change made by hand, or descends from one."""
    if entry.change:
        return f"  ({entry.change})" if entry.activation.node != entry.change else ""
    return f"  ({descends(entry.tainted)})" if entry.tainted else ""


def descends(label: str) -> str:
    """What is said of a result that descends from the override that has this label."""
    return f"descends from an override at {label}"


def _outputs(entry: ExecutedView) -> str:
    if entry.activation.dead:
        return "DEAD"
    if len(entry.outputs) == 1:
        return token(entry.outputs[0], short=True)
    return ", ".join(f":{each.slot} {token(each, short=True)}" for each in entry.outputs) or "done"


def tokens(views: Iterable[TokenView]) -> list[str]:
    """Tokens, one a line: the tensor, and what is there."""
    return table(
        [
            (view.name, token(view) + (f"  ({descends(view.tainted)})" if view.tainted else ""))
            for view in views
        ]
    )


def token(view: TokenView, short: bool = False) -> str:
    """What is on an edge: a value, DEAD, or ``…`` for what has not arrived."""
    if view.state is TokenState.DEAD:
        return "DEAD"
    if view.state is TokenState.MISSING:
        return "… not yet"
    if view.value is None:
        return "arrived"
    return value(view.value, short)


def value(summary: ValueSummary, short: bool = False) -> str:
    """A tensor in one line: dtype, shape, and the value or how it is spread."""
    kind = f"{summary.dtype}{shape(summary.shape)}"
    one_line = "\n" not in summary.text and len(summary.text) <= (32 if short else 60)
    if summary.complete and one_line:
        return f"{kind} {summary.text}"
    spread = []
    if summary.minimum is not None and summary.maximum is not None:
        spread.append(f"{number(summary.minimum)} … {number(summary.maximum)}")
        if summary.mean is not None:
            spread.append(f"mean {number(summary.mean)}")
    if summary.nan:
        spread.append(f"{summary.nan} NaN")
    if summary.inf:
        spread.append(f"{summary.inf} Inf")
    if not spread:
        spread.append(shorten(" ".join(summary.text.split()), 60))
    return f"{kind} {', '.join(spread)}"


def whole_value(name: str, view: TokenView) -> str:
    """A tensor on several lines: its spread, and the value as NumPy prints it."""
    if view.value is None or view.state is not TokenState.VALUE:
        return f"{name}  {token(view)}"
    summary = view.value
    head = f"{name}  {value(summary)}"
    if head.endswith(f" {summary.text}"):
        return head
    return "\n".join([head, *(f"  {line}" for line in summary.text.splitlines())])


def ready(snapshot: Snapshot) -> str:
    """What may execute, in the order in which it would."""
    if not snapshot.ready:
        return "nothing is ready"
    rows = []
    for view in snapshot.ready:
        each = view.activation
        notes = " ".join([*(["DEAD"] if each.dead else []), *(["breakpoint"] if view.breakpoint else [])])
        rows.append((f"{view.index:>4}", each.node, f"({each.type})", each.path, notes))
    more = snapshot.ready_count - len(snapshot.ready)
    return "\n".join([*table(rows), *([f"     … and {more} more"] if more > 0 else [])])


def waiting(snapshot: Snapshot) -> str:
    """The nodes that hold some of their inputs, and what is on each input."""
    if not snapshot.waiting:
        return "no node waits for a part of its inputs"
    lines = []
    for view in snapshot.waiting:
        lines.append(activation(view.activation))
        lines += [f"    ← {line}" for line in tokens(view.inputs)]
    more = snapshot.waiting_count - len(snapshot.waiting)
    return "\n".join([*lines, *([f"… and {plural(more, 'node')} more"] if more > 0 else [])])


def frames(snapshot: Snapshot) -> str:
    """The open frames as a tree, with how each was entered and its open iterations; then those that have ended."""
    if not snapshot.frames:
        return "no frame is open"
    depth = {-1: -1}
    lines = []
    for frame in snapshot.frames:
        depth[frame.id] = depth.get(frame.parent, -1) + 1
        indent = "  " * depth[frame.id]
        lines += [indent + line for line in _frame(frame)]
        if frame.parent >= 0 or len(frame.iterations) > 1:
            for each in frame.iterations:
                counts = f"{each.ready} ready, {each.waiting} waiting"
                lines.append(f"{indent}    iteration {each.number}: {counts}")
    more = snapshot.frame_count - len(snapshot.frames)
    if more > 0:
        lines.append(f"… and {plural(more, 'frame')} more")
    if snapshot.ended:
        lines += [
            "",
            f"{plural(snapshot.ended_count, 'frame')} ended"
            + (", of which the last" if snapshot.ended_count > len(snapshot.ended) else ""),
        ]
        lines += [f"  {line}" for frame in snapshot.ended for line in _frame(frame)]
    return "\n".join(lines)


def _frame(frame: FrameView) -> list[str]:
    if frame.parent < 0:
        only = frame.iterations[0] if frame.iterations else None
        return ["root" + (f": {only.ready} ready, {only.waiting} waiting" if only is not None else "")]
    counts = f"{plural(frame.iteration_count, 'iteration')} begun, {frame.ended_count} ended"
    rows = f"#{frame.begin_row}" + (f" – #{frame.end_row}" if frame.end_row >= 0 else "")
    lines = [f"{frame.path}  (frame {frame.id}, {rows}, {counts}{'' if frame.live else ', DEAD so far'})"]
    if frame.limit:
        held = f", {frame.deferred_count} held back" if frame.deferred_count else ""
        now = f", iteration {frame.held} is held back now" if frame.held >= 0 else ""
        lines.append(f"    at most {frame.most_under_way} of {frame.limit} under way{held}{now}")
    if frame.enters:
        named = ", ".join(
            f"{each.node} #{each.row}{' DEAD' if each.dead else ''}" for each in frame.enters[:4]
        )
        more = frame.enter_count - len(frame.enters[:4])
        lines.append(f"    entered by {named}" + (f" and {more} more" if more > 0 else ""))
    if frame.gradient_of:
        lines.append(f"    the backward loop of {frame.gradient_of}")
    if frame.made_at:
        lines.append(f"    made at {frame.made_at}  {shorten(frame.made_by, MAX_SOURCE)}".rstrip())
    return lines


def breakpoints(snapshot: Snapshot) -> str:
    """The breakpoints, with how often each was hit."""
    if not snapshot.breakpoints:
        return "there is no breakpoint (b NODE sets one)"
    rows = []
    for view in snapshot.breakpoints:
        said = plural(view.hits, "hit") + ("" if view.enabled else ", disabled")
        rows.append((f"{view.number:>4}", describe(view), f"{said}  {view.problem}".rstrip()))
    return "\n".join(table(rows))


def logged(views: Iterable[LogView]) -> list[str]:
    """Lines that breakpoints logged: the execution, where, and what."""
    return table([(f"#{view.row:<4}", view.place, view.text) for view in views])


def source(view: SourceView | None, what: str) -> str:
    """The lines around the one that matters, which is marked."""
    if view is None:
        return f"no line of a script is known for {what}"
    head = (
        f"{short_path(view.file)}:{view.line}"
        + (f" in {view.function}" if view.function else "")
        + f"  ({what})"
    )
    if not view.lines:
        return f"{head}\n  the file cannot be read"
    width = len(str(view.first + len(view.lines)))
    return "\n".join(
        [
            head,
            *(
                f"{'→' if n == view.line else ' '} {n:>{width}}  {line}".rstrip()
                for n, line in enumerate(view.lines, view.first)
            ),
        ]
    )


def where(snapshot: Snapshot) -> str:
    """The step, where it was called, and what is next."""
    if snapshot.step is None:
        return status(snapshot)
    lines = _header(snapshot)
    lines.append(
        f"  {snapshot.executed} executed, {snapshot.ready_count} ready, {snapshot.waiting_count} waiting"
    )
    if snapshot.last is not None:
        took = f"  {duration(snapshot.last.duration_ns)}" if snapshot.last.duration_ns else ""
        lines.append(f"last  {activation(snapshot.last.activation)}{took}")
    if snapshot.next is not None:
        lines.append(f"next  {activation(snapshot.next)}")
        if snapshot.source is not None:
            lines.append(f"      made at {_place(snapshot.source)}")
    return "\n".join(lines)


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows with their columns aligned; an entry longer than `MAX_NAME` pushes its own row out of line, not all others."""
    if not rows:
        return []
    widths = [
        max((len(row[i]) for row in rows if len(row[i]) <= MAX_NAME), default=0)
        for i in range(len(rows[0]) - 1)
    ]
    return [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths)), row[-1]]).rstrip()
        for row in rows
    ]
