"""Going back into earlier `Session.run`s: at every point all is as it was there, and the present is as it was left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet, Script
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, programs
from step_states import state_of

import engine as tf
from viz.draw_step import status_line
from viz.palette import DARK
from viz.step_model import step_view
from workbench.debugger import text
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger
from workbench.debugger.snapshot import from_dict, to_dict

DEVICES = ["/cpu:0", "/cpu:1", "/cpu:2"]


class Traveller(Quiet):
    """Walks through a script's runs at random: notes what each place was the first time, and compares whenever it is back."""

    def __init__(self, seed: int, commands: int, chooses: bool = False, waits: bool = False) -> None:
        self.random = random.Random(seed)
        self.commands = commands
        self.chooses = chooses
        self.waits = waits  # for queues: between two executions, more or less may have had to
        self.known: dict[
            tuple[int, tuple[Any, ...]], dict[str, Any]
        ] = {}  # by run and what has executed there
        self.compared = self.in_past = 0
        self.left_at: tuple[int, int, dict[str, Any]] | None = None
        self.burst = 0  # steps of the present that are still to come one by one

    def stopped(self, debugger: Debugger) -> None:
        snapshot, stepping = debugger.snapshot(), debugger.stepping
        assert stepping is not None
        way = tuple((each.activation.name, each.activation.iteration) for each in stepping.history)
        place, now = (snapshot.run, way), state_of(stepping)
        if snapshot.past:
            self.in_past += 1
        else:
            self.left_at = snapshot.run, stepping.executed, now
        before = self.known.setdefault(place, now)
        if before is not now:
            self.compared += 1
            for key, value in before.items():
                if self.chooses and key == "ready":
                    assert sorted(now[key]) == sorted(value)
                elif key != "bytes" and not (self.waits and key == "ready"):
                    assert now[key] == value, key

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        assert (
            answer.ok
            or "nothing to take back" in answer.text
            or "no Session.run before" in answer.text
            or "nothing that was taken back" in answer.text
        ), answer.text
        self.stopped(debugger)

    def command(self, debugger: Debugger) -> str:
        if self.burst and debugger.runs.here is None:
            self.burst -= 1
            return "n"
        self.commands -= 1
        if self.commands < 0:
            return "c"
        runs, choose = debugger.runs, self.random
        moves = ["back", f"back {choose.randint(1, 40)}", "r-", "redo 3", "redo all", "back 300"]
        stepping = debugger.stepping
        assert stepping is not None
        if runs.here is not None or stepping.future:
            moves += ["n", f"n {choose.randint(1, 40)}", "e", "s", "o", "s-", "o-"]
        if runs.here is None:
            moves += ["n"] * 3 + ["ahead"] * 3
        else:
            moves += ["present", "r", "n", f"goto {runs.number}:{choose.randint(0, runs.here.executed)}"]
        if runs.over:
            run = choose.choice(list(runs.over))
            moves.append(f"goto {run.number}:{choose.randint(0, run.executed)}")
        move = choose.choice(moves)
        if move == "ahead":
            move, self.burst = "n", choose.randint(1, 40)
        if (
            move == "n"
            and self.chooses
            and runs.here is None
            and not stepping.future
            and choose.random() < 0.5
        ):
            wanted = choose.choice(list(stepping.ready)) if stepping.ready else None
            stepping.prefer(lambda each: each == wanted)
        if move == "present":
            assert debugger.execute("present").ok
            assert self.left_at is not None
            number, executed, then = self.left_at
            assert runs.number == number
            if stepping_of(debugger).executed or not executed:  # or a move has led back over its beginning
                assert state_of(stepping_of(debugger)) == then
            return "info frames"
        return move


def stepping_of(debugger: Debugger) -> Any:
    assert debugger.stepping is not None
    return debugger.stepping


def travelled(traveller: Traveller, runs: Callable[[], Any]) -> Any:
    with Debugger(traveller).installed():
        return runs()


def check_every_point(program: Program, seed: int, spread: bool, chooses: bool, commands: int) -> None:
    built = build(program, tf, device=anywhere(seed, DEVICES) if spread else None)

    def all_runs(session: Any) -> Any:
        session.run(built.initializer)
        found = [session.run(built.fetches, built.feeds) for _ in range(3)]
        return found, session.run(built.variables)

    config = tf.ConfigProto(device_count={"CPU": 3})
    with tf.Session(graph=built.graph, config=config) as session:
        straight, left = all_runs(session)
    traveller = Traveller(seed, commands, chooses)
    with tf.Session(graph=built.graph, config=config) as session:
        results, variables = travelled(traveller, lambda: all_runs(session))
    for mine, theirs in zip(results, straight, strict=True):
        np.testing.assert_equal(mine, theirs)
    np.testing.assert_equal(variables, left)


