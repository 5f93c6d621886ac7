"""What control flow did in one recorded step, in words and as plain data: frames, stacks, the way of a dead token."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.types.site import Frame
from tracing.dead_path import STOPS, DeadPath, Place, Ran, chose_text
from tracing.frames import FrameSpan, FrameTree, IterationSpan, flow_of, frame_label
from tracing.reader import Run, StepRow
from tracing.report import duration, size
from tracing.stacks import Access, Contents, Element

MOST_ITERATIONS = 12  # of a frame, and of elements, that the text lists
MOST_ELEMENTS = 12

Lines = list[str]


def step_of(run: Run, which: str | int | None) -> StepRow:
    """The step of that id; the last one that ended for None or 'last'.  Raises RunError if there is none."""
    from tracing.errors import RunError

    steps = run.steps()
    if which in (None, "last"):
        if not steps:
            raise RunError(f"the run in {run.path} has no step that has ended")
        return steps[-1]
    try:
        return run.step(int(which or 0))
    except (ValueError, RunError):
        known = f"its steps are {steps[0].id} to {steps[-1].id}" if steps else "it has no step that has ended"
        raise RunError(f"the run in {run.path} has no step {which}: {known}") from None


def head(run: Run, step: StepRow) -> str:
    """Which step it was, where it was called, and on a second line what ran it."""
    where = f"  {place(step.site[0])}  {step.site[0].source}" if step.site else ""
    took = duration(step.duration_ns) if step.finished else "did not end"
    return (
        f"step {step.id} (run {step.step} of session {step.session}), {took}{where}\n  run by {step.executor}"
    )


def place(frame: Frame | None) -> str:
    """A line of the user's program, ``file.py:12``."""
    return f"{Path(frame.file).name}:{frame.line}" if frame is not None else ""


# Frames.


def frames_text(tree: FrameTree) -> str:
    """The frames of a step and their iterations, as an indented tree."""
    if not len(tree):
        return "no frame was entered: the step has no loop"
    lines: Lines = []
    _frames(tree, 0, None, "", lines)
    return "\n".join(lines)


def _frames(tree: FrameTree, parent: int, iteration: int | None, indent: str, lines: Lines) -> None:
    for frame in tree.children(parent, iteration):
        lines.append(f"{indent}{tree.path(frame.id)}  (frame {frame.id}){'' if frame.live else '  DEAD'}")
        lines += [f"{indent}  {label:<10} {text}" for label, text in frame_facts(tree, frame)]
        shown = frame.iterations[:MOST_ITERATIONS]
        for each in shown:
            lines.append(f"{indent}    {_iteration(each)}")
            _frames(tree, frame.id, each.number, indent + "      ", lines)
        if len(frame.iterations) > len(shown):
            lines.append(f"{indent}    … {len(frame.iterations) - len(shown):,} more iterations")
        if not indent:
            lines.append("")


def frame_facts(tree: FrameTree, frame: FrameSpan) -> list[tuple[str, str]]:
    """What there is to say of a frame: label and text of each fact."""
    where = f"{tree.path(frame.parent, frame.parent_iteration)} at #{frame.begin_row}"
    facts = [("entered", f"from {where}" + ("" if frame.live else ", by dead tokens only"))]
    variables = [each for each in frame.enters if not each.constant]
    constants = [each for each in frame.enters if each.constant]
    for label, enters in (("by", variables), ("invariants", constants)):
        if enters:
            named = ", ".join(f"{each.node} #{each.row}{' dead' if each.dead else ''}" for each in enters[:4])
            facts.append((label, named + (f" and {len(enters) - 4} more" if len(enters) > 4 else "")))
    if frame.site is not None:
        facts.append(("made at", f"{place(frame.site)}  {frame.site.source}".rstrip()))
    if frame.gradient_of:
        facts.append(("backward", f"of the loop {frame_label(frame.gradient_of)}"))
    over = frame.end_row >= 0
    took = f", {duration(frame.end_ns - frame.begin_ns)}"
    facts.append(
        ("iterations", f"{frame.begun:,} begun, {frame.ended:,} ended" + took + ("" if over else ", open"))
    )
    facts.append(("parallel", parallel_text(frame)))
    return facts


