"""What executes before what in every schedule of a program, as far as accesses to resources go.

For every execution (an `Instance` of the unrolled program) it is told whether it can run at all, under which branches of conds
(its guard), to which resources its inputs lead, and which accesses have happened before it.

The rules are those of the executor (`engine.runtime.state`): a node waits for all its inputs, dead or alive; a Merge for its
control inputs and one live input, so what has happened before it is what has happened before each of its inputs that may
be alive.
"""

from __future__ import annotations

from collections import defaultdict

from engine.passes.stage import StageNode
from engine.runtime.program import ENTER, MERGE, RECV, SEND, SWITCH, Program
from workbench.debugger.schedules.accesses import Kind, has_counter, is_handle, kind_of
from workbench.debugger.schedules.unrolled import Instance, Literal, Resource, Unrolled

_MAKES = {"TensorArrayGradV3": "tensor array", "_TensorArrayGradIn": "tensor array", "_StackCopy": "stack"}
_PASSES = ("Identity", "RefIdentity")


class Access:
    """One instance's access to one resource; `element` is the index in a TensorArray, where it is constant."""

    __slots__ = ("bit", "element", "instance", "kind", "resource")

    def __init__(
        self, bit: int, instance: Instance, resource: Resource, kind: Kind, element: int | None
    ) -> None:
        self.bit = bit
        self.instance = instance
        self.resource = resource
        self.kind = kind
        self.element = element


class Ordering(Unrolled):
    """See the module.  `accesses` are those that can happen."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.accesses: list[Access] = []
        for instance in self.order:
            if not instance.barrier:
                self._live(instance)
                self._lead(instance)
        self._collect()
        self._order_accesses()

    def ordered(self, a: Access, b: Access) -> bool:
        """Whether one of the two happens before the other in every schedule."""
        return bool(a.instance.before >> b.bit & 1 or b.instance.before >> a.bit & 1)

    @staticmethod
    def exclusive(a: Instance, b: Instance) -> bool:
        """Whether never both run, since they are in different branches of one cond."""
        return any(
            predicate == other and output == other_output and branch != other_branch
            for predicate, output, branch in a.guard
            for other, other_output, other_branch in b.guard
        )

    # Life and resources.

    def _live(self, instance: Instance) -> None:
        """Whether the instance is dead in every schedule, and the branches that it is in."""
        item = instance.item
        inputs = [pair for pair in instance.sources if pair is not None]
        guards = [frozenset[Literal]().union(*(each.guard for each in instance.controls))]
        killed = any(each.dead for each in instance.controls)
        if item.flow == MERGE:
            alive = [pair for pair in inputs if not self._is_dead(pair)]
            instance.dead = killed or not alive
            found = [self._guard(pair) for pair in alive]
            guards.append(frozenset.intersection(*found) if found else frozenset())
        else:
            instance.dead = killed or any(self._is_dead(pair) for pair in inputs)
            guards += [self._guard(pair) for pair in inputs]
        instance.guard = frozenset[Literal]().union(*guards)

    def _is_dead(self, pair: tuple[Instance, int]) -> bool:
        """Whether the token on this output is dead in every schedule."""
        instance, output = pair
        if instance.dead:
            return True
        if instance.item.flow != SWITCH or (round_ := self._round(instance)) is None:
            return False
        return output != (0 if round_ == self.rounds - 1 else 1)

    def _round(self, switch: Instance) -> int | None:
        """In which round of its loop a Switch is whose predicate is the loop's condition; None for any other."""
        pair = switch.sources[1]
        while pair is not None and pair[0].item.node.opdef.flow != "loop_cond":
            pair = _passed(pair[0])
        return pair[0].copies[-1] if pair is not None and pair[0].copies else None

    def _guard(self, pair: tuple[Instance, int]) -> frozenset[Literal]:
        instance, output = pair
        if instance.item.flow != SWITCH or self._round(instance) is not None or instance.sources[1] is None:
            return instance.guard
        predicate, flipped = self._predicate(instance.sources[1])
        branch = 1 - output if flipped and output < 2 else output
        return instance.guard | {(predicate[0].number, predicate[1], branch)}

    @staticmethod
    def _predicate(pair: tuple[Instance, int]) -> tuple[tuple[Instance, int], bool]:
        """Where a predicate comes from, through what passes it on, and whether it was negated on the way."""
        flipped = False
        while True:
            instance, _ = pair
            item = instance.item
            following = _passed(instance)
            if following is None and item.flow in (ENTER, SWITCH):
                following = instance.sources[0]
            elif item.node.type == "LogicalNot":
                flipped = not flipped
                following = instance.sources[0]
            if following is None:
                return pair, flipped
            pair = following

    def _lead(self, instance: Instance) -> None:
        """To which resources the outputs lead."""
        node = instance.item.node
        handles = [
            slot
            for slot in range(instance.item.n_inputs)
            if is_handle(node, slot) and instance.sources[slot] is not None
        ]
        coming: frozenset[Resource] = frozenset()
        for slot in handles:
            coming |= self.leads_to(instance, slot)
        for output, kind in enumerate(node.output_dtypes):
            if not (kind._is_ref_dtype or kind.name == "resource"):
                continue
            made = _MAKES.get(node.type)
            if made is not None:
                scope = node.attrs.get("source", node.name)
                own = instance.copies if node.type != "TensorArrayGradV3" else ()
                instance.made[output] = frozenset(
                    (made, f"{_name(each)}@{scope}", each, scope, own) for each in coming
                )
            elif handles:
                instance.made[output] = coming
            else:
                instance.made[output] = frozenset([_new(instance)])

    @staticmethod
    def leads_to(instance: Instance, slot: int) -> frozenset[Resource]:
        """The resources that the reference or handle on an input may be."""
        pair = instance.sources[slot]
        return pair[0].made.get(pair[1], frozenset()) if pair is not None else frozenset()

    # Accesses, and what has happened before.

    def _collect(self) -> None:
        found: dict[Resource, list[tuple[Instance, Kind, int | None]]] = defaultdict(list)
        for instance in self.order:
            if instance.dead or instance.barrier:
                continue
            item = instance.item
            kinds: dict[Resource, Kind] = {}
            for slot in range(item.n_inputs):
                kind = kind_of(item, slot)
                for resource in self.leads_to(instance, slot) if kind is not None else ():
                    if kind is not None and not (resource in kinds and kinds[resource].writes):
                        kinds[resource] = kind
            if has_counter(item.node):
                kinds["random state", item.name] = Kind.UPDATE
            for resource, each in kinds.items():
                found[resource].append(
                    (instance, each, _element(instance) if resource[0] == "tensor array" else None)
                )
        for resource, uses in found.items():
            if len(uses) > 1 and any(kind.writes for _, kind, _ in uses):
                for instance, kind, element in uses:
                    self.accesses.append(Access(len(self.accesses), instance, resource, kind, element))

    def _order_accesses(self) -> None:
        own: dict[int, int] = defaultdict(int)
        against: dict[Literal, int] = defaultdict(int)  # the accesses that happen only if this is not so
        for access in self.accesses:
            own[access.instance.number] |= 1 << access.bit
            for predicate, output, branch in access.instance.guard:
                against[predicate, output, 1 - branch] |= 1 << access.bit
        for instance in self.order:
            before = 0
            for each in (*instance.controls, *instance.waits):
                before |= each.before | own[each.number]
            inputs = [pair for pair in instance.sources if pair is not None]
            if instance.item.flow == MERGE and not instance.dead:
                common = -1
                for pair in inputs:
                    if not self._is_dead(pair):
                        mask = pair[0].before | own[pair[0].number]
                        for literal in self._guard(pair) if against else ():
                            mask |= against[literal]
                        common &= mask
                before |= common if common != -1 else 0
            else:
                for each, _ in inputs:
                    before |= each.before | own[each.number]
            instance.before = before


