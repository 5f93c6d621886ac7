"""The debugger's explanations: why a node is dead, what the resources hold, which forward node a gradient belongs to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from debug_fronts import Quiet

import engine as tf
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger

pytestmark = pytest.mark.usefixtures("as_written")


class Script(Quiet):
    """A front that gives commands from a list and keeps the answers."""

    def __init__(self, commands: list[str]) -> None:
        self._commands = iter([*commands, *["c"] * 100])
        self.answers: list[Answer] = []

    def command(self, debugger: Debugger) -> str:
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)


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
        looped_gradient(),
        ["why dead while/cond/Sin", stop, "c", "why dead while/cond/mul", "why dead while/cond/Sin"],
    )[:4]
    assert not not_run.ok and "has not run in this step yet" in not_run.text
    assert not alive.ok and "was alive" in alive.text
    lines = [re.sub(r"  #\d+", "", line) for line in dead.text.splitlines()]
    assert lines == [
        "while/cond/Sin is dead in root > while:0",
        "  killed by   while/cond/Sin/Switch  (Switch)  root > while:0  while/cond/pred_id:0 was True: output 0 is dead",
        "  through     while/cond/Sin  (Sin)  root > while:0",
        "  stopped at  while/cond/Merge  (Merge)  root > while:0  alive: another of its inputs was",
    ]


def test_why_what_is_about_to_run_is_dead_and_why_an_earlier_execution_was() -> None:
    told = answers(
        looped_gradient(),
        [
            "why dead",
            "b while/cond/Sin",
            "c",
            "why",
            "why dead 0",
            "c",
            "c",
            "why while/cond/Sin",
            "why 9999",
        ],
    )
    nothing, ready, alive, again, gone = [each for each in told if not each.text.startswith("breakpoint")][:5]
    assert not nothing.ok and "the next node is alive" in nothing.text
    assert ready.text.startswith("while/cond/Sin is dead in root > while:0")
    assert "through     while/cond/Sin  (Sin)  root > while:0  ready" in ready.text
    assert "stopped at  nothing yet" in ready.text
    assert not alive.ok and "was alive in that execution" in alive.text
    assert again.text.startswith("while/cond/Sin is dead in root > while:2")  # in iteration 1 it was alive
    assert not gone.ok and "the history has no execution #9999" in gone.text


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
    assert lines[start + 1].startswith("  keeps while/Equal:0  made at test_reasons.py:")
    assert lines[start + 2] == "  for the gradient of while/cond/Merge"
    assert lines[start + 3] == "  read by gradients/while/cond/Merge_grad/StackPopV2"
    top, below = lines[start + 4 : start + 6]
    assert top.split()[:3] == ["top", "bool[]", "False"] and top.endswith("in root > while:1")
    assert below.split()[:3] == ["-1", "bool[]", "True"] and below.endswith("in root > while:0")


def test_a_gradient_names_its_forward_node() -> None:
    (told,) = [
        answer
        for answer in answers(looped_gradient(), ["info gradients/while/cond/Sin_grad/Cos"])
        if "gradient" in answer.text
    ]
    assert "  gradient  of while/cond/Sin" in told.text.splitlines()
