"""The debugger's commands: one row in one table each, from which parsing, help and completion are made."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.passes.stage import StageNode
from engine.runtime.program import Item
from engine.runtime.state import Activation
from viz.format import dtype, plural
from viz.format import shape as shape_text
from workbench.debugger import moves, source, text, views
from workbench.debugger.breakpoints import BreakpointError, describe, matching
from workbench.debugger.moves import Answer
from workbench.debugger.snapshot import TokenState, TokenView
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import print_array

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

MAX_LINE = 4_096  # characters of one command line
MAX_COUNT = 1_000_000
MAX_PRINT = 20_000  # characters of a tensor printed with `p`
PRINT_WHOLE = 1_000  # elements up to which `p` prints all


class CommandError(Exception):
    """A command that cannot be carried out; the message says why and what to type instead."""


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    `arguments` is how the usage line shows them.  `run` gets the debugger and what follows the command's name.  `moves`: the step
    goes on.  `anytime`: may be given while the step runs or no step is under way.
    """

    name: str
    aliases: tuple[str, ...]
    arguments: str
    help: str
    run: Callable[[Debugger, str], Answer]
    moves: bool = False
    anytime: bool = False

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()


def carry_out(debugger: Debugger, line: str) -> Answer:
    """Carry out a command line; whatever is wrong with it is said in the answer."""
    try:
        command, rest = parse(line)
        if not command.anytime and debugger.stepping is None:
            raise CommandError(
                "no step is stopped: the script runs its own code (pause stops at the next node)"
            )
        return command.run(debugger, rest)
    except (CommandError, BreakpointError) as error:
        return Answer(False, str(error))


def parse(line: str) -> tuple[Command, str]:
    """The command that `line` names and the rest of it; raises CommandError."""
    if len(line) > MAX_LINE:
        raise CommandError("the command is too long")
    name, _, rest = line.strip().partition(" ")
    if not name:
        raise CommandError("no command given; h lists them")
    found = BY_NAME.get(name)
    if found is None:
        close = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise CommandError(f"there is no command '{name}'; {hint}h lists all")
    return found, rest.strip()


def split(lines: str) -> list[str]:
    """The commands in ``"n; n; info while/add; c"`` or in a file with one a line; ``#`` begins a comment."""
    found = []
    for line in lines.splitlines():
        found += [part.strip() for part in re.sub(r"(^|\s)#.*", "", line).split(";")]
    return [part for part in found if part]


# Moving.


def _stepping(debugger: Debugger) -> Stepping:
    stepping = debugger.stepping
    if stepping is None:
        raise CommandError("no step is stopped")
    return stepping


def _next(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_nodes(_count(rest)))


def _count(rest: str) -> int:
    if not rest:
        return 1
    if not rest.isdecimal() or not 1 <= int(rest[:9]) <= MAX_COUNT:
        raise CommandError(f"'{rest}' is not a number of nodes between 1 and {MAX_COUNT:,}")
    return int(rest)


def _scope(debugger: Debugger, rest: str) -> Answer:
    stepping = _stepping(debugger)
    if rest:
        nodes = stepping.step.stage.nodes
        meant = matching(rest, nodes)
        if not any(map(meant, nodes)):
            raise CommandError(_no_such_node(stepping, rest, "node or scope"))
        return Answer(True, move=moves.up_to(rest, meant))
    if stepping.next is None:
        return Answer(True, move=moves.next_nodes(1))
    return Answer(True, move=moves.over_scope(stepping.next))


def _out(debugger: Debugger, rest: str) -> Answer:
    at = _stepping(debugger).next
    return Answer(True, move=moves.out_of_frame(at) if at is not None else moves.next_run())


def _continue(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.freely())


def _run(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, move=moves.next_run())


