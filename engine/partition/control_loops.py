"""The control loop that every device but one needs for a loop that is spread over several.

A device that only computes in a loop's body sees no Merge and no NextIteration: nothing tells it that there is another iteration,
and its receives would run once.  So every participant gets a small loop of its own, as in Yu et al., section 4.4:

    Const → Enter → Merge → Switch ⇄ NextIteration        with the Switch driven by the loop's LoopCond, which is sent to each

Its Merge runs once an iteration.  Every receive in the frame waits for it, and so belongs to that frame and iteration.  In nested
loops, the outer control loop's Merge feeds the inner one's Enter.  (TensorFlow: `AddControlFlow` in graph_partition.cc.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from engine.passes.rewrite import Draft
from engine.passes.stage import StageNode
from engine.types import dtypes, errors
from engine.types.shape import TensorShape

Path = tuple[str, ...]  # the names of the loops around a node, outermost first
_EMPTY = np.zeros((0,), np.float32)
_EMPTY.setflags(write=False)
_SHAPE = TensorShape.of((0,))


class ControlLoops:
    """Adds control loops to a draft; `pivot(path, device)` is the Merge of one."""

    def __init__(self, draft: Draft, frames: dict[str, Path]) -> None:
        self._draft = draft
        self._frames = frames
        self._pivots: dict[tuple[Path, str], str] = {}
        self._inside: dict[Path, list[StageNode]] = {}
        self._parallel: dict[Path, int] = {}  # what the loop's own Enters allow
        for name, path in frames.items():
            node = draft.nodes[name]
            if path:
                self._inside.setdefault(path, []).append(node)
            if node.opdef.flow == "enter":
                self._parallel.setdefault(
                    (*path, node.attrs["frame_name"]), int(node.attrs["parallel_iterations"])
                )

    def pivot(self, path: Path, device: str) -> str | None:
        """The node on `device` that runs once in each iteration of the frame; None for the root."""
        return self._pivots.get((path, device))

    def add(self, crossings: Iterable[tuple[Path, str]]) -> None:
        """Add the control loops that are needed; `crossings` are (frame, device) wherever an edge leads to another device.

        Raises InvalidArgumentError for a frame over several devices that has no LoopCond.
        """
        needed = {(path, device) for path, device in crossings if path}
        for path, nodes in self._inside.items():
            devices = {node.device for node in nodes}
            if len(devices) > 1:
                home = self._condition(path).device
                needed.update((path, device) for device in devices if device != home)
        for path, device in list(needed):
            needed.update((path[:depth], device) for depth in range(1, len(path)))
        for path, device in sorted(needed, key=lambda each: (len(each[0]), each)):
            self._pivots[path, device] = self._add_one(path, device)

    def _condition(self, path: Path) -> StageNode:
        nodes = self._inside.get(path, [])
        for node in nodes:
            if node.opdef.flow == "loop_cond":
                return node
        error = errors.InvalidArgumentError(
            None,
            None,
            f"The loop '{path[-1]}' is on several devices and has no LoopCond, which would tell each of them when to go on. "
            "Put all of it on one device, or make it with tf.while_loop.",
        )
        if nodes:
            error.attach(nodes[0])
        raise error

    def _add_one(self, path: Path, device: str) -> str:
        draft = self._draft
        condition = self._condition(path)
        short = device.rpartition("device:")[2]
        scope = f"{path[-1]}/_control/{short.replace(':', '_')}"
        home = condition.device.rpartition("device:")[2]
        why = f"keeps {short} in step with the loop '{path[-1]}', whose condition is on {home}"

        def add(kind: str, inputs: list[tuple[str, int]], inside: Path, **attrs: object) -> str:
            name = draft.add(
                kind,
                inputs,
                attrs,
                like=dataclasses.replace(condition, device=device, decision=None),
                name=f"{scope}/{kind}",
                sources=(condition.name,),
                reason=why,
                output_shapes=[TensorShape.of(())] * 2
                if kind == "Merge"
                else [_SHAPE] * (2 if kind == "Switch" else 1),
            )
            self._frames[name] = inside
            return name

        outer = path[:-1]
        start = (
            self._pivots[outer, device] if outer else add("Const", [], (), value=_EMPTY, dtype=dtypes.float32)
        )
        enter = add(
            "Enter",
            [(start, 0)],
            outer,
            frame_name=path[-1],
            parallel_iterations=self._parallel[path],
        )
        merge = add("Merge", [(enter, 0), (enter, 0)], path)
        draft.replace(merge, output_shapes=(_SHAPE, TensorShape.of(())), reason=why)
        switch = add("Switch", [(merge, 0), (condition.name, 0)], path)
        around = add("NextIteration", [(switch, 1)], path)
        draft.replace(merge, inputs=[(enter, 0), (around, 0)], reason=why)
        return merge
