"""What runs a signature, and why: the plan's program as lines, or the reason why the interpreter runs; what was fused."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.passes.stage import Stage
from engine.runtime.plan import ir
from engine.runtime.plan.fusing import Apart, Fused, apart, fused, where
from engine.runtime.plan.joining import joined_program
from engine.runtime.plan.lines import COMPUTE, MOVE, PYTHON, Line, Segment
from engine.runtime.plan.listing import Listing, listing
from engine.runtime.plan.structure import linearize
from engine.runtime.program import Program
from engine.types.device import DeviceSpec
from engine.types.site import Frame

if TYPE_CHECKING:
    from engine.runtime.config import ConfigProto
    from engine.runtime.executable import Executable
    from engine.runtime.plan.plan import Plan
    from engine.runtime.plan.specials import Special

INTERPRETER = "interpreter"

_WIDTH = 100
_LISTED = 40  # lines of the program, and nodes, in the text


@dataclass(frozen=True, slots=True)
class Kept:
    """A node that stayed in Python where its neighbours are machine code, its lines, and why."""

    node: str
    lines: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Partition:
    """What runs the nodes on one device ("" where none has been chosen: the host's CPU).

    `executor` is "plan: " with the backends, or "interpreter"; then `reason` says why, `node` names the node that it is about, or
    is "", and `where` is the user's line.
    """

    device: str
    nodes: int
    executor: str
    reason: str = ""
    node: str = ""
    where: Frame | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """How `Session.run` runs some fetches; its text is for reading.

    `note` says when the plan takes over, if that is not at once.  Where the interpreter runs, `listing` is None and the counts of
    instructions (lines that compute or move), branches and loops are 0.
    """

    fetches: tuple[str, ...]
    targets: tuple[str, ...]
    feeds: tuple[str, ...]
    stage: Stage
    note: str
    partitions: tuple[Partition, ...]
    listing: Listing | None
    instructions: int
    branches: int
    loops: int
    fused: tuple[Fused, ...]
    apart: tuple[Apart, ...]
    kept: tuple[Kept, ...] = ()

    @property
    def planned(self) -> bool:
        """Whether there is a plan."""
        return self.listing is not None

    @property
    def lines(self) -> tuple[Line, ...]:
        """The program's lines, each with the nodes that became it; () where there is no plan."""
        return self.listing.lines if self.listing is not None else ()

    def lines_of(self, node: str) -> tuple[int, ...]:
        """The numbers of the lines that stand for `node`."""
        return self.listing.lines_of(node) if self.listing is not None else ()

    def __str__(self) -> str:
        return "\n".join(_text(self))


def explain(executable: Executable, config: ConfigProto) -> Explanation:
    """What runs `executable` under this configuration.  Makes the plan if there is none yet; runs nothing."""
    stage, program = executable.stage, executable.program
    if config.plans == "off":
        return of_stage(stage, program, "ConfigProto.plans is 'off'")
    plan = executable.choice.compile(config)
    if plan is None:
        assert executable.choice.reason is not None
        return _made(stage, program, executable.choice.reason)
    special = special_of(plan)
    program = plan.executable.program
    notes = []
    if config.plans == "auto" and len(program.frames) == 1:
        notes.append("the first run is interpreted: most signatures that run once never run again")
    if special is not None and plan.specials is not None and plan.specials.worth > 1:
        notes.append(f"machine code from run {plan.specials.worth} of the plan with these shapes on")
    if special is None and plan.specials is not None and _fed_shapes(plan) is None:
        notes.append("machine code is made for the shapes that feeds turn out to have; these leave them open")
    if special is not None and special.blind:
        notes.append(f"watched at level values it runs as Python: {special.blind}")
    if special is None:
        return _made(stage, program, plan.linear, "; ".join(notes))
    return _made(stage, program, special.linear, "; ".join(notes), special.refused)


def special_of(plan: Plan) -> Special | None:
    """The plan with machine code in it: what ran last, or what will be where the static shapes of all feeds are known.

    None if there is none, or if shapes that are not known yet decide.
    """
    if plan.specials is None:
        return None
    made = [each for each in plan.specials.made.values() if each is not None]
    if made:
        return made[-1]
    shapes = _fed_shapes(plan)
    return plan.specials.make(shapes) if shapes is not None else None


def _fed_shapes(plan: Plan) -> tuple[tuple[int, ...], ...] | None:
    """The static shapes of what is fed, in order; None if one is not known in full."""
    stage = plan.executable.stage
    found: dict[int, tuple[int, ...]] = {}
    for node in stage:
        if node.type == "_Arg":
            shape = node.output_shapes[0]
            if not shape.is_fully_defined():
                return None
            found[node.attrs["index"]] = tuple(size for size in shape.as_list() if size is not None)
    return tuple(found[i] for i in range(len(stage.feeds))) if len(found) == len(stage.feeds) else None


def of_stage(stage: Stage, program: Program | None = None, off: str = "") -> Explanation:
    """What runs a stage, told from its nodes alone, as for a recorded one; `off` says why there is no plan, where that is known.

    Raises InvalidArgumentError for a stage that cannot be executed.
    """
    program = program or Program(stage, per_device=len(stage.devices) > 1)
    if off:
        return _made(stage, program, ir.NotExpressible(off))
    own = next((device for device in stage.devices if _has_memory_of_its_own(device)), None)
    if own is not None:
        reason = f"kernels run on {own}, which has a memory and streams of its own"
        return _made(stage, program, ir.NotExpressible(reason))
    try:
        program = joined_program(program)
        return _made(stage, program, linearize(program))
    except ir.NotExpressible as reason:
        return _made(stage, program, reason)


def _has_memory_of_its_own(device: str) -> bool:
    return bool(device) and DeviceSpec.from_string(device).device_type not in (None, "CPU")


def _made(
    stage: Stage,
    program: Program,
    found: ir.Linear | ir.NotExpressible,
    note: str = "",
    refused: Sequence[tuple[ir.Instruction, str]] = (),
) -> Explanation:
    reason = found if isinstance(found, ir.NotExpressible) else None
    item = reason.item if reason is not None else None
    listed = listing(found, program) if isinstance(found, ir.Linear) else None
    segments = listed.segments if listed is not None else ()
    backends = ", ".join(sorted({each.backend for each in segments}, reverse=True)) or PYTHON
    counts = Counter(node.device for node in stage)
    partitions = tuple(
        Partition(
            device,
            counts[device],
            INTERPRETER if reason is not None else f"plan: {backends}",
            reason.reason if reason is not None else "",
            item.name if item is not None else "",
            where(item.node) if item is not None else None,
            segments,
        )
        for device in stage.devices or ("",)
    )
    return Explanation(
        stage.fetches,
        stage.targets,
        stage.feeds,
        stage,
        note,
        partitions,
        listed,
        sum(line.kind in (COMPUTE, MOVE) for line in listed.lines) if listed is not None else 0,
        listed.branches if listed is not None else 0,
        listed.loops if listed is not None else 0,
        fused(stage),
        apart(stage),
        tuple(_kept(listed, refused)) if listed is not None else (),
    )


def _kept(listed: Listing, refused: Sequence[tuple[ir.Instruction, str]]) -> Iterator[Kept]:
    """What was refused and has lines of its own in Python, once a node."""
    native = {
        n for part in listed.segments if part.backend != PYTHON for n in range(part.first, part.last + 1)
    }
    told: set[str] = set()
    for each, why in refused:
        item = each.enters[0] if isinstance(each, ir.Loop) else getattr(each, "item", None)
        lines = listed.lines_of(item.name) if item is not None else ()
        if item is not None and lines and item.name not in told and not native.issuperset(lines):
            told.add(item.name)
            yield Kept(item.name, lines, why)


# Text.


def place_text(frame: Frame | None) -> str:
    """``layers.py:7``; '' where no line is known."""
    return f"{os.path.basename(frame.file)}:{frame.line}" if frame is not None else ""


def why_text(partition: Partition) -> str:
    """Why the interpreter runs a partition: the reason and the node."""
    return f"{partition.reason}: '{partition.node}'" if partition.node else partition.reason


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def _text(said: Explanation) -> list[str]:
    found = []
    for label, names in (("fetches", said.fetches), ("runs", said.targets), ("fed", said.feeds)):
        if names:
            found += _wrapped(f"{label:<9}", ", ".join(names))
    for part in said.partitions:
        found.append("")
        found.append(f"{part.device or 'on the host'}: {_count(part.nodes, 'node')}, {part.executor}")
        if part.reason:
            found += _wrapped("  because ", why_text(part))
        if part.where is not None:
            source = part.where.source
            found.append(f"  made at {place_text(part.where)}" + (f": {source}" if source else ""))
    if said.note:
        found += _wrapped("  ", said.note)
    if said.listing is not None:
        found += ["", _counts(said), "", *_program(said)]
    if said.kept:
        found += ["", "in Python all the same"]
        for each in said.kept[:_LISTED]:
            found += _wrapped(f"  {each.node}: ", each.reason)
        found += _rest(len(said.kept))
    if said.fused:
        found += ["", "fused"]
        for one in said.fused[:_LISTED]:
            found += _wrapped(f"  {one.node}: ", one.reason, place_text(one.where))
        found += _rest(len(said.fused))
    if said.apart:
        found += ["", "elementwise, and by itself"]
        for lone in said.apart[:_LISTED]:
            found += _wrapped(f"  {lone.node} ({lone.type}): ", lone.reason, place_text(lone.where))
        found += _rest(len(said.apart))
    return found


def _counts(said: Explanation) -> str:
    assert said.listing is not None
    counted = ((said.instructions, "instruction"), (said.branches, "branch"), (said.loops, "loop"))
    lines, values = _count(len(said.lines), "line"), _count(len(said.listing.values), "value")
    text = f"{lines}: {', '.join(_count(*each) for each in counted)}; {values}"
    stretches = segments_text(said.listing.segments)
    return f"{text}; {stretches}" if stretches else text


def segments_text(segments: Sequence[Segment]) -> str:
    """``tape 3–16, python 1–2 17–18``; '' where Python runs all."""
    found: dict[str, list[str]] = {}
    for each in sorted(segments, key=lambda each: each.backend, reverse=True):
        span = str(each.first) if each.first == each.last else f"{each.first}–{each.last}"
        found.setdefault(each.backend, []).append(span)
    if set(found) <= {PYTHON}:
        return ""
    return ", ".join(f"{backend} {' '.join(spans)}" for backend, spans in found.items())


def _program(said: Explanation) -> list[str]:
    width = len(str(len(said.lines)))
    found = []
    for line in said.lines[:_LISTED]:
        text = f"{line.number:>{width}}  {'  ' * line.depth}{line.text}"
        nodes = ", ".join(line.nodes)
        room = _WIDTH - len(text) - 3
        found.append(f"{text}   {nodes}" if nodes and len(nodes) <= room else text[:_WIDTH])
    return found + _rest(len(said.lines))


def _rest(count: int) -> list[str]:
    return [f"  … and {count - _LISTED:,} more"] if count > _LISTED else []


def _wrapped(head: str, text: str, tail: str = "") -> list[str]:
    whole: Sequence[str] = textwrap.wrap(
        head + text + (f"  [{tail}]" if tail else ""),
        _WIDTH,
        subsequent_indent=" " * min(len(head), 10),
        drop_whitespace=True,
        break_on_hyphens=False,
    )
    return list(whole)
