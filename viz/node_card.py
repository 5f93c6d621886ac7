"""Everything there is to say of one node, or of one scope, as sections of labelled rows; and its drawing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.passes.stage import Stage, StageNode
from viz import format as fmt
from viz.cells import Drawing, Page, wrap
from viz.families import family
from viz.graph_model import ScopeTree
from viz.palette import Palette
from viz.scope_colours import ScopeColours
from viz.timings import Timings

_MANY = 12


@dataclass(frozen=True, slots=True)
class CardRow:
    """`label` may be empty; `key`, if any, is the node or scope that the row leads to; `note` stands after the text, fainter.

    A row with `whole` has its text on as many lines as it takes; others are shortened.
    """

    label: str
    text: str
    note: str = ""
    key: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class Card:
    """A title, what kind of thing it is, and sections of rows."""

    key: str
    title: str
    kind: str
    sections: tuple[tuple[str, tuple[CardRow, ...]], ...]


def attr_text(value: Any) -> str:
    """An attr's value in a few words: a tensor's elements if there are few, else its type and range."""
    if isinstance(value, np.ndarray):
        head = fmt.tensor(str(value.dtype) if value.dtype != object else "string", value.shape)
        if value.size == 0:
            return head
        if value.size <= 6:
            items = ", ".join(fmt.number(item) for item in value.ravel())
            return f"{head} {items}"
        if value.dtype == object or value.dtype.kind not in "biuf":
            return head
        low, high = value.min(), value.max()
        return f"{head} {fmt.number(low)} … {fmt.number(high)}"
    if isinstance(value, tuple | list):
        text = ", ".join(attr_text(item) for item in value[:8])
        return f"[{text}{', …' if len(value) > 8 else ''}]"
    if isinstance(value, float):
        return fmt.number(value)
    if hasattr(value, "ndims") and hasattr(value, "dims"):
        return fmt.shape(value)
    if hasattr(value, "as_datatype_enum"):
        return fmt.dtype(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value)


def node_card(stage: Stage, name: str, timings: Timings | None = None) -> Card:
    """The card of node `name`.  Raises KeyError for an unknown node."""
    node = stage.nodes[name]
    sections: list[tuple[str, tuple[CardRow, ...]]] = []
    about = [CardRow("device", fmt.device(node.device))]
    site = node.site.user if node.site is not None else None
    if site is not None:
        about.append(CardRow("made at", f"{site.file.rsplit('/', 1)[-1]}:{site.line}", f"in {site.function}"))
        if site.source:
            about.append(CardRow("", site.source))
    if node.original:
        about.append(
            CardRow("gradient of", node.original, "", node.original if node.original in stage.nodes else None)
        )
    if timings is not None:
        about += _time_rows(timings, (name,))
    sections.append(("", tuple(about)))
    outputs = [
        CardRow(str(i), fmt.tensor(kind, shape), _argument(node, i))
        for i, (kind, shape) in enumerate(zip(node.output_dtypes, node.output_shapes))
    ]
    if outputs:
        sections.append(("outputs", tuple(outputs)))
    inputs = [
        CardRow(
            str(i), source if index == 0 else f"{source}:{index}", _output_type(stage, source, index), source
        )
        for i, (source, index) in enumerate(node.inputs)
    ]
    inputs += [CardRow("^", source, "control", source) for source in node.control_inputs]
    if inputs:
        sections.append(("inputs", tuple(inputs)))
    readers = [CardRow("", user, stage.nodes[user].type, user) for user in stage.consumers[name]]
    if readers:
        sections.append(("read by", tuple(readers)))
    backward = [each for each in stage if each.original == name]
    if backward:
        rows = [CardRow("", each.name, each.type, each.name) for each in backward[:_MANY]]
        if len(backward) > _MANY:
            rows.append(CardRow("", f"and {len(backward) - _MANY} more"))
        sections.append(("its gradient", tuple(rows)))
    attrs = [CardRow(key, attr_text(value)) for key, value in sorted(node.attrs.items())]
    if attrs:
        sections.append(("attrs", tuple(attrs)))
    lineage = _lineage(node)
    if lineage:
        sections.append(("made by", lineage))
    return Card(name, name, node.type, tuple(sections))


def _argument(node: StageNode, index: int) -> str:
    """The name of an output in its op's signature, where that can be told from the index alone."""
    signature = getattr(node.opdef, "signature", None)
    outputs = getattr(signature, "outputs", ())
    if len(outputs) == len(node.output_dtypes) and index < len(outputs):
        return str(outputs[index].name)
    return ""


def _output_type(stage: Stage, name: str, index: int) -> str:
    node = stage.nodes[name]
    if index >= len(node.output_dtypes):
        return ""
    return fmt.tensor(node.output_dtypes[index], node.output_shapes[index])


