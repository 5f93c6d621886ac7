"""Races and explorations as data: against what the commands say, against every order of small programs, and over the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from debug_fronts import Script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from racing_programs import VARIABLES, Op, build, naive_outcomes, programs

import engine as tf
from viz.cells import line_width
from viz.draw_schedule import DRAWERS
from viz.palette import DARK
from viz.schedule_model import (
    MAX_OUTCOMES,
    MAX_RACES,
    MAX_VALUES,
    AccessView,
    Difference,
    ExplorationView,
    OrderView,
    OutcomeView,
    PairView,
    RaceList,
    RaceView,
    Result,
    ShownRace,
    table_of,
)
from workbench.debugger import schedules, scheduling
from workbench.debugger.command import CommandError
from workbench.debugger.core import Debugger
from workbench.debugger.pages import Page
from workbench.debugger.protocol import ProtocolError, pack, unpack

pytestmark = pytest.mark.usefixtures("as_written")

QUIET = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stopped_in(fetches: Any, *lines: str | Callable[[Any], None], before: Any = None) -> Script:
    """Run `fetches` in a session under the debugger, which is given `lines`."""
    front = Script(*lines)
    with tf.Session() as session:
        if before is not None:
            session.run(before)
        with Debugger(front).installed():
            session.run(fetches)
    return front


def mistakes() -> tuple[Any, Any, Any]:
    """A variable that is doubled and added to in no order: (initializer, double, more)."""
    v = tf.Variable(1.0, name="v")
    double = tf.assign(v, v.read_value() * 2.0, name="double").op
    return v.initializer, double, tf.assign_add(v, 3.0, name="more").op


# What is told, and what the commands say.


def test_the_data_is_what_the_commands_say() -> None:
    initializer, double, more = mistakes()
    told: dict[str, Any] = {}

    def tell(debugger: Debugger) -> None:
        for line in ("races", "races show 1", "races show 2", "explore", "explore 1"):
            told[line] = scheduling.tell(debugger, line)
        with pytest.raises(CommandError, match="'nonsense' tells nothing about order"):
            scheduling.tell(debugger, "nonsense")
        with pytest.raises(CommandError, match="not the number of a race"):
            scheduling.tell(debugger, "races show 3")

    front = stopped_in(
        [double, more], "n 3", tell, "races", "races show 1", "races show 2", "explore", before=initializer
    )
    listed, first, second, explored = front.texts[-4:]
    assert (told["races"].text(), told["races show 1"].text(), told["races show 2"].text()) == (
        listed,
        first,
        second,
    )
    assert timeless(told["explore"].text()) == timeless(explored)

    races = told["races"]
    assert races.count == len(races.races) == 2
    reading = races.races[0]
    assert (reading.resource, reading.kind, reading.number) == ("v", "variable", 1)
    assert {reading.first.access, reading.second.access} <= {"reads", "adds to", "writes"}
    for race in races.races:
        for side in (race.first, race.second):
            assert side.where == f"{side.where.rpartition(':')[0]}:{side.line}" and side.file.endswith(
                __file__[-20:]
            )
            assert side.writes == (side.access != "reads") and side.code in Path(__file__).read_text()
            assert side.frame == "" and side.device in ("", "/device:CPU:0")
    for number in (1, 2):
        shown = told[f"races show {number}"]
        assert shown.race == races.races[number - 1] and shown.both and shown.differences
        assert (shown.first.early, shown.first.late) == (shown.second.late, shown.second.early)
    found = told["explore"]
    assert found.complete and found.limit == scheduling.DEFAULT_LIMIT and not found.bound
    assert found.outcome_count == len(found.outcomes) == len({each.schedule for each in found.outcomes})
    assert not found.outcomes[0].differences and all(each.differences for each in found.outcomes[1:])
    assert found.pair is not None and set(found.pair.swapped) <= {
        "double",
        "more",
        "v/read",
        *nodes_of(races),
    }
    one = told["explore 1"]
    assert (
        not one.complete
        and one.limit == one.explored == 1
        and one.pending >= 1
        and "explore LIMIT" in one.bound
    )


def timeless(text: str) -> str:
    return re.sub(r"[\d.]+ s$", "", text, flags=re.MULTILINE)


def nodes_of(races: RaceList) -> set[str]:
    return {side.node for race in races.races for side in (race.first, race.second)}


def test_an_access_leads_to_its_latest_execution() -> None:
    def kept(i: Any, x: Any) -> Any:
        changed = tf.assign(v, tf.cast(i, tf.float32) + 1.0, name="kept")
        return i + 1, changed + 0.0

    v = tf.Variable(1.0, name="v")
    total = tf.while_loop(lambda i, x: tf.less(i, 3), kept, [0, 0.0], name="loop")[1]
    found: list[AccessView] = []

    def look(debugger: Debugger) -> None:
        told = scheduling.tell(debugger, "races")
        assert isinstance(told, RaceList)
        (race,) = (each for each in told.races if each.distance and each.first.node == each.second.node)
        found.append(race.first)
        assert race.first.node == race.second.node == "loop/kept" and race.loop == race.first.frame != ""
        assert race.text().count("(Assign)") == 1  # the two sides are one node, which is told once
        stepping = debugger.stepping
        assert stepping is not None
        rows = [entry for entry in stepping.history if entry.activation.name == "loop/kept"]
        if rows:
            assert (race.first.row, race.first.iteration) == (rows[-1].row, rows[-1].activation.iteration)
            assert race.first.place == f"root > loop:{rows[-1].activation.iteration}"
        else:
            assert (race.first.row, race.first.iteration, race.first.place) == (-1, -1, "")

    stopped_in(
        total, look, "until loop/kept", look, "n", look, "until loop/kept", "n", look, before=v.initializer
    )
    assert [each.row >= 0 for each in found] == [False, False, True, True]
    assert found[-1].iteration > found[-2].iteration


def test_a_schedule_that_ends_in_an_error_says_what_was_picked_then() -> None:
    """Each outcome's schedule leads there: to the error, too."""
    v = tf.Variable(1.0, name="v")
    product = tf.multiply(v.read_value(), 2.0, name="product")
    told: list[ExplorationView] = []

    def look(debugger: Debugger) -> None:
        found = scheduling.tell(debugger, "explore")
        assert isinstance(found, ExplorationView)
        told.append(found)

    stopped_in([v.initializer, product], look)
    (found,) = told
    assert len({each.schedule for each in found.outcomes}) == found.outcome_count == 2
    assert found.pair is not None and found.pair.first.schedule != found.pair.second.schedule
    assert [each.name for each in found.pair.differences] == [""]
    for each in found.outcomes:
        with tf.Session() as session, schedules.driver(replay(each.schedule)) as driven:
            if each.error:
                with pytest.raises(tf.errors.FailedPreconditionError):
                    session.run([v.initializer, product])
            else:
                session.run([v.initializer, product])
            assert str(driven.schedules[0]) == each.schedule


