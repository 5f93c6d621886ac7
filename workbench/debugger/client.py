"""DebugClient: a front end's side of the debugger.

    with DebugClient.launch("train.py", ["--steps", "10"]) as client:
        client.wait_for_stop()
        client.command("b while/add")
        client.command("c")
        print(client.snapshot.next)

    with DebugClient.attach(4711) as client:  # one that runs by itself and listens (`workbench.debugger.listening`)
        client.wait_for_stop()

A script that was launched runs in a process of its own.  A thread reads what its agent sends; `on_change` is called in that
thread, and whatever happens to the script (a crash, `os._exit`, a kill) ends up as a snapshot like everything else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.debugger.pages import Page, Query
from workbench.debugger.protocol import (
    MAX_TO_FRONT,
    VERSION,
    Command,
    Hello,
    Lines,
    ProtocolError,
    Reply,
    pack,
    unpack,
)
from workbench.debugger.snapshot import MAX_OUTPUT, ErrorView, ExecutedView, Snapshot, Status, lengthened
from workbench.process import ChildProcess, describe_exit, host_command, make_private_directory

CONNECT_SECONDS = 30.0
_READER_SECONDS = 10.0  # that the thread which reads is given to come to its end
DETACH_SECONDS = 10.0  # after which a script that does not answer is left by closing the connection
_GOING_SECONDS = 2.0  # that a process whose connection has ended is given to be gone
ENDED = (Status.FINISHED, Status.FAILED)


class LaunchError(Exception):
    """The script could not be started; the message says why, in one or more lines."""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # Behind the name, which is in brackets; a zombie has ended, and waits for its parent to hear of it.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in "ZX"


class AttachedProcess:
    """The process of a script that somebody else has started: its output goes where it went, and it is not ended by us.

    `ended` is its exit status, once the connection to it is over.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended: int | None = None

    def lives(self) -> bool:
        """Whether it goes on.  A process that ends closes its connections first, so it is given a moment to be gone."""
        until = time.monotonic() + _GOING_SECONDS
        while True:
            late = (
                time.monotonic() > until
            )  # asked first: there is one look after the moment, however long we were held up
            if not _is_running(self.pid):
                return False
            if late:
                return True
            time.sleep(0.01)

    def poll(self) -> int | None:
        """None as long as we are connected, and then its exit status; 0 if it goes on."""
        return self.ended

    def output_tail(self, limit: int = MAX_OUTPUT) -> str:
        """Nothing: what it prints is not ours to read."""
        return ""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, which is not waited for."""
        return self.ended or 0

    def terminate(self) -> int:
        """Does nothing."""
        return self.ended or 0


class DebugClient:
    """A connection to the debugger in a script's process; made by `launch` or `attach`.

    - `snapshot` is the latest; its `output` is the tail of what the script printed (if captured).
    - `send` gives a command and a Future of its `Reply`; `command` waits for it.
    - `poll`, `output_tail`, `terminate` are those of the script's process; one that was attached to is left alone (`attached`).

    Methods may be called from any thread.
    """

    def __init__(
        self,
        process: ChildProcess | AttachedProcess,
        connection: socket.socket,
        lines: Lines,
        hello: Hello,
        script: str,
        argv: Sequence[str],
        on_change: Callable[[Snapshot], None] | None,
    ) -> None:
        self.process = process
        self.agent_pid = hello.pid
        self.problem = ""
        self._connection = connection
        self._lines = lines
        self.attached = isinstance(process, AttachedProcess)
        self._on_change = on_change
        self._snapshot = Snapshot(-1, Status.WAITING_FOR_RUN, script, tuple(argv))
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._pending: dict[int, Future[Reply]] = {}
        self._asked: dict[int, Future[Page]] = {}
        self._sending = threading.Lock()
        self._over = False
        self._leaving = False  # we let the script go, which is why the connection ends
        self._reader = threading.Thread(target=self._read, name="debug-client", daemon=True)
        self._reader.start()

    @classmethod
    def launch(
        cls,
        script: str | os.PathLike[str],
        args: Sequence[str] = (),
        *,
        trace: str | None = None,
        logdir: str | os.PathLike[str] = "runs",
        capture: bool = True,
        stdin: bool = False,
        on_change: Callable[[Snapshot], None] | None = None,
    ) -> DebugClient:
        """Start `script` under the debugger; it stops at its first `Session.run`.

        trace: record it too, at this level ('times', 'values', 'full'), into a run directory in `logdir`.
        capture: keep what it prints for `snapshot.output`; otherwise it prints to where this process does.
        stdin: let it read this process's standard input; otherwise it reads nothing.

        Raises LaunchError if it ends before the debugger is in place, or takes too long to get there.
        """
        directory = make_private_directory()
        address = directory / "agent"
        script = os.fspath(script)
        command = host_command(
            script, args, socket=address, trace=trace, logdir=logdir, line_buffered=capture
        )
        process = ChildProcess(command, capture=capture, own_group=True, stdin=stdin, private=directory)
        try:
            connection = _connect(process, address)
            lines = Lines(connection, MAX_TO_FRONT)
            hello = _greet(connection, lines)
        except BaseException:
            process.terminate(grace=0)
            raise
        return cls(process, connection, lines, hello, script, args, on_change)

    @classmethod
    def attach(
        cls,
        where: int | str | os.PathLike[str],
        *,
        token: str = "",
        on_change: Callable[[Snapshot], None] | None = None,
    ) -> DebugClient:
        """Attach to a script that listens; it stops at its next `Session.run`.

        where: the number of its process, the path of its socket, or ``tcp:PORT``, for which `token` is needed.

        Raises LaunchError if nobody listens there, or does not let us in.
        """
        connection = _connect_to(where)
        lines = Lines(connection, MAX_TO_FRONT)
        hello = _greet(connection, lines, token)
        return cls(AttachedProcess(hello.pid), connection, lines, hello, hello.script, (), on_change)

    # Looking.

    @property
    def snapshot(self) -> Snapshot:
        """The latest snapshot, with the output up to now."""
        with self._changed:
            found = self._snapshot
        return replace(found, output=self.process.output_tail(MAX_OUTPUT))

    @property
    def ended(self) -> bool:
        """Whether the script's process has ended and all that it said has been read."""
        return self._over

    def output_tail(self, limit: int = MAX_OUTPUT) -> str:
        """The last characters that the script printed, if captured."""
        return self.process.output_tail(limit)

    def wait_until(self, condition: Callable[[Snapshot], bool], timeout: float | None = None) -> Snapshot:
        """Wait for a snapshot that fulfils `condition`, or for the script's end, and return the latest.

        Raises TimeoutError after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._over or condition(self._snapshot), timeout):
                raise TimeoutError(f"the script is still {self._snapshot.status.value} after {timeout} s")
        return self.snapshot

    def wait_for_stop(self, timeout: float | None = None) -> Snapshot:
        """Wait until a step is stopped or the script has ended."""
        return self.wait_until(lambda snapshot: snapshot.status is Status.STOPPED, timeout)

    def wait_for_end(self, timeout: float | None = None) -> Snapshot:
        """Wait until the script's process has ended."""
        return self.wait_until(lambda snapshot: False, timeout)

    def poll(self) -> int | None:
        """The script's exit status, or None while it runs; negative for a signal."""
        return self.process.poll()

    # Commands.

    def send(self, line: str) -> Future[Reply]:
        """Give a command.  The reply comes when it is carried out: for one that moves, at the next stop or the script's end."""
        future: Future[Reply] = Future()
        with self._changed:
            if self._over:
                future.set_result(Reply(0, False, self._ending()))
                return future
            number = next(self._ids)
            self._pending[number] = future
            self._leaving |= self.attached and line.strip() == "detach"
        try:
            with self._sending:
                self._connection.sendall(pack(Command(number, line)))
        except OSError:
            # The reader is about to find out that the other side has gone, and answers everything that is pending.
            self._hang_up()
        return future

    def query(self, query: Query) -> Future[Page]:
        """Ask for data (see `workbench.debugger.queries` for the kinds); the page may come after those of later queries.

        The query's `id` is set here.
        """
        future: Future[Page] = Future()
        with self._changed:
            if self._over:
                future.set_result(Page(0, False, self._ending()))
                return future
            number = next(self._ids)
            self._asked[number] = future
        try:
            with self._sending:
                self._connection.sendall(pack(replace(query, id=number)))
        except OSError:
            self._hang_up()
        return future

    def command(self, line: str, timeout: float | None = None) -> Reply:
        """Give a command and wait for its reply; raises TimeoutError after `timeout` seconds."""
        return self.send(line).result(timeout)

    def detach(self) -> None:
        """Let the script run on by itself; what was launched is not ended by it, but when we end."""
        with contextlib.suppress(NotYet):
            self.send("detach").result(DETACH_SECONDS)
        if self.attached:
            self._hang_up()
            if threading.current_thread() is not self._reader:
                self._reader.join(_READER_SECONDS)

    def terminate(self) -> int:
        """End the script and everything that it started; gives its exit status.  One that was attached to is let go."""
        if self.attached:
            if not self._over:
                self.detach()
            return self.process.poll() or 0
        code = self.process.terminate()
        self._hang_up()
        if threading.current_thread() is not self._reader:
            self._reader.join(_READER_SECONDS)
        return code

    def quit(self) -> int:
        """End the script: by itself if it is stopped, so that it may clean up; gives its exit status.

        One that was attached to is let go.
        """
        if not self.attached and self.snapshot.status is Status.STOPPED:
            self.send("q")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2.0)
        return self.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    # The thread.

    def _read(self) -> None:
        before: tuple[ExecutedView, ...] = ()  # the history of the snapshot that came last
        try:
            while (line := self._lines.read()) is not None:
                message = unpack(line, (Snapshot, Reply, Page))
                if isinstance(message, Snapshot):
                    message = lengthened(message, before)
                    before = message.history
                    self._show(message)
                elif isinstance(message, Reply):
                    self._settle(message)
                elif isinstance(message, Page):
                    with self._changed:
                        asked = self._asked.pop(message.id, None)
                    if asked is not None:
                        asked.set_result(message)
        except ProtocolError as error:
            self.problem = f"the script's debugger said something that cannot be understood: {error}"
        except OSError:
            pass  # the other side has gone, which is dealt with below
        finally:
            self._connection.close()
        self._conclude()

    def _show(self, snapshot: Snapshot) -> None:
        with self._changed:
            if snapshot.serial <= self._snapshot.serial:
                return
            self._snapshot = snapshot
            self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change(self.snapshot)

    def _settle(self, reply: Reply) -> None:
        with self._changed:
            future = self._pending.pop(reply.id, None)
        if future is not None:
            future.set_result(reply)
        elif not reply.ok:
            self.problem = reply.text

    def _conclude(self) -> None:
        """The connection has ended, and the process does too: say how in a last snapshot, and settle what is pending."""
        if isinstance(self.process, AttachedProcess):
            self._conclude_attached(self.process)
            return
        code = self.process.wait() if not self.problem else self.process.terminate()
        output = self.process.output_tail(MAX_OUTPUT)
        with self._changed:
            last = self._snapshot
            error = last.error
            status = Status.FINISHED
            if self.problem:
                status, error = Status.FAILED, ErrorView("", self.problem, "")
            elif code < 0 or (last.status not in ENDED and code != 0):
                if last.status is not Status.FAILED:
                    error = ErrorView("", f"the script {describe_exit(code)}", "")
                status = Status.FAILED
            elif last.status in ENDED:
                status = last.status
            self._snapshot = replace(
                last,
                serial=last.serial + 1,
                status=status,
                error=error,
                exit_code=code,
                reason="",
                output=output,
            )
            pending = self._end()
        self._settle_all(pending)

    def _conclude_attached(self, process: AttachedProcess) -> None:
        """The connection has ended: the script has, or goes on without us."""
        lives = self._snapshot.status not in ENDED and (self._leaving or process.lives())
        with self._changed:
            last = self._snapshot
            status, error = last.status, last.error
            if self.problem:
                status, error = Status.FAILED, ErrorView("", self.problem, "")
            elif status not in ENDED:
                status = Status.DETACHED if lives else Status.FAILED
                error = None if lives else ErrorView("", "the script's process has gone", "")
            self._snapshot = replace(last, serial=last.serial + 1, status=status, error=error, reason="")
            process.ended = last.exit_code or 0
            pending = self._end()
        self._settle_all(pending)

    def _end(self) -> dict[int, Future[Reply]]:
        """Nothing more will come; gives what nobody has answered."""
        self._over = True
        pending, self._pending = self._pending, {}
        self._changed.notify_all()
        return pending

    def _settle_all(self, pending: dict[int, Future[Reply]]) -> None:
        for number, future in pending.items():
            future.set_result(Reply(number, False, self._ending()))
        with self._changed:
            asked, self._asked = self._asked, {}
        for number, page in asked.items():
            page.set_result(Page(number, False, self._ending()))
        self._tell()

    def _ending(self) -> str:
        if self.attached:
            return self.problem or text_of_end(self._snapshot.status)
        code = self.process.poll()
        return self.problem or f"the script {describe_exit(code) if code is not None else 'has ended'}"

    def _hang_up(self) -> None:
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _connect(process: ChildProcess, address: Path) -> socket.socket:
    """A connection to the agent, as soon as it listens."""
    end = time.monotonic() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(address))
        except OSError as error:
            connection.close()
            code = process.poll()
            if code is not None:
                output = process.output_tail().strip()
                said = f":\n{output}" if output else ""
                raise LaunchError(
                    f"the script's process {describe_exit(code)} before it could be debugged{said}"
                ) from None
            if time.monotonic() > end:
                raise LaunchError(f"the script's process does not answer: {error}") from None
            time.sleep(0.01)
        else:
            return connection


