"""The list of runs and the details of one, as terminal drawings."""

from __future__ import annotations

import numpy as np
from rich.style import Style

from viz import format as fmt
from viz.cells import Drawing, Line, Page, fit, wrap
from viz.palette import Palette
from viz.runs_model import RunRow

# state: mark, palette colour, word
STATES = {
    "running": ("●", "good", "running"),
    "finished": ("✓", "muted", "finished"),
    "failed": ("✗", "bad", "failed"),
    "interrupted": ("◌", "warning", "interrupted"),
    "broken": ("!", "bad", "not readable"),
}


def state_piece(state: str, palette: Palette, word: bool = False) -> tuple[str, str]:
    """The mark (and word) of a state, and its colour."""
    mark, colour, text = STATES.get(state, ("?", "muted", state))
    return (f"{mark} {text}" if word else mark), getattr(palette, colour)


def _columns(width: int) -> tuple[int, int, int, int, int]:
    """The widths of name, age, steps, loss and chart in a list `width` cells wide; a column that does not fit is 0."""
    left = width - 4
    age, steps, loss = 11, 8, 9
    chart = max(0, min(32, left - 22 - age - steps - loss - 2))
    if chart < 6:
        chart = 0
    name = left - age - steps - loss - (chart + 2 if chart else 0)
    if name < 16:
        name += age
        age = 0
    return max(8, name), age, steps, loss, chart


def draw_runs_head(palette: Palette, width: int) -> Line:
    """The titles over the list."""
    name, age, steps, loss, chart = _columns(width)
    text = "   " + fmt.pad("run", name)
    text += (
        fmt.pad("started", age, "right") + fmt.pad("steps", steps, "right") + fmt.pad("loss", loss, "right")
    )
    return fit([(text + ("  " + "over time" if chart else ""), palette.dim)], width)


def draw_run_row(row: RunRow, palette: Palette, width: int, now_ns: int, beat: bool = False) -> Line:
    """One run in one line; the mark of a running one dims on every other `beat`."""
    name, age, steps, loss, chart = _columns(width)
    mark, colour = state_piece(row.state, palette)
    if row.state == "running" and beat:
        mark = "○"
    line: Line = [(f" {mark} ", palette.style(colour)), (fmt.pad(_label(row), name - 1) + " ", palette.plain)]
    if row.broken:
        return fit([*line, (fmt.shorten(row.broken, width - 3 - name), palette.style(palette.bad))], width)
    started = fmt.ago((now_ns - row.created_unix_ns) / 1e9) if row.created_unix_ns else ""
    line.append((fmt.pad(started, age, "right"), palette.quiet))
    line.append((fmt.pad(fmt.count(row.steps), steps, "right"), palette.plain))
    tag = row.loss_tag
    last = row.last(tag)
    line.append((fmt.pad("–" if last is None else f"{last:.4g}", loss, "right"), palette.plain))
    if chart and tag:
        line.append(("  " + fmt.sparkline(row.scalars[tag][1], chart), palette.chart))
    return fit(line, width)


def _label(row: RunRow) -> str:
    """The run's name; its directory's end tells runs of one name apart."""
    tail = row.path.name.rsplit("-", 1)[-1]
    return f"{row.name} {tail}" if row.path.name.endswith("-" + tail) and len(tail) == 4 else row.name


def draw_run_detail(row: RunRow, palette: Palette, width: int, now_ns: int) -> Drawing:
    """Everything about one run: how it went, its scalars as charts, its slowest and last steps, where it ran."""
    page = Page(width)
    inner = max(10, width - 2)
    word, colour = state_piece(row.state, palette, word=True)
    page.add((" " + fmt.shorten(row.name, inner), palette.strong))
    page.add(
        (" " + word, palette.style(colour)),
        (f"  {fmt.shorten_name(str(row.path), inner - len(word) - 2)}", palette.dim),
    )
    if row.broken:
        page.blank()
        _wrapped(page, row.broken, palette.style(palette.bad), inner)
        return page.drawing()
    for text in (row.error, row.recorder_error):
        if text:
            page.blank()
            _wrapped(page, text.strip().splitlines()[-1], palette.style(palette.bad), inner)
    page.blank()
    facts = [
        ("took", fmt.duration(row.running_ns(now_ns))),
        ("steps", fmt.count(row.steps) + (f", {row.failed_steps} failed" if row.failed_steps else "")),
        *([("by hand", f"{fmt.plural(row.changed_steps, 'step')} changed")] if row.changed_steps else []),
        ("a step", fmt.duration(row.step_ns) if row.steps else "–"),
        ("nodes run", fmt.count(row.executions)),
        ("recorded", row.level),
    ]
    if row.script:
        facts.append(("script", row.script))
    for label, text in facts:
        page.add((f" {label:<10}", palette.quiet), (fmt.shorten_name(text, inner - 11), palette.plain))
    if row.scalars:
        page.blank()
        page.add((" scalars", palette.title))
        label_width = min(16, max(len(tag) for tag in row.scalars))
        chart = max(4, min(28, inner - label_width - 11))
        for tag, (_, values) in row.scalars.items():
            last = row.last(tag)
            page.add(
                (f" {fmt.pad(fmt.shorten_name(tag, label_width), label_width)} ", palette.quiet),
                (fmt.pad(fmt.sparkline(values, chart), chart) + " ", palette.chart),
                ("" if last is None else f"{last:.4g}", palette.plain),
            )
    _steps(page, row, palette, inner)
    _environment(page, row, palette, inner)
    return page.drawing()


def _steps(page: Page, row: RunRow, palette: Palette, inner: int) -> None:
    if not row.recent:
        return
    durations = np.array([step.duration_ns for step in row.recent], np.float64)
    page.blank()
    shown = "" if len(row.recent) == row.steps else f"  last {len(row.recent)}"
    page.add((" steps", palette.title), (shown, palette.dim))
    page.add((" " + fmt.sparkline(durations, min(40, inner - 2)), palette.quiet))
    slowest = int(durations.argmax())
    for label, step in (("last", row.recent[-1]), ("slowest", row.recent[slowest])):
        what = ", ".join((*step.fetches, *step.targets)) or "nothing"
        page.add(
            (f" {label:<8}", palette.quiet),
            (f"{step.step:>6}  ", palette.plain),
            (fmt.pad(fmt.duration(step.duration_ns), 9, "right"), palette.plain),
            (f"  {fmt.shorten(what, max(0, inner - 27))}", palette.dim),
        )
        if step.error:
            message = step.error.splitlines()[0] if step.error.splitlines() else step.error
            page.add(("   " + fmt.shorten(message, inner - 2), palette.style(palette.bad)))


def _environment(page: Page, row: RunRow, palette: Palette, inner: int) -> None:
    known = [
        (label, str(row.environment[key]))
        for label, key in (
            ("python", "python"),
            ("platform", "platform"),
            ("processor", "processor"),
            ("host", "host"),
            ("directory", "directory"),
        )
        if row.environment.get(key)
    ]
    packages = row.environment.get("packages")
    if isinstance(packages, dict):
        known += [(name, str(packages[name])) for name in ("numpy",) if name in packages]
    if known:
        page.blank()
        page.add((" where", palette.title))
        for label, text in known:
            page.add((f" {label:<10}", palette.quiet), (fmt.shorten_name(text, inner - 11), palette.plain))


def _wrapped(page: Page, text: str, style: Style, width: int, most: int = 6) -> None:
    for line in wrap(text, width)[:most]:
        page.add((" " + line, style))
