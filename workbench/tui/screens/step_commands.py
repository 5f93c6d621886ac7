"""What the Step screen does: commands, questions, breakpoints, going to places, overrides, the schedule."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from textual import on

from workbench.debugger.pages import Query
from workbench.tui.screens.step_dialogs import Choice, Chooser, Override
from workbench.tui.screens.step_looking import StepLooking
from workbench.tui.widgets.command_line import CommandLine
from workbench.tui.widgets.scrubber import Scrubber

# Commands that are answered with a list of statements, each of which leads somewhere.
QUESTIONS = frozenset(("who", "origin", "diff", "needs", "slice", "races", "explore"))

# label, note, question; {0} is the selected node.
ABOUT = (
    ("why", "which fetches need it, or who killed its token", "why {0}"),
    ("why not", "what keeps it from executing, back to the root causes", "why not {0}"),
    ("why here", "why it is on its device", "why here {0}"),
    ("who wrote", "who changed the variable, and what it was before", "who wrote {0}"),
    ("origin", "where its NaN or infinity came from", "origin {0}"),
    ("needs", "who still needs its value", "needs {0}"),
    ("slice", "the executions that its value descends from", "slice {0}"),
    ("diff", "how its latest two values differ", "diff {0}:0"),
    ("races", "accesses to one variable that nothing orders", "races"),
    ("explore", "run all schedules that can differ", "explore"),
)
SCHEDULERS = (
    ("first", "what has been ready longest, as without a debugger"),
    ("random", "any, by chance"),
    ("pct", "by random priorities that change a few times"),
    ("lifo", "what became ready last"),
    ("writes-first", "writes to resources before all else"),
    ("reads-first", "reads of resources before all else"),
    ("longest-wait", "accesses to resources as late as can be"),
)


class StepCommands(StepLooking):
    """Doing.  Every reply comes later; until then the screen goes on."""

    def __init__(self) -> None:
        super().__init__()
        self._going = False  # a `goto` is under way
        self._goto: int | None = None

    # Commands.

    def command(self, line: str) -> None:
        """Give the debugger a command line."""
        words = line.split()
        if not words:
            return
        if words[0] in QUESTIONS or (words[0] == "why" and words[1:2] in (["not"], ["here"])):
            self.question(line)
        else:
            self._send(line, self._replied)

    def _send(self, line: str, replied: Callable[[str, bool, str], None]) -> bool:
        """Send a command line; `replied` is called in the app's own thread.  False if there is no debugger."""
        source, app = self.workbench.debug_source, self.app
        if source is None:
            return False

        def done(found: Future[Any]) -> None:
            reply = found.result()
            if app.is_running:
                app.call_later(replied, line, bool(reply.ok), str(reply.text))

        source.send(line).add_done_callback(done)
        return True

    def _replied(self, line: str, ok: bool, text: str) -> None:
        if not self.is_attached:
            return
        self.answer = ""
        self.look()
        if ok and line.split()[:1] == ["why"]:
            way = self.step.way
            if way is not None and text.startswith(way.asked.node) and " is dead" in text.partition("\n")[0]:
                if self.tabs.current != "why":
                    self.show_tab("why")
                self.tabs.draw(self.step, self.palette, home=True)
            else:
                self.question(line, text)
        elif ok or not self.step.is_over:
            self.answer, self.answer_ok, self.answered = text.rstrip(), ok, line
        self.show_console()

    def look(self) -> None:
        """Show the latest snapshot, if it is another one."""
        raise NotImplementedError

    def show_console(self) -> None:
        """Show the last answer, the script's error, or its output."""
        raise NotImplementedError

    # Questions.

    def question(self, line: str, otherwise: str = "") -> None:
        """Ask, and show the answer as a list; `otherwise` is shown where there is none."""
        raise NotImplementedError

    def ask_about(self) -> None:
        """Choose a question about the selected node."""
        here = self.selected
        node = here.node if here is not None else ""
        choices = [
            Choice(label, note, question.format(node))
            for label, note, question in ABOUT
            if node or "{0}" not in question
        ]
        title = f"Ask about {node}" if node else "Ask"
        self.app.push_screen(Chooser(title, choices, self.palette), self._chose)

    def _chose(self, line: str | None) -> None:
        if line:
            self.command(line)

    def ask_why(self) -> None:
        """Show why the selected node is dead or what needs it; if that is shown, the waiting nodes again."""
        here, way = self.rails.selected, self.step.way
        asked = (way.asked.row, way.asked.node) if way is not None else None
        if here is None or (self.tabs.current == "why" and asked == (here[0], here[1].node)):
            self.show_tab("why")
        else:
            self.command(f"why {here[0]}" if here[0] >= 0 else f"why {here[1].node}")

    # The schedule.

    def choose_scheduler(self) -> None:
        """Choose who picks among the ready nodes."""
        choices = [Choice(name, note, f"schedule {name}") for name, note in SCHEDULERS]
        choices.append(Choice("show", "this step's schedule as a string, to be replayed", "schedule"))
        self.app.push_screen(Chooser("Who chooses among the ready nodes", choices, self.palette), self._chose)

    def go_here(self) -> None:
        """Go to the selected execution, or let the selected ready node run next."""
        ready = self.rails.ready_at(self.rails.cursor)
        if ready is not None:
            if ready.index:
                same = [each for each in self.step.ready if each.activation.node == ready.activation.node]
                if len(same) == 1:
                    self.command(f"choose {ready.activation.node}")
                else:
                    self.app.notify(
                        "it is ready in several iterations: ready lists them, choose NUMBER takes one",
                        timeout=4,
                    )
            return
        row = self.rails.executed_at(self.rails.cursor)
        if row is not None:
            self.go_to(row.row)

    def go_to(self, row: int) -> None:
        """Go where execution `row` is next; while one such is under way, only the last one wanted follows."""
        self._goto = row
        self._go_on()

    def _go_on(self) -> None:
        if self._going or self._goto is None:
            return
        row, self._goto = self._goto, None
        self._going = self._send(f"goto {row}", self._gone)

    def _gone(self, line: str, ok: bool, text: str) -> None:
        self._going = False
        if self._goto is None:
            self.scrubber.arrived()
            self._replied(line, ok, text)
        self._go_on()

    def scrub(self, part: float) -> None:
        """Go on or back by a part of the history."""
        self.scrubber.nudge(part)

    @on(Scrubber.Dragged)
    def _dragged(self, message: Scrubber.Dragged) -> None:
        message.stop()
        if isinstance(message, Scrubber.Dropped):
            if message.row == self.step.executed and not self._going:
                self.scrubber.arrived()
                self.to_now()
            else:
                self.go_to(message.row)
        elif message.row < self.step.executed:
            self.rails.move_to(self.history.line_of(message.row))
        else:
            self.rails.go_to_next()

    # Changing.

    def edit(self) -> None:
        """Override a tensor or a variable."""
        here = self.rails.selected
        target = ""
        if here is not None:
            row, activation = here
            target = (
                "next" if row < 0 and not self.rails.cursor - self.history.lines else f"{activation.node}:0"
            )
            if activation.type in ("VariableV2", "Variable", "VarHandleOp"):
                target = f"var {activation.node}"

        def told(found: tuple[str, str] | None) -> None:
            if found is not None:
                self.command(f"set {found[0]} = {found[1]}")

        self.app.push_screen(Override(target, self._check, self.palette), told)

    def _check(self, text: str, told: Any) -> None:
        self.ask_page(Query("check", text), lambda page: told(page.ok, page.text))

    def toggle_breakpoint(self) -> None:
        """Set a breakpoint at the selected node, or delete the one that is there."""
        here = self.selected
        if here is None:
            self.ask("b ")
            return
        known = next((point for point in self.step.breakpoints if point.node == here.node), None)
        self.command(f"d {known.number}" if known is not None else f"b {here.node}")

    # Looking with commands.

    def info(self) -> None:
        """Say all about the selected node."""
        here = self.selected
        if here is not None:
            self.command(f"info {here.node}")

    def print_selected(self) -> None:
        """Print the latest values of the selected node, or of what ran last if it has not run yet."""
        here = self.rails.selected
        if here is None:
            self.ask("p ")
            return
        row, activation = here
        source = self.workbench.debug_source
        latest = source.snapshot.history if source is not None else ()
        if row >= 0 or any(each.activation.node == activation.node for each in latest):
            self.command(f"p {activation.node}")
        elif self.step.last is not None:
            self.command(f"p {self.step.last.activation.node}")
        else:
            self.command(f"info {activation.node}")

    def show_node(self) -> None:
        """Show the selected node in the graph, if one is recorded."""
        here = self.selected
        if here is not None:
            self.show_in_graph(here.node)

    def show_in_graph(self, node: str) -> None:
        """Show a node in the graph, if one is recorded."""
        if self.workbench.opened is None:
            self.app.notify(
                "no graph is recorded beside the stepping: workbench step --trace times SCRIPT", timeout=5
            )
            return
        self.workbench.go_to_node(node)

    # The command line.

    def ask(self, text: str = "") -> None:
        """Open the command line."""
        self.line.open(text)

    def leave_input(self) -> None:
        """Leave the search in the command line, or the command line."""
        if self.line.display and self.line.escape():
            return
        if self.line.display:
            self.line.close()
            self.rails.focus()
        elif self.answer:
            self.answer = ""
            self.show_console()

    @on(CommandLine.Given)
    def _given(self, message: CommandLine.Given) -> None:
        message.stop()
        self.line.close()
        self.rails.focus()
        if message.line in ("q", "quit", "exit"):
            self.workbench.exit()
        elif message.line:
            self.command(message.line)
