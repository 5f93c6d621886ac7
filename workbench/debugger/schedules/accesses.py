"""What an execution does to resources: which it reads and which it changes.

Statically, a node is a row of `KIND_OF`, or else what its signature says: a reference to a variable that goes into an ordinary
input is read; a node with state that takes a reference or a handle updates it.  Dynamically, the writes are those on record, and
the reads are of the resources among the node's input tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from engine.passes.stage import StageNode
from engine.runtime.program import Item, Program
from engine.runtime.resources import NO_KEY, Resource, Write
from workbench.debugger.schedules import in_order

# Ops by what they do to the resources that come in as references or handles.
_READERS = (
    "IsVariableInitialized",
    "TensorArrayReadV3",
    "TensorArrayGatherV3",
    "TensorArrayConcatV3",
    "TensorArraySizeV3",
    "TensorArrayGradV3",
    "_TensorArrayGradIn",
    "_StackCopy",
    "QueueSizeV2",
    "QueueIsClosedV2",
)
_ADDERS = (
    "AssignAdd",
    "AssignSub",
    "ScatterAdd",
    "ScatterSub",
    "ApplyGradientDescent",
)
# Ops that act on what is outside of the engine, in an order that somebody may see.
OUTSIDE = ("PyFunc",)
# Ops whose state is a counter of their own, which every execution moves on.
_COUNTED = (
    "Multinomial",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
)


class Kind(Enum):
    """What an access does; two that only read never race."""

    READ = "reads"
    WRITE = "writes"
    UPDATE = "updates"
    ADD = "adds to"
    PUT = "puts into"
    TAKE = "takes from"
    CLOSE = "closes"

    @property
    def writes(self) -> bool:
        return self is not Kind.READ


KIND_OF = {
    **dict.fromkeys(_READERS, Kind.READ),
    **dict.fromkeys(_ADDERS, Kind.ADD),
    **dict.fromkeys(in_order.PUTTERS, Kind.PUT),
    **dict.fromkeys(in_order.TAKERS, Kind.TAKE),
    in_order.CLOSE: Kind.CLOSE,
    "Assign": Kind.WRITE,
    "StridedSliceAssign": Kind.WRITE,
    "TensorArrayWriteV3": Kind.WRITE,
    "TensorArrayScatterV3": Kind.WRITE,
    "TensorArraySplitV3": Kind.WRITE,
}


def passes_on(node: StageNode, slot: int) -> bool:
    """Whether the node takes the reference or handle on input `slot` and does nothing with it but pass it on."""
    return bool(node.opdef.flow) or not node.opdef.stateful or node.type == "_Retval"


def is_handle(node: StageNode, slot: int) -> bool:
    """Whether input `slot` is a reference to a variable, or a handle."""
    kind = node.input_dtypes[slot]
    return kind._is_ref_dtype or kind.name == "resource"


def has_counter(node: StageNode) -> bool:
    """Whether the node has a state of its own, as random ops have."""
    return node.type in _COUNTED or node.type.startswith("Random")


def _is_anchor(item: Item) -> bool:
    """Whether a node without state gives its values to nobody: others wait for it, and what it reads makes no difference.

    A control dependency on an update outside of a loop is one, for the nodes inside: an Identity of the variable.
    """
    return not item.node.opdef.stateful and not any(item.data_out)


def kind_of(item: Item, slot: int) -> Kind | None:
    """What the item does to the resource that comes in at input `slot`; None if nothing."""
    node = item.node
    if slot in item.derefs:
        return None if _is_anchor(item) else Kind.READ
    if not is_handle(node, slot) or passes_on(node, slot):
        return None
    return KIND_OF.get(node.type, Kind.UPDATE)


def may_access(item: Item) -> bool:
    """Whether executions of the item may touch a resource, or the world outside; all others commute with everything."""
    node = item.node
    if has_counter(node) or node.type in OUTSIDE:
        return True
    return any(kind_of(item, slot) is not None for slot in range(item.n_inputs)) or (
        node.type == "Print" and node.attrs["first_n"] >= 0
    )


def outside(program: Program) -> tuple[str, ...]:
    """The nodes whose executions have effects outside of the engine, which happen again whenever they run again."""
    return tuple(item.name for item in program.items if item.node.type in (*OUTSIDE, "Print"))


ALL: Hashable = in_order.ALL  # the key of an access to a whole resource


class Touched(NamedTuple):
    """What one execution has read and written: (resource, key) pairs; the key is ALL for the whole."""

    reads: tuple[tuple[Any, Hashable], ...]
    writes: tuple[tuple[Any, Hashable], ...]


NOTHING = Touched((), ())
_WORLD = (("the world outside", ALL),)


def touched(
    item: Item, inputs: Sequence[Any], writes: Sequence[Write], closing: in_order.Closing = lambda queue: True
) -> Touched:
    """What an execution with these input tokens and writes has touched; `closing`: which queues somebody may close."""
    written: list[tuple[Any, Hashable]] = []
    for write in writes:
        if write.resource.kind == "queue":
            written.append((write.resource, in_order.part_of(write, closing)))
        elif write.resource.kind != "rendezvous":  # each of its keys joins one send to one receive
            written.append((write.resource, ALL if write.key is NO_KEY else write.key))
    changed = {resource for resource, _ in written}
    reads = tuple(
        (token, ALL)
        for slot, token in enumerate(inputs)
        if isinstance(token, Resource) and token not in changed and kind_of(item, slot) is not None
    )
    if item.node.type in OUTSIDE:
        return Touched(reads, (*written, *_WORLD))
    return Touched(reads, tuple(written)) if reads or written else NOTHING


def conflict(a: Touched, b: Touched) -> bool:
    """Whether the order of two executions can matter: they touch one thing, and one of them changes it."""
    if not a.writes and not b.writes:
        return False
    return _overlap(a.writes, b.writes) or _overlap(a.writes, b.reads) or _overlap(a.reads, b.writes)


def _overlap(some: tuple[tuple[Any, Hashable], ...], others: tuple[tuple[Any, Hashable], ...]) -> bool:
    for resource, key in some:
        for other, other_key in others:
            if resource is other and (key == other_key or key is ALL or other_key is ALL):
                return True
    return False
