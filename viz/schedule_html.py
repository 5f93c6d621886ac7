"""Races and explorations as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

from viz.format import plural, shorten
from viz.html import QUIET, STRONG, paragraph, table
from viz.schedule_model import (
    NO_RACES,
    AccessView,
    Difference,
    ExplorationView,
    OutcomeView,
    PairView,
    RaceList,
    RaceView,
    ShownRace,
    table_of,
)

SHOWN = 12  # races, outcomes, and values of an outcome
_SCHEDULE = 60  # characters of a schedule


def races(found: RaceList) -> str:
    """The races of a graph: a table of the accesses for each."""
    if not found.races:
        return paragraph(NO_RACES)
    parts = [paragraph(plural(found.count, "race"), STRONG)]
    for race in found.races[:SHOWN]:
        parts += [_accesses(race), *(paragraph(each, QUIET) for each in race.notes)]
    more = found.count - min(SHOWN, len(found.races))
    if more > 0:
        parts.append(paragraph(f"… and {more} more", QUIET))
    return f"<div>{''.join(parts)}</div>"


def shown(found: ShownRace) -> str:
    """A race in both orders, side by side."""
    parts = [paragraph(found.race.sentence, STRONG), _accesses(found.race)]
    for head, order in zip(found.heads, (found.first, found.second), strict=True):
        if order.why_not:
            parts.append(paragraph(f"{head}: not this order: {order.why_not}", QUIET))
    parts.append(paragraph(found.verdict.rstrip(":")))
    parts.append(_side_by_side(found.heads, found.first.outcome, found.second.outcome, found.differences))
    return f"<div>{''.join(parts)}</div>"


def explored(found: ExplorationView) -> str:
    """An exploration: the outcomes, and the two nearest that differ."""
    parts = [paragraph(found.verdict, STRONG)]
    rows = [
        (str(each.count), _short(each.schedule), "\n".join(each.lines(6))) for each in found.outcomes[:SHOWN]
    ]
    parts.append(
        table(
            "outcomes",
            ("schedules", "the shortest", "what it comes to"),
            rows,
            found.outcome_count - len(rows),
        )
    )
    if found.pair is not None:
        parts.append(pair(found.pair))
    parts += [paragraph(each, QUIET) for each in (found.bound, found.cost) if each]
    return f"<div>{''.join(parts)}</div>"


def pair(found: PairView) -> str:
    """Two schedules that differ, side by side."""
    heads = ("the first", "the second")
    if len(found.swapped) == 2:
        one, two = found.names
        heads = (f"{one}, then {two}", f"{two}, then {one}")
    return paragraph(found.sentence.rstrip(":")) + _side_by_side(
        heads, found.first, found.second, found.differences
    )


def _accesses(race: RaceView) -> str:
    rows = [_access(race.first), _access(race.second)]
    title = f"{race.number}. the {race.kind} '{race.resource}'"
    return table(title, ("", "node", "type", "device", "last ran", "made at", ""), rows)


def _access(side: AccessView) -> tuple[str, ...]:
    ran = f"#{side.row} in {side.place}" if side.row >= 0 else "not yet"
    return (side.access, side.node, side.type, side.device, ran, side.where or "by the engine", side.code)


def _side_by_side(
    heads: tuple[str, str], first: OutcomeView, second: OutcomeView, differences: Sequence[Difference]
) -> str:
    rows = table_of(first, second, differences)
    lines = [("schedule", _short(first.schedule), _short(second.schedule))]
    lines += [(name, one, other) for name, one, other, _ in rows[:SHOWN]]
    strong = [False, *(each[3] for each in rows[:SHOWN])]
    more = len(rows) - SHOWN + first.omitted
    return table("", ("", *heads), lines, max(0, more), strong)


def _short(schedule: str) -> str:
    return shorten(schedule, _SCHEDULE) if schedule else "too long to be told"
