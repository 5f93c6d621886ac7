"""A chain of stages, the difference between two, and a node's way through them, as lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.style import Style

from engine.placement.decision import Decision
from viz import format as fmt
from viz.cells import Drawing, Line, Page, line_width, wrap
from viz.palette import Palette
from viz.stage_diff import Change, NodeChange, StageDiff
from viz.stage_model import ChainModel, HistoryRow, StageSummary, generalized

_GROUPS = 4  # reasons shown of one stage
_ALIKE = 4  # nodes that go for one reason are told of together from here on
_NAMES = 5  # lines of names


def colour_of(change: Change, palette: Palette) -> str:
    """The colour that a change has everywhere."""
    return {
        Change.ADDED: palette.good,
        Change.REMOVED: palette.bad,
        Change.MERGED: palette.hue(6),
        Change.REWRITTEN: palette.warning,
        Change.MOVED: palette.accent,
    }[change]


def counts_line(counts: Counter[Change], palette: Palette) -> Line:
    """``+5 -121 ~3``."""
    line: Line = []
    for change in Change:
        if counts[change]:
            style = palette.style(colour_of(change, palette))
            line += [(f"{change.value}{counts[change]:,}", style), (" ", palette.dim)]
    return line[:-1]


def legend_line(palette: Palette) -> Line:
    """What the letters stand for."""
    line: Line = []
    for change in Change:
        line += [
            (change.value, palette.style(colour_of(change, palette), bold=True)),
            (f" {change.word}  ", palette.dim),
        ]
    return line


def draw_chain(model: ChainModel, palette: Palette, width: int = 80) -> Drawing:
    """Each stage with its number of nodes, what it changed, and its reasons."""
    page = Page(width)
    name_width = max(5, *(len(summary.stage.name) for summary in model.summaries)) + 2
    page.add((fmt.pad("stage", name_width) + f"{'nodes':>6}  changes", palette.dim))
    for summary in model.summaries:
        head: Line = [
            (fmt.pad(summary.stage.name, name_width), palette.strong),
            (f"{len(summary.stage):>6,}  ", palette.plain),
            *counts_line(summary.counts, palette),
        ]
        page.add(*head)
        _wrapped(page, summary.why, 2, palette.quiet)
        _devices(page, summary, palette)
        shown = summary.reasons[:_GROUPS]
        number_width = max((len(f"{len(group.names):,}") for group in shown), default=1)
        for group in shown:
            lead: Line = [
                (f"    {group.change.value} ", palette.style(colour_of(group.change, palette))),
                (f"{len(group.names):>{number_width},}  ", palette.plain),
            ]
            _hanging(page, lead, group.text, palette.plain, "  " + group.names[0], palette.dim)
        rest = len(summary.reasons) - len(shown)
        if rest:
            page.add((f"      and for {fmt.plural(rest, 'more reason')}", palette.dim))
    page.blank()
    page.add(*legend_line(palette))
    return page.drawing()


def _devices(page: Page, summary: StageSummary, palette: Palette) -> None:
    if any(summary.devices):
        text = ", ".join(f"{fmt.device(name)} {fmt.plural(n, 'node')}" for name, n in summary.devices.items())
        _wrapped(page, text, 2, palette.style(palette.accent))


def draw_diff(diff: StageDiff, palette: Palette, width: int = 80) -> Drawing:
    """Every node that is different, with what is different about it, why, and the user's line."""
    page = Page(width)
    page.add(
        (diff.before.name, palette.strong),
        (" → ", palette.dim),
        (diff.after.name, palette.strong),
        ("   ", palette.dim),
        *counts_line(diff.counts, palette),
        (f"   {fmt.plural(diff.kept, 'node')} as before", palette.quiet),
    )
    for change in Change:
        found = [each for each in diff.changes.values() if each.changes[0] is change]
        if not found:
            continue
        page.blank()
        page.add((f"{change.value} {change.word}", palette.style(colour_of(change, palette), bold=True)))
        groups: dict[tuple[str, ...], list[NodeChange]] = {}
        known = {**diff.before.nodes, **diff.after.nodes}
        for each in found:
            groups.setdefault(tuple(generalized(text, known) for _, text in each.reasons), []).append(each)
        for reasons, group in groups.items():
            if len(group) >= _ALIKE and change in (Change.REMOVED, Change.MOVED):
                _wrapped(
                    page,
                    f"{fmt.plural(len(group), 'node')}: {'; '.join(reasons) or 'no reason was given'}",
                    2,
                    palette.plain,
                )
                _names(page, [each.name for each in group], palette)
            else:
                for each in group:
                    draw_change(page, each, palette)
    return page.drawing()


