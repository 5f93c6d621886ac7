"""The debugger in the process of the program itself, for notebooks and tests: `engine.debug.session(session)`.

    debugger = engine.debug.session(session)
    debugger.run(loss, {x: batch})       # stops before the first node
    debugger.next(3)
    debugger.run_to("while/add")
    print(debugger.value("while/add:0"))
    debugger.go_on().result

The step runs on a thread of its own, and stands still between two calls; every call gives the debugger itself, whose display is
where the step stands.  No terminal is needed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from engine.runtime import driver
from engine.types import site
from viz.html import paragraph
from viz.schedule_model import ExplorationView, RaceList, ShownRace
from workbench.debugger import asking, changes, forcing, looking, moves, notebook_html, scheduling, text
from workbench.debugger.command import Answer, CommandError
from workbench.debugger.commands import parse
from workbench.debugger.core import Debugger, Quit
from workbench.debugger.entries import Entry
from workbench.debugger.listening import _OWN
from workbench.debugger.naming import output_of, value_of
from workbench.debugger.questions.reasoning import Reasoning
from workbench.debugger.snapshot import BreakpointView, Snapshot
from workbench.debugger.stepping import Stepping

_NOTHING: Any = object()


class DebuggerError(RuntimeError):
    """A call that makes no sense where the step stands; the message says what would."""


class _Desk:
    """The debugger's front: takes calls from one thread to the step's, and answers back."""

    def __init__(self) -> None:
        self.calls: queue.Queue[str | Callable[[Debugger], Any]] = queue.Queue()
        self.said: queue.Queue[Any] = (
            queue.Queue()
        )  # an Answer, what a call gave or raised, or None: stopped or left

        self.finishing = False  # nobody asks any more: the step runs to its end

    def stopped(self, debugger: Debugger) -> None:
        if not self.finishing:
            self.said.put(None)

    def command(self, debugger: Debugger) -> str:
        while not self.finishing:
            call = self.calls.get()
            if isinstance(call, str):
                return call
            try:
                self.said.put((call(debugger), None))
            except Exception as error:
                self.said.put((None, error))
        return "c"

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.said.put(answer)

    def resumed(self, debugger: Debugger) -> None:
        """The next stop, or the step's end, is what is waited for."""

    def left(self, debugger: Debugger) -> None:
        """Likewise."""


class _OnThread:
    """A driver for one session that lets its own thread's steps go through the debugger, and all others as they would."""

    def __init__(self, debugger: Debugger, usual: driver.Driver) -> None:
        self.record = True
        self._debugger = debugger
        self._usual = usual
        self.thread = 0

    def drive(self, step: driver.StepRun) -> None:
        mine = threading.get_ident() == self.thread
        (self._debugger if mine else self._usual).drive(step)


