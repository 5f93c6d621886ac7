"""``why``, ``needs``, ``why here``, ``diff`` and the commands that ask: against brute force, and as they are typed."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked_steps import Watching, looked_at
from debug_fronts import Quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from random_programs import Program, build, programs

import engine as tf
import tracing
from workbench.debugger import asking
from workbench.debugger.command import Answer
from workbench.debugger.commands import COMMANDS
from workbench.debugger.core import Debugger
from workbench.debugger.plain import decode, encode
from workbench.debugger.questions.differences import compare, value_of_run
from workbench.debugger.questions.reasoning import Reason, Reasoning, bounded
from workbench.debugger.questions.wanted import ends, needs, paths_to, why
from workbench.debugger.stepping import Stepping


class Script(Quiet):
    """A front that gives commands from a list and keeps the answers."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = iter([*commands, *["c"] * 100])
        self.answers: list[Answer] = []
        self.asked: list[Reasoning] = []

    def command(self, debugger: Debugger) -> str:
        line = next(self._commands)
        if line.startswith("ask "):
            self.asked.append(asking.ask(debugger, line.removeprefix("ask ")))
            return "w"
        return line

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)


def drive(runs: Sequence[tuple[Any, Any]], *commands: str, **config: Any) -> Script:
    """Run each (fetches, feeds) in one session under the debugger."""
    front = Script(commands)
    with (
        Debugger(front, script="test.py").installed(),
        tf.Session(config=tf.ConfigProto(**config)) as session,
    ):
        for fetches, feeds in runs:
            session.run(fetches, feeds)
    return front


# --- why: paths to what is fetched -------------------------------------------------------------------------------------------


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_paths_are_shortest_and_lead_to_every_end(program: Program, seed: int) -> None:
    """Against distances by powers of the adjacency matrix."""
    built = build(program, tf)

    def look(stepping: Stepping) -> None:
        stage = stepping.step.stage
        names = list(stage.nodes)
        index = {name: i for i, name in enumerate(names)}
        step = np.zeros((len(names), len(names)), bool)
        for node in stage:
            for source in (*(name for name, _ in node.inputs), *node.control_inputs):
                step[index[source], index[node.name]] = True
        for name in random.Random(seed).sample(names, min(6, len(names))):
            distance = {name: 0}
            reached = np.zeros(len(names), bool)
            reached[index[name]] = True
            for number in range(1, len(names)):
                wave = (reached @ step) & ~reached
                if not wave.any():
                    break
                reached |= wave
                distance.update((names[i], number) for i in np.flatnonzero(wave))
            wanted = {end: distance[end] for end in ends(stage) if end in distance}
            found = paths_to(stage, name)
            assert {end: len(way) - 1 for end, way in found.items()} == wanted
            assert [len(way) for way in found.values()] == sorted(len(way) for way in found.values())
            for end, way in found.items():
                assert way[0] == name and way[-1] == end
                assert all(step[index[a], index[b]] for a, b in pairwise(way))
            told = why(stepping, name)
            assert decode(Reasoning, encode(told)) == told
            assert {root.node for root in told.roots} <= set(wanted) or not wanted

    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with looked_at(look):
            session.run(built.fetches, built.feeds)


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_whoever_still_needs_a_value_takes_it_later(program: Program, seed: int) -> None:
    """Who is named takes in that very object later in the step, and nobody else does."""
    built = build(program, tf)
    rng = random.Random(seed)

    def look(stepping: Stepping) -> None:
        watching = Watching(stepping)
        watching.run(rng.randrange(1, 200))
        asked = []
        for entry in rng.sample(stepping.history, min(8, len(stepping.history))):
            for slot, value in enumerate(entry.outputs or ()):
                if isinstance(value, np.ndarray | np.generic):
                    told = needs(stepping, entry, slot)
                    asked.append((entry, slot, value, {root.node for root in told.roots if root.node}))
        count = len(watching.seen)
        while stepping.ready:
            watching.execute()
        stage = stepping.step.stage
        for entry, slot, value, named in asked:
            tensor = (entry.activation.name, slot)
            takers = {
                seen.node
                for seen in watching.seen[count:]
                if any(
                    each == tensor and token is value
                    for each, token in zip(stage.nodes[seen.node].inputs, seen.inputs)
                )
            }
            kind = entry.activation.item.node.type.removeprefix("Ref")
            # Later iterations take a constant of the loop, and what a NextIteration held back.
            later = entry.activation.item.is_constant_enter or kind == "NextIteration"
            assert named - takers <= {
                name for name in named if stage.nodes[name].type.removeprefix("Ref") == "Merge"
            }
            # Of an object that a node gives again and again, somebody may take a later one.
            if not later and not _again(watching, entry.row + 1, tensor, value):
                assert takers <= named
        assert not needs(stepping, stepping.history[-1]).roots

    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with looked_at(look):
            session.run(built.fetches, built.feeds)


