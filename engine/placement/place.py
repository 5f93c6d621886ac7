"""Place: a device for every node, and the reason (the stage ``placed``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine.passes.stage import Lineage, Stage, StageNode
from engine.placement.constraints import Constraints, Group
from engine.placement.costs import Costs, StaticCosts
from engine.placement.decision import Decision
from engine.placement.flow import Flow, flow_of
from engine.placement.greedy import Greedy
from engine.placement.homes import Homes, home_of, without_initializers
from engine.placement.simple import place_simply
from engine.placement.specs import spec_of
from engine.placement.ties import is_at_the_edge, is_follower
from engine.placement.timeline import Timeline
from engine.placement.unroll import unroll
from engine.types import errors

if TYPE_CHECKING:
    from engine.device.device import Device

NAME = "placed"
STRATEGIES = ("simple", "greedy")
_log = logging.getLogger("engine.placement")


@dataclass(frozen=True, slots=True)
class PlacementOptions:
    """How to place; the names are those of `ConfigProto`.

    placement: "simple", as TensorFlow's placer, or "greedy", as the white paper's simulation.
    Raises ValueError for another word.
    """

    allow_soft_placement: bool = False
    log_device_placement: bool = False
    placement: str = "simple"

    def __post_init__(self) -> None:
        if self.placement not in STRATEGIES:
            raise ValueError(
                f"placement is one of {', '.join(map(repr, STRATEGIES))}, not {self.placement!r}"
            )

    @classmethod
    def of(cls, config: Any) -> PlacementOptions:
        """Those of a session's ConfigProto."""
        return cls(config.allow_soft_placement, config.log_device_placement, config.placement)


@dataclass(slots=True)
class _Plan:
    """Devices, reasons and predicted finishes, by node."""

    device: dict[str, str]
    reasons: Mapping[str, str]
    finish_ns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def place(
    stage: Stage,
    devices: Sequence[Device],
    options: PlacementOptions,
    costs: Costs | None = None,
    homes: Homes | None = None,
) -> Stage:
    """`stage` with a full device name and a `Decision` on every node.

    devices: those there are, the host's CPU:0 first.  costs: what predicted times are from; None: for "greedy" static costs, for
    "simple" nothing is predicted.  homes: where the session's variables are; those that this program is the first to have are
    added.  Raises InvalidArgumentError, with the nodes and lines on both sides, for what cannot be.
    """
    if homes is not None and options.placement == "greedy" and len(devices) > 1:
        _find_homes(stage, devices, options, costs, homes)
    constraints = Constraints(stage, devices, options.allow_soft_placement, homes)
    flow = flow_of(stage)
    if flow.stuck or (costs is None and (options.placement == "simple" or len(devices) == 1)):
        plan = _Plan(*place_simply(stage, constraints, flow))
    elif options.placement == "simple":
        device, reasons = place_simply(stage, constraints, flow)
        plan = _predicted(_Simulator(stage, devices, constraints, flow, costs), device, reasons)
    else:
        plan = _place_greedily(_Simulator(stage, devices, constraints, flow, costs))
    placed = _stage(stage, constraints, plan)
    if homes is not None:
        homes.update({home: node.device for node in placed if (home := home_of(node))})
    if options.log_device_placement:
        _tell(placed)
    return placed


def _find_homes(
    stage: Stage, devices: Sequence[Device], options: PlacementOptions, costs: Costs | None, homes: Homes
) -> None:
    """Where the program has variables that have no home yet: place the whole graph, and let them be where they are there.

    The first program that a session runs mostly initializes the variables, which is no reason to keep them anywhere.
    """
    if all(home_of(node) in homes for node in stage if home_of(node)):
        return
    whole = without_initializers(stage.chain()[0])
    flow = flow_of(whole)
    try:
        constraints = Constraints(whole, devices, options.allow_soft_placement, homes)
    except errors.InvalidArgumentError:
        return  # another part of the graph cannot be placed: whoever runs it will hear why
    if not flow.stuck:
        plan = _place_greedily(_Simulator(whole, devices, constraints, flow, costs))
        for node in whole:
            if home_of(node):
                homes.setdefault(home_of(node), plan.device[node.name])


