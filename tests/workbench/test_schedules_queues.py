"""Schedules of steps that wait for queues: recorded and replayed, gone back in, their races found and shown, and explored."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from debug_fronts import Script, schedule_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from queue_programs import Model, Program, build, programs, putting_back
from running import no_time_to_wait

import engine as tf
from engine.op.queues import Blocked
from engine.runtime.driver import StepRun
from workbench.debugger import schedules
from workbench.debugger.core import Debugger
from workbench.debugger.schedules import showing
from workbench.debugger.schedules.following import recorder_of
from workbench.debugger.schedules.races import find_races
from workbench.debugger.stepping import Stepping

pytestmark = pytest.mark.usefixtures("as_written")


def queue_with(values: int, capacity: int = 10) -> tuple[Any, Any, list[Any]]:
    queue = tf.FIFOQueue(capacity, [tf.float32], shapes=[[]], name="queue")
    puts = [queue.enqueue([float(i)], name=f"put{i}") for i in range(values)]
    return queue, queue.dequeue(name="take"), puts


class Looking:
    """A driver that gives a test the step, and then ends it."""

    record = True

    def __init__(self, look: Callable[[StepRun], None]) -> None:
        self.look = look

    def drive(self, step: StepRun) -> None:
        self.look(step)
        raise Stopped


class Stopped(Exception):
    """The step was only looked at."""


def looked_at(session: Any, fetches: Any, look: Callable[[StepRun], None]) -> None:
    with schedules.driver(Looking(look)), pytest.raises(Stopped):
        session.run(fetches)


def explored(session: Any, fetches: Any, limit: int = 1_000) -> schedules.Exploration:
    """What exploring comes to, without running the step afterwards."""
    found: list[schedules.Exploration] = []

    def explore(step: StepRun) -> None:
        found.append(schedules.explore_step(step, schedules.Recorder(step.begin()), limit=limit))

    looked_at(session, fetches, explore)
    return found[0]


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


# Recording and replaying.


@contextlib.contextmanager
def built(program: Program) -> Iterator[tuple[Any, list[Any], Callable[[], None]]]:
    """A session in which the queues of `program` are filled; its operations; and what fills them again."""
    with tf.Graph().as_default():
        queues, fill, nodes = build(program)
        with tf.Session() as session:
            yield session, nodes, putting_back(session, queues, fill)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    programs(5),
    st.sampled_from(["random 1", "random 2", "pct 1", "pct 5 4 9", "lifo", "writes-first", "longest-wait"]),
)
def test_a_schedule_is_replayed_exactly(program: Program, text: str) -> None:
    """By a driver and in the debugger, back and forth in between: the same string, and the same comes of it."""
    assume(all(outcome[0] == "ended" for outcome in Model(program).outcomes))
    name, *numbers = text.split()
    makes: dict[str, Any] = {"random": schedules.Random, "pct": schedules.PCT, "lifo": schedules.Newest}
    scheduler = makes[name](*map(int, numbers)) if name in makes else schedules.ranked(name)
    with built(program) as (session, nodes, put_back):

        def run() -> tuple[Any, ...]:
            put_back()
            given = session.run(nodes)
            held = [
                plain(session.resources.lookup(f"q{number}").value) for number in range(len(program.queues))
            ]
            return [None if each is None else np.asarray(each).tolist() for each in given], held

        with schedules.driver(scheduler) as driven:
            first = run()
        string = str(driven.schedules[0])
        with schedules.driver(schedules.Replay(schedules.Schedule.parse(string))) as driven:
            assert run() == first
        assert str(driven.schedules[0]) == string

        notes: list[str] = []

        def remember(debugger: Debugger) -> None:
            notes.append(schedule_of(debugger))

        for ask in (f"schedule {text}", f"schedule replay {string}"):
            front = Script(
                ask, "n 1000", remember, "back 4", "n 1000", remember, "back 100", "n 3", "n 1000", remember
            )
            with Debugger(front).installed():
                assert run() == first
            assert all(answer.ok for answer in front.answers), front.texts
        assert set(notes) == {string}


def plain(contents: Any) -> Any:
    return (
        [[part.tolist() for part in element] for element in contents.elements],
        contents.closed,
        contents.drawn,
    )


def test_a_step_that_waits_for_its_own_enqueue_is_replayed(session: Any) -> None:
    _, take, puts = queue_with(1)
    with schedules.driver(schedules.ranked("longest-wait")) as driven:
        assert session.run([take, *puts])[0] == 0.0
    with schedules.driver(schedules.Delay(["put0"])) as driven:
        assert session.run([take, *puts])[0] == 0.0  # which waits first
    with schedules.driver(schedules.Replay(driven.schedules[0])) as again:
        assert session.run([take, *puts])[0] == 0.0
    assert again.schedules == driven.schedules


@pytest.mark.parametrize(
    ("string", "took"),
    [("a66b60f9:0.1_2", 0.0), ("a66b60f9:0.2-0.1-0.2-0.1_2", 1.0), ("a66b60f9:4.1-0.1", 1.0)],
)
def test_strings_that_were_recorded_earlier_are_still_good(session: Any, string: str, took: float) -> None:
    """By a driver, before a step in the debugger could have a schedule after something had waited."""
    _, take, puts = queue_with(2)
    with tf.control_dependencies(puts):
        late = tf.identity(take, name="late")
    with schedules.driver(schedules.Replay(schedules.Schedule.parse(string))) as driven:
        assert float(session.run(late)) == took
    assert str(driven.schedules[0]) == string


def test_a_schedule_is_replayed_in_another_process(
    write_script: Callable[..., Path], run_python: Callable[..., Any]
) -> None:
    script = write_script(
        """
        import engine as tf

        queue = tf.FIFOQueue(1, tf.int32, shapes=[], name="queue")
        puts = [queue.enqueue(i, name=f"put{i}") for i in range(4)]
        first = queue.dequeue(name="first")
        with tf.control_dependencies([first]):
            second = queue.dequeue_many(2, name="second")
        options = tf.GraphOptions(tf.OptimizerOptions(opt_level=-1))
        with tf.Session(config=tf.ConfigProto(graph_options=options)) as session:
            print("took", session.run([first, second, *puts])[:2], session.run(queue.size()))
        """
    )
    done = run_python("-m", "workbench", "step", "--commands", "schedule lifo; n 1000; schedule; c", script)
    string = re.findall(r"^[0-9a-f]{8}:\S*", done.stdout, re.M)[0]
    again = run_python(
        "-m", "workbench", "step", "--schedule", string, "--commands", "n 1000; schedule; c", script
    )
    took = [line for line in done.stdout.splitlines() if line.startswith("took")]
    assert took and took == [line for line in again.stdout.splitlines() if line.startswith("took")]
    assert "int32(3)" in took[0] and string in again.stdout  # the last one put in first: it was not by chance


# Back and forth.


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(5), st.integers(0, 1 << 30), st.data())
def test_what_waits_is_as_it_was_at_every_point(program: Program, seed: int, data: Any) -> None:
    """Attempts that had to wait, too: who waits, what is ready, in which order, and what the queues know of it."""
    with built(program) as (session, nodes, put_back):
        put_back()

        def look(step: StepRun) -> None:
            stepping = Stepping(step)

            def point() -> Any:
                queues = [each for each in step.resources if each.kind == "queue"]
                return (
                    [each.name for each in stepping.ready],
                    [each.name for each in step.blocked],
                    sorted(each.name for each in step.waits.tried),
                    [
                        (plain(each.value), sorted(each.pending), sorted(each.wanted.items()))
                        for each in queues
                    ],
                    str(recorder_of(stepping).schedule(step.stage)),
                    [each.name for each in recorder_of(stepping).queue],
                )

            chance = schedules.Random(seed)
            before = {0: point()}
            after: dict[int, Any] = {}
            while stepping.ready:
                recorder = recorder_of(stepping)
                wanted = recorder.queue[chance.choose(recorder)]
                stepping.prefer(lambda each, wanted=wanted: each == wanted)  # type: ignore[misc]
                try:
                    executed = stepping.executed
                    after[executed] = point()
                    stepping.execute()
                except Blocked:
                    continue
                except tf.errors.OpError:
                    break
                before[stepping.executed] = point()
            while stepping.history:
                end = data.draw(st.integers(0, stepping.executed - 1))
                while stepping.executed > end:
                    stepping.back()
                    assert point() == after[stepping.executed]
                for _ in range(data.draw(st.integers(0, len(stepping.future)))):
                    stepping.redo()
                    assert point() == before[stepping.executed]
                stepping.branch()
                if stepping.executed == end or data.draw(st.booleans()):
                    while stepping.history:
                        stepping.back()
            stepping.close()

        looked_at(session, nodes, look)


def test_what_runs_freely_and_waits_can_be_taken_back(session: Any) -> None:
    _, take, puts = queue_with(1)
    with tf.control_dependencies(puts):
        second = tf.identity(take, name="second")
    seen: list[Any] = []

    def see(debugger: Debugger) -> None:
        stepping = debugger.stepping
        assert stepping is not None
        seen.append((schedule_of(debugger), stepping.executed, [each.name for each in stepping.step.blocked]))

    front = Script(
        "schedule delay put0",
        "b second",
        "c",
        see,
        "back 100",
        "schedule first",
        "c",
        see,
        "back 2",
        "n 2",
        see,
    )
    with Debugger(front).installed():
        assert float(session.run([second, take])[0]) == 0.0
    assert seen[0][1:] == seen[1][1:] == seen[2][1:] and seen[1] == seen[2]
    assert front.answers[-1].ok


# Races.


def test_two_enqueues_in_no_order_are_a_race(session: Any) -> None:
    _, _, puts = queue_with(2)
    (race,) = find_races(session._executable(session._take_apart(puts), []).program)
    assert (race.kind, race.first.node, race.second.node) == ("queue", "put0", "put1")
    assert str(race) == "put0 puts into and put1 puts into the queue 'queue'"
    found = explored(session, puts)
    assert len(found.outcomes) == 2 and found.complete
    (show,) = shown(session, puts)
    assert show.both and show.differences == ("queue: [0., 1.] | [1., 0.]",)


def shown(session: Any, fetches: Any) -> list[showing.Shown]:
    """Every race of what is fetched, live in both orders."""
    found: list[showing.Shown] = []

    def look(step: StepRun) -> None:
        recorder = schedules.Recorder(step.begin())
        found.extend(showing.show(step, recorder, race) for race in find_races(step.program))

    looked_at(session, fetches, look)
    return found


def races_of(session: Any, fetches: Any) -> set[frozenset[str]]:
    program = session._executable(session._take_apart(fetches), []).program
    return {frozenset((race.first.node, race.second.node)) for race in find_races(program)}


def test_of_a_queue_in_order_an_enqueue_beside_a_dequeue_is_no_race(session: Any) -> None:
    queue, take, puts = queue_with(1)
    assert races_of(session, [take, *puts]) == set()
    assert races_of(session, [take, *puts, queue.size(name="size")]) == {
        frozenset(("take", "size")),
        frozenset(("put0", "size")),
    }
    assert frozenset(("take", "put0")) in races_of(session, [take, *puts, queue.close(name="close")])
    shuffled = tf.RandomShuffleQueue(5, 0, [tf.float32], shapes=[[]], seed=1, name="shuffled")
    pair = [shuffled.enqueue([1.0], name="in"), shuffled.dequeue(name="out")]
    assert races_of(session, pair) == {frozenset(("in", "out"))}


def test_two_dequeues_are_shown_in_both_orders_though_they_wait(session: Any) -> None:
    queue, take, _ = queue_with(0)
    with tf.control_dependencies([queue.enqueue([1.0], name="one")]):
        two = queue.enqueue([2.0], name="two")
    other = queue.dequeue(name="other")
    fetches = [take, other, two]
    assert races_of(session, fetches) == {frozenset(("take", "other"))}
    (show,) = shown(session, fetches)
    assert show.both and show.differences == ("take:0: 1. | 2.", "other:0: 2. | 1.")
    for schedule, outcome in zip(show.schedules, show.outcomes, strict=True):
        with schedules.driver(schedules.Replay(schedule)):
            assert [float(each) for each in session.run([take, other, two.name])[:2] if each is not None] == [
                float(each) for each in outcome.fetches if each is not None
            ]


def test_an_order_that_would_wait_for_ever_is_said(session: Any) -> None:
    queue, take, _ = queue_with(0)
    size = queue.size(name="size")
    with tf.control_dependencies([size]):
        put = queue.enqueue([1.0], name="put")
    (show,) = shown(session, [take, size, put])
    assert sorted(show.why_not) == [
        "",
        "take waits for 1 element in FIFOQueue 'queue', which holds 0, which does not come before size runs",
    ]


# Exploring.


def test_two_workers_push_gradients_through_a_queue(session: Any) -> None:
    """Two workers read a weight and push what they make of it; one applies the pushes in the order in which they come."""
    with tf.device("/cpu:0"):
        weight = tf.Variable(8.0, name="weight")
    queue = tf.FIFOQueue(1, [tf.float32], shapes=[[]], name="pushes")
    pushes = []
    for worker, scale in enumerate((0.5, 0.25)):
        gradient = tf.multiply(weight.read_value(), scale, name=f"gradient{worker}")
        pushes.append(queue.enqueue([gradient], name=f"push{worker}"))
    first = tf.assign(weight, weight.read_value() - queue.dequeue(name="first"), name="apply_first")
    with tf.control_dependencies([first]):
        second = tf.assign(weight, weight.read_value() - queue.dequeue(name="second"), name="apply_second")
    session.run(weight.initializer)
    fetches = [*pushes, second.op]
    found = races_of(session, fetches)
    assert frozenset(("push0", "push1")) in found and not any(
        "first" in pair and "second" in pair for pair in found
    )
    whole = explored(session, fetches, 20_000)
    assert whole.complete
    left = {float(each.outcome.changed["weight"]) for each in whole.outcomes}
    # Both gradients of 8, or the second worker's of what the first push has left, in either order; or a read of the weight
    # before a push is applied.
    assert {8 - 4 - 2.0, (8 - 4) - (8 - 4) * 0.25, (8 - 2) - (8 - 2) * 0.5} <= left
    for each in whole.outcomes:
        session.run(weight.initializer)
        with schedules.driver(schedules.Replay(each.schedule)):
            session.run(fetches)
        assert session.run(weight) == each.outcome.changed["weight"]


def test_steps_that_wait_are_explored_and_said() -> None:
    _, take, puts = queue_with(1)
    front = Script("explore", "races", "n 100", "schedule", "c")
    with tf.Session() as session, Debugger(front).installed():
        assert session.run([take, *puts])[0] == 0.0
    assert all(answer.ok for answer in front.answers), front.texts
    assert "agree" in front.texts[0] and "take:0 = 0." in front.texts[0]


def test_partitions_that_wait_for_each_other_are_a_deadlock() -> None:
    with tf.device("/cpu:0"):
        left = tf.FIFOQueue(1, tf.int32, shapes=[], name="left")
        caught = left.dequeue(name="left_catches")
    with tf.device("/cpu:1"):
        right = tf.FIFOQueue(1, tf.int32, shapes=[], name="right")
        threw = right.enqueue(caught + 1, name="left_throws")
        other = right.dequeue(name="right_catches")
    with tf.device("/cpu:0"):
        back = left.enqueue(other + 1, name="right_throws")
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        found = explored(session, [threw, back])
        (outcome,) = found.outcomes
        assert found.complete and found.agree
        assert outcome.outcome.stuck == (
            "deadlock: left_catches waits for 1 element in FIFOQueue 'left', which holds 0; "
            "right_catches waits for 1 element in FIFOQueue 'right', which holds 0"
        )
        session.run(left.enqueue(1))
        fine = explored(session, [threw, back])
        assert fine.agree and not fine.outcomes[0].outcome.stuck


def test_a_deadlock_in_some_orders_is_found_with_its_schedule(session: Any) -> None:
    """Two take from two queues of one element in opposite orders, and give back what they have taken."""
    queues = [tf.FIFOQueue(1, tf.int32, shapes=[], name=name) for name in ("a", "b")]
    session.run([queue.enqueue(1) for queue in queues])
    gives = []
    for number, (one, two) in enumerate((queues, queues[::-1])):
        first = one.dequeue(name=f"first{number}")
        with tf.control_dependencies([first]):
            second = two.dequeue(name=f"second{number}")
        gives += [
            one.enqueue(second, name=f"back{number}"),
            two.enqueue(first + second, name=f"again{number}"),
        ]
    found = explored(session, gives, 20_000)
    stuck = [each for each in found.outcomes if each.outcome.stuck]
    assert found.complete and len(stuck) == 1 and len(found.outcomes) > 1
    assert stuck[0].outcome.stuck.startswith("deadlock: second0 waits for 1 element in FIFOQueue 'b'")
    options = tf.RunOptions(timeout_in_ms=200)
    with (
        no_time_to_wait(),
        schedules.driver(schedules.Replay(stuck[0].schedule)),
        pytest.raises(tf.errors.DeadlineExceededError, match="'second1' in root@0 waits for 1 element"),
    ):
        session.run(gives, options=options)


def test_what_only_another_step_can_bring_is_no_deadlock_and_waits_for_nobody(session: Any) -> None:
    queue, take, puts = queue_with(1)
    found = explored(session, take)
    assert found.agree and found.outcomes[0].outcome.stuck == (
        "stuck: take waits for 1 element in FIFOQueue 'queue', which holds 0, and nothing more comes in this step"
    )
    # A step that waits for another thread goes on when that has done its part, as if nobody had explored it.
    front = Script("n 100", "explore", lambda debugger: producer.start(), "c")
    producer = threading.Thread(target=lambda: Quietly.run(session, puts))
    with Debugger(front).installed():
        assert session.run(take) == 0.0
    producer.join(10)
    assert "take waits for 1 element" in front.texts[0] and front.answers[0].ok


class Quietly:
    """Runs a step past the debugger that is installed."""

    @staticmethod
    def run(session: Any, fetches: Any) -> None:
        queue = session.resources.lookup("queue")
        value = queue.value
        session.resources.write(
            queue, value._replace(elements=(*value.elements, (np.float32(0.0),))), "enqueue"
        )
        queue.tell()


def test_exploring_ends_with_a_step_that_would_wait_for_ever(session: Any) -> None:
    _, take, _ = queue_with(0)
    (found,) = schedules.explore(lambda: session.run(take))
    assert found.agree and found.outcomes[0].outcome.stuck.startswith("stuck: take waits")
    with (
        schedules.driver(schedules.Exploring()),
        pytest.raises(schedules.Stuck, match="explored and not run"),
    ):  # type: ignore[arg-type]
        session.run(take)


def test_a_queue_that_another_step_changes_in_the_meantime_is_said(session: Any) -> None:
    queue, _, puts = queue_with(2)
    session.run(queue.size())
    held = session.resources.lookup("queue")
    calls = []

    def other() -> np.float32:
        """Stands for another step, at the worst moment."""
        calls.append(0)
        if len(calls) == 3:
            session.resources.write(held, held.value._replace(drawn=5), "enqueue")
        return np.float32(1.0)

    with tf.control_dependencies(puts):
        called = tf.py_func(other, [], tf.float32, name="called")
    front = Script("explore", "c")
    with Debugger(front).installed():
        session.run(called)
    assert not front.answers[0].ok and "another step has changed 'queue' in the meantime" in front.texts[0]


def test_what_was_chosen_and_has_to_wait_leaves_the_scheduler_to_choose(session: Any) -> None:
    _, take, puts = queue_with(1)
    notes: list[str] = []
    front = Script(
        "schedule lifo",
        "n 2",
        "choose take",
        "n 100",
        lambda debugger: notes.append(schedule_of(debugger)),
        "c",
    )
    with Debugger(front).installed():
        assert session.run([take, *puts])[0] == 0.0
    assert all(answer.ok for answer in front.answers), front.texts
    with schedules.driver(schedules.Replay(schedules.Schedule.parse(notes[0]))) as driven:
        assert session.run([take, *puts])[0] == 0.0
    assert str(driven.schedules[0]) == notes[0]
