"""``why not``: its root causes against those of a naive fixed point over the graph and what has executed, and against running."""

from __future__ import annotations

import contextlib
import random
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from asked_steps import looked_at
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, programs

import engine as tf
from engine.op.queues import Blocked
from engine.runtime.frames import Activation
from engine.types import errors
from workbench.debugger.command import CommandError
from workbench.debugger.plain import decode, encode
from workbench.debugger.questions.blocked import trace
from workbench.debugger.questions.reasoning import MAX_REASONS, Reasoning
from workbench.debugger.questions.waiting import why_not
from workbench.debugger.questions.waits import Wait, Waits, Why
from workbench.debugger.stepping import Stepping

CPUS = tf.ConfigProto(device_count={"CPU": 3})


def shuffle(stepping: Stepping, rng: random.Random, count: int) -> None:
    """Execute `count` nodes in random order."""
    for _ in range(count):
        if not stepping.ready:
            return
        choice = rng.choice(list(stepping.ready))
        stepping.prefer(lambda each, choice=choice: each == choice)
        stepping.execute()


# --- a naive answer: sets, from the edges and the list of what has executed ---------------------------------------------------

Fact = tuple[str, str, int, int]  # what: "node", "frame", "iteration" or "end"; name; frame id; iteration


def kind_of(node: Any) -> str:
    """The type of a node, of one for references (``RefEnter``) that of its plain sister."""
    return str(node.type).removeprefix("Ref")


