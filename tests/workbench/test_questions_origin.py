"""``origin`` and ``slice`` and ``who wrote``, against naive scans over what each execution really took in."""

from __future__ import annotations

import random
from typing import Any

import control_programs as control
import numpy as np
import pytest
from asked_steps import Seen, Watching, is_array, looked_at, unfinite
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, build, programs

import engine as tf
from engine.runtime.resources import Resource, Stack, TensorArray
from workbench.debugger.command import CommandError
from workbench.debugger.plain import decode, encode
from workbench.debugger.questions.origin import ANY, INF, NAN, backward_slice, origin, spread_of
from workbench.debugger.questions.past import Past
from workbench.debugger.questions.reasoning import Reasoning
from workbench.debugger.questions.trail import Trail
from workbench.debugger.questions.writers import reads_of, who_wrote
from workbench.debugger.stepping import Stepping


class Dangerous:
    """The engine, but with functions in which NaNs and infinities begin: sin is log, and tanh a square root half the time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(tf, name)

    def sin(self, x: Any) -> Any:
        return tf.log(x)

    def tanh(self, x: Any) -> Any:
        return tf.sqrt(x) if self._random.random() < 0.3 else tf.tanh(x)


class Naive:
    """Where values came from, by the identity of the objects, going back through the list of all executions."""

    def __init__(self, stepping: Stepping, seen: list[Seen]) -> None:
        self.seen = seen
        self.nodes = stepping.step.stage.nodes
        self.gave: dict[int, list[Seen]] = {}  # by the identity of what was given
        self.stored: dict[int, list[Seen]] = {}
        for each in seen:
            for value in each.outputs or ():
                self.gave.setdefault(id(value), []).append(each)
            for write in each.writes:
                new = write.new[1] if write.kind == "push" else write.new
                self.stored.setdefault(id(new), []).append(each)

    def bad(self, seen: Seen) -> bool:
        return any(unfinite(value) for value in self.made(seen))

    def made(self, seen: Seen) -> list[Any]:
        found = [value for value in seen.outputs or () if is_array(value)]
        return found + [write.new for write in seen.writes if is_array(write.new)]

    def maker(self, before: int, name: str, value: Any) -> Seen | None:
        """The last execution of `name` before that row that gave this very object."""
        given = [each for each in self.gave.get(id(value), ()) if each.row < before and each.node == name]
        return given[-1] if given else None

    def writer(self, before: int, value: Any) -> Seen | None:
        """The last execution before that row that stored this very object somewhere."""
        stored = [each for each in self.stored.get(id(value), ()) if each.row < before]
        return stored[-1] if stored else None

    def took(self, seen: Seen) -> list[tuple[Seen | None, Any]]:
        """The arrays that an execution took in, and who made them (None: it is not known)."""
        node = self.nodes[seen.node]
        found: list[tuple[Seen | None, Any]] = []
        if seen.outputs is None:
            return found
        merged = node.type in ("Merge", "RefMerge")
        for slot, value in enumerate(seen.inputs):
            name = node.inputs[slot][0]
            if merged and slot != int(seen.outputs[1]):
                continue
            if isinstance(value, tuple):  # a resource, and what it held
                found += self.read(seen, value[0], value[1], slot)
            elif is_array(value):
                found.append((self.maker(seen.row, name, value), value))
        return found

    def read(self, seen: Seen, resource: Any, held: Any, slot: int) -> list[tuple[Seen | None, Any]]:
        node = self.nodes[seen.node]
        if isinstance(resource, Stack):
            popped = [write.old[1] for write in seen.writes if write.kind == "pop"]
            return [(self.writer(seen.row, value), value) for value in popped]
        if isinstance(resource, TensorArray):
            if node.type == "TensorArrayReadV3":
                (value,) = seen.outputs or ()
                return [(self.writer(seen.row, value), value)]
            takes_all = node.type in ("TensorArrayGatherV3", "TensorArrayConcatV3")
            values = [each for each in held.values() if is_array(each)] if takes_all else []
            values = values or [write.old for write in seen.writes if is_array(write.old)]
            return [(self.writer(seen.row, value), value) for value in values]
        passes = node.type in (
            "Assign",
            "Switch",
            "RefSwitch",
            "Enter",
            "RefEnter",
            "RefIdentity",
            "Identity",
        )
        if passes and node.input_dtypes[slot]._is_ref_dtype:
            return []
        return [(self.writer(seen.row, held), held)] if is_array(held) else []

    def origins(self, asked: Seen) -> set[int]:
        """The rows where what is not finite in `asked` began."""
        found, queue, known = set(), [asked], {asked.row}
        while queue:
            seen = queue.pop()
            sources = [maker for maker, value in self.took(seen) if unfinite(value) and maker is not None]
            if not sources:
                found.add(seen.row)
            for source in sources:
                if source.row not in known:
                    known.add(source.row)
                    queue.append(source)
        return found


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 30))
@settings(max_examples=8, deadline=None)
def test_origins_are_those_of_a_scan_over_what_was_really_taken_in(number: int, seed: int) -> None:
    """Loops, conditionals, arrays, mapped functions and all their gradients."""
    asked = 0
    with tf.Graph().as_default() as graph:
        built = control.Built(Dangerous(seed), control.program(number))
    feeds = dict(zip(built.inputs, control.inputs(seed)))
    rng = random.Random(seed)

    def look(stepping: Stepping) -> None:
        nonlocal asked
        watching = Watching(stepping)
        watching.run()
        naive = Naive(stepping, watching.seen)
        bad = [seen for seen in watching.seen if naive.bad(seen)]
        if not bad:
            with pytest.raises(CommandError, match="gave a nan"):
                origin(stepping, NAN)
            return
        trail = Trail.of(stepping)
        for seen in [bad[0], *rng.sample(bad, min(4, len(bad))), bad[-1]]:
            asked += 1
            entry = stepping.entry_at(seen.row)
            assert entry is not None
            found = spread_of(trail, entry)
            assert {each.row for each in found.origins} == naive.origins(seen)
            for each in found.origins[:3]:
                way = found.way(each)
                assert way[0] is each and way[-1] is entry
                assert all(naive.bad(watching.seen[step.row]) for step in way)
        told = origin(stepping, ANY)
        # What the scan in the order of the history meets first is where something began.
        assert any(each.row == bad[0].row for each in spread_of(trail, stepping.history[bad[0].row]).origins)
        assert told.roots[0].row == min(naive.origins(bad[-1]))
        assert decode(Reasoning, encode(told)) == told

    with tf.Session(graph=graph) as session, looked_at(look), np.errstate(all="ignore"):
        session.run(built.wanted, feeds)


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=12, deadline=None)
def test_who_wrote_is_a_replay_of_all_writes(program: Program, seed: int) -> None:
    """The changes, and who read what between them, against looking at each variable after every node."""
    built = build(program, tf)

    def look(stepping: Stepping) -> None:
        held: dict[str, Any] = {}
        resources: dict[str, Resource] = {
            each.name: each for each in stepping.step.resources if each.kind == "variable"
        }
        changes: dict[str, list[tuple[int, str, Any, Any]]] = {name: [] for name in resources}
        reads: dict[str, list[int]] = {name: [] for name in resources}
        versions = {name: each.version for name, each in resources.items()}
        held = {name: each.value for name, each in resources.items()}
        watching = Watching(stepping)
        while stepping.ready:
            watching.execute()
            seen = watching.seen[-1]
            for name, resource in resources.items():
                if resource.version != versions[name]:
                    changes[name].append((seen.row, seen.node, held[name], resource.value))
                    versions[name], held[name] = resource.version, resource.value
            node = stepping.step.stage.nodes[seen.node]
            for slot, value in enumerate(seen.inputs):
                passes = node.type.removeprefix("Ref") in (
                    "Switch",
                    "Enter",
                    "Exit",
                    "Merge",
                    "NextIteration",
                )
                takes = not passes and not (node.type == "Assign" and slot == 0)
                if isinstance(value, tuple) and seen.outputs is not None and takes:
                    if value[0].name not in reads or seen.row in reads[value[0].name]:
                        continue
                    reads[value[0].name].append(seen.row)
        trail = Trail.of(stepping)
        for name, resource in resources.items():
            found = [
                (each.row, each.entry.activation.name, each.write.old, each.write.new)
                for each in trail.changes(resource)
            ]
            assert [each[:2] for each in found] == [each[:2] for each in changes[name]]
            assert all(a[2] is b[2] and a[3] is b[3] for a, b in zip(found, changes[name]))
            assert [each.row for each in reads_of(trail, resource)] == reads[name]
            for row in random.Random(seed).sample(range(stepping.executed), min(10, stepping.executed)):
                before = [each for each in changes[name] if each[0] < row]
                expected = (
                    before[-1][3] if before else changes[name][0][2] if changes[name] else resource.value
                )
                assert trail.value_at(resource, row) is expected
            told = who_wrote(stepping, name)
            if changes[name]:
                assert f"was written {len(changes[name])} time" in told.answer
                assert told.roots[0].row == changes[name][-1][0]
            else:
                assert told.answer.startswith("nothing has written")

    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with looked_at(look):
            session.run(built.fetches, built.feeds)


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=10, deadline=None)
def test_a_slice_is_closed_and_only_has_what_is_needed(program: Program, seed: int) -> None:
    """Each data input of an execution in it is in it (by the objects), and all but the last has somebody in it who took it."""
    built = build(program, tf)

    def look(stepping: Stepping) -> None:
        watching = Watching(stepping)
        watching.run()
        naive = Naive(stepping, watching.seen)
        trail = Trail.of(stepping)
        rng = random.Random(seed)
        for entry in rng.sample(stepping.history, min(5, len(stepping.history))):
            rows = set(trail.slice_of(entry, control=False))
            taken = set()
            for row in rows:
                for maker, value in naive.took(watching.seen[row]):
                    if maker is not None:
                        # Of several executions that passed the same object on in the same frame, any may be named.
                        same = {
                            each.row
                            for each in watching.seen[:row]
                            if each.node == maker.node and any(out is value for out in each.outputs or ())
                        }
                        assert rows & (same | {maker.row})
            for row in rows:
                taken |= {
                    each.source.row
                    for each in trail.arrivals(stepping.history[row])
                    if each.source is not None
                }
            assert rows - {entry.row} <= taken
            told = backward_slice(stepping, entry)
            assert f"#{entry.row} in " in told.answer

    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with looked_at(look):
            session.run(built.fetches, built.feeds)


# --- what is particular ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_written")
def test_log_of_zero_inside_a_loops_gradient() -> None:
    w = tf.Variable(1.0, name="w")
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.while_loop(
        lambda i, v: i < 3, lambda i, v: (i + 1, tf.log(v * w, name="lg") + 1.0), [0, x], name="loop"
    )[1]
    up = tf.assign_sub(w, tf.gradients(y, w)[0], name="up")
    told: list[Reasoning] = []
    past = Past()

    def look(stepping: Stepping) -> None:
        with np.errstate(all="ignore"):
            while stepping.ready:
                stepping.execute()
        if stepping.step.info.step == 3:  # type: ignore[union-attr]  # it has
            told.append(origin(stepping, NAN))
            told.append(who_wrote(stepping, "w", past))
            with pytest.raises(CommandError, match="there is no variable, stack or array 'v'; variables: w"):
                who_wrote(stepping, "v")
        past.take(stepping)

    with tf.Session() as session, looked_at(look):
        session.run(w.initializer)
        session.run(up, {x: [1.0, 0.5]})
        session.run(up, {x: [1.0, 0.0]})
    nan, wrote = told
    first = nan.roots[0]
    assert (first.node, first.place) == ("loop/lg", "root > loop:0")
    assert "made loop/lg:0 = " in first.statement and "out of finite inputs" in first.statement
    statements = [each.statement for each in nan.reasons]
    assert any(each.startswith("took in loop/mul:0 = float32[2]") for each in statements)
    assert "it is part of the gradient of loop/lg" in statements
    assert any(each.endswith("kept of loop/mul in root > loop:0") for each in statements)
    assert "written in step 2 by up (AssignSub), assign_sub" in [each.statement for each in wrote.reasons]
    assert wrote.roots[0].statement.endswith("→ float32[] nan")
    assert (
        wrote.answer
        == "the variable 'w' was written 1 time in this step, last by up #"
        + str(wrote.roots[0].row)
        + " in root"
    )


@pytest.mark.usefixtures("as_written")
def test_what_was_fed_and_what_a_variable_held() -> None:
    w = tf.Variable([1.0, 2.0], name="w")
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.add(tf.multiply(w, 1.0), x, name="y")
    told: list[str] = []

    def look(stepping: Stepping) -> None:
        while stepping.ready:
            stepping.execute()
        try:
            told.append(origin(stepping, ANY).roots[0].statement)
            with pytest.raises(CommandError, match="has no inf"):
                origin(stepping, INF, stepping.history[0])
        except CommandError as error:
            told.append(str(error))

    with tf.Session() as session:
        session.run(w.initializer)
        with looked_at(look):
            session.run(y, {x: [1.0, np.nan]})
            session.run(y, {x: [1.0, 1.0]})
            session.run(w.assign([np.inf, 1.0]))
            session.run(y, {x: [1.0, 1.0]})
    assert told[0] == "_arg_x_0_0 (_Arg) brought _arg_x_0_0:0 = float32[2] [ 1., nan] in (fed)"
    assert told[1].startswith("nothing that has executed in this step")
    assert told[3] == "the variable 'w' was not finite before what the history has; w/read took it in"


@pytest.mark.usefixtures("as_written")
def test_through_a_queue() -> None:
    queue = tf.FIFOQueue(4, [tf.float32, tf.float32], shapes=[[], []], name="queue")
    one = queue.enqueue([1.0, 2.0], name="one")
    with tf.control_dependencies([one]):
        two = queue.enqueue([tf.log(tf.constant(0.0), name="bad"), 3.0], name="two")
    with tf.control_dependencies([two]):
        first, second = queue.dequeue(name="first"), None
        with tf.control_dependencies([first[0]]):
            second = queue.dequeue(name="second")
    y, z = tf.add(*first, name="y"), tf.add(*second, name="z")
    told: list[Any] = []

    def look(stepping: Stepping) -> None:
        with np.errstate(all="ignore"):
            while stepping.ready:
                stepping.execute()
        told.append(origin(stepping, INF, stepping.latest[stepping.step.program.by_name["z"].index]))
        trail = Trail.of(stepping)
        entry = stepping.latest[stepping.step.program.by_name["y"].index]
        told.append({each.activation.name for each in trail.slice_of(entry, control=False).values()})
        told.append(who_wrote(stepping, "queue"))

    with tf.Session() as session, looked_at(look):
        session.run([y, z])
    found, names, wrote = told
    assert found.roots[0].node == "bad"
    assert "one" in names and "two" not in names and "second" not in names
    assert [each.statement for each in wrote.reasons if each.row >= 0] == [
        "enqueue by one (QueueEnqueueV2): 0 elements → 1 element",
        "enqueue by two (QueueEnqueueV2): 1 element → 2 elements",
        "dequeue by first (QueueDequeueV2): 2 elements → 1 element",
        "dequeue by second (QueueDequeueV2): 1 element → 0 elements",
    ]


@pytest.mark.usefixtures("as_written")
def test_through_two_devices() -> None:
    with tf.device("/cpu:1"):
        x = tf.log(tf.constant([0.0, 1.0]), name="bad")
    with tf.device("/cpu:0"):
        y = tf.multiply(x, 2.0, name="y")
    told: list[Reasoning] = []

    def look(stepping: Stepping) -> None:
        with np.errstate(all="ignore"):
            while stepping.ready:
                stepping.execute()
        entry = stepping.latest[stepping.step.program.by_name["y"].index]
        told.append(origin(stepping, INF, entry))

    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session, looked_at(look):
        session.run(y)
    assert told[0].roots[0].node == "bad"
    assert [each.type for each in told[0].reasons if each.type in ("_Send", "_Recv")] == ["_Send", "_Recv"]


@pytest.mark.usefixtures("as_written")
def test_going_back_and_on_another_way_is_noticed() -> None:
    y = tf.exp(tf.log(tf.constant(0.0), name="bad"), name="y")
    z = tf.log(tf.constant(-1.0), name="z")
    found: list[str] = []

    def look(stepping: Stepping) -> None:
        with np.errstate(all="ignore"):
            while stepping.ready:
                stepping.execute()
            found.append(origin(stepping, NAN).roots[0].node)
            rows = len(Trail.of(stepping).entries)
            while stepping.history:
                stepping.back()
            with pytest.raises(CommandError):
                origin(stepping, ANY)
            while stepping.prefer(lambda each: each.name != "z"):
                stepping.execute()
            with pytest.raises(CommandError):
                origin(stepping, NAN)
            found.append(origin(stepping, INF).roots[0].node)
            stepping.execute()
            found.append(origin(stepping, NAN).roots[0].node)
        assert len(stepping.history) <= rows

    with tf.Session() as session, looked_at(look):
        session.run([y, z])
    assert found == ["z", "bad", "z"]
