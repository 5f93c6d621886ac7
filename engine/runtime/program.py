"""Program: a stage in the form in which it is executed, with every name turned into an index.

Each node becomes an `Item`, which knows the edges that leave it; each static frame (one for each loop, and the root) becomes a
`FrameSpec`, which lays out the pending counts and input slots of the items that live in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from engine.passes.stage import Stage, StageNode
from engine.types import errors

ORDINARY, SWITCH, MERGE, ENTER, EXIT, NEXT_ITERATION, CONTROL_TRIGGER, SEND, RECV = range(9)

_FLOWS = {
    "": ORDINARY,
    "loop_cond": ORDINARY,
    "switch": SWITCH,
    "merge": MERGE,
    "enter": ENTER,
    "exit": EXIT,
    "next_iteration": NEXT_ITERATION,
    "control_trigger": CONTROL_TRIGGER,
    "send": SEND,
    "recv": RECV,
}


class FrameSpec:
    """A static frame: the root, or what the Enter nodes of one frame name lead into (on one device, if nodes are on several).

    An iteration of the frame keeps one pending count an item (`pending` is the initial ones, by `Item.local`) and one slot for
    each data input of each item (`slots` of them).
    """

    __slots__ = (
        "device",
        "enters",
        "index",
        "items",
        "name",
        "parallel_iterations",
        "parent",
        "pending",
        "slots",
    )

    def __init__(
        self, index: int, name: str, parent: FrameSpec | None, parallel_iterations: int, device: str = ""
    ) -> None:
        self.index = index
        self.name = name
        self.device = device
        self.parent = parent
        self.parallel_iterations = parallel_iterations
        self.items: list[Item] = []
        self.pending: list[int] = []
        self.slots = 0
        self.enters = 0

    @property
    def path(self) -> str:
        """The names of the frames from the root to this one."""
        names: list[str] = []
        spec: FrameSpec | None = self
        while spec is not None:
            names.append(spec.name if spec.parent is not None else "root")
            spec = spec.parent
        return " > ".join(reversed(names))

    def __repr__(self) -> str:
        return f"<FrameSpec {self.path}>"


class Item:
    """A node of a program.

    `data_out[i]` are the (item, input slot) pairs that output i goes to, `control_out` the items that wait for this one.
    `start` and `end` delimit its inputs among its frame's slots.  `derefs` are the inputs that arrive as references to
    variables and are read as values.
    """

    __slots__ = (
        "child",
        "control_out",
        "data_out",
        "derefs",
        "end",
        "flow",
        "frame",
        "index",
        "is_constant_enter",
        "local",
        "n_control",
        "n_inputs",
        "n_outputs",
        "node",
        "start",
    )

    def __init__(self, index: int, node: StageNode) -> None:
        self.index = index
        self.node = node
        self.flow = _FLOWS[node.opdef.flow]
        self.n_inputs = len(node.inputs)
        self.n_outputs = len(node.output_dtypes)
        self.n_control = len(node.control_inputs)
        self.is_constant_enter = bool(self.flow == ENTER and node.attrs["is_constant"])
        self.frame: FrameSpec = None  # type: ignore[assignment]  # set by Program before anybody reads it
        self.child: FrameSpec | None = None
        self.local = self.start = self.end = 0
        self.data_out: tuple[tuple[tuple[Item, int], ...], ...] = ()
        self.control_out: tuple[Item, ...] = ()
        self.derefs: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.node.name

    def __repr__(self) -> str:
        return f"<Item {self.index} {self.node.name}>"


class Program:
    """All items of a stage and its static frames; immutable once made, shared by all runs.

    A partitioned stage is several graphs which no edge joins, one a device.  They share the root, and each has loop frames of
    its own: a frame is known by the frame around it, its name, and (`per_device`) the device of the Enters that lead to it.

    Raises InvalidArgumentError for a cycle without a NextIteration, or a node whose inputs come from different frames.
    """

    def __init__(self, stage: Stage, per_device: bool = False) -> None:
        self.stage = stage
        self.per_device = per_device
        self.items = [Item(i, node) for i, node in enumerate(stage)]
        self.by_name = {item.node.name: item for item in self.items}
        self.root = FrameSpec(0, "", None, 1)
        self.frames = [self.root]
        self._connect()
        self._assign_frames()
        self._lay_out()
        self.sources = tuple(item for item in self.items if item.n_inputs == 0 and item.n_control == 0)
        self.has_transfers = any(item.flow >= SEND for item in self.items)

    def _connect(self) -> None:
        data: list[list[list[tuple[Item, int]]]] = [
            [[] for _ in range(item.n_outputs)] for item in self.items
        ]
        control: list[list[Item]] = [[] for _ in self.items]
        for item in self.items:
            node = item.node
            derefs = []
            for slot, (source, output) in enumerate(node.inputs):
                producer = self.by_name[source]
                data[producer.index][output].append((item, slot))
                if (
                    producer.node.output_dtypes[output]._is_ref_dtype
                    and not node.input_dtypes[slot]._is_ref_dtype
                ):
                    derefs.append(slot)
            item.derefs = tuple(derefs)
            for source in node.control_inputs:
                control[self.by_name[source].index].append(item)
        for item in self.items:
            item.data_out = tuple(tuple(edges) for edges in data[item.index])
            item.control_out = tuple(control[item.index])

    def _assign_frames(self) -> None:
        """Give every item its static frame, walking from the sources; a loop closes over its NextIteration."""
        waiting = [item.n_inputs + item.n_control for item in self.items]
        # A Merge that closes a loop has one input from a NextIteration, which comes after it.
        for item in self.items:
            if item.flow == MERGE:
                waiting[item.index] -= sum(
                    1 for source, _ in item.node.inputs if self.by_name[source].flow == NEXT_ITERATION
                )
        queue = deque(item for item in self.items if waiting[item.index] == 0)
        placed = 0
        specs: dict[tuple[int, str, str], FrameSpec] = {}
        order: list[Item] = []
        while queue:
            item = queue.popleft()
            placed += 1
            order.append(item)
            item.frame = self._frame_of(item)
            if item.flow == ENTER:
                attrs = item.node.attrs
                device = item.node.device if self.per_device else ""
                key = (item.frame.index, attrs["frame_name"], device)
                spec = specs.get(key)
                if spec is None:
                    spec = FrameSpec(
                        len(self.frames),
                        attrs["frame_name"],
                        item.frame,
                        attrs["parallel_iterations"],
                        device,
                    )
                    specs[key] = spec
                    self.frames.append(spec)
                spec.enters += 1
                item.child = spec
            successors = [dst for edges in item.data_out for dst, _ in edges]
            successors.extend(item.control_out)
            for successor in successors:
                if not (item.flow == NEXT_ITERATION and successor.flow == MERGE):
                    waiting[successor.index] -= 1
                    if waiting[successor.index] == 0:
                        queue.append(successor)
        if placed != len(self.items):
            self._report_cycle([item for item in self.items if waiting[item.index] > 0])
        for item in self.items:
            if item.node.type == "_Retval" and item.frame.parent is not None:
                self._report_fetch_in_loop(item)

    def _frame_of(self, item: Item) -> FrameSpec:
        node = item.node
        found: FrameSpec | None = None
        deciding = ""
        for source in (*(name for name, _ in node.inputs), *node.control_inputs):
            producer = self.by_name[source]
            frame = producer.frame
            if frame is None:  # the back edge of a loop
                continue
            if producer.flow == ENTER:
                frame = producer.child or frame
            elif producer.flow == EXIT:
                if frame.parent is None:
                    raise errors.InvalidArgumentError(
                        node, None, f"Exit '{producer.name}' is not inside a loop: no Enter leads to it"
                    )
                frame = frame.parent
            if found is None:
                found, deciding = frame, source
            elif found is not frame:
                error = errors.InvalidArgumentError(
                    None,
                    None,
                    f"Node '{node.name}' has inputs from different frames: '{deciding}' is in frame '{found.path}', "
                    f"'{source}' in frame '{frame.path}'. A tensor of one loop cannot be used outside of it; use what "
                    "tf.while_loop returns.",
                )
                error.attach(node)
                raise error
        return found or self.root

    def _report_fetch_in_loop(self, item: Item) -> None:
        """What is fetched has a frame of its own through a control dependency: one value for each iteration."""
        name, output = item.node.inputs[0]
        producer = self.by_name[name].node
        inside = next((source for source in producer.control_inputs if self.by_name[source].frame.parent), "")
        error = errors.InvalidArgumentError(
            None,
            None,
            f"'{name}:{output}' cannot be fetched: it runs in every iteration of the loop '{item.frame.name}'"
            + (f", since it waits for '{inside}', which is inside" if inside else "")
            + ". Depend on what tf.while_loop returns.",
        )
        error.attach(producer)
        raise error

    def _report_cycle(self, stuck: Sequence[Item]) -> None:
        inside = {item.index for item in stuck}
        walk = stuck[0]
        seen: list[Item] = []
        while walk not in seen:
            seen.append(walk)
            names = (*(name for name, _ in walk.node.inputs), *walk.node.control_inputs)
            walk = next(self.by_name[name] for name in names if self.by_name[name].index in inside)
        cycle = [item.name for item in seen[seen.index(walk) :]]
        error = errors.InvalidArgumentError(
            None,
            None,
            f"The graph has a cycle that no NextIteration closes: {' <- '.join([*cycle, cycle[0]])}. "
            "Only tf.while_loop may lead back to an earlier node.",
        )
        error.attach(walk.node)
        raise error

    def _lay_out(self) -> None:
        for item in self.items:
            frame = item.frame
            item.local = len(frame.items)
            item.start = frame.slots
            item.end = frame.slots = item.start + item.n_inputs
            frame.items.append(item)
            # A Merge waits for its control inputs and one live input: bit 0 stands for the latter.
            frame.pending.append(
                2 * item.n_control + 1 if item.flow == MERGE else item.n_inputs + item.n_control
            )

    def describe(self, item: Item) -> dict[str, Any]:
        """Plain facts about an item, for views."""
        return {
            "name": item.name,
            "type": item.node.type,
            "frame": item.frame.name,
            "inputs": [f"{name}:{output}" for name, output in item.node.inputs],
            "control_inputs": list(item.node.control_inputs),
        }
