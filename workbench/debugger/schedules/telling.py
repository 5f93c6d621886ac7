"""Races and explorations as the data that screens, notebooks and the wire have of them (`viz.schedule_model`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.runtime.program import Program
from viz.schedule_model import (
    MAX_CODE,
    MAX_OUTCOMES,
    MAX_OUTSIDE,
    MAX_RACES,
    MAX_SCHEDULE,
    MAX_VALUES,
    AccessView,
    Difference,
    ExplorationView,
    OrderView,
    OutcomeView,
    PairView,
    RaceList,
    RaceView,
    Result,
    ShownRace,
)
from workbench.debugger import source
from workbench.debugger.frame_notes import path
from workbench.debugger.schedules.exploration import Exploration, Pair
from workbench.debugger.schedules.races import Race, Side
from workbench.debugger.schedules.record import Schedule
from workbench.debugger.schedules.showing import Shown
from workbench.debugger.schedules.walk import Outcome, differing, shown

if TYPE_CHECKING:
    from workbench.debugger.entries import Entry

Latest = Mapping[int, "Entry"]  # the latest execution of each item that has one, by the item's index


def race_list(found: Sequence[Race], program: Program, latest: Latest | None = None) -> RaceList:
    """The races of a program; with the `latest` executions, also where its nodes have run."""
    told = tuple(race_view(each, program, latest) for each in found[:MAX_RACES])
    return RaceList(told, len(found))


def race_view(race: Race, program: Program, latest: Latest | None = None) -> RaceView:
    """One race."""
    return RaceView(
        race.number,
        race.resource,
        race.kind,
        _access(race.first, program, latest or {}),
        _access(race.second, program, latest or {}),
        race.loop,
        race.distance,
        race.why,
        race.adds,
    )


def _access(side: Side, program: Program, latest: Latest) -> AccessView:
    item = program.by_name[side.node]
    entry = latest.get(item.index)
    at = entry.activation if entry is not None else None
    return AccessView(
        side.node,
        side.type,
        side.kind.value,
        side.kind.writes,
        side.device,
        item.frame.name,
        path(at.frame, at.iteration) if at is not None else "",
        at.iteration if at is not None else -1,
        entry.row if entry is not None else -1,
        side.file,
        side.line,
        f"{source.short_path(side.file)}:{side.line}" if side.file else "",
        side.source[:MAX_CODE],
    )


def shown_race(
    race: RaceView, result: Shown, fetches: Sequence[str], outside: Sequence[str] = ()
) -> ShownRace:
    """A race that was run in both orders.

    fetches: the names of what was fetched.  outside: the nodes whose effects outside of the engine happened each time.
    """
    nodes = race.first.node, race.second.node
    first, second = (
        OrderView(early, late, outcome_view(outcome, schedule, fetches), why_not)
        for (early, late), outcome, schedule, why_not in zip(
            (nodes, nodes[::-1]), result.outcomes, result.schedules, result.why_not, strict=True
        )
    )
    differences = _differences(*result.outcomes, fetches) if result.both else ()
    return ShownRace(race, first, second, differences, tuple(outside[:MAX_OUTSIDE]))


def exploration(found: Exploration, limit: int = 0) -> ExplorationView:
    """What exploring came to; `limit` is how many schedules it was bounded by."""
    return ExplorationView(
        tuple(
            outcome_view(each.outcome, each.schedule, found.fetches, each.count, found.outcomes[0].outcome)
            for each in found.outcomes[:MAX_OUTCOMES]
        ),
        len(found.outcomes),
        found.explored,
        found.pruned,
        found.complete,
        found.pending,
        limit,
        found.orders,
        found.accesses,
        found.executions,
        found.seconds,
        _pair(found.pair, found.fetches) if found.pair is not None else None,
        found.repeated[:MAX_OUTSIDE],
    )


def _pair(pair: Pair, fetches: Sequence[str]) -> PairView:
    first, second = pair.first, pair.second
    return PairView(
        outcome_view(first.outcome, first.schedule, fetches, first.count),
        outcome_view(second.outcome, second.schedule, fetches, second.count),
        pair.swapped or (),
        _differences(first.outcome, second.outcome, fetches),
        iterations=pair.iterations if pair.swapped is not None else (),
    )


def outcome_view(
    outcome: Outcome,
    schedule: Schedule,
    fetches: Sequence[str] = (),
    count: int = 1,
    against: Outcome | None = None,
) -> OutcomeView:
    """What a schedule came to; `against` is what its differences are from."""
    values = [Result(name, shown(value), fetched) for name, value, fetched in outcome.results(fetches)]
    string = str(schedule)
    return OutcomeView(
        string if len(string) <= MAX_SCHEDULE else "",
        tuple(values[:MAX_VALUES]),
        max(0, len(values) - MAX_VALUES),
        outcome.error,
        outcome.stuck,
        count,
        _differences(against, outcome, fetches) if against is not None else (),
    )


def _differences(first: Outcome, second: Outcome, fetches: Sequence[str]) -> tuple[Difference, ...]:
    return tuple(differing(first, second, fetches)[:MAX_VALUES])