def parallel_text(frame: FrameSpan) -> str:
    """How `parallel_iterations` bore on a frame."""
    held = frame.deferred
    limit = f" of {frame.limit}" if frame.limit else ""
    said = f"at most {frame.most_under_way}{limit} under way, {frame.mean_under_way:.2f} on average"
    if not held:
        return f"{said}; none held back"
    longest = max(each.waited_ns for each in held)
    return f"{said}; {len(held):,} held back, {duration(frame.waited_ns)} in all, {duration(longest)} at most"


def _iteration(each: IterationSpan) -> str:
    rows = f"#{each.begin_row} – {f'#{each.end_row}' if each.end_row >= 0 else '…'}"
    if each.begin_row < 0:
        return f"iteration {each.number:<4} held back since #{each.deferred_row}"
    line = f"iteration {each.number:<4} {rows:<16} {duration(each.end_ns - each.begin_ns):>9}"
    if each.deferred_row >= 0:
        line += f"  held back from #{each.deferred_row} for {duration(each.waited_ns)}"
    return line + ("" if each.end_row >= 0 else "  under way")


def frames_data(tree: FrameTree) -> list[dict[str, Any]]:
    """The frames as plain data, each with its iterations; times in ns of the process's clock."""
    return [
        {
            "id": frame.id,
            "name": frame.name,
            "path": tree.path(frame.id),
            "parent": frame.parent,
            "parent_iteration": frame.parent_iteration,
            "live": frame.live,
            "gradient_of": frame.gradient_of or None,
            "made_at": _site_data(frame.site),
            "begin_row": frame.begin_row,
            "end_row": frame.end_row if frame.end_row >= 0 else None,
            "begin_ns": frame.begin_ns,
            "end_ns": frame.end_ns,
            "enters": [
                {"node": each.node, "row": each.row, "dead": each.dead, "constant": each.constant}
                for each in frame.enters
            ],
            "parallel_iterations": frame.limit,
            "most_under_way": frame.most_under_way,
            "mean_under_way": frame.mean_under_way,
            "deferred": len(frame.deferred),
            "waited_ns": frame.waited_ns,
            "iterations": [
                {
                    "number": each.number,
                    "state": each.state,
                    "begin_row": each.begin_row if each.begin_row >= 0 else None,
                    "end_row": each.end_row if each.end_row >= 0 else None,
                    "begin_ns": each.begin_ns,
                    "end_ns": each.end_ns,
                    "deferred_row": each.deferred_row if each.deferred_row >= 0 else None,
                    "waited_ns": each.waited_ns,
                }
                for each in frame.iterations
            ],
        }
        for frame in tree
    ]


def _site_data(site: Frame | None) -> dict[str, Any] | None:
    return {"file": site.file, "line": site.line, "source": site.source} if site is not None else None


# Stacks and arrays.


def contents_text(contents: Iterable[Contents], tree: FrameTree, after: int | None = None) -> str:
    """Stacks and arrays: what each keeps, who reads it, and its elements, all of them or those held after row `after`."""
    blocks = ["\n".join(_contents(each, tree, after)) for each in contents]
    return "\n\n".join(blocks) if blocks else "the step wrote to no stack and to no array of tensors"


def _contents(each: Contents, tree: FrameTree, after: int | None) -> Lines:
    shown = each.elements if after is None else each.after(after)
    nbytes = sum(element.nbytes for element in shown)
    word = "element" if len(shown) == 1 else "elements"
    when = f", at most {each.most:,} at a time" if after is None else f" after #{after}"
    lines = [f"{each.kind} {each.resource}  {len(shown):,} {word}{when}, {size(nbytes)}"]
    use = each.use
    if use is not None:
        keeps = ", ".join(use.keeps) or "nothing"
        made = f"  made at {place(use.site)}" if use.site is not None else ""
        lines.append(f"  keeps      {keeps}{made}")
        if use.original:
            lines.append(f"  for        the gradient of {use.original}")
        lines.append(f"  read by    {', '.join(use.readers) or 'no node of the step'}")
    for element in shown[:MOST_ELEMENTS]:
        text = element_text(element)
        line = f"  {element.index:>5}  {text:<30}  put {access_text(tree, element.put)}"
        if element.taken is not None:
            line += f", taken {access_text(tree, element.taken)}"
        lines.append(line)
    if len(shown) > MOST_ELEMENTS:
        lines.append(f"         … {len(shown) - MOST_ELEMENTS:,} more")
    return lines


