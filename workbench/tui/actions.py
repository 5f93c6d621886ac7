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
    "space": "space", "number_sign": "#", "less_than_sign": "<", "greater_than_sign": ">", "left_curly_bracket": "{",
    "right_curly_bracket": "}", "delete": "del", "left_parenthesis": "(", "right_parenthesis": ")",
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
        ("back", "u", "undo", "Take the last execution back", lambda s: s.command("back"), 92),
        ("redo", "U", "redo", "Do again what was taken back last", lambda s: s.command("redo"), 34),
        ("break", "b", "break", "Set or remove a breakpoint at the selected node",
         lambda s: s.toggle_breakpoint(), 91),
        ("print", "p", "print", "Print the selected node's latest values", lambda s: s.print_selected(), 90),
        ("ask", "a", "ask", "Ask about the selected node: why, why not, who wrote, origin …",
         lambda s: s.ask_about(), 89),
        ("go", "m", "go here", "Go back to the selected execution, or let the ready node run next",
         lambda s: s.go_here(), 88),
        ("command", "colon,slash", "command", "Type a debugger command", lambda s: s.ask(), 87),
        ("edit", "e", "set", "Override a tensor or a variable", lambda s: s.edit(), 60),
        ("run", "r", "next run", "Run on to the next Session.run", lambda s: s.command("r"), 40),
        ("pause", "x", "pause", "Stop before the next node", lambda s: s.command("pause"), 45),
        ("info", "i", "info", "Say all about the selected node", lambda s: s.info(), 44),
        ("back_scope", "S", "scope back", "Go back over the name scope of what executed last",
         lambda s: s.command("s-")),
        ("back_out", "O", "out back", "Go back to before the frame of what executed last",
         lambda s: s.command("o-")),
        ("back_continue", "C", "continue back", "Go back to a breakpoint, or as far as the history goes",
         lambda s: s.command("c-")),
        ("iteration", "z", "iteration", "Run on to the next iteration of this loop", lambda s: s.command("it")),
        ("back_iteration", "Z", "iteration back", "Go back to the iteration before",
         lambda s: s.command("it-")),
        ("jump_back", "left_square_bracket", "place back", "Jump to the place visited before this one",
         lambda s: s.command("jump back"), 36),
        ("jump_forward", "right_square_bracket", "place on", "Jump to the place visited after this one",
         lambda s: s.command("jump forward")),
        ("scrub_back", "less_than_sign,comma", "rewind", "Go back by a fiftieth of the history",
         lambda s: s.scrub(-0.02), 35),
        ("scrub_on", "greater_than_sign,full_stop", "wind on", "Go on by a fiftieth of the history",
         lambda s: s.scrub(0.02)),
        ("mark_before", "left_curly_bracket", "mark before",
         "Select the hit, write, change or error before the line", lambda s: s.to_mark(False)),
        ("mark_after", "right_curly_bracket", "mark after",
         "Select the hit, write, change or error after the line", lambda s: s.to_mark(True)),
        ("now", "y", "now", "Select what runs next", lambda s: s.to_now(), 33),
        ("node", "g", "graph", "Show the selected node in the graph", lambda s: s.show_node(), 30),
        ("why", "w", "why", "Show why the selected node is dead, or what needs it",
         lambda s: s.ask_why(), 86),
        ("frames", "f", "frames", "Show the frames, how each was entered, and its iterations",
         lambda s: s.show_tab("frames"), 85),
        ("stacks", "t", "stacks", "Show what stacks, arrays and variables hold",
         lambda s: s.show_tab("stacks"), 84),
        ("breaks", "B", "breakpoints", "Show the breakpoints, their hits, and what they have logged",
         lambda s: s.show_tab("breaks"), 50),
        ("source", "l", "source", "Show the line that made the node; again, that of Session.run",
         lambda s: s.show_source(), 49),
        ("answer", "A", "answer", "Show the last answer as a list", lambda s: s.show_tab("answer"), 31),
        ("races", "R", "races", "List the races of the step's graph", lambda s: s.question("races"), 38),
        ("origin", "N", "NaN origin", "Say where a NaN or an infinity came from",
         lambda s: s.question("origin"), 37),
        ("explore", "X", "explore", "Run all schedules that can differ, and say whether they agree",
         lambda s: s.question("explore")),
        ("scheduler", "P", "scheduler", "Choose who picks among the ready nodes", lambda s: s.choose_scheduler()),
        ("fold_all", "F", "fold all", "Fold all loops in the list, or unfold them", lambda s: s.fold_all(), 32),
        ("escape", "escape", "back", "Leave the command line", lambda s: s.leave_input(), 0, False),
    ),
    *_on(
        "rails",
        ("fold", "left,h", "fold", "Fold the loop of the selected line: a line for each iteration",
         lambda w: w.fold(True), 0, False),
        ("unfold", "right", "unfold", "Unfold it", lambda w: w.fold(False), 0, False),
        ("toggle", "space", "fold/unfold", "Fold or unfold it", lambda w: w.fold(None), 0, False),
    ),
    *_on(
        "scrubber",
        ("left", "left,h", "back", "Go back by a hundredth of the history", lambda w: w.nudge(-0.01), 0, False),
        ("right", "right", "on", "Go on by a hundredth of it", lambda w: w.nudge(0.01), 0, False),
        ("page_left", "pageup", "far back", "Go back by a tenth", lambda w: w.nudge(-0.1), 0, False),
        ("page_right", "pagedown", "far on", "Go on by a tenth", lambda w: w.nudge(0.1), 0, False),
        ("first", "home", "begin", "Go to the first execution that is kept", lambda w: w.go_to(0), 0, False),
        ("last", "end", "end", "Go on to the last of what was taken back",
         lambda w: w.go_to(w.scrub.total), 0, False),
    ),
    *_on(
        "breaks",
        ("switch", "space", "on/off", "Let the breakpoint stop no more, or again", lambda w: w.switch(), 0, False),
        ("delete", "delete,backspace", "delete", "Delete the breakpoint", lambda w: w.delete(), 0, False),
    ),
    *_on(
        "answer",
        ("both", "equals_sign", "side by side", "Show both orders of the race, or the outcome beside the first one",
         lambda w: w.want("both"), 0, False),
        ("replay", "space", "replay", "Let the step go by the schedule of this row, from here or from its beginning",
         lambda w: w.want("replay"), 0, False),
        ("first", "left_parenthesis", "replay first", "Let it go by the first of two schedules",
         lambda w: w.want("first"), 0, False),
        ("second", "right_parenthesis", "replay second", "Let it go by the second",
         lambda w: w.want("second"), 0, False),
        ("node", "g", "graph", "Show the row's node in the graph", lambda w: w.want("node"), 0, False),
        ("before", "backspace", "answer before", "Show the answer before this one",
         lambda w: w.want("before"), 0, False),
    ),
    *_on(
        "command",
        ("complete", "tab", "complete", "Complete the word; again, the next completion",
         lambda w: w.line.complete(1), 0, False),
        ("complete_before", "shift+tab", "before", "The completion before",
         lambda w: w.line.complete(-1), 0, False),
        ("earlier", "up", "earlier", "The command given before", lambda w: w.line.recall(-1), 0, False),
        ("later", "down", "later", "The command given after", lambda w: w.line.recall(1), 0, False),
        ("search", "ctrl+r", "search", "Search the commands given before; again, for an earlier one",
         lambda w: w.line.search(), 0, False),
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
