"""The debugger steps through what really runs; asked for a node that passes took away, it says where that went."""

from __future__ import annotations

from typing import Any

import pytest
from debug_fronts import Quiet

import engine as tf
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger


class Script(Quiet):
    """A front that gives commands from a list and keeps the answers."""

    def __init__(self, commands: list[str]) -> None:
        self._commands = iter([*commands, *["c"] * 100])
        self.answers: list[Answer] = []

    def command(self, debugger: Debugger) -> str:
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)


@pytest.fixture
def told() -> Any:
    """What the debugger answers while it runs a program that passes make smaller."""

    def ask(*commands: str) -> list[str]:
        x = tf.placeholder(tf.float32, [2], name="x")
        six = tf.multiply(tf.constant(2.0, name="two"), 3.0, name="six")
        first = tf.sin(tf.identity(x, name="same") * six, name="first")
        second = tf.sin(tf.identity(x) * six, name="second")
        y = tf.matmul([first], [second], transpose_b=True, name="y")
        tf.exp(y, name="unneeded")
        front = Script(list(commands))
        with Debugger(front, script="test.py").installed(), tf.Session() as session:
            session.run(y, {x: [1.0, 2.0]})
        return [answer.text for answer in front.answers[: len(commands)]]

    return ask


def test_a_node_that_was_optimized_away_has_a_reason_and_heirs(told: Any) -> None:
    same, two, second, unneeded, misspelt = told("p same", "p two", "info second", "p unneeded", "p six_")
    assert same.startswith(
        "'same' is in the graph, but not in this step: 'same' passes on what '_arg_x_0_0' gives (optimized/"
    )
    assert two.startswith(
        "'two' is in the graph, but not in this step: nothing needs it since 'six' changed (optimized/fold)"
    )
    assert "computes the same as" in second and "in its place: " in second
    assert unneeded == "'unneeded' is in the graph, but not in this step: no fetch or target needs it"
    assert "did you mean" in misspelt


def test_a_folded_node_is_there_and_says_why(told: Any) -> None:
    (six,) = told("info six")
    assert six.startswith("six  (Const)")
    assert "its inputs are constants: 'two', 'six/y' (optimized/fold)" in six
