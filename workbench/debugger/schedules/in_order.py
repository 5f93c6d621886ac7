"""What of two accesses to a queue comes in an order that somebody can see, and what has to come first.

Of a queue that is first in, first out, and that nobody closes, who puts in and who takes out do not see each other: the elements
come out in the order in which they went in, whatever else happens, and somebody who has to wait does so without a trace.  So the
order of two enqueues counts, and that of two dequeues; and between the two kinds only that an element is put in before it is
taken out, and that room is made before it is used.  Of all other queues every order counts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from engine.op.queues import Blocked
from engine.runtime.program import Item, Program
from engine.runtime.queues import Queue
from engine.runtime.resources import Write
from workbench.debugger.schedules.unrolled import Resource

FRONT, BACK, ALL = "front", "back", "all"  # the part of a queue that an access is about
_END = {"enqueue": BACK, "dequeue": FRONT}
_IN_ORDER = ("FIFOQueue", "PaddingFIFOQueue")
MAKERS = tuple(f"{kind}V2" for kind in _IN_ORDER)
PUTTERS = ("QueueEnqueueV2", "QueueEnqueueManyV2")
TAKERS = ("QueueDequeueV2", "QueueDequeueManyV2", "QueueDequeueUpToV2")
CLOSE = "QueueCloseV2"

Closing = Callable[[Queue], bool]
"""Whether somebody may close a queue."""


def closing_of(program: Program, users: Callable[[], Mapping[Resource, Sequence[Item]]]) -> Closing:
    """The queues that a program may close; `users` finds the items that may change each queue."""
    closers = {item.index for item in program.items if item.node.type == CLOSE}
    if not closers:
        return lambda queue: False
    closed = {
        resource: found
        for resource, items in users().items()
        if (found := closers.intersection(item.index for item in items))
    }
    if closers.difference(*closed.values()):  # nobody knows what these close
        return lambda queue: True
    return lambda queue: ("queue", queue.name, queue.container) in closed


class Flow(NamedTuple):
    """How many elements an execution has put into a queue and taken out of it, and where there was room for them."""

    queue: Queue
    put: int
    taken: int
    before: int  # elements in it before
    room: int  # 0: any number


def flow_of(write: Write) -> Flow | None:
    """The flow of a write; None if it is not to a queue."""
    queue = write.resource
    if not isinstance(queue, Queue) or write.kind not in _END:
        return None
    change = len(write.new.elements) - len(write.old.elements)
    room = queue.room if queue.options.capacity >= 0 else 0
    return Flow(queue, max(change, 0), max(-change, 0), len(write.old.elements), room)


def part_of(write: Write, closing: Closing) -> Hashable:
    """The part of a queue that was changed."""
    flow = flow_of(write)
    if flow is None or flow.queue.options.kind not in _IN_ORDER or closing(flow.queue):
        return ALL
    if flow.room and flow.taken > flow.queue.options.capacity:  # while it waits there is more room
        return ALL
    return _END[write.kind]


def part_awaited(blocked: Blocked, closing: Closing) -> Hashable:
    """The part of a queue whose changes may have made somebody wait."""
    queue = blocked.queue
    if queue.options.kind not in _IN_ORDER or closing(queue) or shows(blocked, closing):
        return ALL
    return FRONT if blocked.wants else BACK


def shows(blocked: Blocked, closing: Closing) -> bool:
    """Whether others can see that somebody waits.

    An enqueue that has begun to wait before the queue is closed still goes on, and a dequeue for more elements than there is room
    for makes room.
    """
    if blocked.wants:
        return 0 <= blocked.queue.options.capacity < blocked.wants
    return closing(blocked.queue)


def needed(flow: Flow, earlier: Sequence[Sequence[Flow]]) -> Iterator[int]:
    """The numbers of those of the `earlier` executions, oldest first, without which this one could not have happened here."""
    mine = [
        (number, each) for number, flows in enumerate(earlier) for each in flows if each.queue is flow.queue
    ]
    begin = mine[0][1].before if mine else flow.before
    put = sum(each.put for _, each in mine)
    taken = sum(each.taken for _, each in mine)
    if flow.taken:
        yield from _reaching(mine, flow.taken + taken - begin, "put")
    if flow.put and flow.room:
        held = begin + put
        yield from _reaching(mine, held + flow.put - flow.room if flow.put <= flow.room else held, "taken")


def _reaching(flows: Sequence[tuple[int, Flow]], count: int, what: str) -> Iterator[int]:
    """The one that brings what has been put or taken up to `count`."""
    total = 0
    for number, each in flows:
        total += getattr(each, what)
        if count > 0 and total >= count:
            yield number
            return
