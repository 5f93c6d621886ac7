"""One execution in full, as a terminal drawing: what it took and gave with a small histogram, what it changed, where it is from.

Rows that lead to an execution are hits ``("execution", row, node)``, those that lead to a node hits with its name, those of a
source line ``("source", which)`` with ``made`` or ``run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from viz import format as fmt
from viz.cells import Drawing, Line, Page, Piece, line_width, spread, wrap
from viz.detail_model import Detail, Histogram, Tensor
from viz.draw_step import value_pieces
from viz.families import family
from viz.palette import Palette
from viz.step_model import Source

_BARS = "▁▂▃▄▅▆▇█"
_TOKENS = {"value": ("✓", "good"), "dead": ("✗", "bad"), "missing": ("·", "faint")}
_STATES = {"next": "next", "ready": "ready", "waiting": "waits"}


def bars(counts: Sequence[int], width: int) -> str:
    """A histogram in at most `width` cells; a part with nothing in it is a blank, the fullest one a full bar."""
    if not counts or width <= 0:
        return ""
    if len(counts) > width:
        edges = [round(i * len(counts) / width) for i in range(width + 1)]
        counts = [sum(counts[low:high]) for low, high in pairwise(edges)]
    most = max(counts)
    if not most:
        return " " * len(counts)
    return "".join(" " if not each else _BARS[min(7, each * 8 // (most + 1))] for each in counts)


def draw_detail(detail: Detail, palette: Palette, width: int) -> Drawing:
    """An execution, or a node that is to execute."""
    page = Page(width)
    _head(page, detail, palette)
    here = detail.activation
    if here.original:
        name = fmt.shorten_name(here.original, width - 17)
        page.add(("   gradient of ", palette.quiet), (name, palette.style(palette.accent)), key=here.original)
    if detail.change:
        _note(page, palette, "by hand", detail.change, palette.warning)
    elif detail.tainted:
        _note(page, palette, "descends", f"from the change {detail.tainted}", palette.warning)
    _line_of(page, palette, "made", detail.source)
    if detail.inputs:
        for tensor in detail.inputs:
            _tensor(page, tensor, palette)
    elif detail.state != "executed" or not detail.change:
        page.add(("   reads nothing", palette.dim))
    if detail.state == "executed":
        page.add((" gave", palette.title))
        for tensor in detail.outputs:
            _tensor(page, tensor, palette)
        if not detail.outputs:
            page.add(("   nothing", palette.dim))
    for write in detail.writes:
        _note(page, palette, "wrote", write, palette.warning)
    if detail.effect:
        _note(page, palette, "stays", f"{detail.effect}: going back does not undo it", palette.warning)
    if detail.lineage:
        _note(page, palette, "from", detail.lineage, palette.muted)
    _line_of(page, palette, "run", detail.run_source)
    return page.drawing()


def _head(page: Page, detail: Detail, palette: Palette) -> None:
    here = detail.activation
    kind = family(here.type)
    title = f"#{detail.row}" if detail.row >= 0 else _STATES.get(detail.state, detail.state)
    tail = "  ".join(
        part for part in (here.where, fmt.duration(detail.duration_ns) if detail.duration_ns else "") if part
    )
    left: Line = [(f" {title}  ", palette.title), (f"{kind.mark} ", palette.style(palette.hue(kind.hue)))]
    rest: Line = [(f"  {here.type}", palette.quiet)]
    if here.dead:
        rest.append(("  dead", palette.style(palette.bad)))
    if here.device:
        rest.append((f"  on {fmt.device(here.device)}", palette.dim))
    room = page.width - line_width(left) - len(tail) - 2
    while rest and room - line_width(rest) < min(len(here.node), 16):
        rest.pop(-1 if len(rest) > 1 else 0)
    left.append((fmt.shorten_name(here.node, max(6, room - line_width(rest))), palette.strong))
    page.add(
        *spread([*left, *rest], [(tail + " ", palette.style(palette.hues[3]))], page.width), key=here.node
    )


def _note(page: Page, palette: Palette, label: str, text: str, colour: str) -> None:
    lines = wrap(text, max(8, page.width - 13)) or [""]
    for index, line in enumerate(lines[:4]):
        page.add((f"   {label if not index else '':<9}", palette.quiet), (line, palette.style(colour)))


def _line_of(page: Page, palette: Palette, which: str, source: Source | None) -> None:
    if source is None:
        return
    place = f"{source.file.rsplit('/', 1)[-1]}:{source.line}"
    at = source.line - source.first
    code = source.lines[at].strip() if 0 <= at < len(source.lines) else ""
    page.add(
        (f"   {which:<5}", palette.quiet), (place, palette.style(palette.accent)), (f"  {code}", palette.dim),
        key=("source", which),
    )  # fmt: skip


def _tensor(page: Page, tensor: Tensor, palette: Palette) -> None:
    token = tensor.token
    mark, colour = _TOKENS.get(token.state, ("?", "muted"))
    slot = "^" if token.slot < 0 else str(token.slot)
    head: Line = [(f"   {mark} ", palette.style(getattr(palette, colour))), (f"{slot} ", palette.dim)]
    if tensor.tainted:
        head.append(("△ ", palette.style(palette.warning)))
    by = f"#{tensor.row} " if tensor.row >= 0 else ""
    used = line_width(head)
    name = fmt.shorten_name(token.name, max(8, (page.width - used) * 2 // 5))
    room = page.width - used - len(name) - 3 - len(by)
    value: list[Piece] = (
        value_pieces(token, palette, room) if token.slot >= 0 or token.state == "dead" else []
    )
    style = palette.style(palette.faint, strike=True) if token.state == "dead" else palette.quiet
    node = token.name.lstrip("^").rpartition(":")[0] or token.name.lstrip("^")
    key: object = ("execution", tensor.row, node) if tensor.row >= 0 else node
    line = [*head, (name, style), ("  ", palette.plain), *value]
    page.add(*spread(line, [(by, palette.style(palette.hues[3]))] if by else [], page.width), key=key)
    if tensor.histogram is not None and token.value is not None and token.state == "value":
        _health(page, tensor.histogram, token.value.mean, palette, key)


def _health(page: Page, found: Histogram, mean: float | None, palette: Palette, key: object) -> None:
    room = page.width - 8
    words = f"{fmt.number(found.low)} … {fmt.number(found.high)}"
    if mean is not None:
        words += f"  mean {fmt.number(mean)}"
    chart = bars(found.counts, max(4, min(24, room - len(words) - 2)))
    page.add(
        ("       ", palette.dim), (chart, palette.chart),
        (f"  {fmt.shorten(words, room - len(chart) - 1)}", palette.quiet), key=key,
    )  # fmt: skip