def draw_change(page: Page, change: NodeChange, palette: Palette) -> None:
    """One node's change in a few lines."""
    line: Line = [(f"  {change.letters} ", palette.style(colour_of(change.changes[0], palette)))]
    right = change.place
    room = page.width - line_width(line) - len(change.type) - len(right) - 4
    line += [
        (fmt.shorten_name(change.name, max(12, room)), palette.strong),
        (f"  {change.type}", palette.quiet),
    ]
    page.add(*line, *([(f"  {right}", palette.dim)] if right else []))
    if change.into:
        _wrapped(page, "is now part of " + ", ".join(change.into), 6, palette.plain)
    elif change.sources and change.sources != (change.name,):
        _wrapped(page, "from " + ", ".join(change.sources), 6, palette.plain)
    for detail in change.details:
        _wrapped(page, detail, 6, palette.plain)
    for stage, text in change.reasons:
        _hanging(page, [(f"      {stage}: ", palette.dim)], text, palette.quiet)
    if change.frame is not None and change.frame.source:
        page.add((f"      │ {fmt.shorten(change.frame.source, page.width - 9)}", palette.dim))


def draw_history(
    name: str, rows: Sequence[HistoryRow], decision: Decision | None, palette: Palette, width: int = 80
) -> Drawing:
    """A node's way through the stages; stages that left it alone are told of together."""
    page = Page(width)
    stage_width = max(len(row.stage) for row in rows) + 2
    quiet: list[str] = []

    def tell_quiet() -> None:
        if quiet:
            span = quiet[0] if len(quiet) == 1 else f"{quiet[0]} … {quiet[-1]}"
            page.add((f"  {span}: as it was", palette.dim))
            quiet.clear()

    for i, row in enumerate(rows):
        if i and not row.changes:
            quiet.append(row.stage)
            continue
        tell_quiet()
        letters = "".join(change.value for change in row.changes) or " "
        colour = colour_of(row.changes[0], palette) if row.changes else palette.muted
        what = ", ".join(row.names) if row.names else "gone"
        line: Line = [
            (f"{letters:<2}", palette.style(colour, bold=True)),
            (fmt.pad(row.stage, stage_width), palette.strong),
        ]
        line += [
            (fmt.shorten_name(what, max(12, width - 26 - stage_width)), palette.plain),
            (f"  {row.type}", palette.quiet),
        ]
        if row.device:
            line.append((f"  {fmt.device(row.device)}", palette.style(palette.accent)))
        page.add(*line)
        for detail in row.details:
            _wrapped(page, detail, 6, palette.plain)
        for _, text in row.reasons[-1:]:
            _wrapped(page, text, 6, palette.quiet)
    tell_quiet()
    if decision is not None:
        page.blank()
        draw_decision(page, decision, palette)
    return page.drawing()


def draw_decision(page: Page, decision: Decision, palette: Palette) -> None:
    """Why a node is where it is."""
    page.add(("placement", palette.title))
    if decision.requested:
        page.add(("  asked for   ", palette.quiet), (decision.requested, palette.plain))
    page.add(
        ("  possible    ", palette.quiet), (", ".join(map(fmt.device, decision.possible)), palette.plain)
    )
    for device, ns in sorted(decision.finish_ns.items(), key=lambda each: each[1]):
        page.add(
            ("  would end   ", palette.quiet),
            (f"{fmt.device(device):<8} after {fmt.duration(ns)} (predicted)", palette.plain),
        )
    if decision.colocated_with:
        _hanging(
            page,
            [("  with        ", palette.quiet)],
            ", ".join(decision.colocated_with[:8])
            + (f" and {len(decision.colocated_with) - 8} more" if len(decision.colocated_with) > 8 else ""),
            palette.plain,
        )
    _hanging(page, [("  because     ", palette.quiet)], decision.reason, palette.plain)


# Lines.


def _wrapped(page: Page, text: str, indent: int, style: Style) -> None:
    for line in wrap(text, max(20, page.width - indent)):
        page.add((" " * indent + line, style))


def _hanging(
    page: Page, lead: Line, text: str, style: Style, note: str = "", note_style: Style | None = None
) -> None:
    """`text` behind `lead`, its further lines under its first; `note` where there is room, else on a line of its own."""
    start = line_width(lead)
    room = max(16, page.width - start)
    lines = wrap(text, room) or [""]
    for i, line in enumerate(lines):
        last = i == len(lines) - 1
        pieces: Line = [*lead] if i == 0 else [(" " * start, style)]
        pieces.append((line, style))
        if last and note and len(line) + len(note) <= room:
            pieces.append((note, note_style or style))
        page.add(*pieces)
    if note and len(lines[-1]) + len(note) > room:
        page.add((" " * start + fmt.shorten_name(note.strip(), room), note_style or style))


def _names(page: Page, names: Iterable[str], palette: Palette) -> None:
    every = list(names)
    lines = wrap(", ".join(every), max(20, page.width - 6))
    for line in lines[:_NAMES]:
        page.add(("      " + line, palette.dim))
    if len(lines) > _NAMES:
        shown = sum(line.count(",") for line in lines[:_NAMES])
        page.add((f"      … and {len(every) - shown:,} more", palette.dim))
