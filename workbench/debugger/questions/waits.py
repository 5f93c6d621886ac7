"""What a node that has not executed waits for: one step of the way from it to the root causes.

A `Wait` is a node of a graph: that of who waits for whom.  `Waits.of` gives what follows from the executor's state and the
program; a wait that waits for nothing further is a root cause.  So is a cycle: partitions that wait for each other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from engine.runtime.frames import ABSENT, Activation, Frame
from engine.runtime.program import ENTER, EXIT, MERGE, NEXT_ITERATION, SEND, FrameSpec, Item
from workbench.debugger.stepping import Stepping
from workbench.debugger.views import is_spent


class Why(enum.Enum):
    """Why something has not happened."""

    WAITS = "waits"  # for inputs
    READY = "is ready, and has not been chosen yet"
    FAILED = "failed: its error stops the step"
    RECEIVES = "waits to receive"
    QUEUE = "waits for a queue"
    NO_SENDER = "waits to receive what nobody sends: there is no _Send for it in the graph"
    NOT_BEGUN = "has not begun: none of its Enters has run"
    NEXT = "has not begun"
    HELD_BACK = "is held back: as many iterations are under way as parallel_iterations allows"
    OPEN = "has not ended"
    OVER = "will not begin: the loop's condition was false"
    ENDED = "has ended"
    FIRST_ONLY = "comes into iteration 0 of its frame alone"
    NEVER = "never comes: there is no iteration before the first"
    LOST = "has all that it needs and is not ready: its token was lost"


class Wait(NamedTuple):
    """What is waited for: a node in a frame and iteration, or (`item` is None) an iteration, or a frame that `spec` names.

    `frame` and `iteration` are of a frame that has not begun those around it.
    """

    item: Item | None
    frame: Frame
    iteration: int
    spec: FrameSpec | None = None
    end: bool = False  # the end of an iteration (or, if it is -1, of a frame), rather than its beginning


_new_tuple: Any = tuple.__new__  # past a named tuple's own, slower, constructor


class Waits:
    """Who waits for whom, as things stand in `stepping`."""

    def __init__(self, stepping: Stepping) -> None:
        self._stepping = stepping
        self._state = stepping.state
        self._program = stepping.step.program
        self._parked = (
            set(stepping.step.transfers.parked.values()) if stepping.step.transfers is not None else set()
        )

    @property
    def may_circle(self) -> bool:
        """Whether there may be a circle: only where something waits for what no edge brings."""
        return bool(self._parked or self._stepping.step.blocked)

    def queue_reason(self, wait: Wait) -> str:
        """For what a node waits at a queue; empty if it does not."""
        if wait.item is None:
            return ""
        blocked = self._stepping.step.blocked.get(Activation(wait.item, wait.frame, wait.iteration))
        return blocked.reason if blocked is not None else ""

    @cached_property
    def _enters(self) -> dict[int, list[Item]]:
        """The Enters that lead to each frame, by its index."""
        found: dict[int, list[Item]] = {}
        for item in self._program.items:
            if item.child is not None:
                found.setdefault(item.child.index, []).append(item)
        return found

    @cached_property
    def _nexts(self) -> dict[int, list[Item]]:
        """The NextIterations in each frame, by its index."""
        found: dict[int, list[Item]] = {}
        for item in self._program.items:
            if item.flow == NEXT_ITERATION:
                found.setdefault(item.frame.index, []).append(item)
        return found

    @cached_property
    def _sends(self) -> dict[str, Item]:
        routes = self._stepping.step.executable.routes
        return {routes[item.index].prefix: item for item in self._program.items if item.flow == SEND}

    @cached_property
    def _outstanding(self) -> dict[tuple[int, int], list[Activation]]:
        """What is ready or parked, by frame and iteration."""
        found: dict[tuple[int, int], list[Activation]] = {}
        for each in self._state.outstanding:
            found.setdefault((each.frame.id, each.iteration), []).append(each)
        return found

    @cached_property
    def _children(self) -> dict[tuple[int, int], list[Frame]]:
        """The open frames that were entered from each iteration."""
        found: dict[tuple[int, int], list[Frame]] = {}
        for frame in self._state.frames.values():
            if frame.parent is not None:
                found.setdefault((frame.parent.id, frame.parent_iteration), []).append(frame)
        return found

    # Where things stand.

    def has_run(self, item: Item, frame: Frame, iteration: int) -> bool:
        """Whether a node has executed, dead or alive, in an open iteration."""
        if Activation(item, frame, iteration) in self._state.outstanding:
            return False
        at = frame.iterations[iteration]
        left = at.pending[item.local]
        return left == 0 or (item.flow == MERGE and is_spent(self._program, item, left, at))

    def why(self, wait: Wait) -> Why:
        """Why `wait` has not happened."""
        item, frame, iteration, spec, end = wait
        if spec is not None:
            return Why.NOT_BEGUN
        if item is None:
            if end:
                return Why.OPEN
            if frame.deferred:
                return Why.HELD_BACK
            return Why.NEXT if self.of(wait) else Why.OVER
        if iteration not in frame.iterations:
            return Why.NEVER if iteration < 0 else Why.OVER if item.flow == NEXT_ITERATION else Why.ENDED
        activation = Activation(item, frame, iteration)
        if activation in self._state.outstanding:
            if activation in self._parked:
                return Why.RECEIVES if self._sender(item) is not None else Why.NO_SENDER
            if activation in self._stepping.step.blocked:
                return Why.QUEUE
            failed = self._stepping.error is not None and activation == self._stepping.next
            return Why.FAILED if failed else Why.READY
        if self.has_run(item, frame, iteration):
            return {ENTER: Why.FIRST_ONLY, NEXT_ITERATION: Why.OVER}.get(item.flow, Why.LOST)
        return Why.WAITS if self.of(wait) else Why.LOST

    def of(self, wait: Wait) -> list[Wait]:
        """What has to happen before `wait` can, each once; nothing for a root cause."""
        item, frame, iteration, spec, end = wait
        if spec is not None:
            return [Wait(each, frame, iteration) for each in self._enters[spec.index]]
        if item is None:
            return list(dict.fromkeys(self._ends(frame, iteration) if end else self._begins(frame)))
        at = frame.iterations.get(iteration)
        if at is None:
            return []
        activation: Activation = _new_tuple(Activation, (item, frame, iteration))
        if activation in self._state.outstanding:
            if activation in self._parked:
                return list(self._sent(activation))
            return self._fed(activation) if activation in self._stepping.step.blocked else []
        left = at.pending[item.local]
        if left == 0 or (item.flow == MERGE and is_spent(self._program, item, left, at)):
            return []
        found = [each for _, each in self.missing_inputs(item, frame, iteration)]
        return found if len(found) < 2 else list(dict.fromkeys(found))

    # Nodes.

    def missing_inputs(self, item: Item, frame: Frame, iteration: int) -> list[tuple[tuple[str, int], Wait]]:
        """The inputs that have not arrived, as node and output (-1: a control edge), with what would bring them.

        Of a Merge without a live input, all that may still come: one of them is enough.
        """
        at = frame.iterations[iteration]
        by_name = self._program.by_name
        merge = item.flow == MERGE
        found: list[tuple[tuple[str, int], Wait]] = []
        if not merge or at.pending[item.local] & 1:
            start = item.start
            for slot, tensor in enumerate(item.node.inputs, start):
                if at.inputs[slot] is ABSENT:
                    producer = by_name[tensor[0]]
                    if not (merge and _elsewhere(producer, iteration)):
                        found.append((tensor, self._token(producer, frame, iteration)))
        for name in item.node.control_inputs:
            producer = by_name[name]
            if not self._has_come(producer, frame, iteration):
                found.append(((name, -1), self._token(producer, frame, iteration)))
        return found

    def _has_come(self, producer: Item, frame: Frame, iteration: int) -> bool:
        """Whether the control token of `producer` has arrived in this iteration."""
        place = (frame.id, iteration)
        if producer.flow == ENTER and frame.parent is not None:
            if not producer.is_constant_enter and iteration > 0:
                return False
            place = (frame.parent.id, frame.parent_iteration)
        elif producer.flow == NEXT_ITERATION:
            place = (frame.id, iteration - 1)
        done = self._stepping.done.get(place)
        if done is None:  # an iteration that has ended: what it had to say has been said
            return producer.flow in (ENTER, NEXT_ITERATION)
        return producer.index in done

    def _token(self, producer: Item, frame: Frame, iteration: int) -> Wait:
        """What has to happen for the token of `producer` to arrive in `iteration` of `frame`."""
        flow = producer.flow
        if flow == ENTER and frame.parent is not None:
            return Wait(producer, frame.parent, frame.parent_iteration)
        if flow == NEXT_ITERATION:
            return Wait(producer, frame, iteration - 1)
        if flow != EXIT:
            return _new_tuple(Wait, (producer, frame, iteration, None, False))  # type: ignore[no-any-return]
        child = self._state.frames.get((frame.id, iteration, producer.frame.index))
        if child is None:
            return Wait(None, frame, iteration, producer.frame)
        if not self.has_run(producer, child, child.count):
            return Wait(producer, child, child.count)
        return Wait(None, child, child.count + 1)  # it was dead: the loop goes on

    # Iterations and frames.

    def _begins(self, frame: Frame) -> Iterator[Wait]:
        """What would begin the next iteration of `frame`; or end the frame, if none will begin."""
        if frame.deferred:
            yield Wait(None, frame, min(frame.iterations), end=True)
            return
        waits = [
            Wait(each, frame, frame.count)
            for each in self._nexts.get(frame.spec.index, ())
            if not self.has_run(each, frame, frame.count)
        ]
        yield from waits
        if not waits:
            yield from self._ends(frame, -1)

    def _ends(self, frame: Frame, iteration: int) -> Iterator[Wait]:
        """What keeps an iteration (-1: any) of `frame` open."""
        for number in list(frame.iterations) if iteration < 0 else [iteration]:
            for each in self._outstanding.get((frame.id, number), ()):
                yield Wait(*each)
            for child in self._children.get((frame.id, number), ()):
                yield Wait(None, child, -1, end=True)
        if frame.pending_enters and frame.parent is not None and (iteration <= 0):
            outer, at = frame.parent, frame.parent_iteration
            for enter in self._enters[frame.spec.index]:
                if not self.has_run(enter, outer, at):
                    yield Wait(enter, outer, at)

    # Queues.

    def _fed(self, blocked: Activation) -> list[Wait]:
        """What in this step would bring what `blocked` waits for at its queue: any one of these, if there are any."""
        takes = blocked.item.node.type.startswith("QueueDequeue")
        wanted = ("QueueEnqueue", "QueueClose") if takes else ("QueueDequeue", "QueueClose")
        home = self._queue_of(blocked.item)
        found = []
        for item in self._program.items:
            if not item.node.type.startswith(wanted) or self._queue_of(item) != home:
                continue
            places = [
                (frame, number)
                for frame in self._state.live_frames()
                if frame.spec is item.frame
                for number in frame.iterations
                if not self.has_run(item, frame, number)
            ]
            if places:
                found.append(Wait(item, *places[-1]))
            elif item.frame.parent is not None and not any(
                frame.spec is item.frame for frame in self._state.live_frames()
            ):
                found.append(self.frame_wait(item))
        return found

    def _queue_of(self, item: Item) -> tuple[str, str]:
        """Which queue an operation is about: that of the node which makes the handle, by container and name."""
        while item.node.inputs:
            item = self._program.by_name[item.node.inputs[0][0]]
        attrs = item.node.attrs
        return str(attrs.get("container", "")), str(attrs.get("shared_name") or item.name)

    def frame_wait(self, item: Item) -> Wait:
        """The frame of `item`, which is not open, or the outermost around it that is not."""
        specs = []
        spec = item.frame
        while spec.parent is not None:
            specs.append(spec)
            spec = spec.parent
        around = self._state.root
        for each in reversed(specs):
            inside = [frame for frame in self._state.live_frames() if frame.spec is each]
            if not inside:
                return Wait(None, around, around.count, each)
            around = inside[-1]
        raise ValueError(f"the frame of '{item.name}' is open")

    # Other partitions.

    def _sender(self, recv: Item) -> Item | None:
        return self._sends.get(self._stepping.step.executable.routes[recv.index].prefix)

    def _sent(self, recv: Activation) -> Iterator[Wait]:
        """What has to happen before the tensor of a parked `_Recv` is sent."""
        send = self._sender(recv.item)
        if send is None:
            return
        specs: list[FrameSpec] = []
        spec: FrameSpec | None = send.frame
        while spec is not None and spec.parent is not None:
            specs.append(spec)
            spec = spec.parent
        around: list[Frame] = []
        frame = recv.frame
        while frame.parent is not None:
            around.append(frame)
            frame = frame.parent
        found = self._state.root
        for each, mine in zip(reversed(specs), reversed(around)):
            number = mine.parent_iteration
            if number not in found.iterations:
                yield from self._not_there(found, number)
                return
            child = self._state.frames.get((found.id, number, each.index))
            if child is None:
                yield Wait(None, found, number, each)
                return
            found = child
        if recv.iteration not in found.iterations:
            yield from self._not_there(found, recv.iteration)
        else:
            yield Wait(send, found, recv.iteration)

    def _not_there(self, frame: Frame, iteration: int) -> Iterator[Wait]:
        if iteration > frame.count:
            yield Wait(None, frame, iteration)
        else:
            yield Wait(None, frame, iteration, end=True)


def _elsewhere(producer: Item, iteration: int) -> bool:
    """Whether a Merge's input comes in other iterations than this: the loop's first value, or a later one."""
    if producer.flow == ENTER:
        return iteration > 0 and not producer.is_constant_enter
    return producer.flow == NEXT_ITERATION and iteration == 0
