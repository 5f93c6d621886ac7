"""Stages as they are drawn: what is sent joined with what receives it, two laid over each other, devices as colours."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from engine.observe import Transfer
from engine.passes.stage import Stage, StageNode
from viz import format as fmt
from viz.cells import Line
from viz.devices_model import plain_tensor
from viz.draw_stages import colour_of
from viz.graph_model import ROOT, Level, ScopeTree
from viz.palette import Palette
from viz.scope_colours import ScopeColours
from viz.stage_diff import Change, NodeChange, StageDiff

Key = tuple[str, str, str]


def transfer_key(node: StageNode) -> Key | None:
    """What a `_Send` and its `_Recv` have in common: from, to, which tensor; None for another node."""
    if node.type not in ("_Send", "_Recv"):
        return None
    return node.attrs["send_device"], node.attrs["recv_device"], node.attrs["tensor_name"]


def static_bytes(node: StageNode) -> int | None:
    """The size of what a `_Recv` receives, if its shape says it."""
    if not node.output_shapes or not node.output_dtypes:
        return None
    elements = node.output_shapes[0].num_elements()
    kind = np.dtype(node.output_dtypes[0].base_dtype.as_numpy_dtype)
    return None if elements is None or kind.hasobject else elements * kind.itemsize


def joined(stage: Stage) -> Stage:
    """`stage` with an edge from each `_Send` to its `_Recv`, so that a drawing shows the transfer; the same if it has none."""
    sends = {transfer_key(node): node.name for node in stage if node.type == "_Send"}
    if not sends:
        return stage
    nodes = dict(stage.nodes)
    for node in stage:
        if node.type == "_Recv" and transfer_key(node) in sends:
            nodes[node.name] = replace(node, inputs=((sends[transfer_key(node)], 0),))
    return _with(stage, nodes)


def transfer_notes(stage: Stage, transfers: Iterable[Transfer] = ()) -> dict[str, str]:
    """What to write beside each `_Send` and `_Recv`: where to or from, and the bytes, as measured or as shapes have them."""
    sizes: dict[Key | None, int | None] = {
        transfer_key(node): static_bytes(node) for node in stage if node.type == "_Recv"
    }
    moved: dict[Key | None, int | None] = {}
    for each in transfers:
        key = each.source, each.destination, each.key.split(";")[3]
        moved[key] = (moved.get(key) or 0) + each.nbytes
    sizes.update(moved)
    notes: dict[str, str] = {}
    for node in stage:
        way = transfer_key(node)
        if way is not None:
            size = sizes.get(way)
            device = "⇢ " + fmt.device(way[1]) if node.type == "_Send" else "⇠ " + fmt.device(way[0])
            notes[node.name] = device + (f" {fmt.nbytes(size)}" if size is not None else "")
    return notes


def transfer_name(node: StageNode) -> str:
    """The tensor that a `_Send` or `_Recv` is about."""
    return plain_tensor(str(node.attrs["tensor_name"]))


def union(diff: StageDiff) -> Stage:
    """The later stage with the nodes of the earlier one that are gone, reading what has come of what they read."""
    after = joined(diff.after)
    nodes = dict(after.nodes)
    gone = {change.name for change in diff.changes.values() if change.is_gone and change.name not in nodes}
    became = {change.name: change.into[0] for change in diff.changes.values() if change.into}
    there = nodes.keys() | gone

    def now(name: str) -> str | None:
        return name if name in there else became.get(name)

    for name, node in diff.before.nodes.items():
        if name in gone:
            inputs = tuple(
                (found, slot) for source, slot in node.inputs if (found := now(source)) is not None
            )
            control = tuple(
                dict.fromkeys(found for source in node.control_inputs if (found := now(source)) is not None)
            )
            nodes[name] = replace(node, inputs=inputs, control_inputs=control)
    return _with(diff.after, nodes)


def _with(stage: Stage, nodes: dict[str, StageNode]) -> Stage:
    """The same stage with other nodes."""
    found = copy.copy(stage)
    for derived in ("order", "consumers", "devices", "successors"):
        found.__dict__.pop(derived, None)
    found.__dict__["nodes"] = MappingProxyType(nodes)
    return found


class DeviceColours(ScopeColours):
    """A hue for each device, under the interface of `ScopeColours`; a scope on several devices is neutral."""

    tints_ops = True

    def __init__(self, tree: ScopeTree) -> None:
        self.tree = tree
        counts = Counter(node.device for node in tree.stage)
        self.counts: dict[str, int] = {device: counts[device] for device in tree.stage.devices}
        self._index = {device: i for i, device in enumerate(sorted(self.counts))}
        self._of: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index)

    def of(self, name: str) -> int:
        if name not in self._of:
            nodes = self.tree.stage.nodes
            key = name if name in self.tree else name + "/"
            found = {nodes[each].device for each in self.tree.names_in(key)} if key in self.tree else set()
            self._of[name] = self._index[found.pop()] if len(found) == 1 else -1
        return self._of[name]

    def label(self, index: int) -> str:
        return fmt.device(self.names[index]) if 0 <= index < len(self._index) else "several"


def device_legend(colours: DeviceColours, transfers: str, palette: Palette) -> Line:
    """``■ CPU:0 64 nodes  ■ CPU:1 46 nodes   13 transfers, 48.3 KiB``."""
    line: Line = [(" ", palette.dim)]
    for index, device in enumerate(colours.names):
        line += [
            ("■ ", palette.style(palette.hue(index))),
            (fmt.device(device), palette.plain),
            (f" {fmt.count(colours.counts[device])}  ", palette.dim),
        ]
    return [*line, (transfers, palette.quiet)]


def badges(
    level: Level, tree: ScopeTree, changes: Mapping[str, NodeChange], palette: Palette
) -> dict[str, Line]:
    """For each item of a level what has changed in it: letters, and for scopes how many nodes of each."""
    found: dict[str, Line] = {}
    for item in level.items:
        if item.target not in tree or item.target == ROOT:
            continue
        names = tree.names_in(item.target)
        counts = Counter(change for name in names if name in changes for change in changes[name].changes)
        line: Line = []
        for change in Change:
            if counts[change]:
                number = "" if len(names) == 1 else f"{counts[change]:,}"
                line.append(
                    (f" {change.value}{number}", palette.style(colour_of(change, palette), bold=True))
                )
        if line:
            found[item.key] = line
    return found