def _passed(instance: Instance) -> tuple[Instance, int] | None:
    """Where a tensor comes from that is passed on as it is, by an Identity or to another device; None if it is not."""
    if instance.item.flow == RECV and instance.controls and instance.controls[-1].item.flow == SEND:
        return instance.controls[-1].sources[0]
    return instance.sources[0] if instance.item.node.type in _PASSES else None


def _new(instance: Instance) -> Resource:
    """The resource that a node makes, or finds under its name."""
    node = instance.item.node
    attrs = node.attrs
    name = attrs.get("shared_name") or node.name
    if node.type in ("VariableV2", "Variable"):
        return ("variable", name, attrs["container"])
    if "Stack" in node.type:
        return ("stack", attrs.get("stack_name") or node.name, instance.copies)
    if "TensorArray" in node.type:
        return ("tensor array", node.name, instance.copies)
    if "Queue" in node.type:
        return queue_of(node)
    return ("resource", name, attrs.get("container", ""))


def queue_of(node: StageNode) -> Resource:
    """The queue that a node makes, or finds under its name."""
    return ("queue", node.attrs.get("shared_name") or node.name, node.attrs.get("container", ""))


def _name(resource: Resource) -> str:
    return str(resource[1])


def _element(instance: Instance) -> int | None:
    """The index in a TensorArray that an access is about, if it is a constant."""
    if instance.item.node.type not in ("TensorArrayReadV3", "TensorArrayWriteV3"):
        return None
    pair = instance.sources[1]
    while pair is not None and (pair[0].item.node.type == "Identity" or pair[0].item.flow == ENTER):
        pair = pair[0].sources[0]
    if pair is None or pair[0].item.node.type != "Const":
        return None
    return int(pair[0].item.node.attrs["value"])
