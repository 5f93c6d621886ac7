"""Frames, resources and the way of a dead token, of a step under the debugger, as terminal drawings.

Rows that lead to an execution are hits ``("execution", row, node)``, those that lead to a node are hits with its name.
"""

from __future__ import annotations

from tracing.frames import frame_label
from viz import format as fmt
from viz.cells import Drawing, Line, Page, Piece, fit, line_width, spread, wrap
from viz.draw_step import summary_pieces
from viz.families import family
from viz.flow_model import Enter, FrameNode, Place, Resource, Writer, short_path
from viz.palette import Palette
from viz.step_model import Activation, StepView

_LABEL = 11  # cells of a fact's label


def draw_frames(view: StepView, palette: Palette, width: int) -> Drawing:
    """The open frames as a tree, an iteration a line; hits are ``("frame", id)``."""
    page = Page(width)
    current = view.next or (view.last.activation if view.last else None)
    for frame in view.frames:
        _frame(page, frame, palette, " ", current)
    if not page.lines:
        page.add((" no frame is open", palette.dim))
    elif view.ended_count:
        page.add((f" {fmt.plural(view.ended_count, 'frame')} ended", palette.dim), key=("frame", -1))
    return page.drawing()


def _frame(
    page: Page, frame: FrameNode, palette: Palette, indent: str, current: Activation | None, around: str = ""
) -> None:
    is_root = frame.parent < 0
    label = "root" if is_root else frame_label(frame.name)
    # Of a frame inside another one, what is new in its name.
    name = label.removeprefix(around + "/") if around else label
    here = current is not None and current.frame == frame.id
    style = palette.style(palette.accent if here else palette.text, bold=here)
    note = "" if frame.live else "  dead so far"
    if frame.count > 1 or not is_root:
        held = f", {frame.deferred} held back" if frame.deferred else ""
        note = f"  {fmt.plural(frame.count, 'iteration')} begun{held}" + note
    name = fmt.shorten_name(name, max(8, page.width - len(indent) - len(note)))
    page.add((indent, palette.dim), (name, style), (note, palette.dim))
    page.mark(0, page.width, ("frame", frame.id))
    below: dict[int, list[FrameNode]] = {}
    for child in frame.children:
        below.setdefault(child.parent_iteration, []).append(child)
    rows = [iteration for iteration in frame.iterations if not is_root or len(frame.iterations) > 1]
    # The root has one iteration, which need not be named.
    if is_root and not rows:
        for iteration in frame.iterations:
            _counts(page, palette, iteration.ready, iteration.waiting)
        for child in frame.children:
            _frame(page, child, palette, indent + "  ", current)
        return
    shown = {iteration.number for iteration in rows}
    for iteration in rows:
        now = here and current is not None and current.iteration == iteration.number
        style = palette.style(palette.accent, bold=True) if now else palette.quiet
        page.add((f"{indent}  {'▸' if now else '·'} ", style), (f"iteration {iteration.number}", style))
        _counts(page, palette, iteration.ready, iteration.waiting)
        for child in below.get(iteration.number, ()):
            _frame(page, child, palette, indent + "    ", current, "" if is_root else label)
    if frame.held >= 0:
        limit = f"  held back: {frame.limit} under way" if frame.limit else "  held back"
        page.add(
            (f"{indent}  ◦ iteration {frame.held}", palette.quiet), (limit, palette.style(palette.warning))
        )
    for number, children in below.items():
        if number not in shown:
            for child in children:
                _frame(page, child, palette, indent + "    ", current, "" if is_root else label)


def _counts(page: Page, palette: Palette, ready: int, waiting: int) -> None:
    """Add what an iteration holds to the end of the line."""
    parts: list[Piece] = []
    if ready:
        parts.append((f"  {ready} ready", palette.style(palette.good)))
    if waiting:
        parts.append((f"  {waiting} waiting", palette.dim))
    line = page.lines[-1]
    if line_width(line) + line_width(parts) > page.width:  # a space less each, then the words
        parts = [(text[1:], style) for text, style in parts]
    if line_width(line) + line_width(parts) > page.width:
        parts = [(text.rpartition(" ")[0] + text.strip().split()[1][0], style) for text, style in parts]
    page.lines[-1] = fit([*line, *parts], page.width)


