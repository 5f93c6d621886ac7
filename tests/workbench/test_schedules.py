"""Schedules: recorded, written as a string, read back and replayed; the schedulers; the commands about them."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from debug_fronts import Script, schedule_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engine as tf
from engine import observe
from workbench.cli import cli
from workbench.debugger import schedules
from workbench.debugger.core import Debugger
from workbench.debugger.schedules.record import Schedule, ScheduleError

# The graph as written: what passes make of it is scheduled in the same way.
pytestmark = pytest.mark.usefixtures("as_written")


class Rows(observe.Observer):
    """Keeps the order of a step's executions."""

    level = observe.TraceLevel.TIMES

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, bool]] = []

    def executions(self, step: Any, batch: Any) -> None:
        for node, frame, iteration, dead in zip(
            batch.node.tolist(),
            batch.frame.tolist(),
            batch.iteration.tolist(),
            batch.dead.tolist(),
            strict=True,
        ):
            self.rows.append((node, frame, iteration, dead))


@contextmanager
def observing(observer: observe.Observer) -> Iterator[None]:
    observe.install(observer)
    try:
        yield
    finally:
        observe.uninstall(observer)


def racing() -> tuple[Any, list[Any]]:
    """A variable that three operations change as they please, and a loop beside it."""
    v = tf.Variable(1.0, name="v")
    double = tf.assign(v, v * 2.0, name="double")
    more = tf.assign_add(v, 3.0, name="more")
    third = tf.assign_sub(v, 0.5, name="third")
    total = tf.while_loop(
        lambda i, x: i < 4, lambda i, x: (i + 1, x + tf.random_uniform([], seed=3)), [0, 0.0], name="loop"
    )[1]
    return v, [double.op, more.op, third.op, total]


# Strings.


@given(st.lists(st.one_of(st.just(0), st.integers(0, 5000)), max_size=60))
def test_a_schedule_is_read_back_from_its_string(picks: list[int]) -> None:
    schedule = Schedule.of("0123abcd", picks)
    assert Schedule.parse(str(schedule)) == schedule
    while picks and not picks[-1]:
        picks.pop()
    assert list(schedule.picks) == picks


def test_a_schedule_is_short() -> None:
    assert str(Schedule.of("0123abcd", [0] * 1000)) == "0123abcd:"
    assert str(Schedule.of("0123abcd", [0] * 1000 + [2])) == "0123abcd:rs.2"
    assert str(Schedule.of("0123abcd", [0, 1] * 1000)) == "0123abcd:1.1_rs"


@pytest.mark.parametrize("seed", range(4))
def test_a_long_schedule_is_packed(seed: int) -> None:
    chance = random.Random(seed)
    picks = [chance.randrange(1, 90) for _ in range(500)]
    schedule = Schedule.of("0123abcd", picks)
    text = str(schedule)
    assert text.startswith("0123abcd:~") and len(text) < 1.6 * len(picks)
    assert Schedule.parse(text) == schedule
    for wrong in (text[:-8], text[:30] + ("A" if text[30] != "A" else "B") + text[31:], text[:10]):
        with pytest.raises(ScheduleError, match="not a schedule"):
            Schedule.parse(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0123abcd",
        "0123abcd:1",
        "0123abcd:1.1-",
        "0123ABCD:",
        "0123abcd:1.1_",
        "0123abcd:-1.1",
        "é:1.1",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError, match="is not a schedule"):
        Schedule.parse(text)


def test_a_schedule_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ScheduleError, match="more than"):
        Schedule.parse("0123abcd:zzzzzz.1_zzzzzz")


@given(st.text("0123456789abcdef:.-_z~QR", max_size=40))
def test_any_string_is_read_or_refused(text: str) -> None:
    try:
        found = Schedule.parse(text)
    except ScheduleError:
        return
    assert Schedule.parse(str(found)) == found


# Recording and replaying.

SCHEDULERS = [
    schedules.Scheduler(),
    schedules.Random(1),
    schedules.Random(2),
    schedules.PCT(1),
    schedules.PCT(2, depth=5, length=30),
    schedules.Newest(),
    schedules.ranked("writes-first"),
    schedules.ranked("reads-first"),
    schedules.ranked("longest-wait"),
    schedules.Delay(["double", "v/read"]),
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda each: each.text)
def test_replay_repeats_a_step_exactly(scheduler: schedules.Scheduler) -> None:
    v, ops = racing()
    with tf.Session() as session:
        session.run(v.initializer)
        seen = []
        chosen: schedules.Scheduler = scheduler
        for _ in range(2):
            session.resources.clear(("random",))
            session.resources.lookup("v").value = np.float32(1.0)
            rows = Rows()
            with observing(rows), schedules.driver(chosen) as driven:
                results = session.run(ops)
            (schedule,) = driven.schedules
            held = session.resources.lookup("v").value
            seen.append((rows.rows, np.asarray(results[3]).tobytes(), np.asarray(held).tobytes(), schedule))
            chosen = schedules.Replay(Schedule.parse(str(schedule)))
        assert seen[0] == seen[1]


