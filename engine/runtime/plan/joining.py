"""What partitioning has cut, whole again: a plan runs all plain CPU devices of a step as one program, in one thread.

A tensor that goes from one such device to another does not move: they share the host's memory, and `Device.copy` between
them gives the same array.  So a `_Recv` is an Identity of what its `_Send` was given, which waits for what the `_Send` waited
for, and is dead when the `_Send` is.  What only kept the devices in step goes: control loops (`engine.partition.control_loops`)
and triggers that hold receives back (`engine.partition.late`).  Nodes stay on their devices, and casts on the wire stay, so
that results are those of the partitioned graph.

One program a device would not do: put in order each by itself, two can wait for each other for ever, each for a tensor that
the other sends behind one that it waits for; and only where a tensor is sent is it known when it is alive.  Both are seen here,
from all devices together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.op.registry import OpDef, lookup
from engine.passes.stage import Lineage, Stage, StageNode
from engine.runtime.plan.ir import NotExpressible
from engine.runtime.program import Program
from engine.types import errors

if TYPE_CHECKING:
    from engine.runtime.executable import Executable

NAME = "joined"
_ROUTE = ("send_device", "send_device_incarnation", "recv_device", "tensor_name")
# What nobody misses who does not read it: it has no effects, and only says when something else runs.
_IDLE = frozenset(
    {"_Send", "Const", "Enter", "RefEnter", "Merge", "RefMerge", "Switch", "RefSwitch", "NextIteration"}
    | {"RefNextIteration", "ControlTrigger"}
)


def join(program: Program) -> Stage:
    """The stage of `program` without `_Send`s and `_Recv`s; no name changes, no fetch, feed or target.

    Raises NotExpressible for a `_Recv` whose tensor nobody sends, or not in its frame, and for two ends of one route.
    """
    stage = program.stage
    senders = _by_route(program, "send")
    _by_route(program, "recv")
    identity = lookup("Identity")
    assert identity is not None
    nodes: dict[str, StageNode] = {}
    for node in stage:
        if node.opdef.flow == "recv":
            sender = senders.get(_route(node))
            if sender is None:
                raise NotExpressible("nobody sends what it waits for", program.by_name[node.name])
            if program.by_name[sender.name].frame.path != program.by_name[node.name].frame.path:
                raise NotExpressible("what it waits for is sent in another frame", program.by_name[node.name])
            node = _received(node, sender, identity)
        nodes[node.name] = node
    reached = _reached(nodes, stage.targets)
    removed = {name: "only kept the devices in step" for name in nodes if name not in reached}
    return stage.followed_by(NAME, {name: node for name, node in nodes.items() if name in reached}, removed)


def joined(executable: Executable) -> Executable:
    """`executable` as one of all its devices; it itself if it neither sends nor receives.

    Raises NotExpressible as `join` does, and for a step in which devices wait for each other.
    """
    program = executable.program
    if not program.has_transfers:
        return executable
    with _said_of(program):
        return type(executable)(join(program), executable.devices, joined=True)


def joined_program(program: Program) -> Program:
    """As `joined`, of a program that no kernels have been found for."""
    if not program.has_transfers:
        return program
    with _said_of(program):
        return Program(join(program))


@contextlib.contextmanager
def _said_of(program: Program) -> Iterator[None]:
    try:
        yield
    except errors.OpError as error:
        item = program.by_name.get(getattr(error.op, "name", ""))
        raise NotExpressible(f"its devices do not fit together: {error.message}", item) from None


def _by_route(program: Program, flow: str) -> dict[tuple[Any, ...], StageNode]:
    found: dict[tuple[Any, ...], StageNode] = {}
    for node in program.stage:
        if node.opdef.flow == flow and found.setdefault(_route(node), node) is not node:
            raise NotExpressible("another node has the same key", program.by_name[node.name])
    return found


def _route(node: StageNode) -> tuple[Any, ...]:
    return tuple(node.attrs[each] for each in _ROUTE)


def _received(recv: StageNode, send: StageNode, identity: OpDef) -> StageNode:
    """The Identity in place of `recv`.

    A `_Recv` waits for its control loop and for triggers, which say when it may run, not whether: the `_Send` says that.
    """
    dtype = recv.output_dtypes[0]
    return replace(
        recv,
        opdef=identity,
        inputs=send.inputs,
        control_inputs=send.control_inputs,
        attrs={"T": dtype},
        input_dtypes=(dtype,),
        lineage=Lineage(
            (recv.name, send.name), NAME, f"reads what '{send.name}' sent: both are in the host's memory"
        ),
    )


def _reached(nodes: Mapping[str, StageNode], targets: tuple[str, ...]) -> set[str]:
    """The nodes that something needs, or that do something by themselves."""
    pending = [name for name, node in nodes.items() if node.type not in _IDLE]
    pending += [name for name in targets if name in nodes]
    reached = set(pending)
    while pending:
        node = nodes[pending.pop()]
        for source in (*(name for name, _ in node.inputs), *node.control_inputs):
            if source not in reached:
                reached.add(source)
                pending.append(source)
    return reached
