"""Swap: tensors that a full device does not need for a while wait in the host's memory.

For every device with memory of its own: while the peak that `engine.passes.memory` estimates is above 85 % of its memory (or
above `RewriterConfig.memory_budget_bytes`, if that is set), the tensor is looked for that is alive at the peak, is not read
there, is read later, and whose absence lowers the peak most.  ``swap_out/<name>``, an Identity on the host, copies it out;
``swap_in/<name>``, an Identity on the device, copies it back, once what its first later reader waits for beside it is there.  The
copies themselves are the partitioner's, as for any tensor that crosses devices.

Rhu et al., "vDNN: Virtualized Deep Neural Networks for Scalable, Memory-Efficient Neural Network Design" (2016); TensorFlow's
memory optimizer has the same, under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.passes.facts import ALWAYS, ROOT, Facts
from engine.passes.memory import Item, Model, Peak
from engine.passes.rewrite import Draft, Edge
from engine.passes.settings import MemOptType

_WANTED = (MemOptType.DEFAULT_MEM_OPT, MemOptType.HEURISTICS, MemOptType.SWAPPING_HEURISTICS)
_USABLE = 0.85  # of a device's memory: the rest is for what kernels need to work in
_TRIED = 12  # tensors, largest first, for each step down


@dataclass(frozen=True, slots=True)
class _Plan:
    """A tensor to swap: the inputs (reader, slot) that come after, and what its return waits for."""

    edge: Edge
    nbytes: int
    readers: tuple[tuple[str, int], ...]
    triggers: tuple[str, ...]


def run(draft: Draft, facts: Facts) -> None:
    options = facts.settings.rewriter
    if options.memory_optimization not in _WANTED:
        return
    host = next((device.name for device in facts.devices if device.on_host), None)
    for device in facts.devices:
        limit = options.memory_budget_bytes or int(_USABLE * device.memory_limit)
        if host is not None and not device.on_host and limit:
            _relieve(device, limit, host, draft, facts)


def _relieve(device: Any, limit: int, host: str, draft: Draft, facts: Facts) -> None:
    model = Model.of(draft.nodes)
    while (peak := model.peak(device.name)).nbytes > limit:
        order = {name: i for i, name in enumerate(model.order)}
        best: tuple[int, _Plan, Model] | None = None
        for plan in _plans(peak, order, draft, facts):
            after = model.changed(_copies(plan, model, host, device.name))
            nbytes = after.peak(device.name).nbytes
            if nbytes < (peak.nbytes if best is None else best[0]):
                best = nbytes, plan, after
        if best is None:
            return
        _, plan, model = best
        _apply(plan, peak, limit, host, draft)


def _plans(peak: Peak, order: dict[str, int], draft: Draft, facts: Facts) -> Iterator[_Plan]:
    moment = order[peak.at]
    tried = 0
    for edge, nbytes in peak.alive:
        name = edge[0]
        node = draft.nodes[name]
        if order[name] >= moment or _names(edge)[0] in draft.nodes or name.startswith("swap_in/"):
            continue
        if node.opdef.flow or facts.frame(name) != ROOT or facts.alive(name) != ALWAYS:
            continue
        readers = draft.readers(edge)
        later = tuple(reader for reader in readers if order[reader[0]] > moment)
        if not later or any(order[reader] == moment for reader, _ in readers):
            continue
        first = draft.nodes[min((reader for reader, _ in later), key=order.__getitem__)]
        waited = (*(source for source, _ in first.inputs), *first.control_inputs)
        triggers = tuple(dict.fromkeys(each for each in waited if each != name and order[each] > moment))
        if triggers:
            yield _Plan(edge, nbytes, later, triggers)
            tried += 1
            if tried == _TRIED:
                return


def _names(edge: Edge) -> tuple[str, str]:
    name = f"{edge[0]}_{edge[1]}" if edge[1] else edge[0]
    return f"swap_out/{name}", f"swap_in/{name}"


def _copies(plan: _Plan, model: Model, host: str, device: str) -> dict[str, Item]:
    """What the plan changes in the model."""
    out, back = _names(plan.edge)
    found = {
        out: Item((plan.edge,), (), (plan.nbytes,), device=host),
        back: Item(((out, 0),), plan.triggers, (plan.nbytes,), device=device),
    }
    for name, _ in plan.readers:
        mine = found.get(name, model.items[name])
        found[name] = replace(
            mine, inputs=tuple((back, 0) if edge == plan.edge else edge for edge in mine.inputs)
        )
    return found


def _apply(plan: _Plan, peak: Peak, limit: int, host: str, draft: Draft) -> None:
    name, slot = plan.edge
    node = draft.nodes[name]
    shape = [node.output_shapes[slot]]
    reason = (
        f"'{name}' ({plan.nbytes} bytes) waits in the host's memory: {node.device} would need {peak.nbytes} bytes while "
        f"'{peak.at}' runs, and has {limit}"
    )
    out, back = _names(plan.edge)
    out = draft.add(
        "Identity", [plan.edge], {}, like=node, name=out, sources=[name], reason=reason, output_shapes=shape
    )
    draft.replace(out, device=host, decision=None, reason=reason)
    back = draft.add(
        "Identity",
        [(out, 0)],
        {},
        like=node,
        name=back,
        sources=[name],
        reason=reason,
        control_inputs=plan.triggers,
        output_shapes=shape,
    )
    for reader in dict.fromkeys(reader for reader, _ in plan.readers):
        inputs = [(back, 0) if edge == plan.edge else edge for edge in draft.nodes[reader].inputs]
        draft.replace(reader, inputs=inputs, reason=f"reads what was swapped: {reason}")
