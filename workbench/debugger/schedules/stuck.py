"""Why a step cannot go on in any order: who waits for which queue, and whether anybody in the step could change that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.op.queues import Blocked
from engine.runtime.frames import Activation
from engine.runtime.program import ENTER, Item, Program
from engine.runtime.step import StepRun
from workbench.debugger.schedules.in_order import CLOSE, PUTTERS, TAKERS
from workbench.debugger.schedules.ordering import Ordering
from workbench.debugger.schedules.unrolled import Resource

_NAMED = 6  # of those who wait
# Who can let those go on that wait for elements, and those that wait for room.
_FEEDS = (*PUTTERS, CLOSE)
_DRAINS = (*TAKERS, CLOSE)

Users = Mapping[Resource, Sequence[Item]]
"""The items that may change each queue."""


def told(step: StepRun, waiting: Sequence[tuple[Activation, Blocked]], users: Users) -> str:
    """A sentence; "" if nothing waits.  `users` are those of the step's program (`queue_users`).

    A deadlock is where all that is waited for would have to come from nodes of this step that wait as well.
    """
    receiving = () if step.transfers is None else sorted(each.name for each in step.transfers.parked.values())
    if not waiting:
        return f"stuck: {receiving[0]} waits to receive" if receiving else ""
    waiting = sorted(waiting, key=lambda each: (each[0].item.index, each[0].frame.id, each[0].iteration))
    said, alone = [], False
    for activation, blocked in waiting:
        could = _FEEDS if blocked.wants else _DRAINS
        queue = ("queue", blocked.queue.name, blocked.queue.container)
        helped = any(
            item.node.type in could and item is not activation.item and _is_to_come(step, item)
            for item in users.get(queue, ())
        )
        alone |= not helped
        only = f", and nothing more {'comes' if blocked.wants else 'goes'} in this step" if not helped else ""
        said.append(f"{activation.name} waits for {blocked.reason}{only}")
    more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return f"{'stuck' if alone else 'deadlock'}: {'; '.join(said[:_NAMED])}{more}"


def queue_users(program: Program) -> Users:
    """The items that may change each queue of a program."""
    found: dict[Resource, list[Item]] = {}
    for instance in Ordering(program).order:
        if not instance.barrier and instance.item.node.type in (*_FEEDS, *_DRAINS):
            for queue in Ordering.leads_to(instance, 0):
                users = found.setdefault(queue, [])
                if instance.item not in users:
                    users.append(instance.item)
    return found


def _is_to_come(step: StepRun, item: Item) -> bool:
    """Whether the item may still execute: again, too, in a loop that has not ended."""
    state = step.state
    if item.frame.parent is None:
        waits = state.root.iterations[0].pending[item.local] > 0
        return waits or any(activation.item is item for activation in state.outstanding)
    if any(frame.spec is item.frame for frame in state.live_frames()):
        return True
    return any(
        each.flow == ENTER and each.child is item.frame and _is_to_come(step, each)
        for each in step.program.items
    )