def _back(debugger: Debugger, rest: str) -> Answer:
    stepping = _stepping(debugger)
    wanted = _count(rest)
    taken = 0
    while taken < wanted and stepping.history:
        stepping.back()
        taken += 1
    if not taken:
        reason = (
            "the step has executed nothing yet"
            if not stepping.executed
            else "what came before is no longer kept"
        )
        raise CommandError(f"there is nothing to take back: {reason}")
    debugger.reason = f"{plural(taken, 'execution')} taken back"
    return Answer(True)


def _pause(debugger: Debugger, rest: str) -> Answer:
    debugger.pause()
    return Answer(True, "stopping before the next node")


def _quit(debugger: Debugger, rest: str) -> Answer:
    debugger.quit()
    return Answer(True, quit=True)


# Breakpoints.


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
            return Answer(True, f"{said}\n{_no_such_node(stepping, added.node)} (another step may have it)")
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


# Looking.


def _print(debugger: Debugger, rest: str) -> Answer:
    stepping = _stepping(debugger)
    if not rest:
        raise CommandError("which tensor? p NODE prints all outputs of a node, p NODE:0 the first")
    name, _, number = rest.partition(":")
    item = _item(stepping, name)
    slots = range(item.n_outputs)
    if number:
        if not number.isdecimal() or len(number) > 6 or int(number) not in slots:
            has = (
                "no output"
                if not slots
                else f"outputs 0 to {slots[-1]}"
                if len(slots) > 1
                else "only output 0"
            )
            raise CommandError(f"'{name}' has {has}, not '{number}'")
        slots = range(int(number), int(number) + 1)
    entry = stepping.latest.get(item.index)
    if entry is None:
        raise CommandError(f"'{name}' has not executed in this step yet; {_why_not(stepping, item)}")
    place = views.path(entry.activation.frame, entry.activation.iteration)
    lines = [f"#{entry.row} in {place}" + (", dead" if entry.outputs is None else "")]
    for view in views.executed_view(entry, debugger.summaries).outputs:
        if view.slot in slots:
            lines.append(text.whole_value(view.name, _printed(entry, view)))
    if not item.n_outputs:
        lines.append(f"{name} has no outputs; it has executed")
    return Answer(True, "\n".join(lines))


def _printed(entry: Entry, view: TokenView) -> TokenView:
    """`view` with more of the value than a summary has."""
    if (
        entry.outputs is None
        or view.state is not TokenState.VALUE
        or view.value is None
        or view.value.complete
    ):
        return view
    array = entry.outputs[view.slot]
    array = getattr(array, "value", array)
    longer, complete = print_array(array, MAX_PRINT, PRINT_WHOLE)
    return replace(view, value=replace(view.value, text=longer, complete=complete))


def _why_not(stepping: Stepping, item: Item) -> str:
    if any(activation.item is item for activation in stepping.ready):
        return "it is ready"
    for frame in stepping.state.live_frames():
        if frame.spec is item.frame:
            for iteration in frame.iterations.values():
                left, initial = iteration.pending[item.local], frame.spec.pending[item.local]
                if left < initial:
                    return f"it still waits for inputs (info {item.name})"
            return "none of its inputs has arrived"
    return f"its frame {item.frame.name} is not open"


def _info(debugger: Debugger, rest: str) -> Answer:
    table: dict[str, Callable[..., str]] = {
        "ready": text.ready,
        "frames": text.frames,
        "waiting": text.waiting,
        "breakpoints": text.breakpoints,
        "step": text.where,
    }
    if not rest:
        raise CommandError(f"info about what? a NODE, or one of: {', '.join(table)}")
    if rest in table:
        return Answer(True, table[rest](debugger.snapshot()))
    stepping = debugger.stepping
    if stepping is None:
        raise CommandError("no step is stopped")
    return Answer(
        True, _node(debugger, stepping, _item(stepping, re.sub(r":\d+$", "", rest.removeprefix("^"))))
    )