def replay(schedule: str) -> schedules.Replay:
    return schedules.Replay(schedules.Schedule.parse(schedule))


def _loops() -> dict[str, Callable[[Any], Any]]:
    def at_once(v: Any) -> Any:
        """Iterations write a variable in no order, and read it again."""

        def kept(i: Any, x: Any) -> Any:
            changed = tf.assign(v, tf.cast(i, tf.float32) + 1.0, name="kept")
            return i + 1, changed + 0.0

        return tf.while_loop(lambda i, x: tf.less(i, 2), kept, [0, 0.0], name="loop")[1]

    def read_and_write(v: Any) -> Any:
        """Each iteration reads a variable and writes it, apart from each other."""

        def body(i: Any, x: Any) -> Any:
            with tf.control_dependencies([i]):
                more = tf.assign_add(v, 1.0, name="more")
                now = v.read_value()
            with tf.control_dependencies([more.op]):
                return i + 1, x + now

        return tf.while_loop(lambda i, x: tf.less(i, 3), body, [0, 0.0], name="loop")[1]

    def from_outside(v: Any) -> Any:
        """A loop reads what is written outside of it."""

        def body(i: Any, x: Any) -> Any:
            with tf.control_dependencies([i]):
                return i + 1, x + v.read_value()

        total = tf.while_loop(lambda i, x: tf.less(i, 3), body, [0, 0.0], name="loop")[1]
        return [total, tf.assign(v, 7.0, name="outside").op]

    return {each.__name__: each for each in (at_once, read_and_write, from_outside)}


