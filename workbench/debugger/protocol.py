"""What the agent and a front end say to each other: one JSON object a line, over a Unix socket.

Both begin with a `Hello`; who hears another version says so and hangs up.  Then the front end sends `Command`s and the agent
sends a `Reply` to each, in order, a `Page` to each `Query`, and a `Snapshot` whenever there is something new to see: what a
command changed is always sent before its reply.  Nothing is executed that was received but for the commands of
`workbench.debugger.commands`.

A message that is not one of these, is longer than its limit, or does not fit its type's fields is a `ProtocolError`: whoever
finds it closes the connection.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

from workbench.debugger.pages import Page, Query
from workbench.debugger.plain import PlainError, decode, terse
from workbench.debugger.snapshot import Snapshot

VERSION = 3
MAX_TO_AGENT = 64 << 10  # bytes of one message
MAX_TO_FRONT = 16 << 20


class ProtocolError(Exception):
    """The other side said something that cannot be understood; the message says what."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of each side.  `role` is "agent", "front", or "look" for who only wants to know who is there.

    A front end that comes over TCP has to know the `token`.  `attached`: somebody else is being served.
    """

    version: int
    role: str
    pid: int = 0
    script: str = ""
    token: str = ""
    attached: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command line for the debugger; `id` comes back in the reply."""

    id: int
    line: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a command: `text` is the answer, or why there is none (`ok` is false)."""

    id: int
    ok: bool
    text: str


Message = Hello | Command | Query | Reply | Page | Snapshot
_TYPES: dict[str, type[Any]] = {
    "hello": Hello,
    "command": Command,
    "query": Query,
    "reply": Reply,
    "page": Page,
    "snapshot": Snapshot,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def pack(message: Message) -> bytes:
    """`message` as a line."""
    body = terse(message)
    body["type"] = _NAMES[type(message)]
    return (
        json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
            "utf-8", "backslashreplace"
        )
        + b"\n"
    )


def unpack(line: bytes, allowed: tuple[type[Any], ...]) -> Message:
    """The message in `line`.  Raises ProtocolError if it is none of the `allowed` types, or not well formed."""
    try:
        # RecursionError: brackets nested thousands deep; ValueError: numbers of thousands of digits, bad UTF-8, bad JSON.
        body = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a JSON message: {error}") from None
    name = body.get("type") if isinstance(body, dict) else None
    cls = _TYPES.get(name) if isinstance(name, str) else None
    if cls is None or cls not in allowed:
        raise ProtocolError(f"not a message that is understood here: type {name!r:.80}")
    try:
        message: Message = decode(cls, body)
    except PlainError as error:
        raise ProtocolError(f"a {name} message that does not fit: {error}") from None
    return message


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


class Lines:
    """Splits what arrives on a socket into lines of at most `limit` bytes."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that are known to hold no line end

    def read(self) -> bytes | None:
        """The next line without its end, or None when the other side has closed.

        Raises ProtocolError for a line that is too long or that breaks off, and what `recv` raises.
        """
        while True:
            line = self.take()
            if line is not None:
                return line
            if not self.receive():
                return None

    def take(self) -> bytes | None:
        """A line that has arrived already, or None."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if len(self._buffer) > self._limit:
                raise ProtocolError(f"a message longer than {self._limit} bytes")
            return None
        if end > self._limit:
            raise ProtocolError(f"a message longer than {self._limit} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    @property
    def unfinished(self) -> bool:
        """Whether the beginning of a line has arrived and its end has not."""
        return bool(self._buffer)

    def receive(self) -> bool:
        """Take in what has arrived, waiting for some; False when the other side has closed."""
        chunk = self._connection.recv(65_536)
        if not chunk and self._buffer:
            raise ProtocolError("the connection broke off in the middle of a message")
        self._buffer += chunk
        return bool(chunk)