class NotebookDebugger:
    """Steps of `session`, node by node, in this process.

    `result` is what the last step gave, `done` whether it is over; `error` what it raised, if it did.  A method that moves
    returns when the step has stopped or is over, and gives the debugger.  Methods raise DebuggerError where there is no step
    to move or to ask, and for what makes no sense, with what to do instead.
    """

    def __init__(self, session: Any) -> None:
        site.hide(_OWN)
        site.hide(threading.__file__)  # whose frames are the outermost of the step's thread
        self.session = session
        self.answer = ""  # what the last command said
        self._desk = _Desk()
        self._debugger = Debugger(self._desk, script="this program")
        self._worker: threading.Thread | None = None
        self._outcome: tuple[Any, BaseException | None] = (_NOTHING, None)
        self._calls = threading.Lock()

    # Steps.

    def run(self, fetches: Any, feed_dict: Any = None) -> Self:
        """Begin `session.run(fetches, feed_dict)`, and stop before its first node.  A step that is under way is finished first.

        Raises what `Session.run` raises for what cannot be fetched or fed.
        """
        self.close()
        self._outcome = (_NOTHING, None)
        self._debugger._move = moves.next_run()
        self._worker = threading.Thread(
            target=self._run, args=(fetches, feed_dict), name="debugged-step", daemon=True
        )
        self._worker.start()
        self._await()
        if self._worker is None and self.error is not None and not isinstance(self.error, Quit):
            raise self.error  # what cannot be run at all
        return self

    def _run(self, fetches: Any, feed_dict: Any) -> None:
        outcome: tuple[Any, BaseException | None]
        before = driver.installed()
        through = _OnThread(self._debugger, before if before is not None else self.session._driver)
        through.thread = threading.get_ident()
        driver.install(through)
        try:
            outcome = (self.session.run(fetches, feed_dict), None)
        except BaseException as error:
            outcome = (_NOTHING, error)
        finally:
            if before is None:
                driver.uninstall()
            else:
                driver.install(before)
        self._outcome = outcome
        self._desk.said.put(_NOTHING)

    def _await(self) -> Any:
        """Wait for the step's thread to say something; the step's end is the end of the thread.

        An interrupt (a notebook's stop button) stops the step before its next node.
        """
        while True:
            try:
                said = self._desk.said.get()
                break
            except KeyboardInterrupt:
                self._debugger.pause("interrupted")
        if said is _NOTHING:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.join()
        return said

    @property
    def done(self) -> bool:
        """Whether no step is under way."""
        return self._worker is None

    @property
    def result(self) -> Any:
        """What `session.run` gave; the step is finished first.  Raises what it raised, and DebuggerError before `run`."""
        self.close()
        value, error = self._outcome
        if error is not None:
            raise error
        if value is _NOTHING:
            raise DebuggerError("nothing was run yet: debugger.run(fetches)")
        return value

    @property
    def error(self) -> BaseException | None:
        """What the step raised, or is about to raise where it stands."""
        stepping = self._debugger.stepping
        if stepping is not None and stepping.error is not None:
            return stepping.error
        return self._outcome[1]

    def execute(self, line: str) -> str:
        """Carry out any command (``help`` lists them); gives what it says, and raises DebuggerError if it cannot."""
        try:
            command, _ = parse(line)
        except CommandError as error:
            raise DebuggerError(str(error)) from None
        if command.name == "detach":
            self.close()
            return "detached"
        with self._calls:
            if self._worker is None:
                if not command.anytime or command.name == "q":
                    raise DebuggerError("no step is under way: debugger.run(fetches) begins one")
                answer = self._debugger.execute(line)
            else:
                self._desk.calls.put(line)
                answer = self._await()
        self.answer = answer.text if isinstance(answer, Answer) else ""
        if isinstance(answer, Answer) and not answer.ok:
            raise DebuggerError(answer.text)
        return self.answer

    def _move(self, line: str) -> Self:
        self.execute(line)
        return self

    def _ask(self, call: Callable[[Stepping], Any]) -> Any:
        """Ask the stopped step something, in its own thread."""
        return self._call(lambda debugger: call(looking.stepping_of(debugger)))

    def _call(self, call: Callable[[Debugger], Any]) -> Any:
        """Ask the debugger something, in the stopped step's own thread."""
        with self._calls:
            if self._worker is None:
                raise DebuggerError("no step is under way: debugger.run(fetches) begins one")
            self._desk.calls.put(call)
            value, error = self._await()
        if isinstance(error, CommandError):
            raise DebuggerError(str(error)) from None
        if error is not None:
            raise error
        return value

    # Moves.

    def next(self, count: int = 1) -> Self:
        """Execute the next node, or the next `count`."""
        return self._move(f"n {count}")

    def back(self, count: int = 1) -> Self:
        """Take the last execution back, or the last `count`."""
        return self._move(f"back {count}")

    def run_to(self, node: str) -> Self:
        """Go on until `node` (or one in that scope, or that matches the pattern) is next."""
        return self._move(f"s {node}")

    def over(self) -> Self:
        """Execute all that is ready in the name scope of the next node."""
        return self._move("s")

    def out(self) -> Self:
        """Run out of the next node's frame: its whole loop."""
        return self._move("o")

    def go_on(self) -> Self:
        """Go on to a breakpoint or the end of the step."""
        return self._move("c")

    # Breakpoints.

    def break_at(self, what: str) -> Self:
        """Stop before a node: what the command `b` takes, such as ``"while/add if iteration >= 3"``."""
        return self._move(f"b {what}")

    def delete(self, number: int | None = None) -> Self:
        """Delete breakpoint `number`, or all."""
        return self._move(f"d {number if number is not None else 'all'}")

    @property
    def breakpoints(self) -> tuple[BreakpointView, ...]:
        """The breakpoints, with how often each was hit."""
        return self._debugger.breakpoints.views

    # Looking.

    @property
    def snapshot(self) -> Snapshot:
        """All there is to see where the step stands."""
        if self._worker is None:
            return self._debugger.snapshot()
        found: Snapshot = self._ask(lambda stepping: self._debugger.snapshot())
        return found

    def value(self, tensor: str) -> Any:
        """The latest value of a tensor (``"add:0"``) as an array of its own; a variable's is what it held then.

        Raises DebuggerError if it has none: it has not been computed, or is dead.
        """
        return self._ask(lambda stepping: _value(stepping, tensor))

    def variable(self, name: str) -> Any:
        """What a variable of the session holds now, as an array of its own; None before it is initialized.

        Raises DebuggerError if there is none of that name.
        """
        found = self.session.resources.lookup(name.removesuffix(":0"))
        if found is None:
            raise DebuggerError(f"the session has no variable '{name}' yet")
        return None if found.value is None else _array(found.value)

    @property
    def ready(self) -> tuple[str, ...]:
        """The nodes that may run now, the next one first."""
        return tuple(view.activation.node for view in self.snapshot.ready)

    @property
    def history(self) -> tuple[str, ...]:
        """The nodes that have executed, oldest first, as far as a snapshot shows them."""
        return tuple(view.activation.node for view in self.snapshot.history)

    def why(self, node: str = "") -> str:
        """Who needs a node, or why it is dead."""
        return self.execute(f"why {node}".strip())

    def why_not(self, node: str) -> str:
        """What keeps a node from executing, back to the root causes."""
        return self.execute(f"why not {node}")

    def ask(self, question: str) -> Reasoning:
        """The answer to a question (``"origin nan"``, ``"why not while/add"``, ``"who wrote w"`` …), which displays itself."""
        found: Reasoning = self._call(lambda debugger: asking.ask(debugger, question))
        return found

    # Order.

    def races(self) -> RaceList:
        """The accesses to one variable, stack, array or queue of which no path says which is first."""
        found: RaceList = self._tell("races")
        return found

    def race(self, number: int) -> ShownRace:
        """Race `number` of those that `races` lists, run in both orders; the step stands afterwards where it stood."""
        found: ShownRace = self._tell(f"races show {number}")
        return found

    def explore(self, limit: int | None = None) -> ExplorationView:
        """What all schedules of the rest of the step that can differ come to, or at most `limit` of them."""
        found: ExplorationView = self._tell(f"explore {limit if limit is not None else ''}")
        return found

    def _tell(self, line: str) -> Any:
        return self._call(lambda debugger: scheduling.tell(debugger, line))

    def replay(self, schedule: str) -> Self:
        """Let the step go by a schedule, from its beginning or from where it stands if it came there by the same choices.

        Raises DebuggerError for one that it cannot go by.
        """
        return self._move(f"schedule replay {schedule}")

    def info(self, what: str) -> str:
        """All about a node, or one of the lists: ready, frames, waiting, resources, overrides, …"""
        return self.execute(f"info {what}")

    # Changing.

    def set(self, tensor: str, value: Any) -> Self:
        """Override a tensor (``"add:0"``) with an array wherever its latest value has not been read yet."""

        def change(stepping: Stepping) -> Entry:
            item, slot, _ = output_of(stepping, tensor)
            if not item.n_outputs:
                raise CommandError(f"'{item.name}' has no output to set")
            return changes.set_tensor(stepping, item, slot, value).entry

        self._ask(change)
        return self

    def set_variable(self, name: str, value: Any) -> Self:
        """Override a variable; `back` takes it back."""
        self._ask(lambda stepping: changes.set_variable(stepping, name, value).entry)
        return self

    def skip(self, node: str = "", values: Sequence[Any] | None = None) -> Self:
        """Let a node (the next one) give `values`, one for each output, or zeros, its kernel not run."""

        def change(stepping: Stepping) -> Entry:
            following = stepping.next
            if not node and following is None:
                raise CommandError("nothing is next: the step is done")
            assert node or following is not None
            item = looking.item_of(stepping, node) if node else following.item  # type: ignore[union-attr]
            return changes.skip(stepping, item, values).entry

        self._ask(change)
        return self

    def force(self, switch: str, value: bool) -> Self:
        """Let the predicate of a Switch, of a cond or of a loop be `value`."""
        self._ask(lambda stepping: forcing.force(stepping, switch, value).entry)
        return self

    # Ending.

    def close(self) -> None:
        """Let a step that is under way run to its end, without stopping; its result is kept."""
        if self._worker is None:
            return
        with self._calls:
            self._desk.finishing = True
            try:
                self._desk.calls.put("c")
                while self._worker is not None:
                    self._await()
            finally:
                self._desk.finishing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Display.

    def __repr__(self) -> str:
        if self._worker is None:
            value, error = self._outcome
            if error is not None:
                return f"<the step raised {type(error).__name__}: {error}>"
            return (
                "<no step is under way>"
                if value is _NOTHING
                else f"<the step is over; it gave {_short(value)}>"
            )
        return text.stop(self.snapshot)

    def _repr_html_(self) -> str:
        if self._worker is None:
            return paragraph(repr(self)[1:-1])
        return notebook_html.page(self.snapshot)


def _value(stepping: Stepping, tensor: str) -> Any:
    value = value_of(stepping, tensor)
    if not hasattr(value, "dtype"):
        raise CommandError(f"'{tensor}' is dead, or has no value that one could see")
    return _array(value)


def _array(value: Any) -> Any:
    host = value.get() if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "get") else value
    return np.array(host)[()] if isinstance(host, np.ndarray | np.generic) else host


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 200 else said[:199] + "…"
