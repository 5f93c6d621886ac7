"""Conversation: the debugger and one front end that talks to it.

The debugger calls it as its `Front`, in the thread whose step is stopped; commands that move or look wait there for their turn.
While a step runs, the thread that talks to the front end answers what can be answered then.
"""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import sys
import threading
import time

from workbench.debugger import queries
from workbench.debugger.command import Answer, CommandError
from workbench.debugger.commands import parse
from workbench.debugger.core import Debugger
from workbench.debugger.pages import Page, Query
from workbench.debugger.paging import Paging
from workbench.debugger.protocol import Command, Lines, Message, ProtocolError, Reply, pack, unpack
from workbench.debugger.snapshot import ExecutedView, Snapshot, Status, shortened

PROGRESS_SECONDS = 0.25  # between two snapshots of a step that runs
FIRST_PROGRESS_SECONDS = 0.05
SWITCH_SECONDS = 0.001  # after which a step that runs lets this thread answer; Python's own 5 ms count several times an answer
SEND_SECONDS = 10.0  # after which a front end that takes nothing is cut off
MESSAGE_SECONDS = 10.0  # after which one is cut off that does not come to the end of what it says
_PENDING = 1_000  # commands that wait for their turn
_ENDED = (Status.FINISHED, Status.FAILED)