@pytest.mark.parametrize("name", _loops())
def test_a_race_of_a_loop_is_shown_in_the_order_that_is_said(name: str) -> None:
    """Every schedule of which nothing says why not has its two accesses, so many iterations apart, in its order."""
    v = tf.Variable(1.0, name="v")
    fetches = _loops()[name](v)
    shown: list[ShownRace] = []

    def look(debugger: Debugger) -> None:
        found = scheduling.tell(debugger, "races")
        assert isinstance(found, RaceList)
        for race in found.races:
            told = scheduling.tell(debugger, f"races show {race.number}")
            assert isinstance(told, ShownRace)
            shown.append(told)
        explored = scheduling.tell(debugger, "explore")
        assert isinstance(explored, ExplorationView) and explored.pair is not None
        assert len(set(explored.pair.names)) == 2 and explored.pair.sentence in explored.text()

    stopped_in(fetches, look, before=v.initializer)
    had = 0
    for race in shown:
        for order, apart in ((race.first, race.race.distance), (race.second, -race.race.distance)):
            if order.why_not:
                continue
            had += 1
            with tf.Session() as session:
                session.run(v.initializer)
                scheduler = Told(order.outcome.schedule)
                with schedules.driver(scheduler):
                    session.run(fetches)
            ran = [(each.name, each.iteration) for each in scheduler.activations]
            pairs = [
                (ran.index((order.early, early)), ran.index((order.late, early + apart)))
                for node, early in ran
                if node == order.early and (order.late, early + apart) in ran
            ]
            if name != "from_outside":
                assert any(first < second for first, second in pairs), (order, ran)
    assert had > len(shown)
    assert any(race.both and race.differences for race in shown)


# Against every order.


@QUIET
@given(programs())
def test_the_data_is_what_every_order_comes_to(ops: list[Op]) -> None:
    with tf.Graph().as_default():
        initializers, nodes = build(ops)
        told: dict[str, Any] = {}

        def look(debugger: Debugger) -> None:
            told["explore"] = scheduling.tell(debugger, "explore")
            told["races"] = scheduling.tell(debugger, "races")
            for race in told["races"].races:
                told[f"{race.number}"] = scheduling.tell(debugger, f"races show {race.number}")

        stopped_in(nodes, look, before=initializers)
        found: ExplorationView = told.pop("explore")
        races: RaceList = told.pop("races")
        expected, orders = naive_outcomes(ops)
        assert (found.complete, found.outcome_count, found.orders) == (True, len(expected), orders)
        assert {values_of(each, ops) for each in found.outcomes} == expected
        for each in found.outcomes:
            assert replayed(each, ops, initializers, nodes) == values_of(each, ops)
            said = {(one.name, one.first, one.second) for one in each.differences}
            assert said == set(differing(found.outcomes[0], each, ops))
        if found.pair is not None:
            assert found.pair.swapped and found.pair.differences
            for side in (found.pair.first, found.pair.second):
                assert replayed(side, ops, initializers, nodes) == values_of(side, ops)
        shown: list[ShownRace] = list(told.values())
        assert len(shown) == races.count
        for race in shown:
            for order in (race.first, race.second):
                if not order.why_not:
                    assert replayed(order.outcome, ops, initializers, nodes, order) == values_of(
                        order.outcome, ops
                    )
                    assert values_of(order.outcome, ops) in expected
            if race.both:
                both = [values_of(order.outcome, ops) for order in (race.first, race.second)]
                assert bool(race.differences) == (both[0] != both[1])
        for each_told in (found, races, *shown):
            survives(each_told)