def _again(watching: Watching, since: int, tensor: tuple[str, int], value: Any) -> bool:
    return any(
        seen.node == tensor[0] and seen.outputs is not None and seen.outputs[tensor[1]] is value
        for seen in watching.seen[since:]
    )


# --- diff --------------------------------------------------------------------------------------------------------------------


def ordered(value: Any) -> int:
    """A float as a whole number that grows by one from each float to the next."""
    kind = {2: "<e", 4: "<f", 8: "<d"}[value.dtype.itemsize]
    whole = {2: "<h", 4: "<i", 8: "<q"}[value.dtype.itemsize]
    bits: int = struct.unpack(whole, struct.pack(kind, float(value)))[0]
    return bits if bits >= 0 else -(bits & ((1 << (8 * value.dtype.itemsize - 1)) - 1))


FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


@given(st.data(), FLOATS)
@settings(max_examples=80, deadline=None)
def test_a_difference_is_what_a_loop_over_the_elements_finds(data: Any, dtype: Any) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    elements = st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf]),
        st.floats(width=16),
    )
    a = data.draw(arrays.arrays(dtype, shape, elements=elements))
    b = a.copy()
    if a.size:
        for flat in data.draw(st.lists(st.integers(0, a.size - 1), max_size=4)):
            b.reshape(-1)[flat] = data.draw(elements)
    found = compare(a, b)
    differing, gaps, relative, ulps = [], [], [], []
    for index in np.ndindex(*shape):
        x, y = a[index], b[index]
        if x == y or (np.isnan(x) and np.isnan(y)):
            continue
        differing.append(index)
        if not (np.isnan(x) or np.isnan(y)):
            ulps.append(abs(ordered(x) - ordered(y)))
            gaps.append((abs(float(x) - float(y)), index))
            scale = max(abs(float(x)), abs(float(y)))
            relative.append((math.inf if math.isinf(scale) else gaps[-1][0] / scale, index))
    assert (found.size, found.different) == (a.size, len(differing))
    if not differing:
        return
    assert found.first == differing[0]
    assert (found.left, found.right) == (str(a[differing[0]]), str(b[differing[0]]))
    assert found.max_ulp == (max(ulps) if ulps else None)
    assert found.max_abs == (max(each for each, _ in gaps) if gaps else None)
    if gaps:
        assert found.max_abs_at == next(index for each, index in gaps if each == found.max_abs)
        assert found.max_rel == pytest.approx(max(each for each, _ in relative))
    assert found.nan_left == sum(bool(np.isnan(a[i]) and not np.isnan(b[i])) for i in differing)
    assert found.nan_right == sum(bool(np.isnan(b[i]) and not np.isnan(a[i])) for i in differing)


def test_differences_of_other_dtypes() -> None:
    import ml_dtypes

    big = compare(np.array([2**63 - 1, 5], np.int64), np.array([-(2**63), 5], np.int64))
    assert (big.different, big.max_abs, big.first, big.max_ulp) == (1, float(2**64 - 1), (0,), None)
    truth = compare(np.array([True, False]), np.array([True, True]))
    assert (truth.different, truth.first, truth.left, truth.right) == (1, (1,), "False", "True")
    strings = compare(np.array([b"a", b"b"], object), np.array([b"a", b"c"], object))
    assert (strings.different, strings.max_abs, strings.right) == (1, None, "b'c'")
    brain = compare(np.array([1.0, 2.0], ml_dtypes.bfloat16), np.array([1.0, 2.015625], ml_dtypes.bfloat16))
    assert (brain.max_ulp, brain.max_abs) == (1, 0.015625)
    turned = compare(np.array([3 + 4j]), np.array([3 - 4j]))
    assert (turned.max_abs, turned.max_rel) == (8.0, 1.6)
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(np.zeros(2), np.zeros(3))


