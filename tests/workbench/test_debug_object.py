"""The debugger as an object, for notebooks: `engine.debug.session(session)`."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.runtime import driver
from workbench.debugger.core import Quit
from workbench.debugger.notebook import DebuggerError, NotebookDebugger

pytestmark = pytest.mark.usefixtures("as_written")


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as made:
        x = tf.placeholder(tf.float32, [2], name="x")
        total = tf.add(x, 1.0, name="total")
        tf.reduce_sum(total * 3.0, name="loss")
        tf.while_loop(lambda i: tf.less(i, 5), lambda i: tf.add(i, 1, name="up"), [0], name="loop")
        w = tf.Variable(1.0, name="w")
        tf.assign_add(w, 1.0, name="more")
        made.run(w.initializer)
        yield made


@pytest.fixture
def debugger(session: Any) -> Iterator[NotebookDebugger]:
    with tf.debug(session) as made:  # type: ignore[operator]
        yield made
    assert driver.installed() is None
    assert not any(thread.name == "debugged-step" for thread in threading.enumerate())


def test_the_module_is_called_or_asked(session: Any) -> None:
    assert isinstance(tf.debug(session), NotebookDebugger)  # type: ignore[operator]
    assert isinstance(tf.debug.session(session), NotebookDebugger)  # type: ignore[attr-defined]


def test_a_step_from_its_beginning_to_its_end(debugger: NotebookDebugger) -> None:
    assert debugger.done and repr(debugger) == "<no step is under way>"
    debugger.run("loss:0", {"x:0": [1, 2]})
    assert not debugger.done and debugger.history == ()
    first = debugger.ready[0]
    assert debugger.next().history == (first,)
    assert debugger.back().history == () and debugger.ready[0] == first
    debugger.run_to("total")
    np.testing.assert_array_equal(
        debugger.value("x" if "x" in debugger.history else debugger.history[0]), [1, 2]
    )
    debugger.next()
    np.testing.assert_array_equal(debugger.value("total:0"), [2, 3])
    assert "total" in repr(debugger) and "next" in repr(debugger)
    assert "needed by the fetch loss:0" in debugger.why("total")
    assert debugger.info("ready") and "loss" in debugger.info("loss")
    assert debugger.result == 15.0 and debugger.done
    assert debugger.result == 15.0  # and still
    assert "15.0" in repr(debugger)


def test_breakpoints_stop_and_do_not_once_the_result_is_asked_for(debugger: NotebookDebugger) -> None:
    debugger.break_at("loop/up if iteration >= 3").run("loop/Exit:0")
    debugger.go_on()
    assert debugger.value("loop/up:0") == 3
    assert debugger.breakpoints[0].hits == 1
    assert debugger.result == 5
    assert len(debugger.breakpoints) == 1
    assert debugger.delete(1).breakpoints == ()
    assert debugger.run("loop/Exit:0").go_on().done


def test_changes(debugger: NotebookDebugger, session: Any) -> None:
    debugger.run("loss:0", {"x:0": [1, 2]}).run_to("total").next().set("total", [10.0, 20.0])
    assert debugger.result == 90.0
    debugger.run("loss:0", {"x:0": [1, 2]}).skip("total", [[1.0, 1.0]])
    assert debugger.result == 6.0
    debugger.run("loss:0", {"x:0": [1, 2]}).run_to("total").skip()
    assert debugger.result == 0.0
    debugger.run("more:0").set_variable("w", 41.0)
    assert debugger.variable("w") == 41.0
    assert debugger.result == 42.0
    debugger.run("more:0").set_variable("w", 0.0).back()
    assert debugger.result == 43.0
    assert debugger.run("loop/Exit:0").force("loop", False).result == 0
    debugger.run("loss:0", {"x:0": [1, 2]}).run_to("total").next()
    with pytest.raises(DebuggerError, match=r"shape \[2\], the value \[3\]"):
        debugger.set("total", [1.0, 2.0, 3.0])
    assert debugger.result == 15.0


def test_what_makes_no_sense_is_said(debugger: NotebookDebugger) -> None:
    for call in (debugger.next, debugger.back, debugger.go_on, lambda: debugger.result):
        with pytest.raises(DebuggerError, match=r"debugger\.run\(fetches\)"):
            call()
    with pytest.raises(DebuggerError, match="there is no command 'nonsense'"):
        debugger.execute("nonsense")
    with pytest.raises((ValueError, KeyError), match="nothing_such"):
        debugger.run("nothing_such:0")
    assert debugger.done
    debugger.run("loss:0", {"x:0": [1, 2]})
    with pytest.raises(DebuggerError, match="there is no node 'nothing'"):
        debugger.value("nothing:0")
    with pytest.raises(DebuggerError, match="has not executed"):
        debugger.value("loss:0")
    with pytest.raises(DebuggerError, match="nothing to take back"):
        debugger.back()
    with pytest.raises(DebuggerError, match="no variable 'v'"):
        debugger.variable("v")


def test_an_error_is_looked_at_before_it_is_raised(session: Any, debugger: NotebookDebugger) -> None:
    tf.add(tf.placeholder(tf.float32, None, name="left"), tf.constant([1.0, 2.0]), name="wrong")
    debugger.run("wrong:0", {"left:0": [1.0, 2.0, 3.0]}).go_on()
    assert not debugger.done and isinstance(debugger.error, tf.OpError)
    assert debugger.ready[0] == "wrong"
    with pytest.raises(tf.OpError):
        _ = debugger.result
    assert debugger.done and "raised InvalidArgumentError" in repr(debugger)
    assert debugger.run("loss:0", {"x:0": [1, 2]}).result == 15.0


def test_quitting_ends_the_step(debugger: NotebookDebugger) -> None:
    debugger.run("loss:0", {"x:0": [1, 2]})
    debugger.execute("q")
    assert debugger.done
    with pytest.raises(Quit):
        _ = debugger.result


def test_other_threads_run_freely_meanwhile(debugger: NotebookDebugger, session: Any) -> None:
    debugger.run("loop/Exit:0").next(3)
    assert session.run("loss:0", {"x:0": [0, 0]}) == 6.0
    assert debugger.result == 5


class Checked(HTMLParser):
    """Checks that every tag is closed in its turn, and that there are no scripts; keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("div", "b", "span", "code", "table", "tr", "td", "th")
        assert all(name == "style" for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def shown(debugger: NotebookDebugger) -> str:
    checked = Checked()
    checked.feed(debugger._repr_html_())
    assert checked.open == []
    return re.sub(r"\s+", " ", checked.text)


def test_the_rich_display_is_well_formed_and_says_all(debugger: NotebookDebugger, session: Any) -> None:
    evil = tf.constant("<script>alert(1)</script>", name="evil")
    tf.identity(evil, name="out")
    assert "no step is under way" in shown(debugger)
    debugger.run(["out:0", "loop/Exit:0"]).run_to("loop/up").next()
    said = shown(debugger)
    assert "ready" in said and "executed" in said and "frames" in said and "<script>" in said
    assert "<script>" not in debugger._repr_html_()
    debugger.run("loss:0", {"x:0": [1, 2]}).run_to("total").next().set("total", [0.0, 0.0]).next(2)
    assert "descends from an override at #" in shown(debugger)
    assert debugger.result == 0.0
    assert "the step is over" in shown(debugger)


def test_a_run_that_nobody_debugs_pays_nothing() -> None:
    """The way of `Session.run` asks for no debugger but the driver that is installed, as it always has."""
    with tf.Graph().as_default(), tf.Session() as session:
        total = tf.add(tf.constant(1.0), 2.0)
        session.run(total)

        def calls() -> int:
            """How many functions one run calls."""
            found = 0

            def note(frame: object, event: str, argument: object) -> None:
                nonlocal found
                found += event in ("call", "c_call")

            sys.setprofile(note)
            try:
                session.run(total)
            finally:
                sys.setprofile(None)
            return found

        calls()
        before = calls()
        with tf.debug(session) as debugger:  # type: ignore[operator]
            debugger.run(total).next()
            assert debugger.result == 3.0
            calls()
            after = calls()
    assert after <= before


# Order, and answers as data.


def html_of(told: Any) -> str:
    checked = Checked()
    checked.feed(told._repr_html_())
    assert checked.open == []
    return re.sub(r"\s+", " ", checked.text)


def test_races_and_schedules_are_data_that_displays_itself() -> None:
    v = tf.Variable(1.0, name="v_b")
    double = tf.assign(v, v.read_value() * 2.0, name="double").op
    more = tf.assign_add(v, 3.0, name="more").op
    with tf.Session() as session:
        session.run(v.initializer)
        with tf.debug(session) as debugger:  # type: ignore[operator]
            with pytest.raises(DebuggerError, match="no step is under way"):
                debugger.races()
            debugger.run([double, more])
            races = debugger.races()
            assert races.count == 2 and str(races) == debugger.execute("races")
            assert "2 races" in html_of(races) and "not yet" in html_of(races)
            race = debugger.race(1)
            assert race.race == races.races[0] and "the results differ" in html_of(race)
            assert race.first.outcome.schedule in html_of(race)
            with pytest.raises(DebuggerError, match="not the number of a race"):
                debugger.race(3)
            found = debugger.explore()
            assert (
                found.outcome_count == 3 and found.pair is not None and found.pair.sentence in html_of(found)
            )
            assert not debugger.explore(1).complete
            values = []
            for each in found.outcomes:
                debugger.replay(each.schedule).execute("e")
                values.append(float(debugger.variable("v_b")))
                debugger.execute("e-")
            assert values == [float(each.results[0].value) for each in found.outcomes]
            with pytest.raises(DebuggerError, match="not a schedule"):
                debugger.replay("nonsense")


def test_answers_are_data_that_displays_itself(debugger: NotebookDebugger, session: Any) -> None:
    debugger.run(session.graph.get_tensor_by_name("loop/Exit:0"))
    found = debugger.ask("why not loop/up")
    assert found.question == "why not loop/up" and str(found) == debugger.why_not("loop/up")
    assert found.answer in html_of(found) and all(
        each.statement.split()[0] in html_of(found) for each in found.roots
    )
    with pytest.raises(DebuggerError, match="is no question"):
        debugger.ask("whence loop/up")