def _node(debugger: Debugger, stepping: Stepping, item: Item) -> str:
    """All that is known about a node."""
    node = item.node
    stage = stepping.step.stage
    lines = [f"{node.name}  ({node.type})" + (f"  on {node.device}" if node.device else "")]
    if item.frame.parent is not None:
        lines.append(f"  frame     {item.frame.name}")
    shown = {key: value for key, value in node.attrs.items() if not key.startswith("_")}
    for i, (key, value) in enumerate(shown.items()):
        lines.append(f"  {'attrs' if not i else '':<10}{key} = {_attr(value)}")
    rows = text.table(
        [
            (f"{name}:{slot}", dtype(kind))
            for (name, slot), kind in zip(node.inputs, node.input_dtypes, strict=True)
        ]
    )
    lines += [f"  {'inputs' if not i else '':<10}{row}" for i, row in enumerate(rows)]
    lines += [f"  {'after' if not i else '':<10}^{name}" for i, name in enumerate(node.control_inputs)]
    rows = text.table(
        [
            (f"{node.name}:{slot}", dtype(kind) + shape_text(shape))
            for slot, (kind, shape) in enumerate(zip(node.output_dtypes, node.output_shapes, strict=True))
        ]
    )
    lines += [f"  {'outputs' if not i else '':<10}{row}" for i, row in enumerate(rows)]
    users = stage.consumers[node.name]
    lines += [f"  {'used by' if not i else '':<10}{name}" for i, name in enumerate(users[:12])]
    if len(users) > 12:
        lines.append(f"  {'':<10}… and {len(users) - 12} more")
    lines += _origin(node)
    lines += _tokens(debugger, stepping, item)
    entry = stepping.latest.get(item.index)
    if entry is not None:
        (line,) = text.executed([views.executed_view(entry, debugger.summaries)])
        lines.append(f"  latest    {line}")
    return "\n".join(lines)


def _origin(node: StageNode) -> list[str]:
    lines = []
    user = node.site.user if node.site is not None else None
    if user is not None:
        function = f" in {user.function}" if user.function != "<module>" else ""
        lines.append(
            f"  made at   {source.short_path(user.file)}:{user.line}{function}  {user.source}".rstrip()
        )
    if node.lineage.reason:
        lines.append(f"  because   {node.lineage.reason} ({node.lineage.by})")
    return lines


def _tokens(debugger: Debugger, stepping: Stepping, item: Item) -> list[str]:
    """What is on the node's inputs, wherever some have arrived."""
    lines = []
    at: list[Activation] = [activation for activation in stepping.ready if activation.item is item]
    for frame in stepping.state.live_frames():
        if frame.spec is item.frame:
            for number, iteration in frame.iterations.items():
                if item in views.waiting_items(stepping.step.program, frame, iteration):
                    at.append(Activation(item, frame, number))
    for activation in at[:8]:
        ready = activation in stepping.state.outstanding
        lines.append(
            f"  {'ready' if ready else 'waiting':<10}{views.path(activation.frame, activation.iteration)}"
        )
        inputs = views.input_views(stepping, item, activation.frame, activation.iteration, debugger.summaries)
        lines += [f"    ← {line}" for line in text.tokens(inputs)]
    return lines


def _attr(value: object) -> str:
    name = getattr(value, "name", None)
    said = name if isinstance(name, str) else " ".join(str(value).split())
    return said if len(said) <= 70 else said[:69] + "…"


def _where(debugger: Debugger, rest: str) -> Answer:
    return Answer(True, text.where(debugger.snapshot()))


def _list(debugger: Debugger, rest: str) -> Answer:
    stepping = _stepping(debugger)
    if rest == "run":
        return Answer(True, text.source(source.view(debugger.run_site(stepping)), "the Session.run"))
    if rest:
        item = _item(stepping, re.sub(r":\d+$", "", rest))
    elif stepping.next is not None:
        item = stepping.next.item
    elif stepping.last is not None:
        item = stepping.last.activation.item
    else:
        raise CommandError("nothing is next; l run shows the Session.run")
    site = item.node.site
    return Answer(
        True, text.source(source.view(site.user if site is not None else None), f"made {item.name}")
    )