@given(programs(), st.integers(0, 1 << 30), st.booleans(), st.booleans())
@settings(max_examples=12)
def test_random_programs_are_the_same_at_every_point_of_every_run(
    program: Program, seed: int, spread: bool, chooses: bool
) -> None:
    check_every_point(program, seed, spread, chooses, 25)


@pytest.mark.deep
@given(programs(), st.integers(0, 1 << 30), st.booleans(), st.booleans())
@settings(max_examples=30)
def test_many_random_programs_are_the_same_at_every_point_of_every_run(
    program: Program, seed: int, spread: bool, chooses: bool
) -> None:
    check_every_point(program, seed, spread, chooses, 80)


def _loops_and_random_numbers() -> list[Any]:
    """A loop and its gradient (stacks), TensorArrays, random numbers, an update of a variable in each iteration."""
    v = tf.Variable([0.5, -0.25], name="v")
    noise = tf.Variable(0.0, name="noise")

    def body(i: Any, x: Any) -> Any:
        drawn = tf.random_uniform([], seed=3)
        with tf.control_dependencies([tf.assign_add(noise, drawn)]):
            return i + 1, tf.sin(x) * v + drawn

    _, x = tf.while_loop(lambda i, x: i < 2, body, (0, tf.constant([1.0, 2.0])))
    (gradient,) = tf.gradients(tf.reduce_sum(x), [v])
    mapped = tf.map_fn(lambda row: row * row + tf.random_normal([], seed=5), tf.constant([[1.0], [3.0]]))
    return [x, tf.assign_sub(v, gradient * 0.1), mapped]


def _queue() -> list[Any]:
    """A queue that is filled, shuffled through and emptied, with waits within a step."""
    queue = tf.FIFOQueue(2, [tf.float32], [()], name="queue")
    v = tf.Variable(1.0, name="v")
    take = tf.add(queue.dequeue(), queue.dequeue())
    fill = [queue.enqueue(tf.add(v, float(i))) for i in range(3)]
    with tf.control_dependencies(fill):
        more = tf.assign_add(v, take)
    return [more, queue.size()]


@pytest.mark.parametrize("make", [_loops_and_random_numbers, _queue])
@pytest.mark.parametrize("seed", range(2))
def test_loops_arrays_random_numbers_and_queues_are_the_same_at_every_point_of_every_run(
    make: Callable[[], list[Any]], seed: int
) -> None:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(7)
        fetches = make()
        init = tf.global_variables_initializer()

    def all_runs(session: Any) -> Any:
        session.run(init)
        return [session.run(fetches) for _ in range(2)]

    with tf.Session(graph=graph) as session:
        straight = all_runs(session)
    traveller = Traveller(seed, 70, waits=make is _queue)
    with tf.Session(graph=graph) as session:
        results = travelled(traveller, lambda: all_runs(session))
    if make is not _queue:  # where what nothing orders may differ
        for mine, theirs in zip(results, straight, strict=True):
            np.testing.assert_equal(mine, theirs)
    assert traveller.compared > 10 and traveller.in_past


class Model:
    """A variable, a random update of it, and a Python function with effects."""

    def __init__(self) -> None:
        self.called: list[float] = []
        self.w = tf.Variable(1.0, name="w")

        def effect(value: Any) -> Any:
            self.called.append(float(value))
            return value * np.float32(2)

        self.up = tf.assign_add(self.w, tf.py_func(effect, [self.w], tf.float32), name="up")
        self.bad = tf.check_numerics(tf.log(self.w - 1000.0), "bad", name="bad")
        self.init = tf.global_variables_initializer()


def debugged(*lines: Any, runs: int = 3) -> tuple[Script, Model, list[float]]:
    """Three updates, with these commands from the beginning of the first `Session.run`, which initializes."""
    model, front = Model(), Script(*lines)
    with tf.Session() as session, Debugger(front).installed():
        session.run(model.init)
        found = [float(session.run(model.up)) for _ in range(runs)]
    return front, model, found


def where(expected: tuple[int, int, bool], w: float | None = None) -> Callable[[Debugger], None]:
    """A look at the debugger: the run, how much has executed there, and whether it is over; and what the variable is."""

    def look(debugger: Debugger) -> None:
        snapshot = debugger.snapshot()
        assert (snapshot.run, snapshot.executed, snapshot.past) == expected
        if w is not None:
            held = stepping_of(debugger).step.resources.lookup("w")
            assert held is not None and held.value == w

    return look