def element_text(element: Element) -> str:
    """An element in a few words: dtype and shape, its value if it is a scalar, its range if that was recorded."""
    look = element.health
    if look is None or (not look.shape and element.text):
        return element.text or "?"
    text = f"{look.dtype} {list(look.shape)}"
    if math.isfinite(look.minimum):
        text += f"  {look.minimum:.4g} … {look.maximum:.4g}"
    bad = [f"{count:,} {word}" for count, word in ((look.nan, "NaN"), (look.inf, "Inf")) if count]
    return "  ".join([text, *bad])


def access_text(tree: FrameTree, access: Access) -> str:
    """Which execution it was, and in which frame and iteration."""
    return f"#{access.row} in {tree.path(access.frame, access.iteration)}"


def contents_data(
    contents: Iterable[Contents], tree: FrameTree, after: int | None = None
) -> list[dict[str, Any]]:
    """Stacks and arrays as plain data."""
    found = []
    for each in contents:
        use = each.use
        shown = each.elements if after is None else each.after(after)
        found.append(
            {
                "resource": each.resource,
                "kind": each.kind,
                "node": use.node if use is not None else None,
                "keeps": list(use.keeps) if use is not None else [],
                "read_by": list(use.readers) if use is not None else [],
                "gradient_of": (use.original or None) if use is not None else None,
                "made_at": _site_data(use.site) if use is not None else None,
                "most": each.most,
                "elements": [_element_data(element, tree) for element in shown],
            }
        )
    return found


def _element_data(element: Element, tree: FrameTree) -> dict[str, Any]:
    look = element.health
    health = None
    if look is not None:
        numbers = {name: getattr(look, name) for name in ("minimum", "maximum", "mean")}
        health = {
            "dtype": look.dtype,
            "shape": list(look.shape),
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "nan": look.nan,
            "inf": look.inf,
        }
    return {
        "index": element.index,
        "text": element.text,
        "nbytes": element.nbytes,
        "health": health,
        "put": _access_data(element.put, tree),
        "taken": _access_data(element.taken, tree) if element.taken is not None else None,
    }


def _access_data(access: Access, tree: FrameTree) -> dict[str, Any]:
    return {**access._asdict(), "path": tree.path(access.frame, access.iteration)}


# Dead tokens.


def dead_path_text(run: Run, step: StepRow, path: DeadPath) -> str:
    """Why a node was dead: who killed its token and why, the way from there, and where it was stopped."""
    rows = _dead_rows(run, step, path)
    width = max(len(row["place"]) for row in rows)
    lines = [f"{path.chain[-1].node} is dead"]
    said = ""
    for row in rows:
        label = row["role"] if row["role"] != said else ""
        said = row["role"]
        number = f"#{row['row']}"
        lines.append(f"  {label:<11} {row['place']:<{width}}  {number:<7} {row['note']}".rstrip())
    if path.killer is None:
        lines.insert(1, "  killed by   something that the recording does not have")
    if not path.stops:
        lines.append("  stopped at  nothing")
    return "\n".join(lines)


def dead_path_data(run: Run, step: StepRow, path: DeadPath) -> dict[str, Any]:
    """The way of a dead token as plain data."""
    return {
        "node": path.chain[-1].node,
        "predicate": path.predicate or None,
        "predicate_value": path.chose,
        "way": _dead_rows(run, step, path),
    }


def _dead_rows(run: Run, step: StepRow, path: DeadPath) -> list[dict[str, Any]]:
    stage, tree = run.stage(step.stage_id), run.frame_tree(step.id)
    ran = Ran(stage, run.executions(step.id))
    roles: list[tuple[str, Place]] = [("killed by", path.killer)] if path.killer is not None else []
    roles += [("through", each) for each in path.chain] + [("stopped at", each) for each in path.stops]
    found = []
    for role, each in roles:
        node = stage.nodes[each.node]
        note = chose_text(path) if role == "killed by" else ""
        if role == "stopped at":
            note = STOPS.get(flow_of(node), "")
        where = tree.path(each.frame, each.iteration)
        found.append(
            {
                "role": role,
                "node": each.node,
                "type": node.type,
                "frame": each.frame,
                "iteration": each.iteration,
                "row": ran.row(each),
                "place": f"{each.node}  ({node.type})  {where}",
                "note": note,
                "made_at": _site_data(node.site.user if node.site is not None else None),
            }
        )
    return found