def test_first_come_first_served_is_what_the_interpreter_does() -> None:
    v, ops = racing()
    seen = []
    with tf.Session() as session:
        session.run(v.initializer)
        for under in (None, schedules.Scheduler()):
            rows = Rows()
            rows.level = observe.TraceLevel.FULL
            with observing(rows):
                if under is None:
                    session.run(ops)
                else:
                    with schedules.driver(under) as driven:
                        session.run(ops)
            seen.append(rows.rows)
    assert seen[0] == seen[1]
    assert driven.schedules[0].picks == ()


def test_schedulers_do_what_they_are_for() -> None:
    """What each leaves in a variable that is doubled and added to."""
    v = tf.Variable(1.0, name="v")
    read = v.read_value()
    write = tf.assign(v, 5.0, name="write")
    found = {}
    with tf.Session() as session:
        for name in ("writes-first", "reads-first"):
            session.run(v.initializer)
            with schedules.driver(schedules.ranked(name)):
                found[name] = float(session.run([read, write.op])[0])
        for node in (read.op.name, "write"):
            session.run(v.initializer)
            with schedules.driver(schedules.Delay([node])):
                found[node] = float(session.run([read, write.op])[0])
    assert found == {"writes-first": 5.0, "reads-first": 1.0, read.op.name: 5.0, "write": 1.0}


def test_pct_and_random_find_a_rare_order() -> None:
    """One of the 24 orders of four updates makes a hundred; some seed of each scheduler finds it."""
    v = tf.Variable(0.0, name="v")
    steps = [(2.0, 1.0), (3.0, 2.0), (5.0, 3.0), (7.0, 4.0)]
    updates = []
    for factor, add in steps:
        updates.append(tf.assign(v, v.read_value() * factor + add).op)
    with tf.Session() as session:
        for make in (schedules.Random, schedules.PCT):
            seen = set()
            for seed in range(40):
                session.run(v.initializer)
                with schedules.driver(make(seed)):
                    session.run(updates)
                seen.add(float(session.run(v)))
            assert len(seen) >= 5, make


def test_a_schedule_of_another_graph_is_one_clear_error() -> None:
    v, ops = racing()
    with tf.Session() as session:
        session.run(v.initializer)
        with schedules.driver(schedules.Random(1)) as driven:
            session.run(ops)
        with (
            schedules.driver(schedules.Replay(driven.schedules[0])),
            pytest.raises(ScheduleError, match="of another graph"),
        ):
            session.run(ops[:2])


def test_the_drivers_of_others_are_put_back() -> None:
    from engine.runtime import driver as drivers

    with schedules.driver(schedules.Random(1)) as outer:
        with schedules.driver(schedules.Newest()):
            pass
        assert drivers.installed() is outer
    assert drivers.installed() is None


# In the debugger.


def debugged(session: Any, fetches: Any, *lines: str | Callable[[Debugger], None]) -> tuple[Any, Script]:
    front = Script(*lines)
    with Debugger(front).installed():
        return session.run(fetches), front


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


def test_choosing_is_recorded_and_replayed(session: Any) -> None:
    v, ops = racing()
    session.run(v.initializer)
    notes: list[str] = []
    _, front = debugged(
        session,
        ops[:2],
        "ready",
        "choose 2",
        "n",
        "choose v",
        "n",
        "choose more",
        "n 100",
        lambda debugger: notes.append(schedule_of(debugger)),
    )
    assert front.texts[0].startswith("→   0  v  (VariableV2)")
    assert all(answer.ok for answer in front.answers[:3])
    assert float(session.run(v)) == 8.0
    session.run(v.initializer)
    with schedules.driver(schedules.Replay(Schedule.parse(notes[0]))):
        session.run(ops[:2])
    assert float(session.run(v)) == 8.0
    # And in the debugger itself.
    session.run(v.initializer)
    after: list[str] = []
    debugged(
        session,
        ops[:2],
        f"schedule replay {notes[0]}",
        "n 100",
        lambda debugger: after.append(schedule_of(debugger)),
    )
    assert float(session.run(v)) == 8.0 and after == notes


