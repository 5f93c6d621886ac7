"""The debugger's command that leaves the script alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.debugger import moves
from workbench.debugger.command import Answer, Command
from workbench.debugger.snapshot import Status

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger


def _detach(debugger: Debugger, rest: str) -> Answer:
    stopped = debugger.status is Status.STOPPED
    debugger.release()
    return Answer(True, "detached; the script runs on", move=moves.freely() if stopped else None)


COMMANDS = (
    Command(
        "detach",
        (),
        "",
        "let the script run on as if nobody had looked. "
        "Breakpoints are forgotten, what was changed by hand stays. One that was attached to can be attached to again.",
        _detach,
        anytime=True,
    ),
)