def _help(debugger: Debugger, rest: str) -> Answer:
    if rest:
        command, _ = parse(rest)
        aliases = f"  (also: {', '.join(command.aliases)})" if command.aliases else ""
        return Answer(True, f"{command.usage}{aliases}\n  {command.help}")
    return Answer(
        True,
        "\n".join(text.table([(c.usage, ", ".join(c.aliases), c.help.partition(". ")[0]) for c in COMMANDS])),
    )


def _item(stepping: Stepping, name: str) -> Item:
    found = stepping.step.program.by_name.get(name)
    if found is None:
        raise CommandError(_no_such_node(stepping, name))
    return found


def _no_such_node(stepping: Stepping, name: str, what: str = "node") -> str:
    names = list(stepping.step.stage.nodes)
    before = stepping.step.stage.before
    said = f"there is no {what} '{name}' in this step"
    if before is not None and name in before.nodes:
        reason = stepping.step.stage.removed.get(name)
        return f"'{name}' is in the graph, but not in this step" + (f": {reason}" if reason else "")
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    close += [each for each in names if each.endswith(f"/{name}")][: 3 - len(close)]
    return said + (f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else "")


COMMANDS: tuple[Command, ...] = (
    Command("n", ("next",), "[COUNT]", "execute the next node, or the next COUNT nodes", _next, moves=True),
    Command(
        "s",
        ("scope", "step"),
        "[SCOPE]",
        "step over the name scope of the next node; with SCOPE, into it. "
        "Over: everything ready in the scope executes, and what becomes ready in it; from outside of all scopes, up to the "
        "next one. SCOPE may also be a node or a pattern.",
        _scope,
        moves=True,
    ),
    Command(
        "o",
        ("out",),
        "",
        "run out of the next node's frame (its whole loop); from the root, to the step's end",
        _out,
        moves=True,
    ),
    Command("c", ("continue",), "", "run on to a breakpoint or the end of the script", _continue, moves=True),
    Command("r", ("run",), "", "run on to the next Session.run", _run, moves=True),
    Command(
        "back",
        ("n-", "undo"),
        "[COUNT]",
        "take the last execution back, or the last COUNT. "
        "Tokens, frames and variables are then as before; what was printed or written to files stays.",
        _back,
    ),
    Command("pause", (), "", "stop a running step before its next node", _pause, anytime=True),
    Command(
        "b",
        ("break",),
        "[NODE [if iteration >= N]]",
        "stop before NODE. NODE may also be a scope or a pattern (*/add); without NODE: list the breakpoints.",
        _break,
        anytime=True,
    ),
    Command("d", ("delete",), "[NUMBER]", "delete breakpoint NUMBER, or all", _delete, anytime=True),
    Command(
        "p",
        ("print",),
        "TENSOR",
        "print the latest value of TENSOR (add:0), or of all outputs of a node",
        _print,
    ),
    Command(
        "info",
        ("i",),
        "NODE | ready | frames | waiting | breakpoints | step",
        "say all about a node, or list what is ready, open, waiting",
        _info,
        anytime=True,
    ),
    Command(
        "w", ("where",), "", "say which step this is, what was last and what is next", _where, anytime=True
    ),
    Command(
        "l",
        ("list",),
        "[NODE | run]",
        "show the source that made the next node, or NODE, or the Session.run",
        _list,
    ),
    Command("h", ("help", "?"), "[COMMAND]", "list the commands, or explain one", _help, anytime=True),
    Command("q", ("quit", "exit"), "", "end the script and the debugger", _quit, anytime=True),
)

BY_NAME: dict[str, Command] = {name: each for each in COMMANDS for name in (each.name, *each.aliases)}