def text_of_end(status: Status) -> str:
    """What a command is answered that nobody hears any more."""
    return "the script runs on by itself" if status is Status.DETACHED else "the script has ended"


def _connect_to(where: int | str | os.PathLike[str]) -> socket.socket:
    """A connection to a script that listens; raises LaunchError."""
    from workbench.debugger.listening import LOOPBACK, ListenError, runtime_directory

    place = os.fspath(where) if not isinstance(where, int) else str(where)
    try:
        if place.startswith("tcp:"):
            port = place.removeprefix("tcp:")
            if not port.isdecimal() or not 0 < int(port[:6]) < 65_536:
                raise LaunchError(f"'{place}' is not tcp:PORT")
            connection = socket.create_connection((LOOPBACK, int(port)), timeout=CONNECT_SECONDS)
        else:
            path = runtime_directory(make=False) / f"{place}.sock" if place.isdecimal() else Path(place)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
            except BaseException:
                connection.close()
                raise
    except ListenError as error:
        raise LaunchError(str(error)) from None
    except OSError as error:
        who = f"process {place}" if place.isdecimal() else place
        raise LaunchError(
            f"nobody listens at {who} ({error.strerror or error}); start the script with WORKBENCH_DEBUG=1, "
            "or let it call engine.debug.listen()"
        ) from None
    return connection


def _greet(connection: socket.socket, lines: Lines, token: str = "") -> Hello:
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.sendall(pack(Hello(VERSION, "front", os.getpid(), token=token)))
        line = lines.read()
        if line is None:
            raise LaunchError("the script's process hung up at once")
        hello = unpack(line, (Hello, Reply))
        connection.settimeout(None)
    except (ProtocolError, OSError) as error:
        connection.close()
        raise LaunchError(f"the script's process cannot be talked to: {error}") from None
    if isinstance(hello, Reply):
        connection.close()
        raise LaunchError(f"the script's debugger said: {hello.text}")
    assert isinstance(hello, Hello)
    if hello.version != VERSION:
        connection.close()
        raise LaunchError(f"the script's debugger speaks version {hello.version}, this one version {VERSION}")
    return hello
