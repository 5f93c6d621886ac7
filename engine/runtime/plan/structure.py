"""From a dataflow graph to a linear program: the jumps behind Switch, Merge, Enter, Exit and NextIteration are found again.

What counts is when a token is alive, not which builder made it, so graphs from a GraphDef, gradients and what passes made are
taken like any other.  Within a frame's iteration a node is alive under a set of literals, "the predicate p chose this side", all
of which must hold: a Switch adds one, a Merge of the two sides of one predicate takes it away.  A Merge that joins what has
no more in common gets a flag that is raised when it fires.  Nodes of one frame are put in order (what has effects in the
stage's, so that operations on one variable that nothing orders run in the order in which they were written), and neighbours
under equal literals become the blocks of a branch.

A frame becomes a loop where it has the form that `while_loop` gives it: Merges of an Enter and a NextIteration, one LoopCond,
Exits where it is false and NextIterations where it is true.  Any other raises `NotExpressible`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.op.queues import BLOCKING
from engine.runtime.plan.ir import (
    Block,
    Branch,
    Compute,
    Instruction,
    Linear,
    Literal,
    Loop,
    Lower,
    Move,
    NotExpressible,
    Pass,
    blocks_of,
)
from engine.runtime.program import (
    CONTROL_TRIGGER,
    ENTER,
    EXIT,
    MERGE,
    NEXT_ITERATION,
    SEND,
    SWITCH,
    FrameSpec,
    Item,
    Program,
)

Guard = frozenset[Literal]
ALWAYS: Guard = frozenset()
_SILENT = frozenset({"_Arg", "_Retval", "VariableV2", "Variable"})
_HANDING_ON = frozenset({"Identity", "RefIdentity", "LoopCond", "StopGradient", "PreventGradient"})


def linearize(program: Program) -> Linear:
    """The linear program of `program`.  Raises NotExpressible, naming a node, for what has no such form."""
    return _Linearizer(program).run()


@dataclass(slots=True, eq=False)
class _Unit:
    """What is put in order: a node, one side of a Merge, a flag's lowering, or a whole loop."""

    order: int
    instruction: Instruction | None
    guard: Guard = ALWAYS
    then: list[_Unit] = field(default_factory=list)
    item: Item | None = None

    def __lt__(self, other: _Unit) -> bool:
        return self.order < other.order


class _Linearizer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.sources: list[tuple[Item, int]] = []
        self.numbers: dict[tuple[int, int], int] = {}
        self.flags = 0
        self.unreachable: list[Item] = []
        self.entering: dict[int, list[Item]] = {spec.index: [] for spec in program.frames}
        self.inside: dict[int, list[FrameSpec]] = {spec.index: [] for spec in program.frames}
        for item in program.items:
            if item.child is not None:
                self.entering[item.child.index].append(item)
        for spec in program.frames:
            if spec.parent is not None:
                self.inside[spec.parent.index].append(spec)
        self.asked = [[bool(edges) for edges in item.data_out] for item in program.items]

    def run(self) -> Linear:
        for item in self.program.items:
            if item.flow >= SEND:
                raise NotExpressible("it sends or receives", item)
            if item.node.type in BLOCKING:
                raise NotExpressible("it may wait for a queue", item)
        body = _FrameWork(self, self.program.root).block()
        return Linear(body, self.sources, self.flags, self.unreachable)

    def new_value(self, item: Item, output: int) -> int:
        self.sources.append((item, output))
        return len(self.sources) - 1

    def value(self, item: Item, output: int) -> int:
        """The value on an output of `item`, whose inputs have theirs."""
        key = (item.index, output)
        number = self.numbers.get(key)
        if number is None:
            trail = [key]
            while True:
                source = self._hands_on(item, output)
                if source is None:
                    number = self.numbers.setdefault(trail[-1], -1)
                    if number < 0:
                        number = self.new_value(item, output)
                    break
                item, output = source
                key = (item.index, output)
                trail.append(key)
                if key in self.numbers:
                    number = self.numbers[key]
                    break
            for each in trail:
                self.numbers[each] = number
        return number

    def _hands_on(self, item: Item, output: int) -> tuple[Item, int] | None:
        """The edge whose value comes out of `output` unchanged, if the node only hands it on."""
        if passes(item):
            name, slot = item.node.inputs[0]
            return self.program.by_name[name], slot
        return None


