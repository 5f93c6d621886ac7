"""What a node's card says of stages: what changed and why, why the node is where it is, and what its transfer moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engine.observe import Transfer
from engine.passes.stage import StageNode
from viz import format as fmt
from viz.devices_model import plain_tensor
from viz.node_card import Card, CardRow
from viz.stage_diff import NodeChange

_COMPANY = 6


def with_stages(
    card: Card, node: StageNode, change: NodeChange | None, transfers: Iterable[Transfer] = ()
) -> Card:
    """`card` with sections on the node's change, its transfer, and its placement."""
    first, *rest = card.sections
    sections = []
    if change is not None:
        sections.append((" and ".join(each.word for each in change.changes), tuple(_change_rows(change))))
    sections.append(first)
    if node.type in ("_Send", "_Recv"):
        sections.append(("transfer", tuple(_transfer_rows(node, transfers))))
    if node.decision is not None:
        sections.append(("placement", tuple(_placement_rows(node))))
    return replace(card, sections=(*sections, *rest))


def _change_rows(change: NodeChange) -> Iterable[CardRow]:
    yield from (CardRow("now in", name, "", name) for name in change.into)
    yield from (CardRow("", detail, whole=True) for detail in change.details)
    yield from (CardRow(stage.removeprefix("optimized/"), text, whole=True) for stage, text in change.reasons)
    if change.sources != (change.name,):
        yield from (CardRow("from", name, "", name) for name in change.sources)


def _transfer_rows(node: StageNode, transfers: Iterable[Transfer]) -> Iterable[CardRow]:
    source, destination = node.attrs["send_device"], node.attrs["recv_device"]
    tensor = str(node.attrs["tensor_name"])
    yield CardRow("tensor", plain_tensor(tensor))
    yield CardRow("way", f"{fmt.device(source)} → {fmt.device(destination)}")
    mine = [
        each
        for each in transfers
        if (each.source, each.destination) == (source, destination) and each.key.split(";")[3:4] == [tensor]
    ]
    live = [each for each in mine if not each.dead]
    if live:
        took = sum(each.received_ns - each.sent_ns for each in live) / len(live)
        times = "" if len(live) == 1 else f"{fmt.plural(len(live), 'time')}, "
        yield CardRow(
            "moved",
            times + fmt.nbytes(sum(each.nbytes for each in live)),
            f"received {fmt.duration(took)} after it was sent",
        )
    elif mine:
        yield CardRow("moved", "nothing", "it was dead")


def _placement_rows(node: StageNode) -> Iterable[CardRow]:
    decision = node.decision
    assert decision is not None
    if decision.requested:
        yield CardRow("asked for", decision.requested)
    yield CardRow("possible", ", ".join(map(fmt.device, decision.possible)))
    for device, ns in sorted(decision.finish_ns.items(), key=lambda each: each[1]):
        yield CardRow("would end", f"{fmt.device(device)} {fmt.duration(ns)}", "predicted")
    company = [name for name in decision.colocated_with if name != node.name]
    for name in company[:_COMPANY]:
        yield CardRow("with", name, "", name)
    if len(company) > _COMPANY:
        yield CardRow("", f"and {len(company) - _COMPANY} more")
    if decision.reason:
        yield CardRow("because", decision.reason, whole=True)
