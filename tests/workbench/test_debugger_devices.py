"""The debugger over a step on two devices: a receive that waits is shown with what it waits for; going back parks it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet

import engine as tf
from engine.types import errors
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger


class Script(Quiet):
    """Gives command lines one after the other and keeps the answers; a callable among them looks at the debugger."""

    def __init__(self, *lines: str | Callable[[Debugger], None]) -> None:
        self.lines = list(lines)
        self.answers: list[str] = []
        self.reasons: list[str] = []

    def command(self, debugger: Debugger) -> str:
        while self.lines and not isinstance(self.lines[0], str):
            self.lines.pop(0)(debugger)  # type: ignore[operator]  # the str is the other case
        return self.lines.pop(0) if self.lines else "c"  # type: ignore[return-value]  # likewise

    def stopped(self, debugger: Debugger) -> None:
        self.reasons.append(debugger.reason)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer.text)


def step_through(script: Script, fetch: Any) -> Any:
    with (
        tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session,
        Debugger(script).installed(),
    ):
        return session.run(fetch)


def two_devices() -> Any:
    with tf.device("/cpu:1"):
        x = tf.py_func(lambda: np.float32(4.0), [], tf.float32, name="x")
    with tf.device("/cpu:0"):
        return tf.sqrt(x, name="root")


def test_a_receive_that_waits_is_explained_and_comes_back() -> None:
    root = two_devices()

    def nothing_ready_but_the_source(debugger: Debugger) -> None:
        stepping = debugger.stepping
        assert stepping is not None
        assert "_Recv" not in {each.item.node.type for each in stepping.ready}
        assert len(stepping.step.transfers.parked) == 1  # type: ignore[union-attr]  # there are transfers

    script = Script(
        nothing_ready_but_the_source,
        "info x/_Recv_CPU_0",
        "info transfers",
        "p x/_Recv_CPU_0",
        "b x/_Recv_CPU_0",
        "c",
        "info transfers",
        "back 100",
        nothing_ready_but_the_source,
        "info transfers",
    )
    assert step_through(script, root) == 2.0
    node, waiting, printed, _, sent, _, again = script.answers
    key = "/job:localhost/replica:0/task:0/device:CPU:1;"
    assert "waiting" in node and f"for {key}" in node and "its _Send 'x/_Send_CPU_0' on CPU:1" in node
    assert "has not run: it waits for PyFunc 'x'" in node and "test_debugger_devices.py:" in node
    assert waiting.startswith("x/_Recv_CPU_0 in root waits for " + key)
    assert "it waits to receive (info x/_Recv_CPU_0)" in printed
    assert sent.startswith("sent, not taken: " + key) and sent.endswith("4 bytes")
    assert again == waiting


def test_a_step_that_is_stuck_says_so_before_it_fails() -> None:
    got = tf.raw_ops._Recv(
        tensor_type=tf.float32, tensor_name="t", send_device="a", send_device_incarnation=1, recv_device="b"
    )
    script = Script("n 100", "info transfers", "n")
    with pytest.raises(errors.InternalError, match="there is no _Send of 't' in the graph"):
        step_through(script, got)
    assert script.reasons[-1] == "stuck: 1 receive waiting (info transfers)"
    assert "there is no _Send of 't'" in script.answers[0]