def values_of(outcome: OutcomeView, ops: Sequence[Op]) -> tuple[float, ...]:
    """What was read, then what the variables hold."""
    assert not outcome.error and not outcome.stuck and not outcome.omitted
    held = {each.name: float(each.value) for each in outcome.results if not each.fetched}
    read = [float(each.value) for each in outcome.results if each.fetched]
    assert len(read) == sum(op.kind == "read" for op in ops)
    return (*read, *(held.get(f"v{i}", float(10 * i + 1)) for i in range(VARIABLES)))


def differing(first: OutcomeView, other: OutcomeView, ops: Sequence[Op]) -> list[tuple[str, str, str]]:
    one, two = ({each.name: each.value for each in side.results} for side in (first, other))
    return [
        (name, one.get(name, "unchanged"), two.get(name, "unchanged"))
        for name in {**one, **two}
        if one.get(name) != two.get(name)
    ]


class Told(schedules.Replay):
    """A replay that keeps the nodes in the order in which they execute."""

    def __init__(self, schedule: str) -> None:
        super().__init__(schedules.Schedule.parse(schedule))
        self.activations: list[Any] = []

    @property
    def ran(self) -> list[str]:
        return [each.name for each in self.activations]

    def executed(self, activation: Any, run: Any, recorder: Any) -> None:
        super().executed(activation, run, recorder)
        self.activations.append(activation)


def replayed(
    outcome: OutcomeView, ops: Sequence[Op], initializers: Any, nodes: Any, order: OrderView | None = None
) -> tuple[float, ...]:
    """What the outcome's schedule comes to when it is replayed from the same beginning."""
    with tf.Session() as session:
        session.run(initializers)
        scheduler = Told(outcome.schedule)
        with schedules.driver(scheduler) as driven:
            read = [float(each) for each in session.run(nodes) if each is not None]
        assert [str(each) for each in driven.schedules] == [outcome.schedule]
        if order is not None:
            assert scheduler.ran.index(order.early) < scheduler.ran.index(order.late)
        return (*read, *(float(session.run(f"v{i}:0")) for i in range(VARIABLES)))


# Bounds.


def test_what_is_told_is_bounded() -> None:
    v = tf.Variable(0.0, name="v")
    many = [tf.Variable(float(i), name=f"w{i}") for i in range(MAX_VALUES + 5)]
    writes = [tf.assign(v, float(i), name=f"write{i}").op for i in range(16)]
    others = [tf.assign_add(each, 1.0).op for each in many]
    told: list[Any] = []

    def look(debugger: Debugger) -> None:
        told.extend(scheduling.tell(debugger, line) for line in ("races", "races show 120", "explore 3"))

    stopped_in([*writes, *others], look, before=[v.initializer, *(each.initializer for each in many)])
    races, shown, explored = told
    assert races.count == 16 * 15 // 2 and len(races.races) == MAX_RACES and "… and 20 more" in races.text()
    assert shown.race.number == 120
    outcome = explored.outcomes[0]
    assert len(outcome.results) == MAX_VALUES and outcome.omitted == 6
    assert f"… and {len(many) + 1 - 12} more" in shown.text()
    assert len(explored.outcomes) <= MAX_OUTCOMES
    for each in told:
        survives(each)


# Over the wire, and on the screen.


def survives(told: Any) -> None:
    """It arrives as it was sent, is drawn in any width, and is shown in a notebook."""
    field = {RaceList: "races", ShownRace: "shown", ExplorationView: "exploration"}[type(told)]
    page = replace(Page(1, True), **{field: told})
    assert unpack(pack(page)[:-1], (Page,)) == page and page.told is told
    assert str(told) == told.text()
    html = told._repr_html_()
    assert html.startswith("<div") and "<script" not in html
    drawn(told)


