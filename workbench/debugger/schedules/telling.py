"""Races and explorations in words."""

from __future__ import annotations

from collections.abc import Sequence

from viz.format import plural
from workbench.debugger import source
from workbench.debugger.schedules.exploration import Exploration
from workbench.debugger.schedules.races import Race, Side
from workbench.debugger.schedules.showing import Shown

MAX_LISTED = 100
_MAX_LINES = 12  # of one outcome
_MAX_OUTCOMES = 10


def listed(found: Sequence[Race]) -> str:
    """The list of a graph's races."""
    if not found:
        return "no races: any two accesses to one resource, at least one a write, are ordered or exclude each other"
    lines = [plural(len(found), "race")]
    for race in found[:MAX_LISTED]:
        lines.append(f"{race.number}. {race}")
        lines += [f"     {_side(each)}" for each in dict.fromkeys((race.first, race.second))]
        lines += [f"     {each}" for each in race.why]
        if race.adds:
            lines.append(
                "     both add: the sum at the end is the same but for rounding, what is read between is not"
            )
    if len(found) > MAX_LISTED:
        lines.append(f"… and {len(found) - MAX_LISTED} more")
    lines.append("races show N runs number N in both orders")
    return "\n".join(lines)


def _side(side: Side) -> str:
    place = (
        f"{source.short_path(side.file)}:{side.line}  {side.source}".rstrip()
        if side.file
        else "made by the engine"
    )
    device = f"  on {side.device}" if side.device else ""
    return f"{side.node} ({side.type}){device}  {place}"


def both_ways(race: Race, result: Shown, fetches: Sequence[str]) -> list[str]:
    """A race that was run in both orders; `fetches` are the names of what was fetched."""
    first, second = race.first.node, race.second.node
    later = " (of a later iteration)" if race.distance else ""
    heads = (f"{first}, then {second}{later}", f"{second}{later}, then {first}")
    lines = [str(race)]
    for head, schedule_, outcome, why_not in zip(
        heads, result.schedules, result.outcomes, result.why_not, strict=True
    ):
        lines.append(f"  {head}: schedule replay {schedule_}")
        if why_not:
            lines.append(f"    not this order: {why_not}")
        lines += [f"    {line}" for line in outcome.lines(fetches)[:_MAX_LINES]]
    if not result.both:
        lines.append("  in this step, from here, only one order can be had")
    elif not result.differences:
        lines.append("  both orders come to the same, bit for bit, in this step")
    else:
        lines.append("  the results differ:")
        lines += [f"    {line}" for line in result.differences[:_MAX_LINES]]
    return lines


def explored(found: Exploration) -> list[str]:
    """What exploring came to."""
    seconds = f"{found.seconds:.2f} s"
    orders = f"{found.orders:,}" if found.orders else "too many to count"
    if found.complete:
        scope = f"all {plural(found.orders, 'schedule')}" if found.orders else "all schedules"
        reduced = f"{plural(found.explored, 'schedule')} explored after reduction"
    else:
        scope = "all explored schedules"
        reduced = f"explored {found.explored:,} of at least {found.explored + found.pending:,}, then stopped"
    lines = []
    if found.agree:
        lines.append(f"{scope} agree ({reduced})" if found.orders != 1 else "there is only one schedule")
        lines += [f"  {line}" for line in found.outcomes[0].outcome.lines(found.fetches)[:_MAX_LINES]]
    elif found.outcomes:
        lines.append(f"{plural(len(found.outcomes), 'outcome')} of {scope} ({reduced})")
        for each in found.outcomes[:_MAX_OUTCOMES]:
            lines.append(f"  {plural(each.count, 'time')}: {each.schedule}")
            lines += [f"      {line}" for line in each.outcome.lines(found.fetches)[:6]]
        if len(found.outcomes) > _MAX_OUTCOMES:
            lines.append(f"  … and {len(found.outcomes) - _MAX_OUTCOMES} more")
    else:
        lines.append(f"not one schedule was done in time ({reduced})")
    if found.pair is not None:
        lines += _pair(found)
    if not found.complete:
        lines.append(f"orders of the accesses alone: {orders}; explore LIMIT goes on further")
    lines.append(
        f"{plural(found.accesses, 'access', 'accesses')} to resources, {plural(found.executions, 'execution')}, {seconds}"
    )
    return lines + repeated(found.repeated)


def repeated(names: Sequence[str]) -> list[str]:
    """What is said of nodes whose effects happened each time."""
    if not names:
        return []
    return [f"what these do outside of the engine, they did each time: {', '.join(names[:6])}"]


def _pair(found: Exploration) -> list[str]:
    assert found.pair is not None
    pair = found.pair
    lines = []
    if pair.swapped is not None:
        one, two = pair.swapped
        lines.append(f"the smallest difference: {one} before {two}, or {two} before {one}")
    else:
        lines.append("the nearest two that differ:")
    lines += [f"  schedule replay {each.schedule}" for each in (pair.first, pair.second)]
    return lines + [f"    {line}" for line in pair.differences[:_MAX_LINES]]