def passes(item: Item) -> bool:
    """Whether the node gives its first input, as it is, to its outputs."""
    if item.derefs:
        return False
    return item.flow in (SWITCH, ENTER, EXIT, NEXT_ITERATION) or item.node.type in _HANDING_ON


class _FrameWork:
    """The work on one frame."""

    def __init__(self, whole: _Linearizer, spec: FrameSpec) -> None:
        self.whole = whole
        self.spec = spec
        self.by_name = whole.program.by_name
        self.units: dict[int, list[_Unit]] = {}  # by item: what must be over before its outputs are there
        self.guards: dict[int, Guard | None] = {}  # None: dead in every run
        self.all: list[_Unit] = []
        self.header: list[Item] = []
        self.going_on: Literal | None = None  # of a loop: there is another iteration
        self.askers: dict[
            Literal, Item
        ] = {}  # by literals with wanted=True: a Switch that asks, or the Merge of a flag
        self.entered: dict[
            int, Guard | None
        ] = {}  # by Enter: under what beyond the loop's own condition it is alive
        self.known_under: dict[Literal, Guard] = {}  # by the same: when what is asked is known

    # The frame as a block.

    def block(self) -> Block:
        """The root frame."""
        self._find_units()
        block = Block()
        self._nest(self._ordered(), block, ALWAYS)
        return block

    def loop(self) -> Loop:
        """The frame as a loop."""
        whole, spec = self.whole, self.spec
        enters = whole.entering[spec.index]
        if not any(item.flow == NEXT_ITERATION for item in spec.items):
            return self._once(enters)
        test = self._test()
        self.header = [item for item in spec.items if item.flow == MERGE and self._is_header(item)]
        inits: list[tuple[int, int]] = []
        nexts: list[tuple[int, int]] = []
        advances: list[Item] = []
        indices: list[tuple[int, Item]] = []
        for merge in self.header:
            target = whole.new_value(merge, 0)
            whole.numbers[merge.index, 0] = target
            if whole.asked[merge.index][1]:
                whole.numbers[merge.index, 1] = whole.new_value(merge, 1)
                indices.append((whole.numbers[merge.index, 1], merge))
            self.guards[merge.index] = ALWAYS
            self.units[merge.index] = []
        self._check_enters(enters)
        predicate = whole.value(test, 0)
        going_on, over = Literal(predicate, True), Literal(predicate, False)
        self.going_on = going_on
        self._find_units()
        exits = [item for item in spec.items if item.flow == EXIT]
        for item in spec.items:
            if item.flow == NEXT_ITERATION:
                advances.append(item)
            wanted = {NEXT_ITERATION: going_on, EXIT: over}.get(item.flow)
            if wanted is not None and self.guards[item.index] != frozenset({wanted}):
                raise NotExpressible(
                    f"this {item.node.type} does not depend on the loop's condition alone", item
                )
        for merge in self.header:
            for name, slot in merge.node.inputs:
                source = self.by_name[name]
                moves = nexts if source.flow == NEXT_ITERATION else inits
                moves.append((whole.numbers[merge.index, 0], whole.value(source, slot)))
        parts: dict[Literal | None, list[_Unit]] = {None: [], going_on: [], over: []}
        for unit in self._ordered():
            parts[next((each for each in (going_on, over) if each in unit.guard), None)].append(unit)
        self._check_condition(parts[None], {id(unit) for unit in (*parts[going_on], *parts[over])})
        blocks = {which: Block() for which in parts}
        for which, units in parts.items():
            self._nest(units, blocks[which], ALWAYS if which is None else frozenset({which}))
        return Loop(
            spec,
            blocks[None],
            list(enters),
            inits=inits,
            predicate=predicate,
            test=test,
            body=blocks[going_on],
            nexts=nexts,
            after=blocks[over],
            indices=indices,
            merges=self.header,
            advances=advances,
            exits=exits,
        )

    def _once(self, enters: Sequence[Item]) -> Loop:
        """A frame without a way back, which passes leave of a loop that never goes on."""
        self._find_units()
        exits = [item for item in self.spec.items if item.flow == EXIT]
        for item in exits:
            if self.guards[item.index] != ALWAYS:
                raise NotExpressible("this Exit is alive under a condition", item)
        block = Block()
        self._nest(self._ordered(), block, ALWAYS)
        return Loop(self.spec, block, list(enters), exits=exits)

    def _test(self) -> Item:
        found = [item for item in self.spec.items if item.node.opdef.flow == "loop_cond"]
        if len(found) != 1:
            raise NotExpressible(
                f"the loop '{self.spec.name}' has {len(found)} LoopCond nodes, not one", self.spec.items[0]
            )
        return found[0]

    def _is_header(self, item: Item) -> bool:
        flows = [self.by_name[name].flow for name, _ in item.node.inputs]
        if NEXT_ITERATION not in flows:
            return False
        first = self.by_name[item.node.inputs[0][0]]
        if (
            sorted(flows) != sorted((ENTER, NEXT_ITERATION))
            or first.is_constant_enter
            or item.node.control_inputs
        ):
            raise NotExpressible("this Merge of a loop is not of one Enter and one NextIteration", item)
        return True

    def _check_enters(self, enters: Sequence[Item]) -> None:
        """A constant Enter is there in every iteration; any other only in the first, as the start of a loop variable."""
        header = {item.index for item in self.header}
        for item in enters:
            if not item.is_constant_enter:
                users = [user for edges in item.data_out for user, _ in edges] + list(item.control_out)
                if any(user.index not in header for user in users):
                    raise NotExpressible("this Enter is read in the first iteration only", item)

    def check_invariants(self) -> None:
        """Invariants may be alive where the loop is not entered, if nothing but they themselves notices it.

        (In the executor such a frame opens, and what depends on nothing but live invariants runs once.)
        """
        for item in self.spec.items:
            sources = [self.by_name[name] for name, _ in item.node.inputs]
            sources += [self.by_name[name] for name in item.node.control_inputs]
            alone = all(source.frame is not self.spec for source in sources)
            if alone and not passes(item) and item.node.opdef.stateful:
                raise NotExpressible("it may run where the loop around it is not entered", item)

    def _check_condition(self, before: Sequence[_Unit], later: set[int]) -> None:
        early = {id(unit) for unit in before}
        for unit in self.all:
            if id(unit) in later:
                for user in unit.then:
                    if id(user) in early:
                        raise NotExpressible(
                            "what the loop's condition needs depends on the condition", user.item
                        )

    # Units.

    def _find_units(self) -> None:
        """Guards and units of all items of the frame, in an order in which sources come first."""
        for found in _sorted(self._nodes()):
            if isinstance(found, FrameSpec):
                self._add_loop(found)
            elif found.index not in self.guards:
                self._add(found)

    def _nodes(self) -> list[tuple[Item | FrameSpec, list[Item | FrameSpec]]]:
        """Items and inner frames of this frame with the ones that each needs."""
        found: list[tuple[Item | FrameSpec, list[Item | FrameSpec]]] = []
        header = {item.index for item in self.header}
        for item in self.spec.items:
            needs: list[Item | FrameSpec] = []
            if item.index not in header:
                for name in (*(name for name, _ in item.node.inputs), *item.node.control_inputs):
                    source = self.by_name[name]
                    if source.flow == EXIT and source.frame is not self.spec:
                        needs.append(source.frame)
                    elif source.frame is self.spec:
                        needs.append(source)
            found.append((item, needs))
        for inner in self.whole.inside[self.spec.index]:
            found.append((inner, list(self.whole.entering[inner.index])))
        return found

    def _edge_guard(self, source: Item, output: int) -> Guard | None:
        """When a token on this edge is alive, in this frame."""
        if source.frame is not self.spec:
            if source.flow == EXIT:  # of an inner loop
                return self.guards[-1 - source.frame.index]
            return self.entered.get(source.index, ALWAYS)
        guard = self.guards[source.index]
        if guard is None or source.flow != SWITCH:
            return guard
        name, slot = source.node.inputs[1]
        value = self.whole.value(self.by_name[name], slot)
        maker = self.whole.sources[value][0].node
        if maker.type == "Const":  # as passes leave it of a predicate that is always the same
            return guard if bool(maker.attrs["value"]) == (output == 1) else None
        self._note(Literal(value, True), source, self._edge_guard(self.by_name[name], slot) or ALWAYS)
        return None if Literal(value, output == 0) in guard else guard | {Literal(value, output == 1)}

    def _note(self, asked: Literal, asker: Item, known: Guard) -> None:
        self.askers.setdefault(asked, asker)
        if len(known) < len(self.known_under.setdefault(asked, known)):
            self.known_under[asked] = known

    def _guard(self, item: Item) -> Guard | None:
        """When a node that is no Merge is alive."""
        found: Guard | None = ALWAYS
        edges = [(self.by_name[name], slot) for name, slot in item.node.inputs]
        edges += [(self.by_name[name], -1) for name in item.node.control_inputs]
        for source, slot in edges:
            side = self._edge_guard(source, slot) if slot >= 0 else self._control_guard(source)
            found = _both(found, side)
        return found

    def _control_guard(self, source: Item) -> Guard | None:
        if source.flow == EXIT and source.frame is not self.spec:
            return self.guards[-1 - source.frame.index]
        if source.frame is not self.spec:
            return self.entered.get(source.index, ALWAYS)
        return self.guards[source.index]

    def _add(self, item: Item) -> None:
        if item.flow == MERGE:
            self._add_merge(item)
            return
        if item.flow == CONTROL_TRIGGER:
            self._add_trigger(item)
            return
        guard = self.guards[item.index] = self._guard(item)
        if guard is None:
            self._add_dead(item)
            return
        whole = self.whole
        if passes(item):
            instruction: Instruction = Pass(item)
        else:
            inputs = tuple(whole.value(self.by_name[name], slot) for name, slot in item.node.inputs)
            outputs = tuple(
                whole.value(item, slot) if asked else -1 for slot, asked in enumerate(whole.asked[item.index])
            )
            instruction = Compute(item, inputs, outputs)
        unit = self._unit(item.index, instruction, guard, item)
        self._depends(unit, item)
        self.units[item.index] = [unit]

    def _add_trigger(self, item: Item) -> None:
        """A ControlTrigger runs whatever its inputs are; in a loop, behind those that only an iteration that goes on has."""
        self.guards[item.index] = ALWAYS
        sides = [self._control_guard(self.by_name[name]) for name in item.node.control_inputs]
        inside = self.going_on is not None and any(side and self.going_on in side for side in sides)
        placed = [ALWAYS]
        if inside and self.going_on is not None:
            placed = [frozenset({self.going_on}), frozenset({Literal(self.going_on.value, False)})]
        self.units[item.index] = [self._unit(item.index, Pass(item), guard, item) for guard in placed]
        self._depends(self.units[item.index][0], item)

    def _add_dead(self, item: Item) -> None:
        self.units[item.index] = []
        self.whole.unreachable.append(item)

    def _add_merge(self, item: Item) -> None:
        whole = self.whole
        edges = [(self.by_name[name], slot) for name, slot in item.node.inputs]
        around: Guard | None = ALWAYS
        for name in item.node.control_inputs:
            around = _both(around, self._control_guard(self.by_name[name]))
        sides = [_both(self._edge_guard(*edge), around) for edge in edges]
        alive = [side for side in sides if side is not None]
        if not alive:
            self.guards[item.index] = None
            self._add_dead(item)
            return
        target = whole.new_value(item, 0)
        whole.numbers[item.index, 0] = target
        index = -1
        if whole.asked[item.index][1]:
            index = whole.numbers[item.index, 1] = whole.new_value(item, 1)
        joined = _join(alive)
        flag = -1
        units = []
        if joined is None:
            flag = whole.flags
            whole.flags += 1
            lowering = self._unit(item.index, Lower(item, flag), frozenset.intersection(*alive), item)
            units.append(lowering)
            up = Literal(flag, True, is_flag=True)
            self._note(up, item, lowering.guard)
            joined = lowering.guard | {up}
        self.guards[item.index] = joined
        for slot, (edge, side) in enumerate(zip(edges, sides, strict=True)):
            if side is None:
                continue
            move = Move(item, slot, target, whole.value(*edge), index, flag)
            unit = self._unit(item.index, move, side, item)
            self._depends_on(unit, edge[0])
            for name in item.node.control_inputs:
                self._depends_on(unit, self.by_name[name])
            if flag >= 0:
                _order(units[0], unit)
                if len(units) > 1:
                    _order(units[-1], unit)  # the first that is alive wins
            units.append(unit)
        self.units[item.index] = units

    def _add_loop(self, spec: FrameSpec) -> None:
        enters = self.whole.entering[spec.index]
        guards = {self.guards[item.index] for item in enters if not item.is_constant_enter}
        if len(guards) != 1:
            raise NotExpressible("the loop's variables are entered under several conditions", enters[0])
        guard = guards.pop()
        self.guards[-1 - spec.index] = guard
        inner = _FrameWork(self.whole, spec)
        if guard is None:
            self.whole.unreachable.extend(spec.items)
            for item in spec.items:
                if item.flow == EXIT:
                    self.units[item.index] = []
            return
        for item in enters:
            alive = self.guards[item.index]
            if alive != guard:
                inner.entered[item.index] = None if alive is None else alive - guard
                if alive is not None and not alive >= guard:
                    inner.check_invariants()
        instruction = inner.loop()
        unit = self._unit(max(item.index for item in enters), instruction, guard, enters[0])
        for item in enters:
            self._depends_on(unit, item)
        for item in spec.items:
            if item.flow == EXIT:
                self.units[item.index] = [unit]

    def _unit(self, order: int, instruction: Instruction, guard: Guard, item: Item) -> _Unit:
        unit = _Unit(order, instruction, guard, item=item)
        self.all.append(unit)
        for literal in guard:  # what it asks must have been found out
            if _asked(literal) in self.askers:
                self._depends_on(unit, self.askers[_asked(literal)])
        return unit

    def _depends(self, unit: _Unit, item: Item) -> None:
        for name in (*(name for name, _ in item.node.inputs), *item.node.control_inputs):
            self._depends_on(unit, self.by_name[name])

    def _depends_on(self, unit: _Unit, source: Item) -> None:
        for each in self.units.get(source.index, ()):
            if each is not unit:
                _order(each, unit)

    # Order and nesting.

    def _ordered(self) -> list[_Unit]:
        """All units, each after those it needs: effects in the stage's order, others beside their like.

        What has effects, or reads what effects change, runs in the order of the stage.  All else may be moved so that
        neighbours are alive together, and one branch holds what would be many.
        """
        before: _Unit | None = None
        for unit in self._sorted_units(together=False):
            if unit.instruction is not None and _has_effects(unit.instruction):
                if before is not None:
                    before.then.append(unit)
                before = unit
        return self._sorted_units(together=True)

    def _sorted_units(self, *, together: bool) -> list[_Unit]:
        waiting = {id(unit): 0 for unit in self.all}
        for unit in self.all:
            for user in unit.then:
                waiting[id(user)] += 1
        ready: dict[Guard, list[_Unit]] = {}

        def add(unit: _Unit) -> None:
            heapq.heappush(ready.setdefault(unit.guard if together else ALWAYS, []), unit)

        for unit in self.all:
            if not waiting[id(unit)]:
                add(unit)
        found: list[_Unit] = []
        guard = ALWAYS
        while ready:
            if guard not in ready:
                guard = min(ready, key=lambda each: ready[each][0].order)
            heap = ready[guard]
            unit = heapq.heappop(heap)
            if not heap:
                del ready[guard]
            found.append(unit)
            for user in unit.then:
                waiting[id(user)] -= 1
                if not waiting[id(user)]:
                    add(user)
        if len(found) != len(self.all):
            stuck = next(unit for unit in self.all if waiting[id(unit)])
            raise NotExpressible("its branches wait for each other", stuck.item)
        return found

    def _depth(self, literal: Literal) -> tuple[int, bool, int]:
        """Literals of a guard are asked from the outside in: what an inner one asks is known only where the outer ones hold."""
        return len(self.known_under.get(_asked(literal), ALWAYS)), literal.is_flag, literal.value

    def _nest(self, units: Iterable[_Unit], block: Block, known: Guard) -> None:
        """Put `units` into `block`, those under literals beyond `known` into branches."""
        open_: list[tuple[Literal, Block, Branch]] = []
        for unit in units:
            path = sorted(unit.guard - known, key=self._depth)
            depth = 0
            for literal, (opened, _, branch) in zip(path, open_, strict=False):
                if opened.value != literal.value or opened.is_flag != literal.is_flag:
                    break
                if opened.wanted != literal.wanted:
                    # The other side of the branch: nothing has come after it, or it would not be open.
                    open_[depth] = (literal, branch.then if literal.wanted else branch.orelse, branch)
                    depth += 1
                    break
                depth += 1
            del open_[depth:]
            inner = open_[-1][1] if open_ else block
            for literal in path[depth:]:
                test = _asked(literal)
                assert unit.item is not None
                branch = Branch(test, self.askers.get(test, unit.item))
                inner.code.append(branch)
                inner = branch.then if literal.wanted else branch.orelse
                open_.append((literal, inner, branch))
            assert unit.instruction is not None
            inner.code.append(unit.instruction)


