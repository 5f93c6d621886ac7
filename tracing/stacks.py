"""What stacks and arrays of tensors hold: which node put each element there, and which took it out.

A gradient's stack keeps what a forward value was in each iteration of a loop, for the backward loop to read, the last first.
`stack_use` says of a stack's node which value that is and which nodes read it; `recorded_contents` replays a step's resource
writes, so that `Contents.after(row)` is what a stack or array held once that execution was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from engine.observe import Executions, Health, ResourceWrite
from engine.passes.stage import Stage, StageNode
from engine.types.dtypes import as_dtype
from engine.types.site import Frame
from tracing.frames import flow_of

_STACK, _ARRAY = "stack", "tensor array"
_KINDS = {"StackV2": _STACK, "Stack": _STACK, "TensorArrayV3": _ARRAY, "TensorArrayGradV3": _ARRAY}
# Ops that pass a handle on: it comes out as it went in.
_PASSING = ("enter", "switch", "merge", "next_iteration", "exit")
_PASSES = ("Identity", "RefIdentity")


class Access(NamedTuple):
    """An execution that changed a stack or array: its number, node, frame (by id) and iteration."""

    row: int
    node: str
    frame: int
    iteration: int


class ElementHealth(NamedTuple):
    """How an element looked; the fields are those of `engine.observe.Health`, `dtype` by name."""

    dtype: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean: float
    nan: int
    inf: int


@dataclass(frozen=True, slots=True)
class Element:
    """One element: `index` counts from the bottom of a stack, or is its index in an array.

    `taken` is the execution that popped it, cleared it after reading, wrote over it, or closed the whole; None if it stayed.
    `text` is its dtype with its shape, or its value if it is a scalar.  `health` is there from level VALUES on, where the element
    is one node's output.
    """

    index: int
    put: Access
    taken: Access | None
    nbytes: int
    text: str
    health: ElementHealth | None = None

    def is_there(self, row: int) -> bool:
        """Whether it is held once execution `row` is done."""
        return self.put.row <= row and (self.taken is None or self.taken.row > row)


@dataclass(frozen=True, slots=True)
class StackUse:
    """What a stack or array is for, told from the graph.

    node: what makes it.  keeps: the tensors whose values are put into it.  writers and readers: the nodes that do.  original: the
    forward node for whose gradient it is kept, or ''.  site: the user's line that made the kept value.
    """

    node: str
    kind: str
    keeps: tuple[str, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    original: str = ""
    site: Frame | None = None


@dataclass(frozen=True)
class Contents:
    """A stack or array in a step, with every element that it ever held, in the order in which they were put there.

    `resource` is its name in the session (that of its node, and the frame id and iteration in which it was made).
    """

    resource: str
    kind: str
    use: StackUse | None
    elements: tuple[Element, ...]

    def after(self, row: int) -> tuple[Element, ...]:
        """What it held once execution `row` was done: of a stack from the top, of an array by index."""
        held = [each for each in self.elements if each.is_there(row)]
        return tuple(sorted(held, key=lambda each: -each.index if self.kind == _STACK else each.index))

    @property
    def most(self) -> int:
        """The greatest number of elements that it held at a time."""
        changes = [(each.put.row, 1) for each in self.elements]
        changes += [(each.taken.row, -1) for each in self.elements if each.taken is not None]
        size = most = 0
        for _, by in sorted(changes):
            size += by
            most = max(most, size)
        return most


def stack_use(stage: Stage, name: str) -> StackUse:
    """What the stack or array that node `name` makes is for.  Raises KeyError for an unknown node."""
    node = stage.nodes[name]
    kind = _KINDS.get(node.type, node.type)
    keeps: dict[str, None] = {}
    writers: dict[str, None] = {}
    readers: dict[str, None] = {}
    for user in _holders(stage, node):
        if user.type.startswith("StackPush"):
            writers[user.name] = None
            keeps[kept_value(stage, *user.inputs[1])] = None
        elif user.type.startswith(("TensorArrayWrite", "TensorArrayScatter", "TensorArraySplit")):
            writers[user.name] = None
            keeps[kept_value(stage, *user.inputs[2 if user.type.startswith("TensorArrayW") else -2])] = None
        elif user.type.startswith(("StackPop", "TensorArrayRead", "TensorArrayGather", "TensorArrayConcat")):
            readers[user.name] = None
    sites = [stage.nodes[tensor.rpartition(":")[0]].site for tensor in keeps]
    site = next((site.user for site in sites if site is not None), None)
    return StackUse(name, kind, tuple(keeps), tuple(writers), tuple(readers), node.original, site)


def kept_value(stage: Stage, name: str, slot: int) -> str:
    """The tensor behind `name:slot` once Switches and Identities, which change no value, are seen through."""
    node = stage.nodes[name]
    while (flow_of(node) == "switch" or node.type in _PASSES) and node.inputs[0][0] in stage.nodes:
        source = stage.nodes[node.inputs[0][0]]
        if flow_of(source) in ("merge", "enter") or (flow_of(source) == "switch" and node.type in _PASSES):
            break  # the Identity of a loop's variable is how its value is called in the body
        name, slot = node.inputs[0]
        node = source
    return f"{name}:{slot}"


def _holders(stage: Stage, maker: StageNode) -> Iterable[StageNode]:
    """The nodes that get the handle which `maker` makes."""
    seen = {maker.name}
    queue = [maker.name]
    while queue:
        name = queue.pop()
        for user in stage.consumers[name]:
            node = stage.nodes[user]
            if user in seen or not any(source == name for source, _ in node.inputs):
                continue
            if flow_of(node) in _PASSING or node.type in _PASSES:
                seen.add(user)
                queue.append(user)
            elif node.inputs[0][0] == name:
                seen.add(user)
                yield node


class Resources:
    """The stacks and arrays of a stage by the names that their makers give them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._makers: dict[str, str] = {}
        self._uses: dict[str, StackUse] = {}
        for node in stage:
            if node.type in _KINDS:
                self._makers[_given_name(stage, node)] = node.name

    def use_of(self, resource: str) -> StackUse | None:
        """What the resource of that name is for; None if the stage does not tell.

        The name is ``NAME/FRAME/ITERATION``, of the array of a gradient ``NAME/FRAME/ITERATION@SOURCE``.
        """
        name, at, source = resource.partition("@")
        maker = self._makers.get(name.rsplit("/", 2)[0] + at + source)
        if maker is None:
            return None
        found = self._uses.get(maker)
        if found is None:
            found = self._uses[maker] = stack_use(self._stage, maker)
        return found


