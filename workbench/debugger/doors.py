"""Doors: where front ends come in.  Whoever does not greet properly and in time is shown out before anything else is heard."""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from workbench.debugger.conversation import shut
from workbench.debugger.protocol import (
    MAX_TO_AGENT,
    VERSION,
    Hello,
    Lines,
    ProtocolError,
    Reply,
    pack,
    unpack,
)

GREET_SECONDS = 15.0  # after which who has come and not said who he is, is shown out
SEAT_SECONDS = 2.0  # that one front end waits for another to be gone
_GREETED_AT_ONCE = 16  # connections; more are closed at once


class Door:
    """Accepts connections on `listener` in threads of its own, and hands those that greet to `serve`, one at a time.

    hello: what is said in return.  token: what a front end has to know (compared in constant time); "" where the socket itself
    keeps others out.
    """

    def __init__(
        self,
        listener: socket.socket,
        hello: Callable[[], Hello],
        serve: Callable[[socket.socket, Lines], None],
        seat: threading.Lock,
        token: str = "",
    ) -> None:
        self._listener = listener
        self._hello = hello
        self._serve = serve
        self._seat = seat
        self._token = token
        self._closed = False
        self._room = threading.BoundedSemaphore(_GREETED_AT_ONCE)
        self._thread = threading.Thread(target=self._accept, name="workbench-door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        with contextlib.suppress(OSError):  # wakes the thread that waits for a connection
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def forget(self) -> None:
        """In a forked child, where the thread is not and the socket is the parent's."""
        self._closed = True
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed, or out of file descriptors
                if self._closed:
                    return
                time.sleep(0.1)
                continue
            if not self._room.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(
                target=self._receive, args=(connection,), name="workbench-agent", daemon=True
            ).start()

    def _receive(self, connection: socket.socket) -> None:
        """Greet who has come, and serve him if it is his turn; everything that goes wrong ends this connection alone."""
        held = seated = False
        try:
            lines = Lines(connection, MAX_TO_AGENT)
            welcome = _same_user(connection) and self._greet(connection, lines)
            self._room.release()
            held = True
            if not welcome:
                return
            seated = self._seat.acquire(timeout=SEAT_SECONDS)
            if not seated:
                raise ProtocolError("another front end is attached; it has to detach first")
            connection.sendall(pack(self._hello()))
            self._serve(connection, lines)
        except (ProtocolError, OSError) as error:
            if not self._closed:
                _say(connection, error)
        finally:
            if not held:
                self._room.release()
            if seated:
                self._seat.release()
            shut(connection)
            connection.close()

    def _greet(self, connection: socket.socket, lines: Lines) -> bool:
        """Whether to serve him; raises ProtocolError or OSError."""
        until = time.monotonic() + GREET_SECONDS
        while (line := lines.take()) is None:
            connection.settimeout(max(0.001, until - time.monotonic()))
            if not lines.receive():
                return False
        hello = unpack(line, (Hello,))
        assert isinstance(hello, Hello)
        if self._token and not hmac.compare_digest(self._token.encode(), hello.token.encode()):
            raise ProtocolError("the token is not right")
        if hello.version != VERSION or hello.role == "look":
            connection.sendall(pack(self._hello()))
            return False
        return True


def listen_at(address: Path) -> socket.socket:
    """A Unix socket at `address` that only this user may connect to; raises OSError.

    It is made beside and put there once it listens: whoever looks for sockets that nobody listens at any more would take it away.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made = address.with_name(f".{os.getpid()}")
    try:
        made.unlink(missing_ok=True)  # of a process that was killed here
        before = os.umask(0o177)
        try:
            listener.bind(str(made))
        finally:
            os.umask(before)
        listener.listen(8)
        try:
            os.link(made, address)  # which takes nobody's place
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            made.rename(address)
        finally:
            made.unlink(missing_ok=True)
    except BaseException:
        listener.close()
        raise
    return listener


def _say(connection: socket.socket, error: Exception) -> None:
    """Tell a front end that is cut off why."""
    try:
        connection.settimeout(1.0)
        connection.sendall(pack(Reply(-1, False, f"connection closed: {error}")))
    except OSError:
        return


def _same_user(connection: socket.socket) -> bool:
    """Whether the other side runs as this user; True where the system cannot say (its mode or a token then has to do)."""
    if connection.family != socket.AF_UNIX or not sys.platform.startswith("linux"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, _group = struct.unpack("3i", credentials)
    return bool(user == os.geteuid())
