"""Listening: a script that runs by itself, and to which a debugger may be attached.

    WORKBENCH_DEBUG=1 python train.py        or, in the script:   engine.debug.listen()
    workbench attach

Nothing is installed until somebody attaches, and nothing is left when he detaches: the driver is gone, breakpoints are forgotten,
a step that was stopped runs on.  The socket lies in a directory that is its user's alone; TCP there is only on request, on the
loopback interface, for who knows a token.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import stat
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.runtime import driver
from engine.types import site
from workbench.debugger.conversation import Conversation
from workbench.debugger.core import error_view
from workbench.debugger.doors import Door, listen_at
from workbench.debugger.protocol import MAX_TO_AGENT, VERSION, Hello, Lines, ProtocolError, pack, unpack

TOKEN_VARIABLE = "WORKBENCH_DEBUG_TOKEN"
LOOPBACK = "127.0.0.1"
_PROBE_SECONDS = 2.0
_LONGEST = 100  # bytes of a Unix socket's path
_OWN = str(Path(__file__).resolve().parent) + os.sep


class ListenError(OSError):
    """There can be no listening here; the message says why and what to do."""


class Listener:
    """Waits for debuggers: at a Unix socket `path`, or on a TCP `port` of the loopback interface with `token`.

    `address` is what ``workbench attach`` takes.
    """

    def __init__(self, path: Path | None, port: int | None = None, token: str = "") -> None:
        self.path = path
        self.script = sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c") else "python"
        self.token = token
        self._pid = os.getpid()
        self._closed = False
        self._conversation: Conversation | None = None
        if path is not None:
            listener = listen_at(path)
            self.address = str(path)
        else:
            listener = socket.create_server((LOOPBACK, port or 0), backlog=8)
            self.address = f"tcp:{listener.getsockname()[1]}"
        self._door = Door(listener, self._hello, self._serve, threading.Lock(), token)

    @property
    def attached(self) -> bool:
        """Whether a debugger is attached."""
        return self._conversation is not None

    def detach(self) -> None:
        """Let the script run on without the debugger that is attached, if there is one."""
        conversation = self._conversation
        if conversation is not None:
            conversation.release()
            conversation.hang_up()

    def close(self) -> None:
        """Listen no more; who is attached is detached.  Nothing happens in a forked child, whose socket this is not."""
        if os.getpid() != self._pid:
            return
        self._closed = True
        self._door.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.detach()

    def _hello(self) -> Hello:
        return Hello(VERSION, "agent", self._pid, self.script, attached=self.attached)

    def _serve(self, connection: socket.socket, lines: Lines) -> None:
        """One debugger, from attaching to detaching."""
        if driver.installed() is not None:
            raise ProtocolError("another debugger drives this process already")
        conversation = Conversation(script=self.script, argv=tuple(sys.argv[1:]), attached=True)
        self._conversation = conversation
        driver.install(conversation.debugger)
        try:
            # Whoever has closed, or detached, before there was anything to detach finds the driver gone all the same.
            if not self._closed and not conversation.debugger.released:
                conversation.talk(connection, lines)
        finally:
            conversation.release()
            self._conversation = None

    def at_exit(self) -> None:
        """The script has ended: tell so, and leave nothing behind."""
        conversation = self._conversation
        if conversation is not None and os.getpid() == self._pid:
            error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
            conversation.debugger.finish(
                error_view(error) if error is not None else None, int(error is not None)
            )
            conversation.finished()
        self.close()

    def after_fork(self) -> None:
        """In a forked child: no thread of ours runs there, and who is attached is attached to the parent."""
        self._door.forget()
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.debugger.released = True
            if driver.installed() is conversation.debugger:
                driver.uninstall()
            conversation.disown()


_listener: Listener | None = None


def listen(path: str | os.PathLike[str] | None = None, tcp: int | bool | None = None) -> Listener:
    """Let debuggers attach to this process from now on, and say on stderr how.

    path: of the Unix socket; by default one in a directory that is this user's alone, where ``workbench attach`` finds it.
    tcp: a port of the loopback interface instead (0 or True: any that is free).  Who attaches has to know a token: what
        WORKBENCH_DEBUG_TOKEN holds, or else a new one, which is printed once.

    Called again, it gives the listener that there is.  Raises ListenError where it cannot listen, ValueError for `path` and `tcp`
    together.
    """
    global _listener
    if path is not None and tcp is not None and tcp is not False:
        raise ValueError("listen takes a path or tcp, not both")
    wants_tcp = tcp is not None and tcp is not False
    there = _listener
    if there is not None and there._pid == os.getpid():
        if path is None and not wants_tcp:
            return there
        there.close()
    if wants_tcp:
        made = _listen_tcp(0 if tcp is True else int(tcp or 0))
    else:
        made = _listen_unix(Path(path) if path is not None else None)
    if there is None:
        site.hide(_OWN)
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
    _listener = made
    return made


def stop() -> None:
    """Listen no more."""
    global _listener
    if _listener is not None:
        _listener.close()
        _listener = None


def _at_exit() -> None:
    if _listener is not None:
        _listener.at_exit()


def _after_fork() -> None:
    global _listener
    if _listener is not None:
        _listener.after_fork()
        _listener = None


def _listen_tcp(port: int) -> Listener:
    given = os.environ.pop(TOKEN_VARIABLE, "")  # what we start has no use for it
    token = given or secrets.token_urlsafe(24)
    try:
        made = Listener(None, port, token)
    except (OSError, OverflowError) as error:
        raise ListenError(f"the debugger cannot listen on port {port}: {error}") from None
    known = "with the token in WORKBENCH_DEBUG_TOKEN" if given else f"with WORKBENCH_DEBUG_TOKEN={token}"
    _tell(f"attach with: workbench attach {made.address}  ({known} in its environment)")
    return made


def _listen_unix(path: Path | None) -> Listener:
    where = path if path is not None else runtime_directory() / f"{os.getpid()}.sock"
    if len(os.fsencode(where)) > _LONGEST:
        raise ListenError(f"the path of a socket may have {_LONGEST} bytes, and this one has more: {where}")
    _make_room(where)
    try:
        made = Listener(where)
    except OSError as error:
        raise ListenError(f"the debugger cannot listen at {where}: {error.strerror or error}") from None
    _tell(f"attach with: workbench attach {os.getpid() if path is None else where}")
    return made


def _make_room(path: Path) -> None:
    """Take away the socket of a process that is no more; raises ListenError for anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"the debugger cannot listen at {path}: {error.strerror or error}") from None
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"the debugger cannot listen at {path}: there is a file that is no socket")
    if not is_stale(path):
        raise ListenError(f"somebody listens at {path} already")
    path.unlink(missing_ok=True)


