"""The parts of a step under the debugger, as terminal drawings: ready nodes, waiting tokens, source, results.

Marks: ``▶`` runs next, ``●`` a breakpoint, ``✓`` a token that has arrived, ``✗`` a dead one, ``·`` one that has not come yet.
"""

from __future__ import annotations

import re

from rich.style import Style

from viz import format as fmt
from viz.cells import Drawing, Line, Page, Piece, fit, line_width, spread
from viz.families import family
from viz.flow_model import Summary
from viz.palette import Palette
from viz.step_model import Activation, Executed, Source, StepView, Token, Waiting

# status: mark, palette colour, words
STATUS = {
    "waiting_for_run": ("◌", "muted", "the script runs; waiting for its next Session.run"),
    "stopped": ("‖", "accent", "stopped between two nodes"),
    "running": ("▶", "good", "running"),
    "finished": ("✓", "muted", "the script has ended"),
    "failed": ("✗", "bad", "the script has failed"),
    "detached": ("◌", "muted", "detached; the script runs on by itself"),
}

_TOKENS = {"value": ("✓", "good"), "dead": ("✗", "bad"), "missing": ("·", "faint")}


def status_line(view: StepView, palette: Palette, width: int) -> Line:
    """What the script is doing, why it stopped, how far it is."""
    mark, colour, words = STATUS.get(view.status, ("?", "muted", view.status))
    text = view.reason if view.status == "stopped" and view.reason else words
    if view.status == "running" and view.now is not None:
        text = running_text(view, max(12, width - 30))
    left: Line = [(f" {mark} ", palette.style(getattr(palette, colour), bold=True)), (text, palette.plain)]
    rights = [""]
    if view.is_over and view.exit_code is not None:
        rights = [f"exit status {view.exit_code} ", ""]
    elif view.title:
        run = f"{fmt.count(view.executed)} run"
        if view.status == "running" and view.pace >= 1:
            run += f" · {fmt.count(round(view.pace))}/s"
        if view.past:  # what is shown is not where the script stands
            run = f"run {view.run} of {view.runs}, in the past · {run}"
        rights = [
            f"{run} · {fmt.plural(view.nodes, 'node')} · {view.title} ",
            f"{run} · {view.title} ",
            f"{run} ",
            "in the past " if view.past else "",
            "",
        ]
    # What is said on the left matters more.
    room = width - len(text) - 5
    right = next((each for each in rights if len(each) <= room), "")
    return spread(left, [(right, palette.dim)], width)


_LONG_NS = 100_000_000  # from which on it is said how long something has been executing


def lasts(duration_ns: int) -> str:
    """For how long something has been executing, where that is remarkable; empty where not."""
    return fmt.duration(duration_ns) if duration_ns >= _LONG_NS else ""


def running_text(view: StepView, width: int) -> str:
    """What executes now, in at most `width` cells."""
    if view.now is None:
        return "running"
    lasting = lasts(view.now_ns)
    lasting = f"  {lasting}" if lasting else ""
    return f"running  {fmt.shorten_name(view.now.node, max(6, width - 9 - len(lasting)))}{lasting}"


def _placed(left: Line, here: Activation, palette: Palette, width: int) -> Line:
    used = sum(len(text) for text, _ in left)
    where = fmt.shorten(here.where, max(6, width - 19))
    room = max(6, width - used - (len(where) + 2 if where else 1))
    style = palette.style(palette.faint, strike=True) if here.dead else palette.plain
    name = fmt.shorten_name(here.node, room - (5 if here.dead else 0))
    line = [*left, (name, style)]
    if here.dead:
        line.append((" dead", palette.style(palette.bad)))
    return spread(line, [(where + " ", palette.style(palette.hues[3]))] if where else [], width)


def value_pieces(token: Token, palette: Palette, width: int) -> list[Piece]:
    """A token in at most `width` cells: its type, then its value, or its range where the value is long."""
    if token.state == "dead":
        return [
            ("dead", palette.style(palette.bad)),
            (fmt.shorten("  its branch was not taken", width - 4), palette.dim),
        ]
    if token.state == "missing":
        return [("not yet", palette.dim)]
    return summary_pieces(token.value, palette, width) if token.value is not None else []


def summary_pieces(value: Summary, palette: Palette, width: int) -> list[Piece]:
    """A value in at most `width` cells: its type, then all of it, or its range where it is long."""
    kind = fmt.tensor(value.type, value.shape) if value.type else ""
    kind = fmt.shorten(kind, width)
    pieces: list[Piece] = [(kind, palette.quiet)]
    left = width - len(kind) - 2
    text = value.text
    if (len(text) > left or not value.complete) and value.low is not None and value.high is not None:
        text = f"{fmt.number(value.low)} … {fmt.number(value.high)}"
        if value.mean is not None:
            text += f", mean {fmt.number(value.mean)}"
    bad = "".join(
        f"  {fmt.count(many)} {word}" for many, word in ((value.nan, "NaN"), (value.inf, "Inf")) if many
    )
    if left > 3 and text:
        pieces.append(("  " + fmt.shorten(text, left - len(bad)), palette.plain))
    if bad:
        pieces.append((bad, palette.style(palette.bad, bold=True)))
    return pieces