def drawn(told: Any) -> None:
    for width in (16, 40, 65, 120):
        drawing = DRAWERS[type(told)](told, DARK, width)
        assert all(line_width(line) <= width for line in drawing.lines)
        assert all(0 <= hit.row < drawing.height for hit in drawing.hits)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Any instance of one of the dataclasses, with hostile strings and numbers."""
    text = st.text(max_size=12) | st.sampled_from(
        ["while/frame", "x" * 300, "<script>alert(1)</script>", "\x1b[31m", "漢字" * 30, "\n"]
    )
    number = st.integers(-(1 << 60), 1 << 60) | st.integers(-2, 3)
    known: dict[str, st.SearchStrategy[Any]] = {
        "str": text,
        "int": number,
        "bool": st.booleans(),
        "float": st.floats(allow_nan=False, allow_infinity=False),
        "tuple[int, ...]": st.lists(number, max_size=3).map(tuple),
        "tuple[str, ...]": st.lists(text, max_size=3).map(tuple),
    }
    for each in (Result, Difference, OutcomeView, RaceView, AccessView, OrderView, PairView):
        if each is not kind:
            known[each.__name__] = st.deferred(lambda each=each: anything(each))
            known[f"tuple[{each.__name__}, ...]"] = st.lists(known[each.__name__], max_size=2).map(tuple)
            known[f"{each.__name__} | None"] = st.none() | known[each.__name__]
    assert is_dataclass(kind)
    return st.builds(kind, **{each.name: known[str(each.type)] for each in fields(kind)})  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything(RaceList) | anything(ShownRace) | anything(ExplorationView))
def test_whatever_arrives_is_shown(told: Any) -> None:
    survives(told)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
ACCESS = AccessView(
    "v/read", "Identity", row=3, place="root", file="x.py", line=3, where="x.py:3", code="v = 1"
)
OUTCOME = OutcomeView(
    "0a1b2c3d:1.1", (Result("v", "1."), Result("y:0", "2.", True)), differences=(Difference("v", "1.", "2."),)
)
RACE = RaceView(
    1, "v", "variable", ACCESS, replace(ACCESS, node="more", access="adds to", writes=True), why=("no path",)
)
PAGE = Page(
    5,
    True,
    races=RaceList((RACE,), 1),
    shown=ShownRace(
        RACE, OrderView("v/read", "more", OUTCOME), OrderView("more", "v/read", OUTCOME, "it is dead")
    ),
    exploration=ExplorationView((OUTCOME, OUTCOME), 2, pair=PairView(OUTCOME, OUTCOME, ("a", "b"))),
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_page_that_was_tampered_with_is_refused_or_shown(data: st.DataObject) -> None:
    body = json.loads(pack(PAGE))
    at: Any = body[data.draw(st.sampled_from(["races", "shown", "exploration"]))]
    while True:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(JSON)
        break
    try:
        page = unpack(json.dumps(body).encode(), (Page,))
    except ProtocolError:
        return
    assert isinstance(page, Page)
    for told in (page.races, page.shown, page.exploration):
        if told is not None:
            survives(told)


@pytest.mark.parametrize(
    "part",
    [
        '"races":[]',
        '"races":{"races":{}}',
        '"races":{"races":[{"number":1}]}',
        '"shown":{"race":null}',
        '"exploration":{"outcomes":[{"schedule":1}]}',
        '"exploration":{"pair":{"swapped":["a"]}}',
        '"exploration":{"seconds":"1"}',
        '"exploration":{"seconds":NaN}',
    ],
)
def test_what_does_not_fit_is_refused(part: str) -> None:
    with pytest.raises(ProtocolError):
        unpack(f'{{"type":"page","id":1,"ok":true,{part}}}'.encode(), (Page,))
    assert unpack(b'{"type":"page","id":1,"ok":true,"races":{"from_the_future":1}}', (Page,)) == Page(
        1, True, races=RaceList()
    )


def test_two_outcomes_side_by_side() -> None:
    rows = table_of(OUTCOME, replace(OUTCOME, results=(Result("v", "2."),)), OUTCOME.differences)
    assert rows == [("v", "1.", "2.", True), ("y:0", "2.", "", False)]
    failed = OutcomeView("0a1b2c3d:", error="NotFoundError in x")
    assert table_of(failed, failed, ())[0] == ("the step", "NotFoundError in x", "", True)