def _given_name(stage: Stage, maker: StageNode) -> str:
    """What the resource that `maker` makes is called, without the frame and iteration."""
    if maker.type == "TensorArrayGradV3":
        array = stage.nodes[maker.inputs[0][0]]
        while (flow_of(array) in _PASSING or array.type in _PASSES) and array.inputs:
            array = stage.nodes[array.inputs[0][0]]
        return f"{_given_name(stage, array)}@{maker.attrs.get('source', '')}"
    return str(maker.attrs.get("stack_name") or maker.attrs.get("tensor_array_name") or maker.name)


def recorded_contents(
    stage: Stage, executions: Executions, writes: Sequence[ResourceWrite], health: Health
) -> tuple[Contents, ...]:
    """Every stack and array that a recorded step wrote to, in the order of their first writes.

    Of a run whose schema is 1, arrays are not there: which element a write changed was not recorded.
    """
    known = Resources(stage)
    looks = _Looks(stage, executions, health)
    held: dict[tuple[str, str], _Held] = {}
    for write in writes:
        if write.kind not in ("push", "pop", "close") and write.key < 0:
            continue
        key = write.container, write.resource
        found = held.get(key)
        if found is None:
            found = held[key] = _Held(write.resource, _ARRAY if write.key >= 0 else _STACK)
        found.take(write, Access(write.row, stage.order[write.node], write.frame, write.iteration), looks)
    return tuple(each.contents(known) for each in held.values())


class _Held:
    """A stack or array while its writes are gone through."""

    def __init__(self, resource: str, kind: str) -> None:
        self.resource = resource
        self.kind = kind
        self.elements: list[Element] = []
        self.stack: list[int] = []  # places in `elements`
        self.items: dict[int, int] = {}

    def take(self, write: ResourceWrite, by: Access, looks: _Looks) -> None:
        if write.kind == "push":
            self._put(len(self.stack), write, by, looks)
            self.stack.append(len(self.elements) - 1)
        elif write.kind == "pop":
            if self.stack:
                self._taken(self.stack.pop(), by)
        elif write.kind == "close":
            for place in (*self.stack, *self.items.values()):
                self._taken(place, by)
            self.stack.clear()
            self.items.clear()
        else:
            before = self.items.pop(write.key, None)
            if before is not None:
                self._taken(before, by)
            if write.kind != "clear":
                self._put(write.key, write, by, looks)
                self.items[write.key] = len(self.elements) - 1

    def _put(self, index: int, write: ResourceWrite, by: Access, looks: _Looks) -> None:
        look = looks.of(by)
        if look is not None and self.kind == _ARRAY and not write.summary.startswith(look.dtype):
            look = None
        self.elements.append(Element(index, by, None, write.nbytes, write.summary, look))

    def _taken(self, place: int, by: Access) -> None:
        self.elements[place] = replace(self.elements[place], taken=by)

    def contents(self, known: Resources) -> Contents:
        return Contents(self.resource, self.kind, known.use_of(self.resource), tuple(self.elements))


class _Looks:
    """The health of what an execution put into a stack or array."""

    def __init__(self, stage: Stage, executions: Executions, health: Health) -> None:
        self._stage = stage
        self._health = health
        self._at = {key: i for i, key in enumerate(zip(health.row.tolist(), health.slot.tolist()))}
        self._rows: dict[tuple[int, int, int], int] = {}
        if len(health):
            self._number = {name: i for i, name in enumerate(stage.order)}
            places = zip(executions.node.tolist(), executions.frame.tolist(), executions.iteration.tolist())
            self._rows = {place: row for row, place in enumerate(places)}

    def of(self, by: Access) -> ElementHealth | None:
        if not self._rows:
            return None
        node = self._stage.nodes[by.node]
        if node.type.startswith("StackPush"):  # which gives what it pushes
            return self._output(by.row, 0)
        if node.type.startswith("TensorArrayWrite"):
            source, slot = node.inputs[2]
            row = self._rows.get((self._number[source], by.frame, by.iteration))
            return self._output(row, slot) if row is not None else None
        return None

    def _output(self, row: int, slot: int) -> ElementHealth | None:
        i = self._at.get((row, slot))
        if i is None:
            return None
        h: Any = self._health
        numbers = (float(h.minimum[i]), float(h.maximum[i]), float(h.mean[i]), int(h.nan[i]), int(h.inf[i]))
        return ElementHealth(as_dtype(int(h.dtype[i])).name, h.shapes[i], *numbers)
