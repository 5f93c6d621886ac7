"""What people type for a place in a step: NODE, NODE:OUTPUT, ^NODE, a row (``12``, ``#12``); and what that is there.

Everything that reads such a name reads it here, so that all commands take the same and say the same of what they do not take.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.runtime.program import Item
from workbench.debugger.command import CommandError
from workbench.debugger.values import Reference

if TYPE_CHECKING:
    from workbench.debugger.stepping import Entry, Stepping

_OUTPUT_DIGITS = 6
_ROW_DIGITS = 12


class Output(NamedTuple):
    """An output of a node; `chosen` is false where only the node was named (it is then the first output)."""

    item: Item
    slot: int
    chosen: bool

    @property
    def name(self) -> str:
        """``add:0``."""
        return f"{self.item.name}:{self.slot}"


def split(text: str) -> tuple[str, str]:
    """The node's name and what follows its colon ("" if nothing does), of ``NODE``, ``NODE:OUTPUT``, ``^NODE``."""
    name, _, number = text.strip().removeprefix("^").partition(":")
    return name, number


def node_name(text: str) -> str:
    """The node that a tensor, or a control input, is of: the name itself where it is a node's."""
    return re.sub(r":\d+$", "", text.strip().removeprefix("^"))


def item_of(stepping: Stepping, name: str) -> Item:
    """The node of that name; raises CommandError if this step has none."""
    found = stepping.step.program.by_name.get(name)
    if found is None:
        raise CommandError(no_such_node(stepping, name))
    return found


def output_of(stepping: Stepping, text: str) -> Output:
    """The output that `text` names.  Raises CommandError if there is no such node, or it has no such output.

    A node that has no outputs is no error as long as none is named.
    """
    name, number = split(text)
    item = item_of(stepping, name)
    return Output(item, slot_of(item, number), bool(number))


def slot_of(item: Item, number: str) -> int:
    """The output that is called `number` ("": the first).  Raises CommandError if the node has no such output."""
    if not number:
        return 0
    if number.isascii() and number.isdecimal() and len(number) <= _OUTPUT_DIGITS:
        slot = int(number)
        if slot < item.n_outputs:
            return slot
    raise CommandError(f"'{item.name}' has {outputs_text(item.n_outputs)}, not '{number}'")


def outputs_text(count: int) -> str:
    """Which outputs there are: ``no output``, ``only output 0``, ``outputs 0 to 3``."""
    return ("no output", "only output 0")[count] if count < 2 else f"outputs 0 to {count - 1}"


def latest_of(stepping: Stepping, item: Item) -> Entry:
    """The node's latest execution; raises CommandError if it has not executed in this step yet."""
    entry = stepping.latest.get(item.index)
    if entry is None:
        raise CommandError(f"'{item.name}' has not executed in this step yet; why not {item.name} says why")
    return entry


def value_of(stepping: Stepping, text: str) -> Any:
    """The latest value of the output that `text` names, on whatever device it is.

    Raises CommandError where there is none: no such output, it has not executed, or was dead.
    """
    found = output_of(stepping, text)
    entry = latest_of(stepping, found.item)
    if entry.outputs is None:
        raise CommandError(
            f"'{found.item.name}' was dead in #{entry.row}; why dead {found.item.name} says why"
        )
    if found.slot >= len(entry.outputs):
        raise CommandError(f"'{found.item.name}' has {outputs_text(len(entry.outputs))}")
    value = entry.outputs[found.slot]
    return value.value if isinstance(value, Reference) else value


def row_number(text: str) -> int | None:
    """The row that ``12`` or ``#12`` is; None for anything else."""
    number = text.strip().removeprefix("#")
    if not (number.isascii() and number.isdecimal() and len(number) <= _ROW_DIGITS):
        return None
    return int(number)


def iteration_number(text: str) -> int | None:
    """The iteration that ``@3`` or ``3`` is; None for anything else."""
    return row_number("#" + text.strip().removeprefix("@"))


def no_such_node(stepping: Stepping, name: str, what: str = "node") -> str:
    """Why there is no node of that name in this step, and which were perhaps meant."""
    names = list(stepping.step.stage.nodes)
    said = f"there is no {what} '{name}' in this step"
    with contextlib.suppress(KeyError):
        stage, reason, heirs = stepping.step.stage.fate(name)
        because = f": {reason}" if reason else ""
        went = f" ({stage})" if because and stage.startswith("optimized/") else ""
        instead = f"; in its place: {', '.join(heirs)}" if heirs else ""
        return f"'{name}' is in the graph, but not in this step{because}{went}{instead}"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    close += [each for each in names if each.endswith(f"/{name}")][: 3 - len(close)]
    return said + (f"; did you mean {' or '.join(dict.fromkeys(close))}?" if close else "")
