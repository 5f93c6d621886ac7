"""What the app says of itself: the right end of the top row, and what stands in place of what is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viz import format as fmt
from viz.cells import Line, line_width
from viz.draw_runs import state_piece
from viz.palette import Palette
from workbench.process import describe_exit

if TYPE_CHECKING:
    from workbench.tui.app import WorkbenchApp


def headline(app: WorkbenchApp, palette: Palette, room: int) -> Line:
    """What is open, and how the script does, in at most `room` cells."""
    pieces: Line = []
    if app.child is not None:
        if app.exit_code is None:
            pieces.append(("● script runs", palette.style(palette.good)))
        elif app.exit_code:
            pieces.append((f"✗ script {describe_exit(app.exit_code)}", palette.style(palette.bad)))
    if app.opened is not None:
        mark, colour = state_piece(app.opened.state, palette)
        steps = f" · {fmt.plural(len(app.opened.steps), 'step')}"
        if pieces:
            pieces.append(("  ", palette.dim))
        left = room - line_width(pieces) - len(steps) - 1
        pieces.append((fmt.shorten(f"{mark} {app.opened.name}", max(6, left)), palette.style(colour)))
        pieces.append((steps, palette.quiet))
    pieces.append((" ", palette.dim))
    if line_width(pieces) > room:
        pieces = [*pieces[:1], (" ", palette.dim)] if room > 14 else []
    return pieces


def no_runs(app: WorkbenchApp) -> str:
    """What the empty list of runs says."""
    model = app.store.model
    if model.problem:
        return f"There are no runs yet:\n{model.problem}."
    if model.logdir is None:
        return "No log directory was given."
    return f"There are no runs in {model.logdir} yet."


def no_graph(app: WorkbenchApp) -> str:
    """What the graph screen says without a graph."""
    if app.problem:
        return app.problem
    if app.opened is None:
        if app.child is not None and app.exit_code is None:
            return "Waiting for the script's first Session.run …"
        if app.debug_source is not None:
            return "Nothing is recorded beside the stepping:\nworkbench step --trace times SCRIPT does that."
        return "No run is open.\nChoose one on the Runs screen (1)."
    if app.opened.state == "running":
        return "The run has no stage yet.\nOne appears with its first Session.run."
    return "The run has no stage: nothing was run in it."


def no_timeline(app: WorkbenchApp) -> str:
    """What the timeline says without a step."""
    if app.problem:
        return app.problem
    if app.opened is None:
        return "No run is open: choose one on the Runs screen (1)."
    return "No step of this run has ended yet." if not app.opened.steps else "Reading …"
