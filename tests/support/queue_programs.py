"""Small programs of operations on queues: as graphs, and as a model in plain Python that goes through every order of them."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

import engine as tf

ENQUEUES, DEQUEUES = ("put", "put_many", "forward"), ("take", "take_many", "take_up_to")


class Op(NamedTuple):
    """One operation on queue `queue`.

    kind: 'put' an element; 'put_many' `count` of them; 'forward' what operation `source`, a 'take', took; 'take', 'take_many' and
    'take_up_to' `count`; 'size'; 'close', with `count` 1 also for those who wait.  after: operations that it waits for.
    """

    kind: str
    queue: int
    count: int = 1
    source: int = -1
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Program:
    """`queues`: kind, capacity (-1: none), and how many elements are in each at the beginning."""

    queues: tuple[tuple[str, int, int], ...]
    ops: tuple[Op, ...]


@st.composite
def programs(draw: Callable[..., Any], most: int = 5, kinds: Sequence[str] = ("FIFO", "Priority")) -> Program:
    """Random ones of up to `most` operations."""
    queues = []
    for _ in range(draw(st.integers(1, 2))):
        capacity = draw(st.sampled_from([1, 2, -1]))
        held = draw(st.integers(0, capacity if capacity > 0 else 2))
        queues.append((draw(st.sampled_from([*kinds, "FIFO"])), capacity, held))
    ops: list[Op] = []
    for index in range(draw(st.integers(2, most))):
        kind = draw(
            st.sampled_from(
                [
                    "put",
                    "put",
                    "take",
                    "take",
                    "forward",
                    "put_many",
                    "take_many",
                    "take_up_to",
                    "size",
                    "close",
                ]
            )
        )
        sources = [i for i, op in enumerate(ops) if op.kind == "take"]
        source = draw(st.sampled_from(sources)) if kind == "forward" and sources else -1
        if kind == "forward" and not sources:
            kind = "put"
        count = 1 if kind in ("put", "take", "forward", "size") else draw(st.integers(1, 3))
        after = tuple(sorted(draw(st.sets(st.integers(0, index - 1), max_size=1)))) if index else ()
        ops.append(Op(kind, draw(st.integers(0, len(queues) - 1)), count, source, after))
    return Program(tuple(queues), tuple(ops))


def build(program: Program) -> tuple[list[Any], list[Any], list[Any]]:
    """The program as a graph: the queues, what fills them, and its operations (what they give, or themselves)."""
    queues, fill = [], []
    for number, (kind, capacity, held) in enumerate(program.queues):
        make = tf.FIFOQueue if kind == "FIFO" else tf.PriorityQueue
        queues.append(make(capacity, [tf.float32], shapes=[[]], name=f"q{number}"))
        for each in range(held):
            fill.append((queues[-1], _components(kind, 100.0 * (number + 1) + each)))
    nodes: list[Any] = []
    for index, op in enumerate(program.ops):
        queue, kind = queues[op.queue], program.queues[op.queue][0]
        with tf.control_dependencies([getattr(nodes[i], "op", nodes[i]) for i in op.after]):
            nodes.append(_node(op, index, queue, kind, nodes))
    return queues, fill, nodes


def _node(op: Op, index: int, queue: Any, kind: str, nodes: Sequence[Any]) -> Any:
    name = f"op{index}"
    if op.kind == "put":
        return queue.enqueue(_components(kind, float(10 * index)), name=name)
    if op.kind == "forward":
        return queue.enqueue(_components(kind, nodes[op.source]), name=name)
    if op.kind == "put_many":
        values = [float(10 * index + each) for each in range(op.count)]
        return queue.enqueue_many(
            [values] if kind == "FIFO" else [[_priority(each) for each in values], values], name=name
        )
    if op.kind == "close":
        return queue.close(cancel_pending_enqueues=op.count == 1, name=name)
    if op.kind == "size":
        return queue.size(name=name)
    if op.kind == "take":
        taken = queue.dequeue(name=name)
    else:
        taken = (queue.dequeue_many if op.kind == "take_many" else queue.dequeue_up_to)(op.count, name=name)
    return taken if kind == "FIFO" else taken[1]


def putting_back(session: Any, queues: Sequence[Any], fill: Sequence[tuple[Any, Any]]) -> Callable[[], None]:
    """Fill the queues; gives what puts them into this state again."""
    for queue in queues:
        session.run(queue.size())
    for queue, components in fill:
        session.run(queue.enqueue(components))
    held = [(each, each.value) for queue in queues if (each := session.resources.lookup(queue.name))]

    def put_back() -> None:
        for each, value in held:
            each.value = value

    return put_back


def _priority(value: float) -> int:
    return int(value) // 10 % 2


def _components(kind: str, value: Any) -> list[Any]:
    if kind == "FIFO":
        return [value]
    return [_priority(value) if isinstance(value, float) else 1, value]


# The model.


class State(NamedTuple):
    """A point in an execution: per queue its elements (priority, value) and whether it is closed (2: and cancelled); what the
    operations gave (None: not yet), and which have had to wait and have not executed since."""

    held: tuple[tuple[tuple[int, float], ...], ...]
    closed: tuple[int, ...]
    given: tuple[Any, ...]
    tried: frozenset[int]


Outcome = tuple[Any, ...]


class Model:
    """All orders of a program: `outcomes`, and `orders`: how many there are of what can be told apart by others."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.closing = any(op.kind == "close" for op in program.ops)
        held = tuple(
            tuple(
                sorted(
                    (self._element(number, 100.0 * (number + 1) + each) for each in range(count)),
                    key=lambda e: e[0],
                )
            )
            for number, (_, _, count) in enumerate(program.queues)
        )
        begin = State(held, (0,) * len(held), (None,) * len(program.ops), frozenset())
        self._all = lru_cache(maxsize=None)(self._outcomes_from)
        self._count = lru_cache(maxsize=None)(self._orders_from)
        self._begin = begin
        self.outcomes = self._all(begin)
        self.orders = self._count(begin)

    def outcomes_after(self, tried: Sequence[int]) -> frozenset[Outcome]:
        """The outcomes after these operations have been tried, in this order; each has executed, or waits."""
        state = self._begin
        for index in tried:
            following = self._step(state, index)
            assert isinstance(following, State)
            state = following
        return self._all(state)

    def _element(self, queue: int, value: float, priority: int | None = None) -> tuple[int, float]:
        if self.program.queues[queue][0] == "FIFO":
            return 0, value
        return (_priority(value) if priority is None else priority), value

    def _outcomes_from(self, state: State) -> frozenset[Outcome]:
        steps = list(self._steps(state))
        if not steps:
            return frozenset([self._end(state)])
        found: set[Outcome] = set()
        for _, following in steps:
            found |= {following} if not isinstance(following, State) else self._all(following)
        return frozenset(found)

    def _orders_from(self, state: State) -> int:
        steps = [
            following for index, following in self._steps(state) if self._counts(state, index, following)
        ]
        if not steps:
            return 1
        return sum(self._count(following) if isinstance(following, State) else 1 for following in steps)

    def _counts(self, state: State, index: int, following: State | Outcome) -> bool:
        """Whether it executes, or begins to wait where others can tell."""
        if not isinstance(following, State) or following.given != state.given:
            return True
        op = self.program.ops[index]
        capacity = self.program.queues[op.queue][1]
        return self.closing if op.kind in ENQUEUES else 0 <= capacity < op.count

    def _end(self, state: State) -> Outcome:
        ready = self._ready(state)
        queues = tuple(zip(state.held, (bool(each) for each in state.closed), strict=True))
        if ready:
            return ("stuck", tuple(f"op{i}" for i in sorted(ready)), queues)
        return ("ended", tuple(each for each in state.given if each != ()), queues)

    def _ready(self, state: State) -> list[int]:
        """What has all that it waits for, but for queues."""
        return [
            index
            for index, op in enumerate(self.program.ops)
            if state.given[index] is None
            and all(state.given[each] is not None for each in (*op.after, op.source) if each >= 0)
        ]

    def _steps(self, state: State) -> Iterator[tuple[int, State | Outcome]]:
        for index in self._ready(state):
            following = self._step(state, index)
            if following != state:
                yield index, following

    def _step(self, state: State, index: int) -> State | Outcome:
        op = self.program.ops[index]
        number, queue = op.queue, f"q{op.queue}"
        kind, capacity, _ = self.program.queues[number]
        held, closed = state.held[number], state.closed[number]
        if op.kind == "size":
            return self._done(state, index, number, held, len(held))
        if op.kind == "close":
            if closed:
                return self._failed(index, "CancelledError", f"Queue '{queue}' is already closed.")
            done = self._done(state, index, number, held, ())
            flags = list(done.closed)
            flags[number] = 2 if op.count == 1 else 1
            return done._replace(closed=tuple(flags))
        if op.kind in ENQUEUES:
            if closed and (closed == 2 or index not in state.tried):
                said = (
                    "Enqueue operation was cancelled"
                    if index in state.tried
                    else f"{kind}Queue '{queue}' is closed."
                )
                return self._failed(index, "CancelledError", said)
            tried = [self.program.ops[i] for i in state.tried]
            wanted = [each.count for each in tried if each.queue == number and each.kind in DEQUEUES]
            room = max(capacity, *wanted, 0)
            if capacity >= 0 and len(held) + op.count > room and (held or op.count <= room):
                return state._replace(tried=state.tried | {index})
            elements = list(held)
            for element in self._brought(state, op, index):
                if kind == "FIFO":
                    elements.append(element)
                else:
                    bisect.insort_right(elements, element, key=lambda each: each[0])
            return self._done(state, index, number, tuple(elements), ())
        count = op.count
        if len(held) < count:
            if not closed:
                return state._replace(tried=state.tried | {index})
            if len(held) < (1 if op.kind == "take_up_to" else count):
                said = (
                    f"{kind}Queue '{queue}' is closed and has insufficient elements "
                    f"(requested {count}, current size {len(held)})"
                )
                return self._failed(index, "OutOfRangeError", said)
            count = len(held)
        values = tuple(value for _, value in held[:count])
        return self._done(state, index, number, held[count:], values)

    def _brought(self, state: State, op: Op, index: int) -> list[tuple[int, float]]:
        if op.kind == "forward":
            return [self._element(op.queue, state.given[op.source][0], 1)]
        return [self._element(op.queue, float(10 * index + each)) for each in range(op.count)]

    @staticmethod
    def _done(state: State, index: int, number: int, held: Any, gave: Any) -> State:
        queues, given = list(state.held), list(state.given)
        queues[number], given[index] = held, gave
        return State(tuple(queues), state.closed, tuple(given), state.tried - {index})

    @staticmethod
    def _failed(index: int, kind: str, message: str) -> Outcome:
        return ("failed", f"{kind} in op{index}: {message}")
