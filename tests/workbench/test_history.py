"""The history of a step that ran freely, stopped anywhere and looked at in any way, is what was counted node by node."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, programs
from step_states import plain

import engine as tf
from engine.observe import FrameChange
from engine.runtime import driver
from engine.runtime.program import ENTER, EXIT
from engine.runtime.step import StepRun
from workbench.debugger import free_running
from workbench.debugger.entries import hold
from workbench.debugger.free_running import Alerts
from workbench.debugger.stepping import Stepping

DEVICES = ["/cpu:0", "/cpu:1"]


class Seen(NamedTuple):
    """What is to be seen after so many executions."""

    done: dict[tuple[int, int], dict[int, bool]]
    latest: dict[int, int]
    frames: dict[int, tuple[Any, ...]]


class Counted:
    """Runs a step first come, first served, and keeps count of everything as it happens."""

    record = False

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.seen = [Seen({}, {}, {})]

    def drive(self, step: StepRun) -> None:
        done: dict[tuple[int, int], dict[int, bool]] = {}
        latest: dict[int, int] = {}
        frames: dict[int, dict[str, Any]] = {}
        ready = deque(step.begin())
        while ready:
            activation = ready.popleft()
            item, frame, iteration = activation
            outcome = step.execute(activation)
            instructions = step.finish(activation, outcome)
            ready.extend(instructions.run)
            row, dead = len(self.rows), outcome.outputs is None
            outputs = plain(hold(outcome.outputs))
            self.rows.append((row, item.name, frame.id, iteration, outputs, latest.get(item.index, -1)))
            latest[item.index] = row
            around = (frame.parent.id, frame.parent_iteration) if frame.parent is not None else None
            if item.flow != EXIT:
                done.setdefault((frame.id, iteration), {})[item.index] = dead
            elif not dead and around is not None:
                done.setdefault(around, {})[item.index] = dead
            for change, changed, number in instructions.changes:
                note = frames.setdefault(
                    changed.id,
                    {"begun": 0, "ended": 0, "deferred": 0, "most": 0, "held": -1, "rows": [row, -1]},
                )
                if change is FrameChange.ITERATION_BEGIN:
                    note["begun"] += 1
                    note["most"] = max(note["most"], note["begun"] - note["ended"])
                    note["held"] = -1
                elif change is FrameChange.ITERATION_END:
                    note["ended"] += 1
                    done.pop((changed.id, number), None)
                elif change is FrameChange.ITERATION_DEFERRED:
                    note["deferred"] += 1
                    note["held"] = number
                elif change is FrameChange.FRAME_END:
                    note["rows"][1] = row
                    assert changed.parent is not None
                    for left in changed.dead_exits:
                        done.setdefault((changed.parent.id, changed.parent_iteration), {})[left.index] = True
                note.setdefault("entered", [])
            if item.flow == ENTER:
                assert item.child is not None
                entered = [
                    each
                    for each in (*step.state.frames.values(), *(c.frame for c in instructions.changes))
                    if each.parent is frame and each.parent_iteration == iteration and each.spec is item.child
                ]
                frames[entered[0].id]["entered"].append((row, item.name, dead))
            self.seen.append(
                Seen(
                    {place: dict(each) for place, each in done.items()},
                    dict(latest),
                    {
                        id: (
                            note["begun"],
                            note["ended"],
                            note["deferred"],
                            note["most"],
                            note["held"],
                            *note["rows"],
                            tuple(note["entered"]),
                            any(not each[2] for each in note["entered"]),
                        )
                        for id, note in frames.items()
                    },
                )
            )


class Countdown(Alerts):
    """Says after so many looks that there is something to look out for."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    @property
    def count(self) -> int:  # type: ignore[override]
        self.left -= 1
        return int(self.left < 0)


