"""The debugger's commands that look: print, info, where, list.  Each takes the debugger and what follows the command's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.passes.stage import StageNode
from engine.runtime.diagnosis import explain_key
from engine.runtime.frames import Activation
from engine.runtime.program import Item
from viz.format import dtype
from viz.format import shape as shape_text
from workbench.debugger import source, text, views
from workbench.debugger.command import Answer, Command, CommandError
from workbench.debugger.expressions import PRINTED, Expression, ExpressionError
from workbench.debugger.frame_notes import path
from workbench.debugger.naming import item_of, no_such_node, node_name, output_of
from workbench.debugger.scopes import NodeScope
from workbench.debugger.snapshot import TokenState, TokenView
from workbench.debugger.stepping import Entry, Stepping
from workbench.debugger.values import Reference, print_array

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

__all__ = ["COMMANDS", "info", "item_of", "no_such_node", "parked_of", "print_tensor", "stepping_of", "where"]

_ELSEWHERE = ("history", "log")  # what is listed by commands of that name, too
MAX_PRINT = 20_000  # characters of a tensor printed with `p`
PRINT_WHOLE = 1_000  # elements up to which `p` prints all
_NAMED = re.compile(r"\^?[A-Za-z0-9_.][\w.\\/>-]*(:[\w-]*)?")
_SLICED = re.compile(r"([A-Za-z0-9_.][\w.\\/>-]*)((?::\d+)?)(\[.*\])")


def stepping_of(debugger: Debugger) -> Stepping:
    """The step that is looked at; raises CommandError if there is none."""
    stepping = debugger.stepping
    if stepping is None:
        raise CommandError("no step is stopped")
    return stepping


def print_tensor(debugger: Debugger, rest: str) -> Answer:
    """``p TENSOR``: the value that the node's latest execution in this step gave; ``p EXPRESSION``: what it comes to."""
    stepping = stepping_of(debugger)
    if not rest:
        raise CommandError(
            "which tensor? p NODE prints all outputs of a node, p NODE:0 the first, p EXPRESSION what it comes to"
        )
    if node_name(rest) not in stepping.step.program.by_name:
        expression = _as_expression(_of_tensor(stepping, rest))
        if expression is not None:
            return _print_expression(stepping, expression)
    item, slot, chosen = output_of(stepping, rest)
    name, slots = item.name, range(slot, slot + 1) if chosen else range(item.n_outputs)
    entry = stepping.latest.get(item.index)
    if entry is None:
        raise CommandError(f"'{name}' has not executed in this step yet; {_why_not(stepping, item)}")
    place = path(entry.activation.frame, entry.activation.iteration)
    lines = [f"#{entry.row} in {place}" + (", dead" if entry.outputs is None else "")]
    for view in views.executed_view(entry, debugger.summaries).outputs:
        if view.slot in slots:
            lines.append(text.whole_value(view.name, _printed(entry, view)))
            lines += _change_since(debugger, entry, view)
    if not item.n_outputs:
        lines.append(f"{name} has no outputs; it has executed")
    return Answer(True, "\n".join(lines))


def _as_expression(text: str) -> Expression | None:
    """The expression that `text` is; None for what can only be a node's name.  Raises ExpressionError for what is neither."""
    try:
        return Expression(text, PRINTED)
    except ExpressionError:
        if _NAMED.fullmatch(text):
            return None
        raise


def _of_tensor(stepping: Stepping, rest: str) -> str:
    """``add:0[0, :3]`` as an expression, where that is a node's name; anything else as it is."""
    found = _SLICED.fullmatch(rest)
    if found is None or found[1] not in stepping.step.program.by_name:
        return rest
    return f'tensor("{found[1]}{found[2]}"){found[3]}'


def _print_expression(stepping: Stepping, expression: Expression) -> Answer:
    """What an expression comes to: about outputs, at the last execution; about anything else, at the next."""
    last, activation = stepping.last, stepping.next
    if activation is None or expression.outputs:
        if last is None:
            raise CommandError(
                "nothing has executed yet; p is then about inputs (in0), var(…) and places only"
            )
        scope = NodeScope(stepping, last.activation, last)
    else:
        scope = NodeScope(stepping, activation)
    found = expression.value(scope)
    shown = map(_plainly, found) if isinstance(found, tuple) else [_plainly(found)]
    return Answer(True, "\n".join(shown)[: 2 * MAX_PRINT])


def _plainly(value: Any) -> str:
    """What an expression came to: an array with its dtype and shape, anything else as it is."""
    if isinstance(value, list | np.ndarray) and np.size(value):
        array = np.asarray(value)
        said, _ = print_array(array, MAX_PRINT, PRINT_WHOLE)
        return f"{array.dtype.name}{list(array.shape)}\n{said}" if array.ndim else said
    return str(value)[:MAX_PRINT]


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


def _change_since(debugger: Debugger, entry: Entry, view: TokenView) -> list[str]:
    """What a variable holds now, if it has changed since the node passed on a reference to it."""
    token = entry.outputs[view.slot] if entry.outputs is not None else None
    if not isinstance(token, Reference) or token.value is token.resource.value:
        return []
    return [f"changed since; now {text.value(debugger.summaries.of(token.resource))}"]