class Naive:
    """Who waits for whom, from the names of nodes and the history alone (and the list of open frames)."""

    def __init__(self, stepping: Stepping) -> None:
        self.stepping = stepping
        self.stage = stepping.step.stage
        self.items = stepping.step.program.by_name
        self.ran: dict[tuple[str, int, int], bool] = {}  # and whether it was dead
        self.left: set[tuple[str, int, int]] = (
            set()
        )  # exits that were left alive: name, outer frame, outer iteration
        for entry in stepping.history:
            item, frame, iteration = entry.activation
            self.ran[item.name, frame.id, iteration] = entry.outputs is None
            if kind_of(item.node) == "Exit" and entry.outputs is not None:
                self.left.add((item.name, frame.parent.id, frame.parent_iteration))  # type: ignore[union-attr]
        self.frames = {frame.id: frame for frame in stepping.state.live_frames()}
        self.ready = {(each.name, each.frame.id, each.iteration) for each in stepping.state.outstanding}
        self.enters: dict[str, list[str]] = {}
        for node in self.stage:
            if kind_of(node) == "Enter":
                key = f"{node.attrs['frame_name']}|{self.items[node.name].frame.index}|"
                key += node.device if stepping.step.program.per_device else ""
                self.enters.setdefault(key, []).append(node.name)

    def frame_key(self, name: str) -> str:
        spec = self.items[name].frame
        return f"{spec.name}|{spec.parent.index if spec.parent else ''}|{spec.device}"

    def inside(self, name: str, frame: int, iteration: int) -> Any:
        """The open frame in which node `name` lives that was entered from there."""
        spec = self.items[name].frame
        for each in self.frames.values():
            if each.spec is spec and each.parent.id == frame and each.parent_iteration == iteration:
                return each
        return None

    def arrived(self, name: str, frame: int, iteration: int, alive: bool) -> bool:
        """Whether the token of `name` is in that iteration; with `alive`, as a live one."""
        node = self.stage.nodes[name]
        at = self.frames[frame]
        key = (name, frame, iteration)
        if kind_of(node) == "Enter":
            if iteration and not node.attrs["is_constant"]:
                return False
            key = (name, at.parent.id, at.parent_iteration)
        elif kind_of(node) == "NextIteration":
            key = (name, frame, iteration - 1)
            return self.ran.get(key) is False
        elif kind_of(node) == "Exit":
            if key in self.left:
                return True
            # A dead one leaves when the frame has ended, which had then begun.
            begun = any((enter, frame, iteration) in self.ran for enter in self.enters[self.frame_key(name)])
            return not alive and begun and self.inside(name, frame, iteration) is None
        return key in self.ran and not (alive and self.ran[key])

    def source(self, name: str, frame: int, iteration: int) -> Fact:
        node, at = self.stage.nodes[name], self.frames[frame]
        if kind_of(node) == "Enter":
            return ("node", name, at.parent.id, at.parent_iteration)
        if kind_of(node) == "NextIteration":
            return ("node", name, frame, iteration - 1)
        if kind_of(node) == "Exit":
            child = self.inside(name, frame, iteration)
            if child is None:
                return ("frame", self.frame_key(name), frame, iteration)
            if (name, child.id, child.count) not in self.ran:
                return ("node", name, child.id, child.count)
            return ("iteration", "", child.id, child.count + 1)
        return ("node", name, frame, iteration)

    def waits_of(self, fact: Fact) -> set[Fact]:
        what, name, frame, iteration = fact
        if what == "frame":
            return {("node", enter, frame, iteration) for enter in self.enters[name]}
        at = self.frames[frame]
        if what == "end":
            return self.open_in(at, iteration)
        if what == "iteration":
            if at.deferred:
                return {("end", "", frame, min(at.iterations))}
            nexts = {
                ("node", node.name, frame, at.count)
                for node in self.stage
                if kind_of(node) == "NextIteration"
                and self.items[node.name].frame is at.spec
                and (node.name, frame, at.count) not in self.ran
            }
            return nexts or self.open_in(at, -1)
        if (name, frame, iteration) in self.ready:
            return set()
        node = self.stage.nodes[name]
        found = set()
        if kind_of(node) == "Merge":
            names = [each for each, _ in node.inputs]
            outputs = [slot for _, slot in node.inputs]
            if not any(self.live(each, slot, frame, iteration) for each, slot in zip(names, outputs)):
                for each in names:
                    kind = kind_of(self.stage.nodes[each])
                    if (kind == "Enter" and iteration) or (kind == "NextIteration" and not iteration):
                        continue
                    if not self.arrived(each, frame, iteration, False):
                        found.add(self.source(each, frame, iteration))
        else:
            for each, _ in node.inputs:
                if not self.arrived(each, frame, iteration, False):
                    found.add(self.source(each, frame, iteration))
        for each in node.control_inputs:
            if not self.arrived(each, frame, iteration, False):
                found.add(self.source(each, frame, iteration))
        return found

    def live(self, name: str, slot: int, frame: int, iteration: int) -> bool:
        """Whether a live token from output `slot` has come: a Switch's other output is dead."""
        if not self.arrived(name, frame, iteration, True):
            return False
        if self.stage.nodes[name].type in ("Switch", "RefSwitch"):
            for entry in self.stepping.history:
                at = entry.activation
                if (at.name, at.frame.id, at.iteration) == (name, frame, iteration):
                    return entry.outputs is not None and repr(entry.outputs[slot]) != "DEAD"
        return True

    def open_in(self, at: Any, iteration: int) -> set[Fact]:
        found: set[Fact] = set()
        for number in at.iterations if iteration < 0 else [iteration]:
            found |= {("node", *each) for each in self.ready if each[1:] == (at.id, number)}
            for child in self.frames.values():
                if child.parent is at and child.parent_iteration == number:
                    found.add(("end", "", child.id, -1))
        if iteration <= 0 and at.parent is not None:
            for enter in self.enters[f"{at.spec.name}|{at.parent.spec.index}|{at.spec.device}"]:
                if (enter, at.parent.id, at.parent_iteration) not in self.ran:
                    found.add(("node", enter, at.parent.id, at.parent_iteration))
        return found

    def roots(self, start: Fact) -> set[Fact]:
        """What waits for nothing among all that `start` waits for: facts are added until there are no new ones."""
        known = {start}
        while True:
            new = set().union(*(self.waits_of(fact) for fact in known)) - known
            if not new:
                break
            known |= new
        return {fact for fact in known if not self.waits_of(fact)}


def fact_of(naive: Naive, wait: Wait) -> Fact:
    if wait.spec is not None:
        spec = wait.spec
        parent = spec.parent.index if spec.parent else ""
        return ("frame", f"{spec.name}|{parent}|{spec.device}", wait.frame.id, wait.iteration)
    if wait.item is None:
        return ("end" if wait.end else "iteration", "", wait.frame.id, wait.iteration)
    return ("node", wait.item.name, wait.frame.id, wait.iteration)


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_root_causes_are_those_of_a_naive_fixed_point(program: Program, seed: int) -> None:
    built = build(program, tf, keep_all=True)
    rng = random.Random(seed)

    def look(stepping: Stepping) -> None:
        for _ in range(4):
            shuffle(stepping, rng, rng.randrange(60))
            naive, waits = Naive(stepping), Waits(stepping)
            places = [
                Activation(item, frame, number)
                for frame in stepping.state.live_frames()
                for number in frame.iterations
                for item in frame.spec.items
                if not waits.has_run(item, frame, number)
            ]
            for at in rng.sample(places, min(8, len(places))):
                assert (at.name, at.frame.id, at.iteration) not in naive.ran
                found = trace(waits, Wait(*at))
                expected = naive.roots(("node", at.name, at.frame.id, at.iteration))
                assert {fact_of(naive, root) for root in found.roots} == expected
                assert not found.cycles
                told = why_not(stepping, at.name)
                assert told.answer and len(told.reasons) <= MAX_REASONS

    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with looked_at(look):
            session.run(built.fetches, built.feeds)


