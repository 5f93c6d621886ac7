"""The debugger's commands about breakpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viz.format import plural
from workbench.debugger import looking, text
from workbench.debugger.breakpoints import describe, matching
from workbench.debugger.command import Answer, Command, CommandError

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger


def _break(debugger: Debugger, rest: str) -> Answer:
    if not rest:
        return Answer(True, text.breakpoints(debugger.snapshot()))
    added = debugger.breakpoints.add(rest)
    said = f"breakpoint {added.number} at {describe(added)}"
    stepping = debugger.stepping
    if stepping is not None:
        nodes = stepping.step.stage.nodes
        count = sum(map(matching(added.node, nodes), nodes))
        if not count:
            return Answer(
                True, f"{said}\n{looking.no_such_node(stepping, added.node)} (another step may have it)"
            )
        said += f" ({plural(count, 'node')} of this step)" if count > 1 else ""
    return Answer(True, said)


def _delete(debugger: Debugger, rest: str) -> Answer:
    if rest in ("", "all"):
        count = len(debugger.breakpoints.views)
        debugger.breakpoints.clear()
        return Answer(True, f"{plural(count, 'breakpoint')} deleted")
    if not rest.isdecimal() or len(rest) > 9:
        raise CommandError(f"'{rest}' is not the number of a breakpoint (info breakpoints lists them)")
    deleted = debugger.breakpoints.delete(int(rest))
    return Answer(True, f"breakpoint {deleted.number} at {describe(deleted)} deleted")


COMMANDS = (
    Command(
        "b",
        ("break",),
        "[NODE [if iteration >= N]]",
        "stop before NODE. NODE may also be a scope or a pattern (*/add); without NODE: list the breakpoints.",
        _break,
        anytime=True,
    ),
    Command("d", ("delete",), "[NUMBER]", "delete breakpoint NUMBER, or all", _delete, anytime=True),
)