def _why_not(stepping: Stepping, item: Item) -> str:
    if any(parked.item is item for parked in parked_of(stepping).values()):
        return f"it waits to receive (info {item.name})"
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


def info(debugger: Debugger, rest: str) -> Answer:
    """``info NODE``, ``info ready`` and the other lists."""
    table: dict[str, Callable[..., str]] = {
        "ready": text.ready,
        "frames": text.frames,
        "waiting": text.waiting,
        "breakpoints": text.breakpoints,
        "step": text.where,
    }
    if not rest:
        raise CommandError(
            f"info about what? a NODE, or one of: {', '.join([*table, 'resources', 'transfers', 'overrides', *_ELSEWHERE])}"
        )
    if rest in table:
        return Answer(True, table[rest](debugger.snapshot()))
    if rest == "overrides":
        from workbench.debugger import changing  # which looks up nodes with what is here

        return Answer(True, changing.overrides(debugger))
    if rest in _ELSEWHERE:
        from workbench.debugger import commands  # whose rows look up nodes with what is here

        return commands.BY_NAME[rest].run(debugger, "")
    if rest in ("resources", "transfers"):
        from workbench.debugger import reasons  # which looks up nodes with what is here

        return Answer(True, getattr(reasons, rest)(debugger))
    stepping = debugger.stepping
    if stepping is None:
        raise CommandError("no step is stopped")
    return Answer(True, _node(debugger, stepping, item_of(stepping, node_name(rest))))


def _node(debugger: Debugger, stepping: Stepping, item: Item) -> str:
    """All that is known about a node."""
    node = item.node
    stage = stepping.step.stage
    lines = [f"{node.name}  ({node.type})" + (f"  on {node.device}" if node.device else "")]
    if item.frame.parent is not None:
        lines.append(f"  frame     {item.frame.name}")
    if node.original:
        lines.append(f"  gradient  of {node.original}")
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
    for key, parked in parked_of(stepping).items():
        if parked.item is item:
            lines.append(f"  {'waiting':<10}{path(parked.frame, parked.iteration)}  for {key}")
            lines += [f"    {line}" for line in explain_key(stepping.step, parked)]
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
        lines.append(f"  {'ready' if ready else 'waiting':<10}{path(activation.frame, activation.iteration)}")
        inputs = views.input_views(stepping, item, activation.frame, activation.iteration, debugger.summaries)
        lines += [f"    ← {line}" for line in text.tokens(inputs)]
    return lines


def parked_of(stepping: Stepping) -> dict[str, Activation]:
    """The receives that wait for what has not been sent, by key."""
    transfers = stepping.step.transfers
    return {} if transfers is None else transfers.parked


def _attr(value: object) -> str:
    name = getattr(value, "name", None)
    said = name if isinstance(name, str) else " ".join(str(value).split())
    return said if len(said) <= 70 else said[:69] + "…"


def where(debugger: Debugger, rest: str) -> Answer:
    """``w``: the step, what was last, what is next."""
    return Answer(True, text.where(debugger.snapshot()))


def list_source(debugger: Debugger, rest: str) -> Answer:
    """``l``: the source that made a node, or that called `Session.run`."""
    stepping = stepping_of(debugger)
    if rest == "run":
        return Answer(True, text.source(source.view(debugger.run_site(stepping)), "the Session.run"))
    if rest:
        node = _node_of_any_stage(stepping, node_name(rest))
    elif stepping.next is not None:
        node = stepping.next.item.node
    elif stepping.last is not None:
        node = stepping.last.activation.item.node
    else:
        raise CommandError("nothing is next; l run shows the Session.run")
    site = node.site
    return Answer(
        True, text.source(source.view(site.user if site is not None else None), f"made {node.name}")
    )


def _node_of_any_stage(stepping: Stepping, name: str) -> StageNode:
    """The node of that name in the step, or as it was before a pass took it out; raises CommandError."""
    for stage in stepping.step.stage.chain():
        if name in stage.nodes:
            return stage.nodes[name]
    raise CommandError(no_such_node(stepping, name))


COMMANDS = (
    Command(
        "p",
        ("print",),
        "TENSOR | EXPRESSION",
        "print the latest value of TENSOR (add:0), a part of it (add:0[0, :3]), or all outputs of a node. "
        'EXPRESSION is one as conditions have it: p abs(tensor("loss:0")).max(), p var("w").mean(axis=0), p in0.shape of the '
        "next node, p x[:, 0] of the last one.",
        print_tensor,
    ),
    Command(
        "info",
        ("i",),
        "WHAT",
        "say all about a node, or list one of: ready, frames, waiting, resources, transfers, overrides, breakpoints, history, "
        "log, step",
        info,
        anytime=True,
    ),
    Command(
        "w",
        ("where",),
        "",
        "say which step this is, what was last and what is next",
        where,
        anytime=True,
    ),
    Command(
        "l",
        ("list",),
        "[NODE | run]",
        "show the source that made the next node, or NODE, or the Session.run",
        list_source,
    ),
)