def test_back_run_present_and_on_again() -> None:
    front, model, found = debugged(
        "r", "r", "r", "n 2", where((4, 2, False), 9.0),
        "r-", where((3, 5, True), 9.0),
        "r- 2", where((1, 4, True), 1.0),
        "n", where((2, 0, True), 1.0),
        "e", where((2, 5, True), 3.0),
        "r", where((3, 0, True), 3.0),
        "back", where((2, 5, True), 3.0),
        "back 2", where((2, 3, True), 1.0),
        "redo all", where((2, 5, True), 3.0),
        "goto 3:1", where((3, 1, True), 3.0),
        "goto 3:end", where((3, 5, True), 9.0),
        "present", where((4, 2, False), 9.0),
        "r- 3", "c",
    )  # fmt: skip
    assert all(answer.ok for answer in front.answers), front.texts
    assert found == [3.0, 9.0, 27.0] and model.called == [1.0, 3.0, 9.0]
    back_two = "what was done outside since stays: PyFunc in run 2 (it called a Python function)"
    assert front.texts[0] == "" and front.texts[1] == back_two


def test_forward_over_the_border_leads_to_the_present_where_it_began() -> None:
    front, model, found = debugged(
        "r", "r", "n 4", where((3, 4, False), 9.0), "r-", "n", where((3, 0, False), 3.0),
        "redo all", where((3, 4, False), 9.0), "goto 2:2", "r", "back 3", where((2, 5, True)), "c",
    )  # fmt: skip
    assert found == [3.0, 9.0, 27.0] and model.called == [1.0, 3.0, 9.0]


@pytest.mark.parametrize(
    "line",
    ["set var w = 5.0", "skip up", "force up true", "choose 0", "explore", "races show 1", "schedule lifo",
     "schedule replay x", "set up:0 = 1.0"],
)  # fmt: skip
def test_what_has_been_cannot_be_changed(line: str) -> None:
    front, _, found = debugged("r", "r", "r-", "back 2", line, where((2, 3, True), 1.0), "present", "c")
    refused = next(answer for answer in front.answers if not answer.ok)
    assert "this Session.run is over" in refused.text and "present comes forward" in refused.text
    assert found == [3.0, 9.0, 27.0]


def test_every_surface_says_that_it_is_the_past() -> None:
    said: list[str] = []

    def look(debugger: Debugger) -> None:
        snapshot = debugger.snapshot()
        assert from_dict(to_dict(snapshot)) == snapshot and snapshot.first_run == 1
        line = status_line(step_view(to_dict(snapshot)), DARK, 120)
        said.extend([text.stop(snapshot), "".join(part for part, _ in line)])

    debugged("r", "r", "n", look, "r-", look, "c")
    now, bar, then, bar_then = said
    assert "in the past" not in now + bar
    assert "past  run 2 of 3, in the past: nothing can be changed here (present comes forward)" in then
    assert "n goes on into the next run" in then and "run 2 of 3, in the past" in bar_then


def test_looking_is_not_refused() -> None:
    front, _, _ = debugged(
        "r", "r", "r-", "races", "schedule", "ready", "info w", "who wrote w", "why up", "p up", "where", "history", "runs",
    )  # fmt: skip
    assert all(answer.ok for answer in front.answers), front.texts
    said = "\n".join(front.texts)
    assert "runs 1 to 2 of 3" in said and "written in step 1 by w/Assign" in said and "→    2" in said


def test_changes_by_hand_come_again_as_they_were() -> None:
    def tainted(debugger: Debugger) -> None:
        assert debugger.snapshot().last is not None and debugger.snapshot().last.tainted  # type: ignore[union-attr]

    front, model, found = debugged(
        "r", "n", "set var w = 5.0", "until type:PyFunc", "set next = 7.0", "e", tainted, "r",
        "r-", where((2, 7, True), 12.0), tainted,
        "back 100", where((2, 0, True), 1.0), "redo 3", where((2, 3, True), 5.0),
        "e", where((2, 7, True), 12.0), tainted, "present", "c",
    )  # fmt: skip
    assert all(answer.ok for answer in front.answers), front.texts
    assert found == [12.0, 36.0, 108.0] and model.called == [5.0, 12.0, 36.0]


def test_breakpoints_stop_in_earlier_runs_in_both_directions() -> None:
    front, _, _ = debugged(
        "r", "r", "r", "b type:PyFunc", "c-", where((3, 2, True), 3.0), "c-", where((2, 2, True), 1.0),
        "c-", where((2, 0, True), 1.0),  # none before: where this run began
        "c", where((2, 2, True)), "c", where((3, 2, True)), "c", where((4, 2, False), 9.0),
        "delete 1", "until- type:Assign", where((1, 2, True)), "c",
    )  # fmt: skip
    assert all(answer.ok for answer in front.answers), front.texts