def _has_effects(instruction: Instruction) -> bool:
    """Whether it matters for others when the instruction runs."""
    if isinstance(instruction, Compute):
        item = instruction.item
        return bool(item.derefs) or (item.node.opdef.stateful and item.node.type not in _SILENT)
    if isinstance(instruction, Move):
        return instruction.slot in instruction.item.derefs
    if isinstance(instruction, Loop | Branch):
        return any(_has_effects(each) for block in blocks_of(instruction) for each in block.code)
    return False


def _asked(literal: Literal) -> Literal:
    return literal if literal.wanted else Literal(literal.value, True, literal.is_flag)


def _order(first: _Unit, then: _Unit) -> None:
    first.then.append(then)


def _both(one: Guard | None, other: Guard | None) -> Guard | None:
    """What is alive when both are."""
    if one is None or other is None:
        return None
    if one >= other:
        return one
    found = one | other
    if any(Literal(each.value, not each.wanted, each.is_flag) in found for each in found):
        return None
    return found


def _join(sides: Sequence[Guard]) -> Guard | None:
    """When any of `sides` is alive, if exactly one of them is whenever what they have in common holds; else None."""
    left = list(dict.fromkeys(sides))
    if len(left) != len(sides):
        return None  # two that are alive together
    while len(left) > 1:
        for i, one in enumerate(left):
            found = next((j for j in range(i + 1, len(left)) if _complements(one, left[j])), None)
            if found is not None:
                common = one & left[found]
                del left[found], left[i]
                left.insert(0, common)
                break
        else:
            return None
    return left[0]