def _token(page: Page, token: Token, palette: Palette, indent: str) -> None:
    mark, colour = _TOKENS.get(token.state, ("?", "muted"))
    slot = "^" if token.slot < 0 else str(token.slot)
    head: Line = [(f"{indent}{mark} ", palette.style(getattr(palette, colour))), (f"{slot} ", palette.dim)]
    used = len(indent) + 3 + len(slot)
    name = fmt.shorten_name(token.name, max(8, (page.width - used) * 2 // 5))
    room = page.width - used - len(name) - 3
    value = value_pieces(token, palette, room) if token.slot >= 0 or token.state == "dead" else []
    style = palette.style(palette.faint, strike=True) if token.state == "dead" else palette.quiet
    page.add(*head, (name, style), ("  ", palette.plain), *value, key=token.name.lstrip("^").split(":")[0])


def draw_inputs(view: StepView, palette: Palette, width: int) -> Drawing:
    """What the next node reads, and what came out of the last one."""
    page = Page(width)
    if view.next is not None:
        _head(page, "next", view.next, palette)
        for token in view.next_inputs:
            _token(page, token, palette, "   ")
        if not view.next_inputs:
            page.add(("   reads nothing", palette.dim))
    if view.last is not None:
        page.blank()
        _executed(page, view.last, palette)
    if not page.lines:
        page.add((" nothing has run yet", palette.dim))
    return page.drawing()


def _head(page: Page, title: str, here: Activation, palette: Palette, right: str = "") -> None:
    kind = family(here.type)
    tail = "  ".join(part for part in (here.where, right) if part)
    left: Line = [(f" {title}  ", palette.title), (f"{kind.mark} ", palette.style(palette.hue(kind.hue)))]
    rest: Line = [(f"  {here.type}", palette.quiet)]
    if here.dead:
        rest.append(("  dead", palette.style(palette.bad)))
    room = page.width - line_width(left) - len(tail) - 2
    if room - line_width(rest) < 16:
        rest = rest[1:]
    left.append((fmt.shorten_name(here.node, max(6, room - line_width(rest))), palette.strong))
    line = spread([*left, *rest], [(tail + " ", palette.style(palette.hues[3]))], page.width)
    page.add(*line, key=here.node)
    if here.original:
        name = fmt.shorten_name(here.original, page.width - 17)
        page.add(("   gradient of ", palette.quiet), (name, palette.style(palette.accent)), key=here.original)


def _executed(page: Page, row: Executed, palette: Palette) -> None:
    _head(page, "last", row.activation, palette, fmt.duration(row.duration_ns) if row.duration_ns else "")
    for token in row.outputs:
        _token(page, token, palette, "   ")
    if not row.outputs:
        page.add(("   gives nothing", palette.dim))


def draw_waiting(rows: tuple[Waiting, ...], count: int, palette: Palette, width: int) -> Drawing:
    """Nodes that hold some of their inputs, with every input's token; hits are node names."""
    page = Page(width)
    for row in rows:
        kind = family(row.activation.type)
        left: Line = [(f" {kind.mark} ", palette.style(palette.hue(kind.hue)))]
        page.add(*_placed(left, row.activation, palette, width), key=row.activation.node)
        for token in row.inputs:
            _token(page, token, palette, "   ")
    if not rows:
        page.add((" no node holds a part of its inputs", palette.dim))
    elif count > len(rows):
        page.add((f" and {fmt.count(count - len(rows))} more", palette.dim))
    return page.drawing()


def draw_source(source: Source | None, palette: Palette, width: int, height: int) -> Drawing:
    """The user's lines, as many as fit, the one that matters in their middle and marked."""
    page = Page(width)
    if source is None:
        page.add((" the line that made it is not known", palette.dim))
        return page.drawing()
    if not source.lines:
        page.add((f" {source.file}:{source.line} cannot be read", palette.dim))
        return page.drawing()
    at = source.line - source.first
    height = max(1, min(height, len(source.lines)))
    first = min(max(0, at - height // 2), len(source.lines) - height)
    digits = len(str(source.first + len(source.lines)))
    for position in range(first, first + height):
        number = source.first + position
        text = source.lines[position].expandtabs(4).rstrip()
        if position == at:
            base = palette.style(palette.text, palette.selection, bold=True)
            arrow = palette.style(palette.accent, palette.selection, bold=True)
            page.add(*fit([(f" {number:>{digits}} ▸ ", arrow), (text, base)], width, base))
        else:
            page.add((f" {number:>{digits}}   ", palette.dim), (text, palette.quiet))
    return page.drawing()


_ESCAPES = re.compile(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])")


def draw_text(text: str, style: Style, width: int) -> Drawing:
    """What a program printed, for output and tracebacks: long lines broken, colours and other control sequences left out.

    Of a line that was written over (a progress bar) the last state is shown.
    """
    page = Page(width)
    room = max(4, width - 1)
    for line in _ESCAPES.sub("", text).split("\n"):
        line = line.rstrip("\r").rpartition("\r")[2]
        line = "".join(
            character for character in line if character.isprintable() or character == "\t"
        ).expandtabs(4)
        while len(line) > room:
            page.add((" " + line[:room], style))
            line = "  " + line[room:]
        page.add((" " + line, style))
    while page.lines and not "".join(piece for piece, _ in page.lines[-1]).strip():
        page.lines.pop()
    return page.drawing()