def _tell(what: str) -> None:
    with suppress(OSError, ValueError):  # a script without a stderr is debugged all the same
        print(f"workbench: {what}", file=sys.stderr, flush=True)


# Who listens.


def runtime_directory(make: bool = True) -> Path:
    """The directory in which scripts of this user listen.  Raises ListenError where there is one that others could change."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    user = os.geteuid()
    if base and os.path.isdir(base) and os.stat(base).st_uid == user and len(os.fsencode(base)) < 60:
        path = Path(base) / "workbench"
    else:
        path = Path(tempfile.gettempdir()) / f"workbench-{user}"
        if len(os.fsencode(path)) > 80:
            path = Path("/tmp") / f"workbench-{user}"
    if make:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return path
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != user or facts.st_mode & 0o077:
        raise ListenError(
            f"{path} has to be a directory of this user's with mode 700, and is not; take it away, or set XDG_RUNTIME_DIR"
        )
    return path


def is_stale(path: Path) -> bool:
    """Whether nobody listens at this socket any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


@dataclass(frozen=True, slots=True)
class Listening:
    """A script that listens: its process, the path of its socket, its name, and whether a debugger is attached.

    `problem` says why it does not answer, if it does not.
    """

    pid: int
    path: Path
    script: str = ""
    attached: bool = False
    problem: str = ""


def listening() -> list[Listening]:
    """The scripts of this user to which a debugger may attach; sockets that nobody listens at any more are taken away."""
    found = []
    for path in sorted(
        runtime_directory(make=False).glob("*.sock"), key=lambda each: (len(each.name), each.name)
    ):
        if is_stale(path):
            path.unlink(missing_ok=True)
            continue
        pid = int(path.stem) if path.stem.isdecimal() else 0
        try:
            hello = _look(path)
            found.append(Listening(hello.pid, path, hello.script, hello.attached))
        except (ProtocolError, OSError) as error:
            found.append(Listening(pid, path, problem=str(error) or type(error).__name__))
    return found


def _look(path: Path) -> Hello:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PROBE_SECONDS)
        connection.connect(str(path))
        connection.sendall(pack(Hello(VERSION, "look", os.getpid())))
        until = time.monotonic() + _PROBE_SECONDS
        lines = Lines(connection, MAX_TO_AGENT)
        while (line := lines.take()) is None:
            connection.settimeout(max(0.001, until - time.monotonic()))
            if not lines.receive():
                raise ProtocolError("it hung up")
    hello = unpack(line, (Hello,))
    assert isinstance(hello, Hello)
    return hello