class Conversation:
    """The debugger of a script, and who gives it commands; one front end after the other (`talk`).

    attached: the script was started by somebody else, and goes on without us: the one front end can only leave, and its `q` does
        that too.
    """

    def __init__(self, *, script: str, argv: tuple[str, ...] = (), attached: bool = False) -> None:
        self.debugger = Debugger(self, script=script, argv=argv)
        self.connected = threading.Event()
        self.attached = attached
        self._commands: queue.Queue[Command | Query | None] = queue.Queue(_PENDING)
        self._paging = Paging()
        self._waiting: Command | None = None  # the move that is under way
        self._connection: socket.socket | None = None
        self._sending = threading.Lock()
        self._sent: tuple[ExecutedView, ...] = ()  # the history of the last snapshot that was sent

    def hang_up(self) -> None:
        """End the connection; what has been sent still arrives."""
        connection = self._connection
        if connection is not None:
            with self._sending:
                shut(connection)

    def disown(self) -> None:
        """In a forked child: let go of the connection, which is the parent's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def release(self) -> None:
        """Let the script run on as if nobody had looked; a step that is stopped goes on."""
        self.debugger.release()
        with contextlib.suppress(queue.Empty):
            while True:
                self._commands.get_nowait()
        self._commands.put(None)

    def finished(self) -> None:
        """The script has ended: tell so, and answer the command that led there."""
        self._send(self.debugger.snapshot())
        self._answer_move()
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            if isinstance(command, Query):
                self._send(Page(command.id, False, "the script has ended"))
            elif command is not None:
                self._send(Reply(command.id, False, "the script has ended"))

    # The debugger's front.

    def stopped(self, debugger: Debugger) -> None:
        self._note_stop(debugger)
        self._send(debugger.snapshot())
        self._answer_move()

    def command(self, debugger: Debugger) -> str:
        """The next command; a script that nobody looks at any more waits here until somebody does."""
        while not debugger.released:
            given = self._commands.get()
            if isinstance(given, Query):
                self._send(queries.answer(debugger, self._paging, given))
                continue
            self._waiting = given
            if given is not None:
                return given.line
        return "c"

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self._note_stop(debugger)
        self._send(debugger.snapshot())
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._send(Reply(waiting.id, answer.ok, answer.text))

    def resumed(self, debugger: Debugger) -> None:
        """The agent's thread tells of it, if it takes long enough to be worth telling."""

    def left(self, debugger: Debugger) -> None:
        """The agent's thread tells of it, likewise."""

    def _note_stop(self, debugger: Debugger) -> None:
        if debugger.stepping is not None:
            self._paging.stopped(debugger.stepping, debugger.reason)

    def _answer_move(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._send(Reply(waiting.id, True, ""))

    # The thread that talks.

    def talk(self, connection: socket.socket, lines: Lines) -> None:
        """Serve one front end, with which greetings were exchanged, until it goes; raises ProtocolError or OSError."""
        connection.settimeout(SEND_SECONDS)
        self._sent = ()
        self._connection = connection
        before = sys.getswitchinterval()
        sys.setswitchinterval(min(before, SWITCH_SECONDS))
        try:
            self._send(self.debugger.snapshot())
            self.connected.set()
            self._serve(connection, lines)
        finally:
            sys.setswitchinterval(before)
            self._connection = None

    def _serve(self, connection: socket.socket, lines: Lines) -> None:
        told = (self.debugger.status, time.monotonic())
        begun = 0.0  # when what has not ended yet began
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while True:
                busy = self.debugger.status is not Status.STOPPED
                heard = bool(selector.select(FIRST_PROGRESS_SECONDS if busy else PROGRESS_SECONDS))
                if heard:
                    if not lines.receive():
                        return
                    while (line := lines.take()) is not None:
                        begun = 0.0
                        given = unpack(line, (Command, Query))
                        if isinstance(given, Query):
                            self._look_up(given)
                        elif isinstance(given, Command) and not self._take(given):
                            return
                if not lines.unfinished:
                    begun = 0.0
                elif not begun:
                    begun = time.monotonic()
                elif time.monotonic() - begun > MESSAGE_SECONDS:
                    raise ProtocolError("a message that does not end")
                told = self._tell_progress(told, heard)

    def _take(self, command: Command) -> bool:
        """Hand a command to the stopped step, or answer it here.  False: it was the last one."""
        debugger = self.debugger
        try:
            known, _ = parse(command.line)
        except CommandError as error:
            self._send(Reply(command.id, False, str(error)))
            return True
        if known.name == "detach" or (self.attached and known.name == "q"):
            self.release()
            self._answer_move()
            self._send(Reply(command.id, True, "detached; the script runs on"))
            return not self.attached
        if debugger.status is Status.STOPPED or not known.anytime:
            if debugger.status in _ENDED:
                self._send(Reply(command.id, False, "the script has ended"))
                return True
            if debugger.status is not Status.STOPPED and not known.moves:
                said = "the script is running; pause stops it before its next node"
                self._send(Reply(command.id, False, said))
                return True
            try:
                self._commands.put_nowait(command)
            except queue.Full:
                self._send(Reply(command.id, False, "too many commands are waiting for their turn"))
            return True
        answer = debugger.execute(command.line)
        self._send(debugger.snapshot())
        self._send(Reply(command.id, answer.ok, answer.text))
        return True

    def _look_up(self, query: Query) -> None:
        """Hand a query to the stopped step, or answer it here; what can be answered while a step runs is."""
        debugger = self.debugger
        try:
            kind = queries.check(query)
        except CommandError as error:
            self._send(Page(query.id, False, str(error)))
            return
        if debugger.status is Status.STOPPED:
            try:
                self._commands.put_nowait(query)
            except queue.Full:
                self._send(Page(query.id, False, "too many commands are waiting for their turn"))
        elif debugger.status is Status.RUNNING and kind.anytime:
            self._send(queries.answer(debugger, self._paging, query))
        else:
            ended = debugger.status in _ENDED
            self._send(Page(query.id, False, f"the script {'has ended' if ended else 'is running'}"))

    def _tell_progress(self, told: tuple[Status, float], heard: bool) -> tuple[Status, float]:
        """Send a snapshot if the script has been running for a while; stops are told of where they happen.

        `told` is the status told of last and when; gives the same for next time.
        """
        status, now = self.debugger.status, time.monotonic()
        last, at = told
        if status not in (Status.RUNNING, Status.WAITING_FOR_RUN):
            return status, now
        if heard and status is not last:
            at = now  # it has just begun to move
        just_left = last not in (Status.RUNNING, Status.WAITING_FOR_RUN)
        if now - at < (FIRST_PROGRESS_SECONDS if just_left else PROGRESS_SECONDS):
            return last, at
        if status is not last or status is Status.RUNNING:
            self._send(self.debugger.snapshot())
        return status, now

    def _send(self, message: Message) -> None:
        connection = self._connection
        if connection is None:
            return
        with self._sending:
            if isinstance(message, Snapshot):
                message, self._sent = shortened(message, self._sent), message.history
            data = pack(message)
            try:
                connection.sendall(data)
            except OSError:  # it has gone, or takes nothing: the thread that reads will see it
                self._connection = None
                shut(connection)


def shut(connection: socket.socket) -> None:
    """End a connection in both directions; nothing happens if it has ended."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
