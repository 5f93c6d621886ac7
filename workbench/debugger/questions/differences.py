"""``diff TENSOR``: how two values of a tensor differ, between iterations, steps or recorded runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tracing.errors import RunError
from viz.format import count as counted
from viz.format import plural
from viz.format import shape as shape_text
from workbench.debugger import text
from workbench.debugger.command import CommandError
from workbench.debugger.frame_notes import path
from workbench.debugger.questions.past import Past
from workbench.debugger.questions.reasoning import Reason, Reasoning, about_activation
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference, summarize

if TYPE_CHECKING:
    from tracing.reader import Run, StepRow

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """How array b differs from array a, of the same shape and dtype.

    `different` elements of `size` differ; NaN equals NaN, and 0.0 equals -0.0.  `first` is the first index (in C order) that
    differs, with its values `left` and `right`.  `max_abs` is the greatest difference, `max_rel` the greatest in relation to the
    larger of the two magnitudes, each with its index; None where nothing can be measured (NaN, strings).  `max_ulp` counts the
    floating-point numbers between two elements.  `nan_left` and `nan_right` count elements that are NaN on that side alone.
    """

    size: int
    different: int
    first: tuple[int, ...] = ()
    left: str = ""
    right: str = ""
    max_abs: float | None = None
    max_abs_at: tuple[int, ...] = ()
    max_rel: float | None = None
    max_rel_at: tuple[int, ...] = ()
    max_ulp: int | None = None
    nan_left: int = 0
    nan_right: int = 0


def compare(a: Any, b: Any) -> Difference:
    """How `b` differs from `a`.  Raises ValueError if their shapes or dtypes do."""
    left, right = np.asarray(a), np.asarray(b)
    if left.shape != right.shape or left.dtype != right.dtype:
        raise ValueError(
            f"{left.dtype}{list(left.shape)} and {right.dtype}{list(right.shape)} cannot be compared element by element"
        )
    shape = left.shape
    left, right = left.reshape(-1), right.reshape(-1)
    floating = _floating(left)
    same = left == right
    nan_left = nan_right = np.zeros(left.shape, bool)
    if floating:
        nan_left, nan_right = np.isnan(left), np.isnan(right)
        same = same | (nan_left & nan_right)
    differing = np.flatnonzero(~np.asarray(same, bool))
    if not len(differing):
        return Difference(left.size, 0)
    first = int(differing[0])
    measured = _measures(left, right, differing, floating)
    return Difference(
        left.size,
        len(differing),
        _index(first, shape),
        str(left[first]),
        str(right[first]),
        *_greatest(measured[0], differing, shape),
        *_greatest(measured[1], differing, shape),
        _ulps(left[differing], right[differing]) if floating else None,
        int((nan_left & ~nan_right).sum()),
        int((nan_right & ~nan_left).sum()),
    )


def _floating(array: Array) -> bool:
    if array.dtype.kind in "fc":
        return True
    return array.dtype.kind == "V" and array.dtype.fields is None and array.dtype.itemsize <= 2


def _measures(
    left: Array, right: Array, at: npt.NDArray[np.intp], floating: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The absolute and relative differences of the elements at `at`; NaN where there is none."""
    kind = left.dtype.kind
    a, b = left[at], right[at]
    if not floating and kind not in "iub":
        nothing = np.full(len(at), np.nan)
        return nothing, nothing
    if kind in "iu":  # in integers first: a difference of int64 does not fit a float's mantissa
        larger = np.where(a > b, a, b).astype(object)
        smaller = np.where(a > b, b, a).astype(object)
        gaps = np.array([float(x - y) for x, y in zip(larger, smaller)], np.float64)
        wide = np.float64
    else:
        wide = np.complex128 if kind == "c" else np.float64  # type: ignore[assignment]  # one of two classes
        with np.errstate(all="ignore"):
            gaps = np.abs(a.astype(wide) - b.astype(wide))
    with np.errstate(all="ignore"):
        scale = np.maximum(np.abs(a.astype(wide)), np.abs(b.astype(wide)))
        relative = np.where(np.isinf(scale) & ~np.isnan(gaps), np.inf, gaps / scale)
    return np.asarray(gaps, np.float64), np.asarray(relative, np.float64)