def _complements(one: Guard, other: Guard) -> bool:
    (a, b) = one - other, other - one
    if len(a) != 1 or len(b) != 1:
        return False
    (x,), (y,) = a, b
    return x.value == y.value and x.is_flag == y.is_flag and x.wanted != y.wanted and not x.is_flag


def _sorted(nodes: Sequence[tuple[Item | FrameSpec, list[Item | FrameSpec]]]) -> list[Item | FrameSpec]:
    """The nodes, each after those it needs."""
    at = {id(node): i for i, (node, _) in enumerate(nodes)}
    waiting = [0] * len(nodes)
    users: list[list[int]] = [[] for _ in nodes]
    for i, (_, needs) in enumerate(nodes):
        for need in needs:
            j = at.get(id(need))
            if j is not None:
                users[j].append(i)
                waiting[i] += 1
    ready = [i for i, count in enumerate(waiting) if count == 0]
    found: list[Item | FrameSpec] = []
    while ready:
        i = ready.pop()
        found.append(nodes[i][0])
        for user in users[i]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.append(user)
    if len(found) != len(nodes):
        stuck = next(node for (node, _), count in zip(nodes, waiting, strict=True) if count)
        raise NotExpressible("it waits for itself", stuck if isinstance(stuck, Item) else None)
    return found