def test_what_cannot_be_chosen_or_replayed_is_said(session: Any) -> None:
    v, ops = racing()
    session.run(v.initializer)
    _, front = debugged(
        session,
        ops[:2],
        "choose",
        "choose 99",
        "choose more",
        "choose nowhere",
        "schedule replay 00000000:1.1",
        "schedule replay gibberish",
        "schedule replay",
        "schedule replay @/no/such/file",
        "schedule sometimes",
        "schedule random x",
        "schedule pct 1 0",
        "schedule delay",
        "schedule delay nowhere",
        "schedule lifo 3",
        "explore none",
        "races show 99",
        "races hide 1",
        "schedule when gibberish",
        "schedule save /no/such/directory/file",
    )
    assert not any(answer.ok for answer in front.answers)
    expected = [
        "choose what?",
        "not among what is ready",
        "is not ready",
        "nowhere",
        "another graph",
        "not a schedule",
        "which schedule",
        "cannot be read",
        "no scheduler",
        "not the numbers",
        "depth",
        "which node",
        "nowhere",
        "nothing more",
        "not a number",
        "not the number of a race",
        "races lists them",
        "not a schedule",
        "cannot be written",
    ]
    for text, part in zip(front.texts, expected, strict=True):
        assert part in text, text


def test_replaying_begins_where_the_step_stands_if_it_came_there_by_the_same_choices(session: Any) -> None:
    v, ops = racing()
    session.run(v.initializer)
    notes: list[str] = []

    def remember(debugger: Debugger) -> None:
        notes.append(schedule_of(debugger))

    def replay(debugger: Debugger) -> None:
        front.answers.append(debugger.execute(f"schedule replay {notes[0]}"))

    front = Script(
        "schedule random 5",
        "n 1000",
        remember,
        "back 10",
        replay,
        "n 1000",
        remember,
        "back 1000",
        "schedule first",
        "n 6",
        replay,
        "back 6",
        replay,
        "n 1000",
        remember,
    )
    with Debugger(front).installed():
        session.run(ops)
    assert notes[0] == notes[1] == notes[2] != schedules.fingerprint
    refused = [answer.text for answer in front.answers if not answer.ok]
    assert len(refused) == 1 and "back 6 goes to its beginning" in refused[0]


@pytest.mark.parametrize(
    "scheduler", ["random 3", "pct 3", "lifo", "writes-first", "longest-wait", "delay loop/*"]
)
def test_a_scheduler_goes_the_same_way_after_going_back(session: Any, scheduler: str) -> None:
    v, ops = racing()
    session.run(v.initializer)
    notes: list[str] = []

    def remember(debugger: Debugger) -> None:
        notes.append(schedule_of(debugger))

    _, front = debugged(
        session, ops, f"schedule {scheduler}", "n 1000", remember, "back 25", "n 1000", remember, "back 7", "n 3",
        "back 20", "n 1000", remember,
    )  # fmt: skip
    assert front.answers[0].ok, front.texts[0]
    assert len(set(notes)) == 1 and len(notes) == 3


def test_the_debuggers_schedule_is_that_of_a_driver_with_the_same_scheduler(session: Any) -> None:
    v, ops = racing()
    session.run(v.initializer)
    for text, scheduler in (
        ("random 9", schedules.Random(9)),
        ("pct 2", schedules.PCT(2)),
        ("lifo", schedules.Newest()),
    ):
        notes: list[str] = []
        debugged(
            session, ops, f"schedule {text}", "n 1000", lambda d, notes=notes: notes.append(schedule_of(d))
        )
        with schedules.driver(scheduler) as driven:
            session.run(ops)
        assert notes == [str(driven.schedules[0])]