@given(programs(), st.integers(0, 1 << 30), st.booleans())
@settings(max_examples=15, deadline=None)
def test_executing_nothing_but_root_causes_makes_it_execute(
    program: Program, seed: int, spread: bool
) -> None:
    """On one device or several: what `why not` names is all that is needed, and each of it can be executed."""
    built = build(program, tf, device=anywhere(seed, ["/cpu:0", "/cpu:1", "/cpu:2"]) if spread else None)
    rng = random.Random(seed)

    def look(stepping: Stepping) -> None:
        shuffle(stepping, rng, rng.randrange(120))
        waiting = [item for item in stepping.step.program.items if item.index not in stepping.latest]
        if not waiting:
            return
        item = rng.choice(waiting)
        for _ in range(20_000):
            if item.index in stepping.latest:
                return
            told = why_not(stepping, item.name)
            roots = {(root.node, root.place) for root in told.roots}
            if not stepping.prefer(lambda each: any(each.name == node for node, _ in roots)):  # noqa: B023
                # Its frame was never entered alive enough to have this node run: nothing is ready that could help.
                raise AssertionError(told.text())
            stepping.execute()
        raise AssertionError("it does not end")

    with tf.Session(graph=built.graph, config=CPUS) as session:
        session.run(built.initializer)
        with looked_at(look):
            session.run(built.fetches, built.feeds)


@given(st.integers(2, 30), st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None)
def test_without_a_root_cause_it_never_executes(size: int, seed: int) -> None:
    """In a graph without control flow, each root cause is needed: closure of the adjacency matrix, and starving one."""
    rng = random.Random(seed)
    with tf.Graph().as_default() as graph:
        tensors = [tf.constant(1.0, name="n0")]
        for number in range(1, size):
            inputs = rng.sample(tensors, min(len(tensors), rng.choice([0, 1, 1, 2])))
            with tf.control_dependencies(rng.sample(tensors, min(len(tensors), rng.choice([0, 0, 1])))):
                made = tf.add_n(inputs, name=f"n{number}") if inputs else tf.constant(2.0, name=f"n{number}")
            tensors.append(made)

    def look(stepping: Stepping) -> None:
        shuffle(stepping, rng, rng.randrange(size))
        names = list(stepping.step.stage.nodes)
        index = {name: i for i, name in enumerate(names)}
        ran = {entry.activation.name for entry in stepping.history}
        waits = np.zeros((len(names), len(names)), bool)
        for node in stepping.step.stage:
            for source in (*(name for name, _ in node.inputs), *node.control_inputs):
                waits[index[node.name], index[source]] = node.name not in ran and source not in ran
        closure = waits | np.eye(len(names), dtype=bool)
        for _ in names:
            closure = closure | (closure @ closure)
        left = [name for name in names if name not in ran]
        if not left:
            return
        asked = rng.choice(left)
        ready = {each.name for each in stepping.ready}
        expected = {name for name in ready if closure[index[asked], index[name]]}
        found = trace(Waits(stepping), Wait(stepping.step.program.by_name[asked], stepping.state.root, 0))
        assert {root.item.name for root in found.roots} == expected  # type: ignore[union-attr]
        for root in found.roots:
            way = [asked, *(each.item.name for each in found.way(root))]  # type: ignore[union-attr]
            assert all(waits[index[a], index[b]] for a, b in pairwise(way))
        starved = rng.choice(sorted(expected))
        while stepping.prefer(lambda each: each.name != starved):
            stepping.execute()
        assert asked not in {entry.activation.name for entry in stepping.history}

    with tf.Session(graph=graph) as session, looked_at(look):
        session.run(tensors)


# --- what is particular ----------------------------------------------------------------------------------------------------


def ask_at(fetches: Any, count: int, *names: str, feed: Any = None, **config: Any) -> list[Reasoning]:
    """What `why_not` says of `names` after `count` executions."""
    told: list[Reasoning] = []

    def look(stepping: Stepping) -> None:
        while stepping.ready and stepping.executed < count:
            stepping.execute()
        told.extend(why_not(stepping, name) for name in names)

    with tf.Session(config=tf.ConfigProto(**config)) as session, looked_at(look):
        session.run(fetches, feed)
    return told


