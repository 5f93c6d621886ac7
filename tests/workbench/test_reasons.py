"""The debugger's explanations: why a node is dead, what the resources hold, which forward node a gradient belongs to."""

from __future__ import annotations

from typing import Any

import engine as tf
from workbench.debugger.core import Debugger
from workbench.debugger.moves import Answer


class Script:
    """A front that gives commands from a list and keeps the answers."""

    def __init__(self, commands: list[str]) -> None:
        self._commands = iter([*commands, *["c"] * 100])
        self.answers: list[Answer] = []

    def command(self, debugger: Debugger) -> str:
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)

    def stopped(self, debugger: Debugger) -> None: ...

    def resumed(self, debugger: Debugger) -> None: ...

    def left(self, debugger: Debugger) -> None: ...


def answers(fetch: Any, commands: list[str]) -> list[Answer]:
    front = Script(commands)
    with Debugger(front, script="test.py").installed(), tf.Session() as session:
        session.run(fetch)
    return front.answers


def looped_gradient() -> Any:
    x = tf.constant(2.0, name="x")

    def body(i: Any, v: Any) -> Any:
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: v * x, lambda: tf.sin(v))

    y = tf.while_loop(lambda i, v: i < 3, body, [0, x])[1]
    return tf.gradients(y, x)[0]


def test_why_a_node_is_dead() -> None:
    stop = "b while/NextIteration if iteration >= 1"
    not_run, _, alive, dead = answers(
        looped_gradient(), ["why while/cond/Sin", stop, "c", "why while/cond/mul", "why while/cond/Sin"]
    )[:4]
    assert not not_run.ok and "has not run in this step yet" in not_run.text
    assert not alive.ok and "was alive" in alive.text
    assert dead.text.splitlines() == [
        "while/cond/Sin is dead in root > while:0",
        "  killed by   while/cond/Sin/Switch  (Switch)  root > while:0, which sent its token to its other output",
        "  through     while/cond/Sin  (Sin)  root > while:0",
        "  stopped at  while/cond/Merge  (Merge)  root > while:0",
    ]


def test_resources_show_what_the_gradients_stacks_hold() -> None:
    (told,) = [
        answer
        for answer in answers(
            looped_gradient(), ["b while/NextIteration if iteration >= 2", "c", "info resources"]
        )
        if answer.text.startswith("stack")
    ]
    lines = told.text.splitlines()
    start = next(i for i, line in enumerate(lines) if "Merge_grad" in line)
    assert "2 writes, 2 elements" in lines[start]
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["top", "-1"]
    assert "False" in lines[start + 1] and "True" in lines[start + 2]


def test_a_gradient_names_its_forward_node() -> None:
    (told,) = [
        answer
        for answer in answers(looped_gradient(), ["info gradients/while/cond/Sin_grad/Cos"])
        if "gradient" in answer.text
    ]
    assert "  gradient  of while/cond/Sin" in told.text.splitlines()
