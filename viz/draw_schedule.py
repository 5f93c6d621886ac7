"""Races and explorations as lists: each row leads to the node, execution, race or schedule that it is about.

Hits are ``("execution", row, node)``, a node's name, ``("race", number)``, ``("outcome", index)``, and ``("order", 0 or 1)`` for
the first or the second of two schedules.  Marks: ``◆`` a race, ``●`` an outcome, ``≠`` a value that differs, ``(`` and ``)`` the
first and the second schedule, as the keys that replay them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len

from tracing.frames import frame_label
from viz import format as fmt
from viz.cells import Drawing, Line, Page, line_width, spread, wrap
from viz.families import family
from viz.flow_model import short_path
from viz.palette import Palette
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
    repeated,
    table_of,
)

ORDER_MARKS = "(", ")"
_LINES = 5  # of one sentence, or of one value
_RESULTS = 6  # of an outcome among others
_TOO_LONG = "a schedule too long to be told"
_NAME_SHARE = 0.34  # of the width, for the names of values

Head = tuple[str, ...]  # what an order is called: nodes, one after the other, or a name


def draw_races(found: RaceList, palette: Palette, width: int) -> Drawing:
    """The races of a graph: for each its accesses and why nothing orders them."""
    page = _page("races", palette, width)
    if not found.races:
        page.words(NO_RACES, palette.strong)
        return page.drawing()
    page.add((f" {fmt.plural(found.count, 'race')}", palette.strong))
    page.words("⏎ or = both orders, ( ) replay one", palette.dim)
    for race in found.races:
        _race(page, race, palette, ("race", race.number))
        _accesses(page, race, palette)
        for sentence in race.notes:
            _indented(page, sentence, palette)
    if found.count > len(found.races):
        page.add((f"   … and {fmt.count(found.count - len(found.races))} more", palette.dim))
    return page.drawing()


def draw_shown(found: ShownRace, palette: Palette, width: int) -> Drawing:
    """A race in both orders, side by side."""
    page = _page(f"races show {found.race.number}", palette, width, _said(found))
    _race(page, found.race, palette)
    first, second = found.race.first.node, found.race.second.node
    later = " (later)" if found.race.distance else ""
    _side_by_side(
        page,
        ((first, second + later), (second + later, first)),
        (found.first.outcome, found.second.outcome),
        found.differences,
        palette,
        (found.first.why_not, found.second.why_not),
    )
    page.blank()
    _accesses(page, found.race, palette)
    _outside(page, found.outside, palette)
    return page.drawing()


def draw_pair(found: PairView, palette: Palette, width: int) -> Drawing:
    """Two schedules that come to different outcomes, side by side."""
    page = _page("two schedules", palette, width)
    _pair(page, found, palette)
    return page.drawing()


def draw_exploration(found: ExplorationView, palette: Palette, width: int) -> Drawing:
    """The outcomes, each with its schedule and how it differs from the first; then the two nearest that differ."""
    page = _page("explore", palette, width)
    page.words(found.verdict, palette.strong)
    if found.outcome_count > 1:
        page.words("⏎ or = beside the first, space replays", palette.dim)
    for index, each in enumerate(found.outcomes):
        key = ("outcome", index)
        colour = palette.bad if each.error or each.stuck else palette.hues[index % len(palette.hues)]
        left: Line = [(" ● ", palette.style(colour)), (f"{index + 1}  ", palette.quiet)]
        left.append((fmt.plural(each.count, "schedule"), palette.plain))
        page.add(*_with_schedule(left, each, palette, width), key=key)
        _outcome(page, each, index, palette)
    more = found.outcome_count - len(found.outcomes)
    if more > 0:
        page.add((f"   … and {fmt.count(more)} more", palette.dim))
    if found.pair is not None:
        page.blank()
        _pair(page, found.pair, palette)
        page.blank()
    for said in (found.bound, found.cost):
        page.words(said, palette.dim)
    _outside(page, found.outside, palette)
    return page.drawing()


DRAWERS: dict[type, Callable[[Any, Palette, int], Drawing]] = {
    RaceList: draw_races,
    ShownRace: draw_shown,
    ExplorationView: draw_exploration,
    PairView: draw_pair,
}


# Accesses.


def _race(page: Page, race: RaceView, palette: Palette, key: Any = None) -> None:
    left: Line = [(" ◆ ", palette.style(palette.bad)), (f"{race.number}  ", palette.quiet)]
    room = max(6, page.width - 6 - len(str(race.number)) - len(race.kind))
    left += [(fmt.shorten_name(race.resource, room), palette.strong), (f"  {race.kind}", palette.dim)]
    page.add(*left, key=key)


def leads_to(side: AccessView) -> Any:
    """What an access leads to: its latest execution, or its node."""
    return ("execution", side.row, side.node) if side.row >= 0 else side.node


def _accesses(page: Page, race: RaceView, palette: Palette) -> None:
    sides = tuple(dict.fromkeys((race.first, race.second)))
    verb = max(len(each.access) for each in sides)
    for side in sides:
        _access(page, side, verb, palette)


def _access(page: Page, side: AccessView, verb: int, palette: Palette) -> None:
    """What it does, the node, where and when it ran; below, the line that made it."""
    key, kind, width = leads_to(side), family(side.type), page.width
    style = palette.style(palette.warning) if side.writes else palette.quiet
    ran = f"#{fmt.count(side.row)}" if side.row >= 0 else "not yet"
    where = short_path(side.place) if side.row >= 0 else frame_label(side.frame)
    device = fmt.device(side.device) if side.device else ""
    notes = [part for part in (where, device, ran) if part]
    room = width - verb - 8  # for the node and what is said of it
    while len(notes) > 1 and cell_len("  ".join(notes)) + cell_len(side.node) + 2 > room:
        notes.pop(0)
    note = "  ".join(notes)
    left: Line = [
        (f"   {side.access:<{verb}}  ", style),
        (f"{kind.mark} ", palette.style(palette.hue(kind.hue))),
    ]
    left.append((fmt.shorten_name(side.node, max(6, room - cell_len(note))), palette.plain))
    shade = palette.style(palette.hues[3]) if side.row >= 0 else palette.dim
    page.add(*spread(left, [(note + " ", shade)], width), key=key)
    if side.where:
        indent = " " * (verb + 7)
        line = side.where.rsplit("/", 1)[-1]
        code = fmt.shorten(side.code, max(0, width - cell_len(indent + line) - 3))
        page.add((indent + line, palette.style(palette.accent)), (f"  {code}", palette.dim), key=key)


# Outcomes.


def _outcome(page: Page, outcome: OutcomeView, index: int, palette: Palette) -> None:
    """What it comes to: of the first all that fits, of the others how they differ from it."""
    key = ("outcome", index)
    room = max(8, page.width - 8)
    if outcome.error or outcome.stuck:
        for line in _lines(outcome.error or outcome.stuck, room):
            page.add((f"      {line}", palette.style(palette.bad)), key=key)
        return
    if not outcome.differences:
        for result in outcome.results[:_RESULTS]:
            _value(page, "      ", result.name, result.value, palette, key)
        more = len(outcome.results) + outcome.omitted - _RESULTS
    else:
        for each in outcome.differences[:_RESULTS]:
            _value(page, "    ≠ ", each.name, each.second, palette, key)
        more = len(outcome.differences) - _RESULTS
    if more > 0:
        page.add((f"      … and {fmt.count(more)} more", palette.dim), key=key)


def _value(page: Page, lead: str, name: str, value: str, palette: Palette, key: Any) -> None:
    room = max(4, page.width - len(lead) - 3)
    name = fmt.shorten_name(name, max(4, room * 2 // 3))
    value = fmt.shorten(value, max(1, room - cell_len(name)))
    style = palette.style(palette.bad)
    page.add((lead, style), (name, palette.plain), (" = ", palette.dim), (value, palette.plain), key=key)


def _with_schedule(left: Line, outcome: OutcomeView, palette: Palette, width: int) -> Line:
    """A row with the outcome's schedule at its right end, as far as there is room."""
    room = width - line_width(left) - 4
    string = fmt.shorten(outcome.schedule or _TOO_LONG, room)
    right: Line = [(string + " ", palette.style(palette.accent))] if room >= 6 else []
    return spread(left, right, width)