def test_what_changed_between_runs_unwatched_is_said_and_undone() -> None:
    model = Model()
    reset = tf.assign(model.w, 100.0)
    front = Script("r", "r", where((3, 0, False), 100.0), "r-", where((2, 5, True), 3.0), "present",
                   where((3, 0, False), 100.0), "c")  # fmt: skip
    debugger = Debugger(front)
    with tf.Session() as session:
        with debugger.installed():
            session.run(model.init)
            session.run(model.up)
        session.run(reset)
        with debugger.installed():
            assert session.run(model.up) == 300.0
    assert "w had been changed by what was not watched" in front.texts[0]


def test_a_run_that_failed_is_gone_into_where_it_failed() -> None:
    model = Model()

    def failed(debugger: Debugger) -> None:
        snapshot = debugger.snapshot()
        assert snapshot.past and snapshot.error is not None and snapshot.next is not None
        assert snapshot.next.node == "bad" and "failed here" in snapshot.reason

    def not_yet(debugger: Debugger) -> None:
        assert debugger.snapshot().past and debugger.snapshot().error is None

    front = Script(
        "r", "c", "r", "r-", failed, "back", not_yet, "n", failed, "n", where((3, 0, False), 1.0), "c"
    )
    with tf.Session() as session, Debugger(front).installed():
        session.run(model.init)
        with pytest.raises(tf.errors.InvalidArgumentError):
            session.run(model.bad)
        assert session.run(model.up) == 3.0


def test_the_oldest_runs_fall_out_and_that_is_said() -> None:
    front, _, found = debugged(
        "history 12",
        "r",
        "r",
        "r",
        "history",
        "r-",
        where((3, 5, True)),
        "r-",
        "goto 1:0",
        "present",
        "runs",
        "c",
    )
    said = front.texts
    assert "2 runs before these fell out" in said[1] or "1 run before these fell out" in said[1]
    assert any("no Session.run before" in each or "no longer kept" in each for each in said)
    assert found == [3.0, 9.0, 27.0]


def test_a_run_that_is_larger_than_the_budget_keeps_its_end() -> None:
    w = tf.Variable(1.0, name="w")
    total = tf.while_loop(lambda i, x: i < 30, lambda i, x: (i + 1, x * 1.01), (0, w))[1]
    up, init = tf.assign_add(w, total), tf.global_variables_initializer()
    held: dict[str, Any] = {}

    def note(name: str) -> Callable[[Debugger], None]:
        def look(debugger: Debugger) -> None:
            snapshot = debugger.snapshot()
            held[name] = (snapshot.run, snapshot.executed, snapshot.first_row, snapshot.future)

        return look

    front = Script(
        "history 100", "r", "r", "r-", note("end"), "back 1000", note("first"), "back", "r-",
        "n 3", note("again"), "e", "n", note("present"), "c",
    )  # fmt: skip
    with tf.Session() as session, Debugger(front).installed():
        session.run(init)
        found = [float(session.run(up)) for _ in range(2)]
    assert held["end"][:2] == (2, held["end"][1]) and held["end"][2] >= held["end"][1] - 100 > 200
    assert held["first"] == (2, held["end"][2], held["end"][2], held["end"][1] - held["end"][2])
    assert held["again"][1] == held["end"][2] + 3 and held["present"] == (3, 0, 0, 0)
    assert "no longer kept" in front.texts[3] and found[1] > found[0]


def test_other_threads_stand_still_while_an_earlier_run_is_looked_at() -> None:
    """A thread that runs steps of its own all the time does none while the past is looked at, and goes on afterwards."""
    model = Model()
    counter = tf.Variable(0, name="counter")
    count = tf.assign_add(counter, 1)
    stop = threading.Event()
    errors: list[BaseException] = []
    counted = 0

    def value(debugger: Debugger) -> int:
        held = stepping_of(debugger).step.resources.lookup("counter")
        assert held is not None
        return int(held.value)

    def work(session: Any) -> None:
        nonlocal counted
        try:
            while not stop.is_set():
                counted = int(session.run(count))
        except BaseException as error:
            errors.append(error)

    def stands(debugger: Debugger) -> None:
        before = value(debugger)
        time.sleep(0.2)
        assert value(debugger) == before and debugger.snapshot().past

    front = Script("b up", "r", "r", "c", "r-", stands, "back 3", stands, "present", "delete 1", "c")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with Debugger(front).installed():
            session.run(model.up)
            worker = threading.Thread(target=work, args=(session,))
            found = []
            worker.start()
            for _ in range(3):
                found.append(float(session.run(model.up)))
            stop.set()
            worker.join(20)
        assert not errors and not worker.is_alive()
        assert found == [9.0, 27.0, 81.0] and session.run(counter) == counted