def _lineage(node: StageNode) -> tuple[CardRow, ...]:
    made = node.lineage
    if not made.reason and made.sources in ((node.name,), ()):
        return ()
    rows = [CardRow("pass", made.by)]
    if made.reason:
        rows.append(CardRow("", made.reason, whole=True))
    rows += [CardRow("from", source) for source in made.sources if source != node.name]
    return tuple(rows)


def _time_rows(timings: Timings, names: tuple[str, ...]) -> list[CardRow]:
    timing = timings.of_all(names)
    if not timing.runs:
        text = f"dead, {fmt.plural(timing.dead, 'time')}" if timing.dead else "not in this step"
        return [CardRow("time", text)]
    share = timing.total_ns / timings.total_ns if timings.total_ns else 0.0
    rows = [CardRow("time", fmt.duration(timing.total_ns), f"{fmt.percent(share)} of kernel time")]
    if timing.runs > 1:
        note = f"{fmt.duration(timing.mean_ns)} each, at most {fmt.duration(timing.longest_ns)}"
        rows.append(CardRow("runs", fmt.count(timing.runs), note))
    if timing.dead:
        rows.append(CardRow("dead", fmt.plural(timing.dead, "time"), "the branch was not taken"))
    return rows


def scope_card(tree: ScopeTree, key: str, timings: Timings | None = None) -> Card:
    """The card of a scope or a series of items.  Raises KeyError for an unknown key."""
    stage = tree.stage
    names = tree.names_in(key)
    inside = set(names)
    types = Counter(stage.nodes[name].type for name in names)
    devices = Counter(fmt.device(stage.nodes[name].device) for name in names)
    about = [CardRow("nodes", fmt.count(len(names)))]
    about.append(CardRow("device", ", ".join(f"{device}" for device, _ in devices.most_common(4)) or "(any)"))
    if timings is not None:
        about += _time_rows(timings, names)
    reads: dict[str, str] = {}
    gives: dict[str, str] = {}
    for name in names:
        node = stage.nodes[name]
        for source, index in node.inputs:
            if source not in inside:
                reads.setdefault(source, _output_type(stage, source, index))
        for user in stage.consumers[name]:
            if user not in inside:
                gives.setdefault(name, f"→ {user}")
    title = key.rstrip("/") or "graph"
    by_type = tuple(CardRow(fmt.count(number), kind) for kind, number in types.most_common(_MANY))
    sections = [("", tuple(about)), ("ops", by_type)]
    if reads:
        sections.append(("reads", tuple(CardRow("", name, note, name) for name, note in reads.items())))
    if gives:
        sections.append(("gives", tuple(CardRow("", name, note, name) for name, note in gives.items())))
    return Card(key, title, "scope" if key.endswith("/") else "series", tuple(sections))


def draw_card(card: Card, palette: Palette, width: int, colours: ScopeColours | None = None) -> Drawing:
    """A card `width` cells wide; rows that lead somewhere are hits with the node's name."""
    page = Page(width)
    inner = max(8, width - 2)
    is_node = card.kind not in ("scope", "series")
    hue = (
        palette.hue(family(card.kind).hue)
        if is_node
        else palette.hue(colours.of(card.key) if colours else -1)
    )
    mark = family(card.kind).mark if is_node else "▸"
    path, _, leaf = card.title.rpartition("/")
    page.add((f" {mark} ", palette.style(hue)), (fmt.shorten_name(leaf, inner - 2), palette.strong))
    page.add(("   ", palette.plain), (card.kind, palette.style(hue)))
    if path:
        page.add(("   ", palette.plain), (fmt.shorten_name("in " + path, inner - 2), palette.dim))
    for title, rows in card.sections:
        page.blank()
        if title:
            count = f"  {len(rows)}" if len(rows) > 3 and title not in ("ops", "attrs") else ""
            page.add((f" {title}", palette.title), (count, palette.dim))
        label_width = min(12, max((len(row.label) for row in rows), default=0))
        for row in rows:
            _draw_row(page, row, palette, inner, label_width)
    return page.drawing()


def _draw_row(page: Page, row: CardRow, palette: Palette, width: int, label_width: int) -> None:
    indent = " " + (fmt.pad(row.label, label_width) + " " if label_width else "")
    style = palette.style(palette.accent) if row.key is not None else palette.plain
    left = width - len(indent)
    if row.whole:
        for i, line in enumerate(wrap(row.text, max(8, left))):
            page.add((indent if i == 0 else " " * len(indent), palette.quiet), (line, style))
        return
    # A row too long for one line gets its note on a second.
    text = fmt.shorten_name(row.text, left) if row.key is not None else fmt.shorten(row.text, left)
    together = len(text) + 2 + len(row.note) <= left
    page.add(
        (indent, palette.quiet),
        (text, style),
        (f"  {row.note}" if together and row.note else "", palette.dim),
    )
    if row.key is not None:
        page.mark(0, page.width, row.key)
    if row.note and not together:
        page.add(("    ", palette.dim), (fmt.shorten(row.note, width - 3), palette.dim))
        if row.key is not None:
            page.mark(0, page.width, row.key)
