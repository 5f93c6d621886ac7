"""The greedy placement of TensorFlow's white paper (§3.2.1; Abadi et al., 2015, arXiv:1603.04467).

The step is simulated from its sources on.  Each node that becomes ready is tried on every device that it may be on: when would
it finish there, with what that device has to do already and with the time for its inputs to get there?  It goes where it would
finish soonest, and takes the nodes that it is colocated with along.  What is at hand when the step begins (a constant, a variable
that nobody has placed yet) goes with the first node that reads it, if it may.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.placement.constraints import Constraints, Group
from engine.placement.timeline import Timeline, edges
from engine.placement.unroll import Execution


class Greedy:
    """Chooses devices for a `Timeline`; `finish_ns` and `reasons`, by node, say what it saw.

    With `fixed`, a device for every node, it chooses nothing, and only looks.
    """

    def __init__(self, constraints: Constraints, fixed: Mapping[str, str] | None = None) -> None:
        self._groups = constraints.group
        self._fixed = fixed
        self.finish_ns: dict[str, dict[str, float]] = {}
        self.reasons: dict[str, str] = {}

    def __call__(self, timeline: Timeline, execution: Execution, now: float) -> None:
        name = execution.node.name
        if name not in self.finish_ns:
            group = self._groups[name]
            estimates = {
                device: timeline.finish_ns(execution, device, self._arrival(timeline, execution, device, now))
                for device in group.possible
            }
            self.finish_ns[name] = estimates
            if name not in timeline.place:
                best = self._home(name, min(estimates, key=lambda device: estimates[device]))
                self.reasons[name] = _why(estimates, best)  # of equals it is the first, which is preferred
                self._settle(
                    timeline, group, best, f"it goes with '{name}', with which it must be on one device"
                )
        for source in execution.sources:
            if source.node.name not in timeline.place:
                home = self._home(source.node.name, timeline.place[name])
                reason = f"it goes with '{name}', the first that reads it"
                self._settle(timeline, self._groups[source.node.name], home, reason)

    def _arrival(self, timeline: Timeline, execution: Execution, device: str, now: float) -> float:
        """When all inputs of `execution` would be on `device`."""
        latest = now
        for edge in edges(execution):
            name = edge[0].node.name
            home = timeline.place.get(name) or self._home(name, device)
            latest = max(latest, timeline.expected_ns(execution, edge, home, device))
        return latest

    def _home(self, name: str, device: str) -> str:
        """`device`, if the node may be there."""
        if self._fixed is not None:
            return self._fixed[name]
        possible = self._groups[name].possible
        return device if device in possible else possible[0]

    def _settle(self, timeline: Timeline, group: Group, device: str, reason: str) -> None:
        """Put all of `group` on `device`."""
        for name in group.members:
            timeline.place[name] = device
            self.reasons.setdefault(name, reason)


def _why(estimates: dict[str, float], best: str) -> str:
    if len(estimates) == 1:
        return "it is the only device that this node may be on"
    others = {device: ns for device, ns in estimates.items() if device != best}
    second = min(others, key=lambda device: others[device])
    if others[second] == estimates[best]:
        return f"it would finish as soon there as on {_short(second)}, which is preferred less"
    return f"it would finish there first, {(others[second] - estimates[best]) / 1e3:.4g} µs before {_short(second)}"


def _short(device: str) -> str:
    return device[device.find("/device:") :]