def _greatest(
    values: npt.NDArray[np.float64], at: npt.NDArray[np.intp], shape: tuple[int, ...]
) -> tuple[float | None, tuple[int, ...]]:
    known = np.where(np.isnan(values), -1.0, values)
    best = int(np.argmax(known))
    return (None, ()) if known[best] < 0 else (float(values[best]), _index(int(at[best]), shape))


def _ulps(left: Array, right: Array) -> int | None:
    """The greatest number of floating-point steps between two elements, neither of them NaN; None if there are none."""
    if left.dtype.kind == "c":
        part = left.real.dtype
        left, right = left.view(part), right.view(part)
    known = ~(np.isnan(left) | np.isnan(right))
    if not known.any():
        return None
    unsigned = np.dtype(f"u{left.dtype.itemsize}")
    sign = unsigned.type(1 << (8 * left.dtype.itemsize - 1))

    def ordered(values: Array) -> Array:
        """Numbers that grow with the value, by one a step; 0.0 and -0.0 are one."""
        bits = np.ascontiguousarray(values[known]).view(unsigned)
        found: Array = np.where(bits & sign, np.negative(bits), bits | sign)
        return found

    a, b = ordered(left), ordered(right)
    return int(np.where(a > b, a - b, b - a).max())


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(each) for each in np.unravel_index(flat, shape)) if shape else ()


# Which values.


@dataclass(frozen=True, slots=True)
class Pick:
    """Which value of a tensor: of execution `row`, the latest of `iteration`, of an earlier `step`, or of a recorded `run`.

    With none of these, the latest.  Of a run, `step` is the step's number in its session (-1: its last step with the tensor).
    """

    row: int = -1
    iteration: int = -1
    step: int = -1
    run: str = ""


@dataclass(frozen=True, slots=True)
class Picked:
    """A value, and what to call it."""

    value: Any
    called: str
    entry: Entry | None = None


def diff(
    stepping: Stepping, past: Past, tensor: str, left: Pick | None = None, right: Pick | None = None
) -> Reasoning:
    """How the tensor ``"add:0"`` differs between `left` and `right`.

    Without `right`, from `left` to the latest execution.  Without both: between its latest two executions of this step, or, if
    there was one, from the step before.  Raises CommandError where a value is not known.
    """
    if left is None:
        runs = _runs(stepping, tensor)
        if len(runs) >= 2:
            left = Pick(row=runs[-2].row)
        else:
            info = stepping.step.info
            steps = [
                each.step
                for each in past.steps
                if info is not None and each.session == info.session and each.value(tensor) is not None
            ]
            if not steps:
                raise CommandError(
                    f"'{tensor}' has {'one value' if runs else 'no value yet'} in this step, and no earlier step that is kept "
                    f"has it (keep {tensor} keeps it from now on)"
                )
            left = Pick(step=steps[-1])
    one, other = _pick(stepping, past, tensor, left), _pick(stepping, past, tensor, right or Pick())
    return told(tensor, one, other)


def told(tensor: str, one: Picked, other: Picked) -> Reasoning:
    """The difference of two values in words."""
    question = f"diff {tensor} {one.called} {other.called}"
    sides = [_side(one), _side(other)]
    try:
        found = compare(one.value, other.value)
    except ValueError:
        shapes = [shape_text(np.shape(each.value)) for each in (one, other)]
        kinds = [str(np.asarray(each.value).dtype) for each in (one, other)]
        answer = (
            f"{tensor} is {kinds[0]}{shapes[0]} in {one.called} and {kinds[1]}{shapes[1]} in {other.called}"
        )
        return Reasoning(question, answer, tuple(sides))
    if not found.different:
        answer = f"{tensor} is the same in {one.called} and {other.called}, in all of {plural(found.size, 'element')}"
        return Reasoning(question, answer, tuple(sides))
    answer = (
        f"{tensor} differs between {one.called} and {other.called} in {counted(found.different)} of "
        f"{plural(found.size, 'element')}"
    )
    lines = [f"first at {list(found.first)}: {found.left} → {found.right}"]
    if found.max_abs is not None:
        lines.append(f"by at most {_number(found.max_abs)}, at {list(found.max_abs_at)}")
    if found.max_rel is not None:
        lines.append(f"relatively at most {_number(found.max_rel)}, at {list(found.max_rel_at)}")
    if found.max_ulp is not None:
        lines.append(f"at most {counted(found.max_ulp)} ulp")
    if found.nan_left or found.nan_right:
        lines.append(
            f"{counted(found.nan_left)} NaN on the left alone, {counted(found.nan_right)} on the right"
        )
    reasons = [Reason(line, root=not number) for number, line in enumerate(lines)]
    return Reasoning(question, answer, (*reasons, *sides))


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else str(value)


