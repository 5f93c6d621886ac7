"""Where a breakpoint is: what is typed (``while/*``, ``type:MatMul``, ``device:cpu:1``, ``send:*w*``), and what that means."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.passes.stage import StageNode
from engine.runtime.frames import Activation
from engine.runtime.program import SEND
from engine.runtime.rendezvous import Rendezvous
from engine.runtime.resources import Resource
from workbench.debugger.frame_notes import label
from workbench.debugger.naming import node_name

if TYPE_CHECKING:
    from workbench.debugger.stepping import Entry, Stepping

NodeTest = Callable[[StageNode], bool]
Live = Callable[["Stepping", Activation], bool]
Past = Callable[["Stepping", "Entry"], bool]


class PlaceError(ValueError):
    """A place that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a place comes to.

    `nodes` gives, from the names of a graph's nodes, which of them can be there at all; `before` says whether an activation that
    is next is there, `after` whether an execution that has just happened was: whichever of them is there decides when one stops.
    """

    text: str
    nodes: Callable[[Collection[str]], NodeTest]
    before: Live | None = None
    after: Past | None = None


def matching(pattern: str, names: Collection[str]) -> Callable[[str], bool]:
    """What tells whether a node of a graph with these `names` is meant by `pattern`.

    The node of that name if there is one; else all in that scope (a slash at the end insists on it), or those that match its
    ``*``, ``?`` and ``[…]``.
    """
    if pattern in names:
        return pattern.__eq__
    scope = pattern.rstrip("/") + "/"
    if any(mark in pattern for mark in "*?["):
        return lambda name: name.startswith(scope) or fnmatch.fnmatchcase(name, pattern)
    return lambda name: name.startswith(scope)


def where(text: str) -> Where:
    """The place that `text` means.  Raises PlaceError for one that cannot be."""
    text = text.strip()
    if not text:
        return Where("", _any)
    found = _ALLOC.fullmatch(text)
    if found is not None:
        return _alloc(
            text, found["comparison"], float(found["size"]) * _UNITS[(found["unit"] or "b").lower()]
        )
    word, colon, pattern = text.partition(":")
    if not colon:
        word, _, pattern = text.partition(" ")
    pattern = pattern.strip()
    if word in _PREFIXED and (colon or word in _ALONE):
        if colon and not pattern:
            raise PlaceError(f"{word}: of what? for instance {_PREFIXED[word][1]}")
        return _PREFIXED[word][0](text, pattern or "*")
    if any(character.isspace() for character in text):
        raise PlaceError(
            f"'{text}' is not a place: NODE, SCOPE/ or a pattern (*/add), or one of {', '.join(EXAMPLES)}; then perhaps "
            "if CONDITION, after N, once, log EXPRESSION"
        )
    return _node(text, text)


def _any(names: Collection[str]) -> NodeTest:
    return lambda node: True


def _node(text: str, pattern: str) -> Where:
    name = node_name(pattern)  # a tensor stands for the node that makes it

    def nodes(names: Collection[str]) -> NodeTest:
        meant = matching(name, names)
        return lambda node: meant(node.name)

    return Where(name if text == pattern else text, nodes)


def _type(text: str, pattern: str) -> Where:
    return Where(text, lambda names: lambda node: fnmatch.fnmatchcase(node.type, pattern))


def short_device(device: str) -> str:
    """``/job:localhost/replica:0/task:0/device:CPU:1`` as ``cpu:1``, ``/cpu:1`` likewise."""
    return device.lower().rpartition("/")[2].removeprefix("device:")


def _device(text: str, pattern: str) -> Where:
    wanted = short_device(pattern)

    def on(node: StageNode) -> bool:
        return fnmatch.fnmatchcase(short_device(node.device), wanted) or fnmatch.fnmatchcase(
            node.device, pattern
        )

    return Where(text, lambda names: on)


def _frame(text: str, pattern: str) -> Where:
    def inside(stepping: Stepping, activation: Activation) -> bool:
        frame = activation.frame
        if frame.parent is None:
            return pattern == "root"
        return fnmatch.fnmatchcase(frame.name, pattern) or fnmatch.fnmatchcase(label(frame), pattern)

    return Where(text, _any, before=inside)


def _transfer(kinds: tuple[str, ...]) -> Callable[[str, str], Where]:
    def make(text: str, pattern: str) -> Where:
        def with_key(stepping: Stepping, activation: Activation) -> bool:
            transfers = stepping.step.transfers
            if transfers is None or activation.item.flow < SEND:
                return False
            key = transfers.key(activation)
            tensor = key.split(";")[3] if key.count(";") >= 4 else ""
            return fnmatch.fnmatchcase(key, pattern) or fnmatch.fnmatchcase(tensor, pattern)

        return Where(text, lambda names: lambda node: node.type in kinds, before=with_key)

    return make


def _dead(text: str, pattern: str) -> Where:
    def nodes(names: Collection[str]) -> NodeTest:
        meant = matching(pattern, names)
        return lambda node: pattern == "*" or meant(node.name)

    return Where(text, nodes, before=lambda stepping, activation: stepping.state.is_dead(activation))


def _write(text: str, pattern: str) -> Where:
    def wrote(stepping: Stepping, entry: Entry) -> bool:
        return any(
            fnmatch.fnmatchcase(write.resource.name, pattern) and not isinstance(write.resource, Rendezvous)
            for write in entry.writes
        )

    return Where(text, _any, after=wrote)


_ALLOC = re.compile(
    r"alloc\s*(?P<comparison>>=?)\s*(?P<size>\d{1,15}(\.\d{1,6})?)\s*(?P<unit>b|bytes|kb|kib|mb|mib|gb|gib)?",
    re.IGNORECASE,
)
_UNITS = {
    "b": 1, "bytes": 1, "kb": 1 << 10, "kib": 1 << 10, "mb": 1 << 20, "mib": 1 << 20, "gb": 1 << 30, "gib": 1 << 30,
}  # fmt: skip


def _alloc(text: str, comparison: str, limit: float) -> Where:
    def large(stepping: Stepping, entry: Entry) -> bool:
        size = allocated(stepping, entry)
        return size > limit or (comparison == ">=" and size == limit)

    return Where(text, _any, after=large)


def allocated(stepping: Stepping, entry: Entry) -> int:
    """Bytes of the new arrays that the last execution made: its outputs, and what it wrote, that were not among its inputs."""
    known = {id(_owner(token)) for token in stepping.state.consumed() if hasattr(token, "nbytes")}
    total = 0
    for array in (*(entry.outputs or ()), *(write.new for write in entry.writes)):
        if hasattr(array, "nbytes") and not isinstance(array, Resource):
            key = id(_owner(array))
            if key not in known:
                known.add(key)
                total += int(array.nbytes)
    return total


def _owner(array: Any) -> Any:
    base = getattr(array, "base", None)
    return array if base is None else base


_PREFIXED: dict[str, tuple[Callable[[str, str], Where], str]] = {
    "node": (_node, "node:dead"),
    "type": (_type, "type:MatMul"),
    "device": (_device, "device:cpu:1"),
    "frame": (_frame, "frame:while"),
    "send": (_transfer(("_Send",)), "send:*weights*"),
    "recv": (_transfer(("_Recv",)), "recv:*weights*"),
    "transfer": (_transfer(("_Send", "_Recv")), "transfer:*weights*"),
    "dead": (_dead, "dead:cond/*"),
    "write": (_write, "write:weights"),
}
_ALONE = frozenset({"send", "recv", "transfer", "dead", "write"})
EXAMPLES = (*(example for _, example in _PREFIXED.values() if example != "node:dead"), "alloc > 1MB")