class _Simulator:
    """Runs timelines of one stage, links being as fast for many tensors as for one: a choice knows only what came before it."""

    def __init__(
        self,
        stage: Stage,
        devices: Sequence[Device],
        constraints: Constraints,
        flow: Flow,
        costs: Costs | None,
    ) -> None:
        self.stage = stage
        self.devices = devices
        self.constraints = constraints
        self.flow = flow
        self.costs = (costs or StaticCosts(devices)).on(stage)
        self.executions = unroll(stage, flow, self.costs.assumptions)

    def run(self, place: dict[str, str], choose: Greedy | None = None) -> Timeline:
        return Timeline(self.executions, self.costs, self.devices, place, choose=choose).run()


def _place_greedily(simulator: _Simulator) -> _Plan:
    """The greedy placement, or all that may be on one device there, if that would be done sooner."""
    stage, constraints, flow = simulator.stage, simulator.constraints, simulator.flow
    greedy = Greedy(constraints)
    timeline = simulator.run({}, greedy)
    device, rest = place_simply(stage, constraints, flow, placed=timeline.place)
    best = _Plan(device, {**rest, **greedy.reasons}, greedy.finish_ns)
    shortest = timeline.makespan_ns
    for first in constraints.preferred:
        together, reasons = place_simply(stage, constraints, flow, first=first.name)
        makespan = simulator.run(dict(together)).makespan_ns
        if makespan < shortest:
            headline = (
                f"all that may be on {first.short_name} is: the step would take {makespan / 1e3:.4g} µs so, and "
                f"{timeline.makespan_ns / 1e3:.4g} µs with each node where it would finish soonest"
            )
            best = _predicted(simulator, together, dict.fromkeys(reasons, headline))
            shortest = makespan
    return best


def _predicted(simulator: _Simulator, device: dict[str, str], reasons: Mapping[str, str]) -> _Plan:
    """A plan for these devices, with the times at which each node would finish on each device where it could be."""
    looking = Greedy(simulator.constraints, fixed=device)
    simulator.run({}, looking)
    return _Plan(device, reasons, looking.finish_ns)


# The stage, and what is said about it.


def _stage(stage: Stage, constraints: Constraints, plan: _Plan) -> Stage:
    nodes: dict[str, StageNode] = {}
    members = {group: tuple(group.members) if len(group.members) > 1 else () for group in constraints.groups}
    for node in stage:
        group = constraints.group[node.name]
        device = plan.device[node.name]
        reason = _reason(node, group, device, plan.reasons.get(node.name, ""))
        decision = Decision(
            node.device,
            group.possible,
            plan.finish_ns.get(node.name, {}),
            members[group],
            reason,
        )
        lineage = Lineage((node.name,), NAME, reason)
        nodes[node.name] = replace(node, device=device, decision=decision, lineage=lineage)
    return stage.followed_by(NAME, nodes)


def _reason(node: StageNode, group: Group, device: str, why: str) -> str:
    """One sentence: what the program asked for, or what else decided."""
    if is_at_the_edge(node):
        return "fed values arrive on the host" if node.type == "_Arg" else "results leave from the host"
    note = group.notes.get(node.name)
    if note is not None:
        return note
    if node.device:
        if spec_of(node.device).matches(spec_of(device)) and not is_follower(node):
            return f"the program asks for {node.device}" + (f"; {why}" if len(group.possible) > 1 else "")
        if is_follower(node) and len(group.members) > 1:
            return f"it stays with its data, in one place with '{_anchor(group, node)}'"
    if group.resident:
        return f"the variable '{group.resident}' is there in every step of the session"
    asker = next((asker for asker, _ in group.askers if asker.name != node.name), None)
    if asker is not None and len(group.possible) == 1:
        return f"it must be with '{asker.name}', for which the program asks for {asker.device or device}"
    return why


def _anchor(group: Group, node: StageNode) -> str:
    return next((asker.name for asker, _ in group.askers), "") or next(
        name for name in group.members if name != node.name
    )


def _tell(stage: Stage) -> None:
    """Log where each node is, one line each, as TensorFlow's `log_device_placement` does."""
    if not _log.hasHandlers():  # nobody has set up logging: it goes to standard error all the same
        _log.addHandler(logging.StreamHandler())
    if _log.level == logging.NOTSET:
        _log.setLevel(logging.INFO)
    for node in stage:
        if not is_at_the_edge(node):
            _log.info("%s: (%s): %s", node.name, node.type, node.device)