def _side(picked: Picked) -> Reason:
    said = f"{picked.called}: {text.value(summarize(picked.value), short=True)}"
    if picked.entry is None:
        return Reason(said)
    return about_activation(said, picked.entry.activation, row=picked.entry.row)


def _runs(stepping: Stepping, tensor: str) -> list[Entry]:
    """The live executions of a tensor's node in the history."""
    item = stepping.step.program.by_name.get(tensor.partition(":")[0])
    found: list[Entry] = []
    entry = stepping.latest.get(item.index) if item is not None else None
    while entry is not None:
        if entry.outputs is not None:
            found.append(entry)
        entry = entry.previous
    return found[::-1]


def _pick(stepping: Stepping, past: Past, tensor: str, pick: Pick) -> Picked:
    name, _, slot = tensor.partition(":")
    if pick.run:
        return _of_run(stepping, tensor, pick)
    if pick.step >= 0:
        info = stepping.step.info
        session = info.session if info is not None else 0
        if info is None or pick.step != info.step:
            kept = past.step(pick.step, session)
            if kept is None:
                have = ", ".join(str(each.step) for each in past.steps if each.session == session) or "none"
                raise CommandError(f"step {pick.step} is not kept; steps that are: {have}")
            value = kept.value(tensor)
            if value is None or not isinstance(value, np.ndarray | np.generic):
                raise CommandError(
                    f"'{tensor}' of step {pick.step} is not kept, or was dead (keep {tensor} keeps it from now on)"
                )
            return Picked(value, f"step {pick.step}")
    runs = _runs(stepping, tensor)
    if pick.row >= 0:
        runs = [each for each in runs if each.row == pick.row]
    elif pick.iteration >= 0:
        runs = [each for each in runs if each.activation.iteration == pick.iteration]
    if not runs:
        where = (
            f"as execution #{pick.row}"
            if pick.row >= 0
            else f"in iteration {pick.iteration}"
            if pick.iteration >= 0
            else "in this step"
        )
        raise CommandError(f"'{name}' has not executed alive {where}, as far as the history goes")
    entry = runs[-1]
    outputs = entry.outputs or ()
    if int(slot or 0) >= len(outputs):
        raise CommandError(f"'{name}' has no output {slot}")
    value = outputs[int(slot or 0)]
    value = value.value if isinstance(value, Reference) else value
    if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "dtype"):
        raise CommandError(f"'{tensor}' of #{entry.row} is no array: it was dead, or is a resource")
    at = entry.activation
    return Picked(value, f"#{entry.row} ({path(at.frame, at.iteration)})", entry)


# Recorded runs.


def _of_run(stepping: Stepping, tensor: str, pick: Pick) -> Picked:
    """The tensor's last value in a recorded run.  Raises CommandError if it has none."""
    from tracing.reader import Run  # a debugger that opens no run needs no database

    try:
        with Run.open(pick.run) as run:
            return value_of_run(run, tensor, pick.step)
    except RunError as error:
        raise CommandError(str(error)) from None


def value_of_run(run: Run, tensor: str, number: int = -1) -> Picked:
    """The last value of a tensor that was kept in step `number` of a run (-1: the last step that has one).

    Raises CommandError if there is none, RunError if the run is damaged.
    """
    name, _, slot = tensor.partition(":")
    for step in reversed(run.steps()):
        if number >= 0 and step.step != number:
            continue
        found = _in_step(run, step, name, int(slot or 0))
        if found is not None:
            return Picked(found, f"run {run.name}, step {step.step}")
    where = f"step {number} of " if number >= 0 else ""
    raise CommandError(
        f"no value of '{tensor}' was kept in {where}run {run.name}; record it with level='full' and enough value_budget"
    )


def _in_step(run: Run, step: StepRow, name: str, slot: int) -> Any:
    order = run.stage(step.stage_id).order
    if name not in order or not step.captured:
        return None
    executions = run.executions(step.id)
    rows = {int(row) + executions.first for row in np.flatnonzero(executions.node == order.index(name))}
    kept = [each for each in run.values(step.id) if each.slot == slot and each.row in rows]
    return kept[-1].array if kept else None