def draw_frame_facts(view: StepView, palette: Palette, width: int) -> Drawing:
    """How each frame was entered and how its iterations do: those that are open, then the latest that have ended."""
    page = Page(width)
    for frame in view.frames:
        _facts_of_all(page, frame, palette, 0)
    if view.ended:
        page.blank()
        note = f"  {fmt.count(view.ended_count)}, the latest first" if view.ended_count > 1 else ""
        page.add((" ended", palette.title), (note, palette.dim))
        for frame in reversed(view.ended):
            _facts(page, frame, palette, "")
    if not page.lines:
        page.add((" no frame has been entered", palette.dim))
    return page.drawing()


def _facts_of_all(page: Page, frame: FrameNode, palette: Palette, depth: int) -> None:
    if frame.parent >= 0:
        _facts(page, frame, palette, "  " * min(depth - 1, 4))
    for child in frame.children:
        _facts_of_all(page, child, palette, depth + 1)


def _facts(page: Page, frame: FrameNode, palette: Palette, indent: str) -> None:
    rows = f"#{frame.begin_row} –" + (f" #{frame.end_row}" if frame.end_row >= 0 else "")
    name = short_path(frame.path) or frame_label(frame.name)
    room = page.width - len(indent) - len(rows) - 11
    left: Line = [(f" {indent}", palette.dim), (fmt.shorten(name, max(8, room)), palette.strong)]
    if not frame.live:
        left.append(("  dead", palette.style(palette.bad)))
    page.add(*spread(left, [(rows + " ", palette.quiet)], page.width))
    parent = frame.path.rpartition(" > ")[0]
    first = next((each for each in frame.enters if each.row == frame.begin_row), None)
    entered = f"from {short_path(parent) or 'the root'}" + ("" if frame.live else ", by dead tokens only")
    _fact(page, palette, indent, "entered", entered, key=first and ("execution", first.row, first.node))
    said = ""
    for each in frame.enters[:6]:
        label = "invariants" if each.constant else "by"
        _enter(page, palette, indent, each, label if label != said else "")
        said = label
    more = frame.enter_count - len(frame.enters[:6])
    if more > 0:
        _fact(page, palette, indent, "", f"and {more} more", faint=True)
    if frame.made_at:
        _fact(page, palette, indent, "made at", f"{frame.made_at}  {frame.made_by}")
    if frame.gradient_of:
        _fact(page, palette, indent, "backward", f"of the loop {frame.gradient_of}")
    over = "" if frame.end_row < 0 else ", all" if frame.ended == frame.count else ""
    _fact(
        page, palette, indent, "iterations", f"{frame.count} begun, {frame.ended} ended{over}"[: page.width]
    )
    limit = f" of {frame.limit}" if frame.limit else ""
    _fact(page, palette, indent, "under way", f"{frame.count - frame.ended} now, at most {frame.most}{limit}")
    if frame.deferred:
        now = f", number {frame.held} waits now" if frame.held >= 0 else ""
        _fact(page, palette, indent, "held back", f"{fmt.plural(frame.deferred, 'iteration')}{now}")


def _enter(page: Page, palette: Palette, indent: str, each: Enter, label: str) -> None:
    note = f"{'dead  ' if each.dead else ''}#{each.row}"
    _fact(page, palette, indent, label, each.node, note, key=("execution", each.row, each.node), is_name=True)


def _fact(
    page: Page,
    palette: Palette,
    indent: str,
    label: str,
    text: str,
    note: str = "",
    *,
    key: object = None,
    is_name: bool = False,
    faint: bool = False,
) -> None:
    """A labelled row; `note` stands at its end."""
    room = max(4, page.width - len(indent) - _LABEL - 3 - (len(note) + 2 if note else 0))
    shown = fmt.shorten_name(text, room) if is_name else fmt.shorten(text, room)
    style = palette.dim if faint else palette.plain
    left: Line = [(f" {indent}  {fmt.pad(label, _LABEL - 1)} ", palette.quiet), (shown, style)]
    page.add(*spread(left, [(note + " ", palette.dim)] if note else [], page.width), key=key)


