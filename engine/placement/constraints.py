"""Constraints: the groups of nodes that must share a device, and the devices that each group may be on.

As TensorFlow's `ColocationGraph`: union-find over the ties (`engine.placement.ties`); a group's request is what its members'
specs say together, its device types those for which every member has a kernel.  What cannot be is an InvalidArgumentError that
names the nodes on both sides and the lines that made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.passes.stage import Stage, StageNode
from engine.placement.homes import absent_users, home_of
from engine.placement.specs import ANY, MergeError, by_preference, merge, spec_of
from engine.placement.ties import (
    absent_targets,
    class_ties,
    data_ties,
    is_at_the_edge,
    is_follower,
    makes_state,
    reference_ties,
    successors_of,
)
from engine.types import errors
from engine.types.device import DeviceSpec

if TYPE_CHECKING:
    from engine.device.device import Device

_CONNECTED = (
    "Nodes were connected by a reference or resource connection (requiring them to be on the same device), but the two nodes "
    "were assigned two different devices: "
)


class Group:
    """Nodes that share a device.

    `request` is what their specs say together, `firm` that part of it which variables, resources and the host's nodes ask for,
    `kinds` the device types that have kernels for all of them, `askers` those with a spec of their own.  `notes` say, of a
    node, why it does not get what it asked for; `resident` is a variable that is where it is since an earlier step.
    """

    __slots__ = ("askers", "firm", "kinds", "members", "notes", "possible", "request", "resident")

    def __init__(self, node: StageNode, kinds: frozenset[str], request: DeviceSpec, firm: bool) -> None:
        self.members = [node.name]
        self.kinds = kinds
        self.request = request
        self.firm = request if firm else ANY
        self.askers: list[tuple[StageNode, DeviceSpec]] = [(node, request)] if request is not ANY else []
        self.notes: dict[str, str] = {}
        self.possible: tuple[str, ...] = ()
        self.resident = ""


class Constraints:
    """The groups of `stage` over `devices` (the host first); `soft` is `allow_soft_placement`, `homes` where variables are.

    `group[name]` is the group of a node.  Raises InvalidArgumentError for a spec that fits no device, a kernel that no allowed
    device has, and colocation that cannot be.
    """

    def __init__(
        self, stage: Stage, devices: Sequence[Device], soft: bool, homes: Mapping[str, str] | None = None
    ) -> None:
        self.stage = stage
        self.devices = devices
        self.preferred = by_preference(devices)
        self.soft = soft
        self._types = {device.type: device for device in reversed(devices)}
        self._kinds: dict[object, frozenset[str]] = {}
        self.group: dict[str, Group] = {node.name: self._alone(node) for node in stage}
        for a, b in reference_ties(stage):
            self._connect(a, b)
        find = successors_of(stage)
        for a, b in class_ties(stage, find):
            self._colocate(a, b)
        for name, absent in absent_targets(stage, find):
            self._ask(self.group[name], absent)
        for a, b in data_ties(stage):
            self._follow(a, b)
        for name, absent in absent_users(stage):
            self._expect(self.group[name], absent)
        self.groups: tuple[Group, ...] = tuple({id(group): group for group in self.group.values()}.values())
        self._ask_followers()
        for group in self.groups:
            group.possible = self._possible(group)
        self._stay(homes or {})

    # One node.

    def _alone(self, node: StageNode) -> Group:
        if is_at_the_edge(node):
            return Group(node, frozenset(self._types), spec_of(self.devices[0].name), firm=True)
        asked = ANY if is_follower(node) else spec_of(node.device)
        return Group(node, self._kernels(node), asked, makes_state(node))

    def _kernels(self, node: StageNode) -> frozenset[str]:
        """The types of the devices that have a kernel for `node`; at least one."""
        found = self._kinds_of(node)
        if not found:
            dtypes = ", ".join(dtype.base_dtype.name for dtype in (*node.input_dtypes, *node.output_dtypes))
            raise errors.InvalidArgumentError(
                None,
                node,
                f"No OpKernel was registered to support Op '{node.type}' used by node {node.name} with the dtypes ({dtypes}) "
                f"on {_or(sorted(self._types))}",
            )
        return found

    def _kinds_of(self, node: StageNode) -> frozenset[str]:
        dtypes = (*node.input_dtypes, *node.output_dtypes)
        key = (node.type, dtypes)
        found = self._kinds.get(key)
        if found is None:
            plain = [dtype.base_dtype for dtype in dtypes]
            found = self._kinds[key] = frozenset(
                kind for kind, device in self._types.items() if device.kernel(node.opdef, plain) is not None
            )
        return found

    # Two groups.

    def _connect(self, a: str, b: str) -> None:
        """Join what makes a reference or handle with what uses it: the request of the first holds."""
        left, right = self.group[a], self.group[b]
        if left is right:
            return
        if not left.firm.is_compatible_with(right.firm):
            raise self._error(
                self.stage.nodes[b],
                "Cannot place the graph because a reference or resource edge connects colocation groups with incompatible "
                f"resource devices: {left.firm} vs {right.firm}. The edge src node is {_named(self.stage.nodes[a])}, and the "
                f"dst node is {_named(self.stage.nodes[b])}.",
                (left, right),
            )
        for firm, other in ((left, right), (right, left)):
            if not firm.firm.is_compatible_with(other.request):
                for node, asked in other.askers:
                    if not asked.is_compatible_with(firm.firm):
                        other.notes[node.name] = (
                            f"{asked} was asked for, but what it refers to is on {firm.firm}"
                        )
                other.request = firm.firm
        self._join(a, b, _CONNECTED)

    def _colocate(self, a: str, b: str) -> None:
        if self.group[a] is not self.group[b]:
            self._join(a, b, "")

    def _follow(self, a: str, b: str) -> None:
        """Join a node of the control flow with its data, unless it is tied to something else already."""
        left, right = self.group[a], self.group[b]
        if left is not right and left.request.is_compatible_with(right.request) and left.kinds & right.kinds:
            self._join(a, b, "")

    def _join(self, a: str, b: str, prefix: str) -> None:
        """Make one group of two.  Raises if no device would be left."""
        left, right = self.group[a], self.group[b]
        first, second = self.stage.nodes[a], self.stage.nodes[b]
        try:
            request = merge(right.request, left.request, self.soft)
            firm = merge(left.firm, right.firm, soft=False)
        except MergeError as reason:
            raise self._error(
                second,
                f"{prefix}Cannot colocate nodes {_at(second)} and {_at(first)}: {reason}",
                (left, right),
            ) from None
        kinds = left.kinds & right.kinds
        if not kinds:
            raise errors.InvalidArgumentError(
                None,
                second,
                f"{prefix}Cannot colocate nodes {_at(second)} and {_at(first)} because no device type supports both of those "
                f"nodes and the other nodes colocated with them: {self._supports(left)}; {self._supports(right)}",
            )
        if len(left.members) < len(right.members):
            left, right = right, left
        left.members += right.members
        left.askers += right.askers
        left.notes.update(right.notes)
        left.kinds, left.firm = kinds, firm
        # What variables ask for holds even where, placed softly, the others' contradictions leave it open.
        left.request = request.make_merged_spec(firm) if firm is not ANY else request
        for name in right.members:
            self.group[name] = left

    def _ask(self, group: Group, absent: StageNode) -> None:
        """Let a node that is gone, and that others are to be colocated with, ask for its device."""
        asked = spec_of(absent.device)
        if asked is ANY:
            return
        try:
            group.request = merge(group.request, asked, self.soft)
        except MergeError as reason:
            member = self.stage.nodes[group.members[0]]
            raise self._error(
                member, f"Cannot colocate nodes {_at(member)} and {_at(absent)}: {reason}", (group,)
            ) from None
        group.askers.append((absent, asked))

    def _expect(self, group: Group, absent: StageNode) -> None:
        """Leave room for a node that uses a group's variable in another program, as far as that is possible."""
        kinds = group.kinds & self._kinds_of(absent)
        group.kinds = kinds or group.kinds
        asked = spec_of(absent.device)
        if group.request.is_compatible_with(asked) and asked is not ANY:
            group.request = group.request.make_merged_spec(asked)
            group.askers.append((absent, asked))

    def _stay(self, homes: Mapping[str, str]) -> None:
        """Keep variables where they are, if the group may be there."""
        if homes:
            for node in self.stage:
                home = homes.get(home_of(node), "")
                group = self.group[node.name]
                if home in group.possible:
                    group.possible = (home,)
                    group.resident = node.name

    def _ask_followers(self) -> None:
        """Where nothing but control flow is in a group, what was asked for that holds: the first request."""
        for group in self.groups:
            nodes = [self.stage.nodes[name] for name in group.members]
            if all(is_follower(node) for node in nodes):
                asked = next((node for node in nodes if node.device), None)
                if asked is not None:
                    group.request = spec_of(asked.device)
                    group.askers.append((asked, group.request))

    # Devices.

    def _possible(self, group: Group) -> tuple[str, ...]:
        """The names of the devices that `group` may be on, the preferred one first."""
        request = group.request
        supported = [device for device in self.preferred if device.type in group.kinds]
        if request is ANY:
            return tuple(device.name for device in supported)
        found = tuple(device.name for device in supported if request.matches(spec_of(device.name)))
        if not found and self.soft:
            relaxed = request.replace(device_type=None, device_index=None)
            found = tuple(device.name for device in supported if relaxed.matches(spec_of(device.name)))
            for node, asked in group.askers:
                group.notes[node.name] = f"{asked} was asked for, and {self._why_not(group, asked)}"
        if not found:
            raise self._unplaceable(group)
        return found

    def _why_not(self, group: Group, asked: DeviceSpec) -> str:
        if not any(asked.matches(spec_of(device.name)) for device in self.devices):
            return "there is no such device"
        if asked != group.request:
            return "not all that must be there with it can be"
        return f"it has no kernel for {self._supports(group)}"

    def _unplaceable(self, group: Group) -> errors.InvalidArgumentError:
        node, asked = next(
            ((node, asked) for node, asked in group.askers if asked == group.request), group.askers[0]
        )
        names = ", ".join(sorted(device.name for device in self.devices))
        prefix = f"Cannot assign a device for operation {node.name}: "
        if asked != group.request:
            message = (
                f"{prefix}Could not satisfy explicit device specification '{asked}' because the node {_at(node)} was colocated "
                f"with a group of nodes that required incompatible device '{group.request}'. All available devices [{names}]."
            )
            return self._error(node, message, (group,))
        matching = [device for device in self.devices if asked.matches(spec_of(device.name))]
        if not matching:
            message = (
                f"{prefix}node {_at(node)} was explicitly assigned to {asked} but available devices are [ {names} ]. "
                "Make sure the device specification refers to a valid device."
            )
            hint = "tf.ConfigProto(allow_soft_placement=True) uses another device where the one asked for is not there."
            if asked.device_type == "GPU" and "GPU" not in self._types:
                hint += " A modelled GPU: device_count={'GPU': 1}, gpu_options=tf.GPUOptions(modelled=True)."
            return errors.InvalidArgumentError(None, node, message, hint=hint)
        kinds = _or(sorted({device.type for device in matching}))
        message = (
            f"{prefix}Could not satisfy explicit device specification '{asked}' because no supported kernel for {kinds} devices "
            f"is available: {self._supports(group)}"
        )
        hint = "Ask for a device that has the kernel, or set tf.ConfigProto(allow_soft_placement=True)."
        return errors.InvalidArgumentError(None, node, message, hint=hint)

    # Words.

    def _supports(self, group: Group) -> str:
        """What kernels there are for the member that has the fewest."""
        nodes = [self.stage.nodes[name] for name in group.members]
        least = min(nodes, key=lambda node: len(self._kernels(node)))
        return f"{_at(least)} ({least.type}), whose kernels are for {_or(sorted(self._kernels(least)))}"

    def _error(self, node: StageNode, message: str, groups: Iterable[Group]) -> errors.InvalidArgumentError:
        asked = [f"{_at(asker)} asks for {spec}" for group in groups for asker, spec in group.askers]
        return errors.InvalidArgumentError(
            None,
            node,
            message,
            hint=f"{'; '.join(asked[:4])}. Give them one device, or leave the choice to the placement.",
        )


def _at(node: StageNode) -> str:
    """The node's name and the line that made it."""
    frame = node.site.user if node.site is not None else None
    return f"{node.name} (defined at {frame})" if frame is not None else node.name


def _named(node: StageNode) -> str:
    return f"name='{node.name}' (op='{node.type}')"


def _or(words: Sequence[str]) -> str:
    return " or ".join(words)