def test_what_the_history_forgets_stays_in_the_schedule(session: Any) -> None:
    v, ops = racing()
    session.run(v.initializer)
    notes: list[str] = []

    def little(debugger: Debugger) -> None:
        assert debugger.stepping is not None
        debugger.stepping.budget(5, 1 << 30)

    def forgot(debugger: Debugger) -> None:
        assert debugger.stepping is not None and len(debugger.stepping.history) < 10
        notes.append(schedule_of(debugger))

    debugged(session, ops, little, "schedule random 4", "n 1000", forgot)
    with schedules.driver(schedules.Random(4)) as driven:
        session.run(ops)
    assert notes == [str(driven.schedules[0])]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_a_walk_of_any_commands_is_replayed_by_its_schedule(seed: int) -> None:
    """Choices, moves, schedulers and steps back at random; then the schedule alone, by a driver."""
    chance = random.Random(seed)
    with tf.Graph().as_default():
        v, ops = racing()
        with tf.Session() as session:
            session.run(v.initializer)
            left = 25
            walked: list[str] = []

            def command(debugger: Debugger) -> str:
                nonlocal left
                left -= 1
                assert debugger.stepping is not None
                if left <= 0:
                    if debugger.stepping.ready:
                        return "n 10000"
                    walked.append(schedule_of(debugger))
                    return "c"
                many = len(debugger.stepping.ready) or 1
                return chance.choice(
                    [
                        f"n {chance.randrange(1, 9)}",
                        f"back {chance.randrange(1, 6)}",
                        f"choose {chance.randrange(many)}",
                        f"choose {chance.randrange(many)}",
                        f"schedule random {chance.randrange(9)}",
                        "schedule first",
                        "schedule lifo",
                    ]
                )

            front = Script()
            front.command = command  # type: ignore[method-assign]
            with Debugger(front).installed():
                results = session.run(ops)
            held = session.run(v)
            session.run(v.initializer)
            session.resources.clear(("random",))
            with schedules.driver(schedules.Replay(Schedule.parse(walked[-1]))) as driven:
                again = session.run(ops)
            assert np.asarray(again[3]).tobytes() == np.asarray(results[3]).tobytes()
            assert session.run(v).tobytes() == held.tobytes()
            assert str(driven.schedules[0]) == walked[-1]


def test_saved_and_replayed_from_a_file(session: Any, tmp_path: Path) -> None:
    v, ops = racing()
    session.run(v.initializer)
    file = tmp_path / "order"
    debugged(session, ops, "schedule random 8", "n 1000", f"schedule save {file}")
    notes: list[str] = []
    _, front = debugged(
        session, ops, f"schedule replay @{file}", "n 1000", lambda d: notes.append(schedule_of(d)), "schedule"
    )
    assert notes[0] == file.read_text().strip()
    assert "scheduled by: replay" in front.texts[-1]


def test_a_schedule_waits_for_its_step(session: Any) -> None:
    v, ops = racing()
    session.run(v.initializer)
    with schedules.driver(schedules.ranked("writes-first")) as driven:
        session.run(ops[:2])
    session.run(v.initializer)
    expected = float(session.run(v)), str(driven.schedules[0])
    notes: list[str] = []
    front = Script(f"schedule when {expected[1]}", "r", "n 100", lambda d: notes.append(schedule_of(d)), "c")
    with Debugger(front).installed():
        session.run(v)
        session.run(ops[:2])
    assert notes == [expected[1]]


def test_two_devices_replay(session: Any) -> None:
    with tf.device("/cpu:0"):
        x = tf.Variable(1.0, name="x")
        here = [tf.sin(x + float(i)) for i in range(3)]
    with tf.device("/cpu:1"):
        there = tf.add_n([tf.cos(each) for each in here])
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as both:
        both.run(x.initializer)
        with schedules.driver(schedules.Random(3)) as driven:
            first = both.run(there)
        with schedules.driver(schedules.Replay(driven.schedules[0])) as again:
            assert both.run(there).tobytes() == first.tobytes()
        assert again.schedules == driven.schedules
        notes: list[str] = []
        debugged(
            both, there, f"schedule replay {driven.schedules[0]}", "n 5", "back 3", "n 1000",
            lambda d: notes.append(schedule_of(d)),
        )  # fmt: skip
        assert notes == [str(driven.schedules[0])]


RACE = """
import engine as tf

v = tf.Variable(1.0, name="v")
double = tf.assign(v, v * 2.0, name="double")
more = tf.assign_add(v, 3.0, name="more")
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run([double.op, more.op])
    print("v is", session.run(v))
"""


def test_the_command_line_replays(
    write_script: Callable[..., Path],
    run_python: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    script = write_script(RACE)
    found = run_python(
        "-m", "workbench", "step", "--commands", "r; schedule writes-first; n 100; schedule; c", script
    )
    assert "v is 8.0" in found.stdout, found.stdout + found.stderr
    line = next(line for line in found.stdout.splitlines() if ":" in line and line[8:9] == ":")
    again = run_python("-m", "workbench", "step", "--schedule", line, "--commands", "c", script)
    assert "v is 8.0" in again.stdout, again.stdout + again.stderr


def test_the_command_line_refuses_what_is_no_schedule(write_script: Callable[..., Path]) -> None:
    for wrong in ("x", "@/no/such/file"):
        found = CliRunner().invoke(
            cli, ["step", "--schedule", wrong, "--commands", "c", str(write_script(RACE))]
        )
        assert found.exit_code == 2 and "--schedule" in found.output


def test_nothing_here_loads_with_the_engine() -> None:
    code = "import engine, sys; sys.exit(any(name.startswith('workbench') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
