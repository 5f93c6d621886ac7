"""The debugger's commands about breakpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viz.format import plural
from workbench.debugger import looking, text
from workbench.debugger.breakpoints import describe
from workbench.debugger.command import Answer, Command, CommandError
from workbench.debugger.snapshot import BreakpointView

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger


def _break(debugger: Debugger, rest: str) -> Answer:
    if not rest:
        return Answer(True, text.breakpoints(debugger.snapshot()))
    added = debugger.breakpoints.add(rest)
    said = f"breakpoint {added.number} at {describe(added)}"
    stepping = debugger.stepping
    if stepping is not None:
        count = debugger.breakpoints.count_in(added.number, stepping.step.stage)
        if not count:
            missing = looking.no_such_node(stepping, added.node)
            if ":" in added.node:
                missing = f"no node of this step is {added.node}"
            return Answer(True, f"{said}\n{missing} (another step may have it)")
        said += f" ({plural(count, 'node')} of this step)" if 1 < count < len(stepping.step.stage) else ""
    return Answer(True, said)


def _watch(debugger: Debugger, rest: str) -> Answer:
    added = debugger.breakpoints.add(rest, "watch")
    said = f"watch {added.number} on {describe(added).removeprefix('watch ')}"
    stepping = debugger.stepping
    if stepping is not None:
        names = {each.name for each in stepping.step.resources} | set(stepping.step.stage.nodes)
        if added.node not in names and not any(mark in added.node for mark in "*?["):
            return Answer(
                True, f"{said}\nthere is no variable '{added.node}' yet (info resources lists them)"
            )
    return Answer(True, said)


def _catch(debugger: Debugger, rest: str) -> Answer:
    breakpoints = debugger.breakpoints
    if rest and (not rest.replace("*", "").replace("?", "").isidentifier() and rest != "*"):
        raise CommandError("catch on, catch off, or catch ERROR (InvalidArgumentError, *Error)")
    if rest:
        breakpoints.catch = {"on": "*", "off": None}.get(rest, rest)
    if breakpoints.catch is None:
        return Answer(True, "errors go to the script without a stop")
    what = "every error" if breakpoints.catch == "*" else f"an error that is a {breakpoints.catch}"
    return Answer(True, f"{what} stops before it reaches the script, with everything as it was")


def _number(rest: str) -> int:
    if not rest.isdecimal() or len(rest) > 9:
        raise CommandError(f"'{rest}' is not the number of a breakpoint (info breakpoints lists them)")
    return int(rest)


def _delete(debugger: Debugger, rest: str) -> Answer:
    if rest in ("", "all"):
        count = len(debugger.breakpoints.views)
        debugger.breakpoints.clear()
        return Answer(True, f"{plural(count, 'breakpoint')} deleted")
    return Answer(True, f"{_named(debugger.breakpoints.delete(_number(rest)))} deleted")


def _named(view: BreakpointView) -> str:
    return f"breakpoint {view.number} at {describe(view)}"


def _switch(debugger: Debugger, rest: str, enabled: bool) -> Answer:
    said = "enabled" if enabled else "disabled"
    if rest in ("", "all"):
        for view in debugger.breakpoints.views:
            debugger.breakpoints.enable(view.number, enabled)
        return Answer(True, f"{plural(len(debugger.breakpoints.views), 'breakpoint')} {said}")
    return Answer(True, f"{_named(debugger.breakpoints.enable(_number(rest), enabled))} {said}")


def _enable(debugger: Debugger, rest: str) -> Answer:
    return _switch(debugger, rest, True)


def _disable(debugger: Debugger, rest: str) -> Answer:
    return _switch(debugger, rest, False)


def _log(debugger: Debugger, rest: str) -> Answer:
    breakpoints = debugger.breakpoints
    if rest == "clear":
        breakpoints.logged.clear()
        breakpoints.logged_count = 0
        return Answer(True, "the log is empty")
    if rest and (not rest.isdecimal() or len(rest) > 6):
        raise CommandError("log shows the last lines, log COUNT so many, log clear forgets them")
    kept = list(breakpoints.logged)[-int(rest or 40) :]
    if not kept:
        return Answer(True, "nothing has been logged (b NODE log EXPRESSION logs)")
    more = breakpoints.logged_count - len(kept)
    lines = [f"{plural(more, 'line')} before these"] if more > 0 else []
    return Answer(True, "\n".join([*lines, *text.logged(kept)]))


_HELP = (
    "stop at WHERE; without arguments: list the breakpoints. "
    "WHERE is a NODE, a SCOPE/ or a pattern (*/add), type:OP, device:D, frame:F, send:KEY, recv:KEY, transfer, write:NAME, "
    "dead, or alloc > SIZE. CONDITION compares numbers, tensors and iterations: iteration >= 900, abs(x).max() > 1e3, "
    'has_inf_or_nan, in0.shape[0] == 1, var("w").mean() < 0, tensor("loss:0") > 5; x and out0 … are the outputs (it then '
    "stops after the node), in0 … the inputs. after N passes the first N hits, once deletes it at the first stop, "
    "log EXPRESSION logs "
    "its value instead of stopping."
)

COMMANDS = (
    Command(
        "b",
        ("break",),
        "[WHERE] [if CONDITION] [after N] [once] [log EXPRESSION]",
        _HELP,
        _break,
        anytime=True,
    ),
    Command(
        "watch",
        (),
        "NAME [if CONDITION] [after N] [once] [log EXPRESSION]",
        "stop after variable NAME has changed. In CONDITION and EXPRESSION, old and new are what it was and is.",
        _watch,
        anytime=True,
    ),
    Command(
        "catch",
        (),
        "[on | off | ERROR]",
        "say which errors stop before they reach the script: all (as from the start), none, or those of a class",
        _catch,
        anytime=True,
    ),
    Command("d", ("delete",), "[NUMBER]", "delete breakpoint NUMBER, or all", _delete, anytime=True),
    Command("enable", (), "[NUMBER]", "let breakpoint NUMBER stop again, or all", _enable, anytime=True),
    Command(
        "disable",
        (),
        "[NUMBER]",
        "let breakpoint NUMBER stop no more, or all; they stay listed",
        _disable,
        anytime=True,
    ),
    Command(
        "log", (), "[COUNT | clear]", "show what breakpoints have logged, the last lines", _log, anytime=True
    ),
)
