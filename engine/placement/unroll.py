"""Unroll: a stage as the executions of one step, loops run out, each execution with those that it waits for.

How often a loop goes round, and which way a conditional does, is assumed (`Assumptions`).  What is then dead takes no time in an
executor, so it is left out.  A tagged execution is that of Arvind's U-interpreter: a node, and the iteration of each loop around
it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from engine.passes.stage import Stage, StageNode
from engine.placement.assumptions import Assumptions
from engine.placement.flow import Flow

Tag = tuple[int, ...]
_PASSING = ("Identity", "Enter", "Exit")  # what a predicate may have gone through


@dataclass(slots=True, eq=False)
class Execution:
    """One execution of `node`, in iteration `tag` of the loops around it (outermost first).

    `index` counts executions so that each comes after what it waits for, `rank` in the order of the stage's nodes.
    `inputs` are (execution, output slot, input slot), `waits` those it has control edges from; `readers` lead the other way, each
    execution once.  A Merge has the inputs that are alive.
    """

    index: int
    rank: int
    node: StageNode
    tag: Tag
    inputs: list[tuple[Execution, int, int]] = field(default_factory=list)
    waits: list[Execution] = field(default_factory=list)
    readers: list[Execution] = field(default_factory=list)

    @property
    def sources(self) -> list[Execution]:
        """The executions that this one reads or waits for, each once."""
        return list(dict.fromkeys((*(source for source, _, _ in self.inputs), *self.waits)))


Key = tuple[str, Tag]


class _Unrolling:
    """`done` has every execution by its node's name and its tag; None for one that is dead."""

    def __init__(self, stage: Stage, flow: Flow, assumptions: Assumptions) -> None:
        self.nodes = stage.nodes
        self.flow = flow
        self.assumptions = assumptions
        self.done: dict[Key, Execution | None] = {}
        self.alive: list[Execution] = []
        self.position = {name: i for i, name in enumerate(stage.nodes)}

    def run(self) -> list[Execution]:
        """All live executions, each after those that it waits for."""
        for name in self.flow.order:
            counts = [range(self._count(frame) + 1) for frame in self.flow.frames[name]]
            for tag in itertools.product(*counts):
                self._reach((name, tag))
        ranked = sorted(self.alive, key=lambda each: (self.position[each.node.name], each.tag))
        for rank, execution in enumerate(ranked):
            execution.rank = rank
        for execution in ranked:
            execution.readers.sort(key=lambda each: each.rank)
        return self.alive

    def _reach(self, key: Key) -> None:
        """Execute `key`, after all that it waits for."""
        stack = [key]
        while stack:
            top = stack[-1]
            missing = [before for before in self._before(top) if before not in self.done]
            if missing:
                stack += missing
            else:
                stack.pop()
                if top not in self.done:
                    self.done[top] = self._execute(*top)

    def _before(self, key: Key) -> list[Key]:
        name, tag = key
        node = self.nodes[name]
        sources = (*(source for source, _ in node.inputs), *node.control_inputs)
        found = (self._origin(source, tag) for source in sources)
        return [before for before in found if before is not None]

    def _count(self, frame: str) -> int:
        return self.assumptions.loops.get(frame, self.assumptions.iterations)

    def _execute(self, name: str, tag: Tag) -> Execution | None:
        node = self.nodes[name]
        flow = node.opdef.flow
        if flow == "exit" and tag and tag[-1] != self._count(self.flow.frames[name][-1]):
            return None
        inputs: list[tuple[Execution, int, int]] = []
        for slot, (source, output) in enumerate(node.inputs):
            found = self._find(source, output, tag)
            if found is not None:
                inputs.append((found, output, slot))
            elif flow != "merge":
                return None
        if flow == "merge" and not inputs:
            return None
        waits = [self._find(source, -1, tag) for source in node.control_inputs]
        if None in waits and (flow != "control_trigger" or not any(waits)):
            return None
        made = Execution(len(self.alive), 0, node, tag, inputs, [each for each in waits if each is not None])
        self.alive.append(made)
        for before in made.sources:
            before.readers.append(made)
        return made

    def _origin(self, source: str, tag: Tag) -> Key | None:
        """The execution of `source` whose output comes to a reader in iteration `tag`; None if none does."""
        node = self.nodes[source]
        frames = self.flow.frames[source]
        match node.opdef.flow:
            case "enter":
                if tag and tag[-1] and not node.attrs["is_constant"]:
                    return None
            case "exit" if frames:
                tag = (*tag, self._count(frames[-1]))
            case "next_iteration":
                if not tag or tag[-1] == 0:
                    return None
                tag = (*tag[:-1], tag[-1] - 1)
        return source, tag[: len(frames)]

    def _find(self, source: str, output: int, tag: Tag) -> Execution | None:
        """The live execution whose output (-1: whose end) comes from `source` to a reader in iteration `tag`, or None."""
        key = self._origin(source, tag)
        found = self.done[key] if key is not None else None
        if found is not None and found.node.opdef.flow == "switch" and output >= 0:
            taken = self._taken(found.node, found.tag)
            if taken is not None and taken is not bool(output):
                return None
        return found

    def _taken(self, switch: StageNode, tag: Tag) -> bool | None:
        """Which output of `switch` is alive; None: both are assumed to be."""
        name, slot = switch.inputs[1]
        predicate = self.nodes[name]
        if predicate.opdef.flow == "loop_cond":
            return tag[-1] < self._count(self.flow.frames[switch.name][-1]) if tag else None
        while f"{name}:{slot}" not in self.assumptions.taken and predicate.type in _PASSING:
            name, slot = predicate.inputs[0]
            predicate = self.nodes[name]
        return self.assumptions.taken.get(f"{name}:{slot}")


def unroll(stage: Stage, flow: Flow, assumptions: Assumptions) -> list[Execution]:
    """The executions of one step of `stage`, each after those that it waits for."""
    return _Unrolling(stage, flow, assumptions).run()