@pytest.mark.usefixtures("as_written")
def test_diff_between_iterations_steps_and_runs(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [3], name="x")
    y = tf.while_loop(
        lambda i, v: i < 3, lambda i, v: (i + 1, tf.multiply(v, x, name="mul")), [0, x], name="loop"
    )[1]
    runs = []
    for scale in (1.0, 1.5):
        with tracing.record(tmp_path, level="full", name=f"run{scale}") as recorder, tf.Session() as session:
            session.run(y, {x: [1.0, scale, 3.0]})
        runs.append(str(recorder.path))
    with tracing.Run.open(runs[1]) as run:
        assert value_of_run(run, "loop/mul:0").value.tolist() == [1.0, 1.5**4, 81.0]
    feeds = [{x: [1.0, 2.0, 3.0]}, {x: [1.0, 2.0, 3.5]}]
    front = drive(
        [(y, each) for each in feeds],
        "r",
        "n 200",
        "diff loop/mul",
        "diff loop/mul @0 @1",
        "diff loop/mul:0 @1 @1",
        "diff x step=1",
        "diff loop/mul step=1",
        "diff loop/mul step=7",
        "diff loop/mul 0",
        f"diff loop/mul run='{runs[0]}' run='{runs[1]}'",
        f"diff nothing run='{runs[0]}'",
        "diff loop/mul a b",
        "diff loop/mul @0 @1 @2",
        "diff loop/Less",
    )
    latest, first, same, gone, step, none, never, run, unknown, bad, three, less = front.answers[-12:]
    assert (
        latest.text.startswith("loop/mul:0 differs between #")
        and "(root > loop:2) in 2 of 3 elements" in latest.text
    )
    assert "(root > loop:0)" in first.text and "* first at [1]: 4.0 → 8.0" in first.text
    assert "is the same in" in same.text
    assert not gone.ok and "'x' has not executed" in gone.text or "step 1 is" in gone.text
    assert "differs between step 1 and #" in step.text and "* first at [2]: 81.0 → 150.0625" in step.text, (
        step.text
    )
    assert not none.ok and none.text == "step 7 is not kept; steps that are: 1"
    assert not never.ok and "has not executed alive as execution #0" in never.text
    assert "differs between run " in run.text and "* first at [1]: 1.0 → 5.0625" in run.text
    assert not unknown.ok and "no value of 'nothing:0' was kept in run" in unknown.text
    assert not bad.ok and "'a' is no value of loop/mul" in bad.text
    assert not three.ok and three.text.startswith("diff compares two values")
    assert "* first at []: True → False" in less.text


@pytest.mark.usefixtures("as_written")
def test_keeping_what_is_large() -> None:
    x = tf.placeholder(tf.float32, [3000], name="x")
    y = tf.reduce_sum(tf.add(x, 1.0, name="large"), name="y")
    feeds = [{x: np.full(3000, each, np.float32)} for each in (1.0, 2.0, 3.0)]
    front = drive(
        [(y, each) for each in feeds],
        *("r", "n 20", "diff large step=1", "diff y step=1", "keep", "keep large", "keep", "r", "n 20"),
        *("diff large", "keep large", "keep nothing", "keep"),
    )
    missing, fetched, none, on, listed, kept, off, unknown, empty = front.answers
    assert not missing.ok and "keep large:0 keeps it" in missing.text
    assert "differs between step 1 and #" in fetched.text
    assert none.text.startswith("nothing is kept on request") and on.ok and listed.text == "large:0"
    assert "differs between step 2 and #" in kept.text and "3,000 of 3,000 elements" in kept.text
    assert off.ok and not unknown.ok and empty.text.startswith("nothing is kept on request")