# Two side by side.


def _pair(page: Page, pair: PairView, palette: Palette) -> None:
    page.words(pair.sentence.rstrip(":"), palette.strong)
    heads: tuple[Head, Head] = (("the first",), ("the second",))
    if len(pair.numbers) == 2:
        one, two = (f"outcome {fmt.count(number)}" for number in pair.numbers)
        heads = ((one,), (two,))
    elif len(pair.swapped) == 2:
        heads = (pair.names, pair.names[::-1])
        for node in pair.swapped:
            page.add(
                ("   · ", palette.dim),
                (fmt.shorten_name(node, max(6, page.width - 7)), palette.plain),
                key=node,
            )
    _side_by_side(page, heads, (pair.first, pair.second), pair.differences, palette)


def _side_by_side(
    page: Page,
    heads: tuple[Head, Head],
    outcomes: tuple[OutcomeView, OutcomeView],
    differences: Sequence[Difference],
    palette: Palette,
    why_not: tuple[str, str] = ("", ""),
) -> None:
    """Both orders with their schedules, then a row for each value."""
    width = page.width
    for side in (0, 1):
        key = ("order", side)
        lead: Line = [(f" {ORDER_MARKS[side]} ", palette.style(palette.accent, bold=True))]
        head = _head(heads[side], max(8, width - 4))
        schedule = outcomes[side].schedule or _TOO_LONG
        lead.append((head, palette.plain))
        if cell_len(head) + cell_len(schedule) + 7 <= width:
            page.add(*_with_schedule(lead, outcomes[side], palette, width), key=key)
        else:
            page.add(*lead, key=key)
            shortened = fmt.shorten(schedule, max(4, width - 5))
            page.add((f"   {shortened}", palette.style(palette.accent)), key=key)
        for line in wrap(f"not this order: {why_not[side]}", max(8, width - 6)) if why_not[side] else ():
            page.add((f"   {line}", palette.style(palette.warning)), key=key)
    rows = table_of(*outcomes, differences)
    if not rows:
        return
    names = max(min(max(cell_len(name) for name, *_ in rows), round(width * _NAME_SHARE)), 4)
    column = max(4, (width - names - 6) // 2)
    if any(_fits(row[1:3], column) for row in rows):
        head = f"   {'':<{names}} {ORDER_MARKS[0]:<{column}} {ORDER_MARKS[1]}"
        page.add((head, palette.style(palette.accent, bold=True)))
    for name, first, second, differs in rows:
        _row(page, (name, first, second), differs, names, column, palette)
    omitted = max(each.omitted for each in outcomes)
    if omitted > 0:
        page.add((f"   … and {fmt.count(omitted)} more", palette.dim))


def _head(names: Head, room: int) -> str:
    """An order in one line."""
    then = ", then "
    left = (room - len(then) * (len(names) - 1)) // len(names)
    whole = then.join(names)
    return (
        whole
        if cell_len(whole) <= room
        else then.join(fmt.shorten_name(name, max(4, left)) for name in names)
    )


def _row(
    page: Page, cells: tuple[str, str, str], differs: bool, names: int, column: int, palette: Palette
) -> None:
    """A value of both outcomes: in two columns, or below each other where it is too long for that."""
    name, *values = cells
    mark = (" ≠ ", palette.style(palette.bad)) if differs else ("   ", palette.dim)
    style = palette.plain if differs else palette.quiet
    if _fits(values, column):
        first, second = (fmt.pad(each, column) for each in values)
        page.add(mark, (fmt.pad(fmt.shorten_name(name, names), names), style), (f" {first} {second}", style))
        return
    page.add(mark, (fmt.shorten_name(name, max(4, page.width - 4)), style))
    room = max(8, page.width - 8)
    for side, value in zip(ORDER_MARKS, values, strict=True):
        for index, line in enumerate(_lines(value, room)):
            lead = f"     {side if not index else ' '} "
            page.add((lead, palette.style(palette.accent)), (line, style))


def _fits(values: Sequence[str], column: int) -> bool:
    return all(cell_len(each) <= column for each in values)


def _said(found: ShownRace) -> str:
    """The verdict in a few words."""
    if not found.both:
        return "one order only"
    count = len(found.differences)
    return (
        f"{fmt.plural(count, 'value')} differ" + ("s" if count == 1 else "")
        if count
        else "both come to the same"
    )


# Lines.


def _page(question: str, palette: Palette, width: int, note: str = "") -> Page:
    page = Page(width)
    left: Line = [(f" {question}", palette.quiet)]
    page.add(*(spread(left, [(note + " ", palette.style(palette.warning))], width) if note else left))
    return page


def _lines(text: str, width: int) -> list[str]:
    """A sentence or a value in lines, not too many of them."""
    lines = wrap(text, width)
    if len(lines) > _LINES:
        lines[_LINES - 1 :] = [fmt.shorten(lines[_LINES - 1], width - 2) + " …"]
    return lines


def _indented(page: Page, text: str, palette: Palette) -> None:
    for line in _lines(text, max(8, page.width - 5)):
        page.add((f"   {line}", palette.dim))


def _outside(page: Page, names: Sequence[str], palette: Palette) -> None:
    for sentence in repeated(names):
        _indented(page, sentence, palette)