def draw_resources(view: StepView, palette: Palette, width: int) -> Drawing:
    """What stacks and arrays hold and who put it there, a stack from its top; then variables with who wrote them."""
    page = Page(width)
    for resource in view.resources:
        if resource.size >= 0:
            page.blank()
            _holder(page, resource, palette)
    plain = [resource for resource in view.resources if resource.size < 0]
    if plain and len(plain) < len(view.resources):
        page.blank()
    for resource in plain:
        kind = family(resource.kind.capitalize())
        mark = kind.mark if resource.kind == "variable" else "∙"
        left: Line = [
            (f" {mark} ", palette.style(palette.hue(1))),
            (resource.name, palette.strong),
            ("  ", palette.dim),
        ]
        by = f"#{resource.by.row} " if resource.by is not None else ""
        room = width - line_width(left) - len(by) - 1
        value = summary_pieces(resource.value, palette, room) if resource.value is not None else []
        if not value:
            value = [("not initialized" if resource.kind == "variable" else resource.kind, palette.dim)]
        page.add(*spread([*left, *value], [(by, palette.dim)], width), key=_to(resource.by))
    more = view.resource_count - len(view.resources)
    if more > 0:
        page.add((f" and {fmt.count(more)} more", palette.dim))
    if not page.lines:
        page.add((" the session has no resources yet", palette.dim))
    return page.drawing()


def _holder(page: Page, resource: Resource, palette: Palette) -> None:
    """A stack or an array."""
    is_stack = resource.kind == "stack"
    count = fmt.plural(resource.size, "element") if is_stack else f"{resource.size} places"
    name = resource.name.removesuffix("/0/0")
    room = page.width - len(resource.kind) - len(count) - 7
    left: Line = [
        (f" {family('StackV2').mark} ", palette.style(palette.hue(3))),
        (f"{resource.kind}  ", palette.quiet),
        (fmt.shorten_name(name, max(8, room)), palette.strong),
    ]
    page.add(*spread(left, [(count + " ", palette.quiet)], page.width))
    for tensor in resource.keeps[:3]:
        node = tensor.rpartition(":")[0]
        _fact(page, palette, "", "keeps", tensor, resource.made_at, key=node, is_name=True)
    if resource.original:
        _fact(page, palette, "", "gradient", f"of {resource.original}", key=resource.original)
    for reader in resource.readers[:3]:
        _fact(page, palette, "", "read by", reader, key=reader, is_name=True)
    for element in resource.elements:
        label = str(element.index)
        if is_stack:
            below = element.index - resource.size + 1
            label = "top" if not below else f"{below}"
        by = f"#{element.by.row}  {short_path(element.by.path)} " if element.by is not None else ""
        room = max(6, page.width - 10 - len(by))
        pieces: list[Piece] = [("read and let go", palette.dim)]
        if element.value is not None:
            pieces = summary_pieces(element.value, palette, room)
        line: Line = [(f"   {label:>5}  ", palette.dim), *pieces]
        page.add(*spread(line, [(by, palette.style(palette.hues[3]))], page.width), key=_to(element.by))
    more = resource.size - len(resource.elements)
    if is_stack and more > 0:
        page.add((f"          and {fmt.count(more)} below", palette.dim))


def _to(by: Writer | None) -> tuple[str, int, str] | None:
    return ("execution", by.row, by.node) if by is not None else None


def draw_way(view: StepView, palette: Palette, width: int) -> Drawing:
    """Who killed the token of the node that was asked about, the way from there, and where the deadness was stopped."""
    page = Page(width)
    way = view.way
    if way is None:
        page.words("Choose a dead node in the list, then press w.", palette.dim)
        return page.drawing()
    page.add(
        (" ✗ ", palette.style(palette.bad)),
        (fmt.shorten_name(way.asked.node, max(8, width - 12)), palette.strong),
        (" is dead", palette.quiet),
    )
    if way.killer is None:
        page.add((" killed by", palette.title), ("  what the history no longer holds", palette.dim))
    else:
        page.add((" killed by", palette.title))
        _place(page, way.killer, palette, dead=False)
    page.add((" through", palette.title))
    for place in way.chain:
        _place(page, place, palette, dead=True)
    page.add((" stopped at", palette.title), ("" if way.stops else "  nothing yet", palette.dim))
    for place in way.stops:
        _place(page, place, palette, dead=not place.note.startswith("alive"))
    return page.drawing()


def _place(page: Page, place: Place, palette: Palette, dead: bool) -> None:
    kind = family(place.type)
    where = short_path(place.path)
    right = f"{where}  {f'#{place.row}' if place.row >= 0 else 'ready'} ".lstrip()
    left: Line = [(f"   {kind.mark} ", palette.style(palette.hue(kind.hue)))]
    room = max(8, page.width - 6 - len(right))
    style = palette.style(palette.faint, strike=True) if dead else palette.plain
    left.append((fmt.shorten_name(place.node, room), style))
    key = ("execution", place.row, place.node)
    page.add(*spread(left, [(right, palette.style(palette.hues[3]))], page.width), key=key)
    for line in wrap(place.note, page.width - 7):
        page.add(("     " + line, palette.quiet), key=key)