@pytest.mark.usefixtures("as_written")
def test_a_loop_that_has_not_begun_an_inner_one_and_one_that_goes_on() -> None:
    x = tf.constant(1.0, name="x")

    def body(i: Any, v: Any) -> Any:
        inner = tf.while_loop(
            lambda j, w: j < 2, lambda j, w: (j + 1, tf.sin(w, name="sin")), [0, v], name="in"
        )
        return i + 1, inner[1]

    y = tf.exp(tf.while_loop(lambda i, v: i < 3, body, [0, x], name="out")[1], name="y")
    (first,) = ask_at(y, 0, "out/in/sin")
    assert first.answer.startswith("the frame out has not begun: none of its Enters has run; at the bottom ")
    assert {root.node for root in first.roots} <= {each.name for each in y.graph.get_operations()}
    assert all(Why.READY.value in root.statement for root in first.roots)
    later, end = ask_at(y, 60, "y", "out/in/sin")
    assert later.answer.startswith("y in root waits for 1 of its 1 input; at the bottom")
    assert any(each.place.startswith("root > out:") for each in later.reasons)
    assert later.reasons[0].statement.startswith("out/Exit_1:0 is missing:")
    assert end.answer


@pytest.mark.usefixtures("as_written")
def test_a_dead_node_an_alive_one_and_what_is_not_in_the_step() -> None:
    x = tf.constant(2.0, name="x")
    y = tf.cond(x > 1.0, lambda: tf.exp(x, name="taken"), lambda: tf.sin(x, name="left"))
    tf.negative(y, name="unused")
    dead, alive, pruned = ask_at(y, 100, "cond/left", "cond/taken", "unused")
    assert dead.answer.startswith("cond/left has executed, but dead: its kernel did not run (#")
    (root,) = dead.roots
    assert root.type == "Switch" and "was True" in root.statement
    assert alive.answer.startswith("cond/taken has executed: #")
    assert pruned.answer == "unused is not in this step"
    assert pruned.roots[0].statement == "unused was taken out in pruned: no fetch or target needs it"
    with pytest.raises(CommandError, match="there is no node 'yy' in this step"):
        ask_at(y, 0, "yy")


def test_what_a_pass_folded_is_asked_of_what_stands_for_it() -> None:
    x = tf.placeholder(tf.float32, [], name="x")
    y = tf.add(tf.add(x, 0.0, name="nothing"), tf.add(tf.sin(x), tf.sin(x), name="twice"), name="y")
    nothing, twin = ask_at(y, 0, "nothing", "Sin_1", feed={x: 1.0})
    for told in (nothing, twin):
        assert "is not in this step" in told.answer and told.roots[0].statement
    assert "in its place: y" in twin.answer  # all of it was fused


@pytest.mark.usefixtures("as_written")
def test_an_iteration_that_parallel_iterations_holds_back() -> None:
    y = tf.while_loop(
        lambda i, v: i < 5,
        lambda i, v: (i + 1, tf.sin(v, name="sin")),
        [0, 1.0],
        parallel_iterations=1,
        name="loop",
    )[1]
    told: list[Reasoning] = []

    def look(stepping: Stepping) -> None:
        while stepping.ready:
            frames = [frame for frame in stepping.state.live_frames() if frame.deferred]
            if frames:
                told.append(why_not(stepping, "loop/sin", frames[0].count + 1))
                if frames[0].count:
                    with pytest.raises(CommandError, match="is over"):
                        why_not(stepping, "loop/sin", 0)
            stepping.execute()

    with tf.Session() as session, looked_at(look):
        session.run(y)
    held = [each for each in told if "parallel_iterations" in each.answer]
    assert held and held[0].answer.startswith("iteration 1 of loop is held back")
    assert held[0].reasons[0].statement.startswith("iteration 0 of loop has not ended")


