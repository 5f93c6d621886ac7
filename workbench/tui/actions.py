"""Everything that can be done, one row each.

From this table come the key bindings, the footer, the command palette and the help page.  `where` says what an action belongs to:
the app, one of the screens, or a kind of widget; its handler gets that object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.binding import Binding, BindingType

Handler = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Action:
    """One row.

    key: keys as Textual names them, apart by commas; the first is shown.
    label: one or two words for the footer.  help: a sentence for the palette and the help page.
    footer: its rank in the footer, 0 for none; the higher, the longer it stays when the screen is narrow.
    palette: whether the command palette offers it.
    """

    id: str
    key: str
    label: str
    help: str
    handler: Handler
    where: str
    footer: int = 0
    palette: bool = True
    priority: bool = False

    @property
    def shown_key(self) -> str:
        """The key as people write it."""
        return key_name(self.key.split(",")[0])


_KEY_NAMES = {
    "slash": "/", "question_mark": "?", "left_square_bracket": "[", "right_square_bracket": "]", "plus": "+",
    "equals_sign": "=", "minus": "-", "colon": ":", "comma": ",", "full_stop": ".", "escape": "esc", "backspace": "⌫",
    "enter": "⏎", "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "pgup", "pagedown": "pgdn",
    "space": "space", "number_sign": "#",
}  # fmt: skip


def key_name(key: str) -> str:
    """``ctrl+p`` as ``^p``, ``slash`` as ``/``."""
    if key.startswith("ctrl+"):
        return "^" + key[5:]
    return _KEY_NAMES.get(key, key)


def _on(where: str, *rows: tuple[Any, ...]) -> tuple[Action, ...]:
    """Actions of one place, from (name, key, label, help, handler[, footer[, palette[, priority]]]) rows."""
    prefix = "" if where == "app" else where + "."
    return tuple(
        Action(prefix + name, key, label, text, handler, where, *rest)
        for name, key, label, text, handler, *rest in rows
    )


ACTIONS: tuple[Action, ...] = (
    *_on(
        "app",
        ("runs", "1", "Runs", "Show the list of runs", lambda app: app.show("runs")),
        ("graph", "2", "Graph", "Show the graph of the open run", lambda app: app.show("graph")),
        ("timeline", "3", "Timeline", "Show what ran when in the open run", lambda app: app.show("timeline")),
        ("step", "4", "Step", "Show the script that is being stepped", lambda app: app.show("step")),
        ("devices", "5", "Devices", "Show devices, and what goes between them",
         lambda app: app.show("devices")),
        ("panel", "tab", "panel", "Go to the next panel", lambda app: app.action_focus_next(), 0, False),
        ("panel_before", "shift+tab", "panel before", "Go to the panel before",
         lambda app: app.action_focus_previous(), 0, False),
        ("theme", "d", "dark/light", "Switch between the dark and the light theme",
         lambda app: app.toggle_theme()),
        ("output", "v", "output", "Show what the script printed", lambda app: app.show_output()),
        ("palette", "ctrl+p", "commands", "Search all commands and nodes",
         lambda app: app.action_command_palette(), 90, False),
        ("help", "question_mark,f1", "help", "Explain the screen and its keys",
         lambda app: app.show_help(), 100),
        ("quit", "q,ctrl+q", "quit", "Leave; a script that the workbench started is ended",
         lambda app: app.exit(), 20),
        ("interrupt", "ctrl+c", "quit", "Leave at once", lambda app: app.exit(), 0, False, True),
    ),
    *_on(
        "runs",
        ("open", "enter", "open", "Open the run: its graph and timeline", lambda s: s.open_run("graph"), 80),
        ("timeline", "t", "timeline", "Open the run's timeline", lambda s: s.open_run("timeline"), 70),
        ("sort", "s", "sort", "Sort by time, or by the last loss", lambda s: s.next_order(), 30),
    ),
    *_on(
        "graph",
        ("open", "enter", "open", "Look inside the selected scope", lambda s: s.open_selected(), 80),
        ("up", "backspace,u", "up", "Go to the scope around this one", lambda s: s.go_up(), 75),
        ("search", "slash", "search", "Find nodes by name or type", lambda s: s.search(), 85),
        ("timeline", "t", "timeline", "Show the selected node in the timeline",
         lambda s: s.show_in_timeline(), 50),
        ("before", "left_square_bracket", "stage", "Show the stage before this one",
         lambda s: s.go_stage(-1), 44),
        ("after", "right_square_bracket", "next stage", "Show the stage after this one",
         lambda s: s.go_stage(1)),
        ("stages", "o", "stages", "Show the stages that the graph went through, or the scopes again",
         lambda s: s.toggle_stages(), 48),
        ("program", "p", "program", "Show the program that the graph became beside it, or the scopes again",
         lambda s: s.toggle_program(), 49),
        ("compare", "x", "compare",
         "Lay the stage over the one before, or over the list's; again to see it alone", lambda s: s.compare(), 47),
        ("devices", "m", "devices", "Colour by device, or by scope", lambda s: s.toggle_devices(), 46),
        ("constants", "c", "constants", "Show or hide constants", lambda s: s.toggle_constants(), 40),
        ("full", "f", "full", "Give the drawing the whole width, or show tree and card again",
         lambda s: s.toggle_full(), 42),
        ("root", "home,g", "whole graph", "Go back to the whole graph", lambda s: s.go_root()),
        ("back", "escape", "back", "Leave the search, or go back to where you were before",
         lambda s: s.go_back(), 0, False),
    ),
    *_on(
        "timeline",
        ("in", "plus,equals_sign", "zoom", "Zoom in around the selected bar", lambda s: s.zoom(0.5), 80),
        ("out", "minus", "zoom out", "Zoom out", lambda s: s.zoom(2.0), 79),
        ("left", "left,h", "pan", "Move the window to earlier times", lambda s: s.pan(-0.25), 70, False),
        ("right", "right,l", "later", "Move the window to later times", lambda s: s.pan(0.25), 0, False),
        ("whole", "0,home", "all", "Show all of it", lambda s: s.show_whole(), 60),
        ("next", "n,full_stop", "next bar", "Select the next bar on the lane", lambda s: s.next_bar(1), 65),
        ("previous", "p,comma", "bar before", "Select the bar before on the lane", lambda s: s.next_bar(-1)),
        ("up", "up,k", "lane up", "Choose the lane above", lambda s: s.next_lane(-1), 0, False),
        ("down", "down,j", "lane down", "Choose the lane below", lambda s: s.next_lane(1), 0, False),
        ("fit", "z", "fit", "Zoom to the selected bar", lambda s: s.fit_bar(), 30),
        ("node", "enter", "node", "Show the selected bar's node in the graph", lambda s: s.show_node(), 85),
        ("before", "left_square_bracket", "step", "Show the step before", lambda s: s.go_step(-1), 50),
        ("after", "right_square_bracket", "next step", "Show the step after", lambda s: s.go_step(1)),
        ("many", "a", "more steps", "Show one step, or the steps around it too", lambda s: s.toggle_many(), 40),
        ("loops", "i", "loops", "Show or hide the loops: frames, iterations, how many are under way",
         lambda s: s.toggle_loops(), 45),
        ("follow", "f", "follow", "Follow the newest step of a run that goes on",
         lambda s: s.toggle_follow(), 35),
    ),
    *_on(
        "step",
        ("next", "n", "next", "Execute the next node", lambda s: s.command("n"), 99),
        ("scope", "s", "scope", "Step over the name scope of the next node", lambda s: s.command("s"), 95),
        ("out", "o", "out", "Run out of the frame (its whole loop)", lambda s: s.command("o"), 94),
        ("continue", "c", "continue", "Run on to a breakpoint or to the end", lambda s: s.command("c"), 93),
        ("break", "b", "break", "Set or remove a breakpoint at the selected node",
         lambda s: s.toggle_breakpoint(), 92),
        ("print", "p", "print", "Print the selected node's latest values", lambda s: s.print_selected(), 91),
        ("back", "u", "undo", "Take the last execution back", lambda s: s.command("back"), 89),
        ("run", "r", "next run", "Run on to the next Session.run", lambda s: s.command("r"), 40),
        ("pause", "x", "pause", "Stop before the next node", lambda s: s.command("pause"), 45),
        ("command", "colon,slash", "command", "Type a debugger command", lambda s: s.ask(), 60),
        ("node", "g", "graph", "Show the selected node in the graph", lambda s: s.show_node(), 30),
        ("history", "y", "history", "Show what has run instead of what is ready",
         lambda s: s.toggle_history(), 35),
        ("why", "w", "why dead", "Show why the selected node is dead: who killed its token",
         lambda s: s.ask_why(), 88),
        ("stacks", "t", "stacks", "Show what stacks, arrays and variables hold",
         lambda s: s.show_tab("stacks"), 87),
        ("frames", "f", "frames", "Show how each frame was entered, and its iterations",
         lambda s: s.show_tab("frames"), 86),
        ("escape", "escape", "back", "Leave the command line", lambda s: s.leave_input(), 0, False),
    ),
    *_on(
        "devices",
        ("node", "enter", "node", "Show the selected transfer in the graph", lambda s: s.show_node(), 80),
        ("before", "left_square_bracket", "step", "Show the step before", lambda s: s.go_step(-1), 70),
        ("after", "right_square_bracket", "next step", "Show the step after", lambda s: s.go_step(1), 69),
        ("live", "l", "live/recorded", "Show the script being stepped, or the recorded step",
         lambda s: s.toggle_live(), 60),
    ),
    *_on(
        "list",
        ("up", "up,k", "up", "One row up", lambda w: w.move(-1), 0, False),
        ("down", "down,j", "down", "One row down", lambda w: w.move(1), 0, False),
        ("pageup", "pageup", "page up", "One page up", lambda w: w.move_page(-1), 0, False),
        ("pagedown", "pagedown", "page down", "One page down", lambda w: w.move_page(1), 0, False),
        ("first", "home", "first", "To the first row", lambda w: w.move_to(0), 0, False),
        ("last", "end", "last", "To the last row", lambda w: w.move_to(-1), 0, False),
        ("choose", "enter", "choose", "Choose the row", lambda w: w.choose(), 0, False),
    ),
    *_on(
        "tree",
        ("open", "right,l", "open", "Open the scope", lambda w: w.unfold(True), 0, False),
        ("close", "left,h", "close", "Close the scope, or go to the one around it",
         lambda w: w.unfold(False), 0, False),
        ("toggle", "space", "open/close", "Open or close the scope", lambda w: w.unfold(None), 0, False),
    ),
    *_on(
        "chips",
        ("up", "up,k", "up", "To the nearest chip above", lambda w: w.go(0, -1), 0, False),
        ("down", "down,j", "down", "To the nearest chip below", lambda w: w.go(0, 1), 0, False),
        ("left", "left,h", "left", "To the nearest chip on the left", lambda w: w.go(-1, 0), 0, False),
        ("right", "right,l", "right", "To the nearest chip on the right", lambda w: w.go(1, 0), 0, False),
    ),
    *_on(
        "page",
        ("up", "up,k", "up", "Scroll up", lambda w: w.scroll_relative(y=-1, animate=False), 0, False),
        ("down", "down,j", "down", "Scroll down", lambda w: w.scroll_relative(y=1, animate=False), 0, False),
    ),
)  # fmt: skip

BY_ID: dict[str, Action] = {action.id: action for action in ACTIONS}


def actions_of(where: str) -> list[Action]:
    """The actions that belong to the app, a screen or a kind of widget, in the table's order."""
    return [action for action in ACTIONS if action.where == where]


def bindings(*where: str) -> list[BindingType]:
    """Key bindings for these, whose action is ``do('id')``; who has them is a `Performer`."""
    return [
        Binding(
            action.key, f"do('{action.id}')", action.label, show=False, id=action.id, priority=action.priority
        )
        for kind in where
        for action in actions_of(kind)
    ]


def footer(where: str) -> list[Action]:
    """The actions for the footer of a screen: its own, then the app's, in the table's order."""
    return [action for action in (*actions_of(where), *actions_of("app")) if action.footer]


class Performer:
    """Mixed into whatever has bindings from the table: carries an action out on itself."""

    def action_do(self, action_id: str) -> None:
        """Carry out the action with that id."""
        BY_ID[action_id].handler(self)
