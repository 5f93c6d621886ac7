"""What a kernel wrote before it failed: it stays while one looks at the failure, and is gone when the step goes on or back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from debug_fronts import Script

import engine as tf
from engine.runtime.driver import StepRun
from engine.types import errors
from workbench.debugger import schedules
from workbench.debugger.core import Debugger
from workbench.debugger.stepping import Stepping

pytestmark = pytest.mark.usefixtures("as_written")


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


def momentum(session: Any) -> tuple[Any, Callable[[], list[float]]]:
    """An update of two variables; and what these are now."""
    v, accumulated = tf.Variable(1.0, name="v"), tf.Variable(10.0, name="accumulated")
    update = tf.raw_ops.ApplyMomentum(var=v, accum=accumulated, lr=0.5, grad=2.0, momentum=0.5, name="update")
    session.run([v.initializer, accumulated.initializer])
    return update.op, lambda: [float(session.resources.lookup(name).value) for name in ("v", "accumulated")]


class Failing:
    """Lets the update fail after its first write, `times` times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        from engine.runtime.context import KernelContext

        self.left = times
        write = KernelContext.write

        def once(k: Any, resource: Any, value: Any, kind: str = "write") -> None:
            if kind == "momentum" and resource.name == "v" and self.left:
                self.left -= 1
                raise errors.InternalError(None, None, "the second write fails")
            write(k, resource, value, kind)

        monkeypatch.setattr(KernelContext, "write", once)


def test_going_back_takes_it_back(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update, held = momentum(session)
    Failing(monkeypatch, 2)
    seen: list[list[float]] = []

    class Looks:
        record = True

        def drive(self, step: StepRun) -> None:
            stepping = Stepping(step)

            def until_it_fails() -> None:
                with pytest.raises(errors.InternalError, match="the second write fails"):
                    while stepping.ready:
                        stepping.execute()
                seen.append(held())

            until_it_fails()
            stepping.back()
            seen.append(held())
            until_it_fails()
            while stepping.history:
                stepping.back()
            seen.append(held())
            while stepping.ready:
                stepping.execute()
            seen.append(held())
            while stepping.history:
                stepping.back()
            seen.append(held())
            while stepping.ready:
                stepping.execute()

    with schedules.driver(Looks()):  # type: ignore[arg-type]  # a driver of our own
        session.run(update)
    half, before, done = [1.0, 7.0], [1.0, 10.0], [-2.5, 7.0]
    assert seen == [half, before, half, before, done, before] and held() == done


def test_what_is_tried_again_begins_from_before(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update, held = momentum(session)
    Failing(monkeypatch, 3)

    class Tries:
        record = True

        def drive(self, step: StepRun) -> None:
            stepping = Stepping(step)
            while stepping.ready:
                try:
                    stepping.execute()
                except errors.InternalError:
                    assert held() == [1.0, 7.0]

    with schedules.driver(Tries()):  # type: ignore[arg-type]  # a driver of our own
        session.run(update)
    assert held() == [-2.5, 7.0]


def test_in_the_debugger_it_is_there_to_be_looked_at(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update, held = momentum(session)
    Failing(monkeypatch, 1)
    seen: list[list[float]] = []

    def see(debugger: Debugger) -> None:
        seen.append(held())

    front = Script("c", see, "back", see, "c")
    with Debugger(front).installed():
        session.run(update)
    assert seen == [[1.0, 7.0], [1.0, 10.0]] and held() == [-2.5, 7.0]


def test_an_exploration_leaves_nothing_of_it(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update, held = momentum(session)
    beside = tf.assign_add(session.graph.get_operation_by_name("v").outputs[0], 1.0, name="beside")
    Failing(monkeypatch, 100)
    made = schedules.Exploring()
    with schedules.driver(made), pytest.raises(errors.InternalError):  # type: ignore[arg-type]
        session.run([update, beside.op])
    (found,) = made.found
    assert {each.outcome.error for each in found.outcomes} == {
        "InternalError in update: the second write fails"
    }
    # The step itself has failed afterwards, without a debugger: what was written stays, as always.
    assert held()[1] == 7.0 and np.isfinite(held()[0])


def test_without_a_record_it_stays(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    update, held = momentum(session)
    Failing(monkeypatch, 1)
    with pytest.raises(errors.InternalError):
        session.run(update)
    assert held() == [1.0, 7.0]