def test_two_partitions_that_wait_for_each_other() -> None:
    def transfer(kind: str, name: str, value: Any = None) -> Any:
        options = {
            "tensor_name": name,
            "send_device": f"/cpu:{0 if name == 'a' else 1}",
            "send_device_incarnation": 1,
            "recv_device": f"/cpu:{1 if name == 'a' else 0}",
        }
        if kind == "send":
            return tf.raw_ops._Send(tensor=value, **options)
        return tf.raw_ops._Recv(tensor_type=tf.float32, **options)

    sends = []
    for here, there in (("a", "b"), ("b", "a")):
        value = tf.sqrt(transfer("recv", there), name=f"after_{there}")
        sends.append(transfer("send", here, value))
    told: list[Reasoning] = []

    def look(stepping: Stepping) -> None:
        while stepping.ready:
            stepping.execute()
        told.append(why_not(stepping, "after_a"))

    with tf.Session() as session, looked_at(look), pytest.raises(errors.InternalError):
        session.run(sends)
    (answer,) = told
    assert answer.answer == "after_a in root waits for 1 of its 1 input; at the bottom 1 deadlock"
    cycle = [root.node for root in answer.roots if root.node]
    assert {"Recv", "Recv_1", "Send", "Send_1", "after_a", "after_b"} >= set(cycle) and len(cycle) >= 4
    assert any(root.statement.startswith("a deadlock:") for root in answer.roots)
    assert decode(Reasoning, encode(answer)) == answer


def test_nobody_sends() -> None:
    got = tf.raw_ops._Recv(
        tensor_type=tf.float32, tensor_name="t", send_device="a", send_device_incarnation=1, recv_device="b"
    )
    y = tf.sqrt(got, name="y")
    told: list[Reasoning] = []

    def look(stepping: Stepping) -> None:
        while stepping.ready:
            stepping.execute()
        told.append(why_not(stepping, "y"))

    with tf.Session() as session, looked_at(look), pytest.raises(errors.InternalError):
        session.run(y)
    assert "there is no _Send for it in the graph" in told[0].roots[0].statement


@pytest.mark.usefixtures("as_written")
def test_a_queue_that_is_empty_one_that_is_full_and_one_that_waits_for_itself() -> None:
    queue = tf.FIFOQueue(1, [tf.float32], shapes=[[]], name="queue")
    take = tf.sqrt(queue.dequeue(name="take"), name="root")
    slow = tf.exp(tf.constant(0.0), name="slow")
    put = queue.enqueue([slow], name="put")
    twice = queue.enqueue([take], name="twice")
    told: list[Reasoning] = []

    def look(stepping: Stepping) -> None:
        for _ in range(20):
            if stepping.prefer(lambda each: each.name not in ("slow", "put")):
                with contextlib.suppress(Blocked):
                    stepping.execute()
        asked = "root" if "root" in stepping.step.program.by_name else "put"
        told.append(why_not(stepping, asked))
        stepping.ready.clear()  # it would wait for ever

    def ask(*fetches: Any) -> Reasoning:
        with tf.Session() as session, looked_at(look), contextlib.suppress(Exception):
            session.run(fetches)
        return told[-1]

    empty = ask(take)
    assert empty.answer == "root in root waits for 1 of its 1 input; at the bottom 1 root cause"
    assert empty.roots[0].node == "take" and empty.roots[0].statement.endswith(
        "waits for 1 element in FIFOQueue 'queue', which holds 0, and nothing else in this step changes it"
    )
    waiting = ask(take, put)
    assert [root.node for root in waiting.roots] == ["slow"]
    circle = ask(take, twice)
    assert circle.answer.endswith("at the bottom 1 deadlock")
    assert {root.node for root in circle.roots if root.node} == {"take", "root", "twice"}
    with tf.Session() as session:
        session.run(put)

        def full(stepping: Stepping) -> None:
            with contextlib.suppress(Blocked):
                while stepping.ready:
                    stepping.execute()
            told.append(why_not(stepping, "put"))
            stepping.ready.clear()

        with looked_at(full), contextlib.suppress(Exception):
            session.run(put)
    assert "put in root waits for room for 1 in FIFOQueue 'queue', which holds 1 of 1" in told[-1].answer


def test_a_large_graph_is_answered_shortly_and_at_once() -> None:
    with tf.Graph().as_default() as graph:
        layer = [tf.placeholder(tf.float32, [], name=f"x{i}") for i in range(100)]
        feed = dict.fromkeys(layer, 1.0)
        for _ in range(99):
            layer = [tf.add(layer[i], layer[(i + 1) % 100]) for i in range(100)]
        total = tf.add_n(layer, name="total")
    calls = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def look(stepping: Stepping) -> None:
        for _ in range(5_000):
            stepping.execute()
        sys.setprofile(note)
        try:
            told = why_not(stepping, "total")
        finally:
            sys.setprofile(None)
        assert len(told.reasons) <= MAX_REASONS and told.omitted and len(told.text()) < 20_000

    from engine.passes import pipeline

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "PASSES", ())
        with tf.Session(graph=graph) as session, looked_at(look):
            session.run(total, feed)
    assert 0 < calls < 400_000  # 80,000 are needed