class Wanders:
    """Runs the same step freely and in single steps, goes back and on, and looks at this and that in between."""

    record = True

    def __init__(self, counted: Counted, seed: int, kept: int = 0) -> None:
        self.counted = counted
        self.random = random.Random(seed)
        self.kept = kept
        self.looks = 0

    def drive(self, step: StepRun) -> None:
        self.stepping = stepping = Stepping(step, self.kept)
        choose = self.random
        for _ in range(25):
            self._move(stepping, choose.random())
            for _ in range(choose.randrange(3)):
                self.look(stepping)
        stepping.branch()
        while stepping.ready:
            failed = free_running.run(stepping, Alerts(), 0)
            assert failed is None, failed
        for _ in range(5):
            self.look(stepping)

    def _move(self, stepping: Stepping, how: float) -> None:
        choose = self.random
        count = choose.choice([1, 3, 20, 100, 400])
        if how < 0.5:
            stepping.branch()
            failed = free_running.run(stepping, Countdown(count), 0)
            assert failed is None, failed
        elif how < 0.65:
            for _ in range(min(count, 30)):
                if stepping.ready:
                    stepping.execute()
        elif how < 0.85:
            for _ in range(min(count, len(stepping.history))):
                stepping.back()
        else:
            while stepping.future and count:
                stepping.redo()
                count -= 1

    def look(self, stepping: Stepping) -> None:
        """Compare something."""
        self.looks += 1
        choose, history = self.random, stepping.history
        seen = self.counted.seen[stepping.executed]
        first = stepping.executed - len(history)
        assert history.first == first and (self.kept or first == 0)
        what = choose.choice(["done", "latest", "one", "frames", "rows", "last", "bytes"])
        if what == "done":
            assert stepping.done == seen.done
        elif what == "latest":
            latest = {index: entry.row for index, entry in stepping.latest.items()}
            assert self.kept or latest == seen.latest
            assert {i: row for i, row in latest.items() if row >= first} == {
                i: row for i, row in seen.latest.items() if row >= first
            }
        elif what == "one":
            index = choose.randrange(len(stepping.step.program.items))
            entry, row = stepping.latest.get(index), seen.latest.get(index, -1)
            if row >= first or not self.kept:
                assert (entry.row if entry is not None else -1) == row
        elif what == "frames":
            notes = {
                note.id: (
                    *note.tally,
                    note.begin_row,
                    note.end_row,
                    tuple((each.row, each.node, each.dead) for each in note.entered),
                    note.live,
                )
                for note in stepping.frames.by_id.values()
            }
            assert notes == {id: note for id, note in seen.frames.items() if id in notes}
            assert self.kept or len(notes) == len(seen.frames)
        elif what == "last":
            assert stepping.last is (history[-1] if history else None)
        elif what == "bytes":
            assert stepping.held_bytes >= 0
        else:
            for _ in range(10):
                if history:
                    self._compare(stepping, choose.randrange(first, stepping.executed))

    def _compare(self, stepping: Stepping, row: int) -> None:
        entry = stepping.entry_at(row)
        assert entry is not None and entry is stepping.history[row - stepping.history.first]
        at, previous = entry.activation, entry.previous
        found = (row, at.name, at.frame.id, at.iteration, plain(entry.outputs))
        assert found == self.counted.rows[row][:5] and entry.row == row
        before = self.counted.rows[row][5]
        assert (previous.row if previous is not None else -1) == (
            before if before >= stepping.history.first else -1
        )


def watched(by: Any, run: Callable[[], Any]) -> Any:
    driver.install(by)
    try:
        return run()
    finally:
        driver.uninstall()


@given(programs(), st.integers(0, 1 << 30), st.booleans(), st.sampled_from([0, 0, 60]))
@settings(max_examples=8, phases=[Phase.generate])
def test_random_programs_that_run_freely_are_what_was_counted(
    program: Program, seed: int, spread: bool, kept: int
) -> None:
    built = build(program, tf, device=anywhere(seed, DEVICES) if spread else None)
    config = tf.ConfigProto(device_count={"CPU": 2})
    counted = Counted()
    results = []
    wanders = Wanders(counted, seed, kept)
    for by in (counted, wanders):
        with tf.Session(graph=built.graph, config=config) as session:
            session.run(built.initializer)
            results.append(plain(watched(by, lambda s=session: s.run(built.fetches, built.feeds))))
    assert results[0] == results[1] and wanders.looks
    assert wanders.stepping.executed == len(counted.rows)


def _loops(parallel: int) -> Any:
    """A loop in a loop, with a branch that is dead in turn, a variable that is written, and constants from outside."""
    v = tf.get_variable("v", initializer=np.float32(1))
    scale = tf.placeholder_with_default(np.float32(1.5), [])

    def body(i: Any, x: Any) -> Any:
        inner = tf.cond(
            tf.equal(i % 3, 0),
            lambda: tf.while_loop(lambda j, y: j < 4, lambda j, y: (j + 1, y + scale), (0, x))[1],
            lambda: x * 0.5,
        )
        with tf.control_dependencies([tf.assign_add(v, 1.0)]):
            return i + 1, tf.identity(inner)

    return [
        tf.while_loop(lambda i, x: i < 12, body, (0, scale), parallel_iterations=parallel),
        v.read_value(),
    ]


@pytest.mark.parametrize("parallel", [1, 3, 10])
@pytest.mark.parametrize("kept", [0, 50])
def test_loops_that_run_freely_are_what_was_counted(parallel: int, kept: int) -> None:
    with tf.Graph().as_default() as graph:
        fetches = _loops(parallel)
        init = tf.global_variables_initializer()
    for seed in range(3):
        counted = Counted()
        wanders = Wanders(counted, seed, kept)
        results = []
        for by in (counted, wanders):
            with tf.Session(graph=graph) as session:
                session.run(init)
                results.append(plain(watched(by, lambda s=session: s.run(fetches))))
        assert results[0] == results[1]


def test_what_was_taken_back_is_known_to_whoever_follows() -> None:
    total = tf.while_loop(lambda i: tf.less(i, 40), lambda i: tf.add(i, 1), [0])

    class Back:
        record = True

        def drive(self, step: StepRun) -> None:
            stepping = Stepping(step)
            free_running.run(stepping, Countdown(101), 0)
            history = stepping.history
            turns = history.turns
            assert len(history) == 100 and history.made == 0 and history.same_up_to(turns) == 100
            for _ in range(30):
                stepping.back()
            assert history.made == 0 and history.same_up_to(turns) == 70
            later = history.turns
            stepping.branch()
            free_running.run(stepping, Countdown(21), 0)
            stepping.back()
            assert stepping.history.same_up_to(turns) == 70 and history.same_up_to(later) == 89
            assert history.same_up_to(history.turns) == 89
            assert [entry.row for entry in history[-2:]] == [87, 88] and history.made == 2
            stepping.branch()
            failed = free_running.run(stepping, Alerts(), 0)
            assert failed is None, failed

    with tf.Session() as session:
        assert watched(Back(), lambda: session.run(total)) == 40