# --- why here ----------------------------------------------------------------------------------------------------------------


def test_why_a_node_is_on_its_device() -> None:
    with tf.device("/cpu:1"):
        x = tf.random_normal([4, 4], name="x")
    y = tf.matmul(x, x, name="y")
    front = drive([(y, None)], "why here x", "why here y", "why here", "why here z", device_count={"CPU": 2})
    asked, free, next_one, unknown = [each.text for each in front.answers]
    assert asked.startswith("x is on CPU:1") and "* the program asked for /device:CPU:1" in asked
    assert free.startswith("y is on CPU:") and "possible were CPU:0, CPU:1" in free
    assert " is on CPU:" in next_one
    assert "there is no node 'z'" in unknown


# --- commands ----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_written")
def test_questions_as_they_are_typed() -> None:
    x = tf.constant(2.0, name="x")
    y = tf.cond(x > 1.0, lambda: tf.exp(x, name="taken"), lambda: tf.sin(x, name="left"))
    z = tf.log(y - 100.0, name="z")
    front = drive(
        [(z, None)],
        *(
            "why not z",
            "ask why not z",
            "n 100",
            "why x",
            "why cond/left",
            "why dead cond/left",
            "why cond/left:0",
        ),
        *(
            "why not cond/left",
            "needs x",
            "needs",
            "slice z",
            "slice z values",
            "slice 0",
            "origin",
            "origin nan z",
        ),
        *(
            "origin inf",
            "who wrote x",
            "who",
            "why 9999",
            "why nothing",
            "origin x",
            "ask origin nan",
            "ask slice",
        ),
    )
    texts = [each.text for each in front.answers]
    assert texts[0].startswith("z in root waits for 1 of its 1 input; at the bottom ")
    assert texts[2].startswith("x is needed by the fetch z:0\n* needed by the fetch z:0")
    assert texts[3].startswith("cond/left is dead in root\n  killed by ")
    assert texts[3].endswith("\n  cond/left is needed by the fetch z:0")
    assert texts[4] == texts[3].rpartition("\n")[0]
    assert texts[5] == texts[3]
    assert texts[6].startswith("cond/left has executed, but dead")
    assert "is needed by nobody any more" in texts[7]
    assert "is needed by nobody any more" in texts[8]
    assert texts[9].startswith("z #") and "descends from" in texts[9]
    assert len(texts[10].splitlines()) <= len(texts[9].splitlines())
    assert "descends from 0 of " in texts[11]
    assert texts[12] == texts[13] and "because of z (Log) #" in texts[12]
    assert "gave a inf" in texts[14] and not front.answers[14].ok
    assert texts[15].startswith("there is no variable, stack or array 'x'")
    assert texts[16].startswith("who wrote NAME")
    assert texts[17] == "the history has no execution #9999"
    assert texts[18].startswith("there is no node 'nothing'")
    assert "'x' of #0 has no nan or inf" in texts[19]
    assert [each.question.partition(" #")[0] for each in front.asked][1:] == [
        "origin nan z",
        "slice _retval_z_0_0",
    ]
    assert all(decode(Reasoning, encode(each)) == each for each in front.asked)


def test_help_says_each_in_a_sentence() -> None:
    asks = {"why", "who", "origin", "diff", "needs", "slice", "keep"}
    assert asks <= {each.name for each in COMMANDS}
    for command in (each for each in COMMANDS if each.name in asks):
        assert len(command.help.partition(". ")[0]) < 110, command.name


def test_a_long_answer_keeps_its_root_cause() -> None:
    reasons = [Reason(f"{i}") for i in range(500)] + [Reason("the root", root=True)]
    told = bounded("q", "a", reasons)
    assert len(told.reasons) == 200 and told.omitted == 301 and told.roots[0].statement == "the root"
    assert told.text().endswith("… 301 statements more")
    tree = Reasoning("q", "a", (Reason("x"), Reason("y", 1), Reason("z", 2), Reason("w", 1), Reason("v")))
    assert (
        list(tree.children(-1)) == [0, 4] and list(tree.children(0)) == [1, 3] and not list(tree.children(2))
    )
