"""Do the random programs find bugs?  Each of these is planted into the executor, and must be found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from random_programs import Program, build, evaluate, programs
from schedules import Shuffled, driven_by

import engine as tf
from engine.op.registry import lookup
from engine.runtime.journal import BEGAN
from engine.runtime.resources import ResourceManager
from engine.runtime.state import ExecutorState

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, Plant] = {}


def bug(plant: Plant) -> Plant:
    BUGS[plant.__name__] = plant
    return plant


@bug
def a_dead_exit_is_passed_on_at_once(patch: pytest.MonkeyPatch) -> None:
    def exit_(self: Any, item: Any, frame: Any, number: int, outputs: Any) -> None:
        outer, at = frame.parent, frame.parent_iteration
        self._propagate(item, outer, at, outer.iterations[at], outputs)

    patch.setattr(ExecutorState, "_exit", exit_)


@bug
def loop_invariants_reach_the_first_iteration_only(patch: pytest.MonkeyPatch) -> None:
    right = ExecutorState._enter

    def enter(self: Any, item: Any, frame: Any, number: int, outputs: Any) -> None:
        right(self, item, frame, number, outputs)
        for child in self.frames.values():
            child.invariants.clear()

    patch.setattr(ExecutorState, "_enter", enter)


@bug
def a_token_held_back_for_the_next_iteration_is_lost(patch: pytest.MonkeyPatch) -> None:
    right = ExecutorState._begin_iteration

    def begin(self: Any, frame: Any) -> None:
        del frame.deferred[1:]
        right(self, frame)

    patch.setattr(ExecutorState, "_begin_iteration", begin)


@bug
def a_switch_sends_its_data_both_ways(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookup("Switch"), "kernel", lambda k, data, pred: (data, data))


@bug
def a_switch_sends_its_data_the_wrong_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookup("Switch"), "kernel", lambda k, data, pred: (data, None) if pred else (None, data))


@bug
def an_undone_step_leaves_its_variables(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ResourceManager, "undo", lambda self, record: None)


@bug
def an_undone_frame_keeps_its_newest_iteration(patch: pytest.MonkeyPatch) -> None:
    right = ExecutorState._undo_one

    def undo_one(self: Any, activation: Any, what: int, *rest: Any) -> None:
        counts = [(frame, frame.count) for frame in self.frames.values()]
        right(self, activation, what, *rest)
        if what == BEGAN:
            for frame, count in counts:
                frame.count = count

    patch.setattr(ExecutorState, "_undo_one", undo_one)


@bug
def control_inputs_are_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    right = ExecutorState.__init__

    def init(self: Any, program: Any, **options: Any) -> None:
        right(self, program, **options)
        for spec in program.frames:
            for item in spec.items:
                if item.n_inputs and item.node.type == "Assign":
                    spec.pending[item.local] = item.n_inputs

    patch.setattr(ExecutorState, "__init__", init)


def same_as_plain_python(program: Program) -> None:
    outcome, built = evaluate(program), build(program, tf)
    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        with driven_by(Shuffled(len(outcome.total), rewind=True)):
            results = session.run(built.fetches, built.feeds)
        assert results[0] == outcome.results[0]
        assert results[1].tolist() == pytest.approx(outcome.results[1].tolist(), abs=1e-9)
        variables = session.run(built.variables)
        for name, value in variables.items():
            assert value == pytest.approx(outcome.variables[name], abs=1e-9), name


quickly = settings(
    max_examples=200,
    phases=[Phase.generate],
    database=None,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[name](monkeypatch)
    with pytest.raises((Exception, BaseExceptionGroup)):
        seed(0)(quickly(given(programs())(same_as_plain_python)))()


def test_without_a_bug_nothing_is_found() -> None:
    settings(quickly, max_examples=10)(given(programs())(same_as_plain_python))()
