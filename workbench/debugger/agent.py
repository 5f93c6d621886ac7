"""Agent: the thread in the script's process that a front end talks to.

The debugger calls the agent as its `Front`, in the thread whose step is stopped; commands that move or look wait there for their
turn.  While a step runs, the agent's own thread answers what can be answered then.  One front end is served at a time; one that
misbehaves is cut off, and another may connect.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from workbench.debugger.command import Answer, CommandError
from workbench.debugger.commands import parse
from workbench.debugger.core import Debugger
from workbench.debugger.protocol import (
    MAX_TO_AGENT,
    VERSION,
    Command,
    Hello,
    Lines,
    Message,
    ProtocolError,
    Reply,
    pack,
    unpack,
)
from workbench.debugger.snapshot import Status

PROGRESS_SECONDS = 0.25  # between two snapshots of a step that runs
FIRST_PROGRESS_SECONDS = 0.05
SEND_SECONDS = 10.0  # after which a front end that takes nothing is cut off
_PENDING = 1_000  # commands that wait for their turn


class Agent:
    """Listens at `address`, a path in a private directory; only this user may connect.

    Raises OSError if the socket cannot be made.
    """

    def __init__(self, address: Path, *, script: str, argv: tuple[str, ...] = ()) -> None:
        self.debugger = Debugger(self, script=script, argv=argv)
        self.connected = threading.Event()
        self._script = script
        self._commands: queue.Queue[Command | None] = queue.Queue(_PENDING)
        self._waiting: Command | None = None  # the move that is under way
        self._connection: socket.socket | None = None
        self._sending = threading.Lock()
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(address))
        finally:
            os.umask(before)
        self._listener.listen(1)
        self._address = address
        self._thread = threading.Thread(target=self._serve, name="workbench-agent", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; what has been sent still arrives."""
        self._closed = True
        with contextlib.suppress(OSError):  # wakes the thread that waits for a connection
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._address.unlink(missing_ok=True)
        connection = self._connection
        if connection is not None:
            with self._sending:
                _shut(connection)

    def finished(self) -> None:
        """The script has ended: tell so, and answer the command that led there."""
        self._send(self.debugger.snapshot())
        self._answer_move()
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            if command is not None:
                self._send(Reply(command.id, False, "the script has ended"))

    # The debugger's front.

    def stopped(self, debugger: Debugger) -> None:
        self._send(debugger.snapshot())
        self._answer_move()

    def command(self, debugger: Debugger) -> str:
        """The next command; a script that nobody looks at any more waits here until somebody does."""
        while True:
            self._waiting = self._commands.get()
            if self._waiting is not None:
                return self._waiting.line

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self._send(debugger.snapshot())
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._send(Reply(waiting.id, answer.ok, answer.text))

    def resumed(self, debugger: Debugger) -> None:
        """The agent's thread tells of it, if it takes long enough to be worth telling."""

    def left(self, debugger: Debugger) -> None:
        """The agent's thread tells of it, likewise."""

    def _answer_move(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._send(Reply(waiting.id, True, ""))

    # The thread.

    def _serve(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed, or out of file descriptors
                if self._closed:
                    return
                time.sleep(0.1)
                continue
            try:
                if _same_user(connection):
                    self._talk(connection)
            except (ProtocolError, OSError) as error:
                if not self._closed:
                    self._say(connection, error)
            finally:
                self._connection = None
                _shut(connection)
                connection.close()

    def _talk(self, connection: socket.socket) -> None:
        """Serve one front end until it goes; raises ProtocolError or OSError."""
        connection.settimeout(SEND_SECONDS)
        lines = Lines(connection, MAX_TO_AGENT)
        line = lines.read()
        if line is None:
            return
        hello = unpack(line, (Hello,))
        assert isinstance(hello, Hello)
        connection.sendall(pack(Hello(VERSION, "agent", os.getpid(), self._script)))
        if hello.version != VERSION:
            return
        self._connection = connection
        self._send(self.debugger.snapshot())
        self.connected.set()
        told = (self.debugger.status, time.monotonic())
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            while True:
                busy = self.debugger.status is not Status.STOPPED
                heard = bool(selector.select(FIRST_PROGRESS_SECONDS if busy else PROGRESS_SECONDS))
                if heard:
                    if not lines.receive():
                        return
                    while (line := lines.take()) is not None:
                        command = unpack(line, (Command,))
                        assert isinstance(command, Command)
                        self._take(command)
                told = self._tell_progress(told, heard)

    def _take(self, command: Command) -> None:
        """Hand a command to the stopped step, or answer it here."""
        debugger = self.debugger
        try:
            known, _ = parse(command.line)
        except CommandError as error:
            self._send(Reply(command.id, False, str(error)))
            return
        if debugger.status is Status.STOPPED or not known.anytime:
            if debugger.status in (Status.FINISHED, Status.FAILED):
                self._send(Reply(command.id, False, "the script has ended"))
                return
            if debugger.status is not Status.STOPPED and not known.moves:
                said = "the script is running; pause stops it before its next node"
                self._send(Reply(command.id, False, said))
                return
            try:
                self._commands.put_nowait(command)
            except queue.Full:
                self._send(Reply(command.id, False, "too many commands are waiting for their turn"))
            return
        answer = debugger.execute(command.line)
        self._send(debugger.snapshot())
        self._send(Reply(command.id, answer.ok, answer.text))

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
        data = pack(message)
        with self._sending:
            try:
                connection.sendall(data)
            except OSError:  # it has gone, or takes nothing: the thread that reads will see it
                self._connection = None
                _shut(connection)

    def _say(self, connection: socket.socket, error: Exception) -> None:
        """Tell a front end that misbehaved why it is cut off."""
        try:
            connection.settimeout(1.0)
            with self._sending:
                connection.sendall(pack(Reply(-1, False, f"connection closed: {error}")))
        except OSError:
            return


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _same_user(connection: socket.socket) -> bool:
    """Whether the other side runs as this user; True where the system cannot say (the socket's mode then has to do)."""
    if not sys.platform.startswith("linux"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", credentials)
    return bool(user == os.geteuid())
