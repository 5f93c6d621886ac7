"""What the app needs of the things that are handed to it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Protocol

from workbench.debugger.pages import Query
from workbench.debugger.snapshot import Snapshot


class Child(Protocol):
    """A script that runs in a process of its own; `workbench.process.ChildProcess` is one.

    One that records has a `run_path` besides (`workbench.recorded.RecordedProcess`): its run directory, or None until it is
    there.
    """

    def poll(self) -> int | None:
        """The exit status, or None while it runs; negative: the signal that ended it."""

    def output_tail(self, limit: int = ...) -> str:
        """The last `limit` characters that it printed."""

    def terminate(self) -> object:
        """End it and everything it started; nothing happens if it has ended."""


class Debug(Child, Protocol):
    """A script under the debugger; `workbench.debugger.client.DebugClient` is one.

    `agent_pid` is the number of the script's process, as a run that it records has it.
    """

    agent_pid: int

    @property
    def snapshot(self) -> Snapshot:
        """The latest snapshot."""

    def send(self, line: str) -> Future[Any]:
        """Give a command; the reply has `ok` and `text`, and comes when it is carried out."""

    def query(self, query: Query) -> Future[Any]:
        """Ask for data; gives a `workbench.debugger.pages.Page` (see `workbench.debugger.queries` for the kinds)."""
