"""Breakpoints, watches, and moves forward and back, by the commands that a person would give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet

import engine as tf
from engine.function import Defun
from engine.types import errors
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger
from workbench.debugger.snapshot import Snapshot

pytestmark = pytest.mark.usefixtures("as_written")


class Script(Quiet):
    """Gives commands; keeps for each the answer and the place where the step then is."""

    def __init__(self, commands: Sequence[str]) -> None:
        self.commands = iter([*commands, *["c"] * 50])
        self.given: list[str] = []
        self.said: list[str] = []
        self.at: list[Snapshot] = []
        self.answers: list[Answer] = []

    def stopped(self, debugger: Debugger) -> None:
        self.at.append(debugger.snapshot())
        self.said.append("")

    def command(self, debugger: Debugger) -> str:
        self.given.append(next(self.commands))
        return self.given[-1]

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)
        self.at.append(debugger.snapshot())
        self.said.append(answer.text)

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.at]

    @property
    def nexts(self) -> list[tuple[str, int]]:
        return [(each.next.node, each.next.iteration) if each.next else ("", -1) for each in self.at]


@pytest.fixture(autouse=True)
def _fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def drive(fetches: Any, commands: Sequence[str], init: Any = None, **config: Any) -> tuple[Any, Script]:
    front = Script(commands)
    with tf.Session(config=tf.ConfigProto(**config)) as session:
        if init is not None:
            session.run(init)
        with Debugger(front).installed():
            return session.run(fetches), front


def loop(limit: int = 6) -> Any:
    """``for i in range(limit): total = total * 2 + 1`` from 1, and what it comes to: 2 ** (limit + 1) - 1."""
    return tf.while_loop(
        lambda i, t: tf.less(i, limit, name="again"),
        lambda i, t: (tf.add(i, 1, name="count"), tf.add(tf.multiply(t, 2.0, name="twice"), 1.0, name="sum")),
        (0, tf.constant(1.0, name="start")),
        name="loop",
    )[1]


def places(front: Script, *nodes: str) -> list[tuple[str, int]]:
    return [at for at in front.nexts if at[0] in nodes]


# Breakpoints.


def test_a_condition_on_outputs_stops_after_the_node_and_one_on_inputs_before_it() -> None:
    _, front = drive(
        loop(), ["b loop/sum if x > 10", "c", "p loop/sum", "d", "b loop/sum if in0 > 50", "c", "d", "c"]
    )
    (after,) = [i for i, reason in enumerate(front.reasons) if reason.startswith("breakpoint 1")][:1]
    assert front.reasons[after].startswith("breakpoint 1 after loop/sum #") and front.reasons[after].endswith(
        "if x > 10"
    )
    assert front.at[after].last is not None and front.at[after].last.activation.iteration == 2  # 3, 7, 15
    assert front.at[after].last.outputs[0].value.text == "15.0"
    assert "15.0" in front.said[after + 1]
    before = next(each for each in front.at if each.reason.startswith("breakpoint 2"))
    assert before.next is not None and before.next.node == "loop/sum" and before.next.iteration == 4
    assert [float(each.value.text) for each in before.next_inputs if each.value] == [62.0, 1.0]


def test_hit_counts_once_log_and_disable() -> None:
    _, front = drive(
        loop(),
        ["b loop/count after 2", "b loop/sum once", "b loop/twice log iteration, x", "c", "c", "disable 1", "info breakpoints",
         "enable 1", "c", "log", "d", "c"],
    )  # fmt: skip
    stops = [
        (each.reason, each.next.iteration)
        for each in front.at
        if each.reason.startswith("breakpoint") and each.next
    ]
    assert ("breakpoint 2 at loop/sum", 0) in stops and not any(
        r.startswith("breakpoint 2") and i for r, i in stops
    )
    assert stops[-1][1] >= 2 and min(i for r, i in stops if r.startswith("breakpoint 1")) == 2
    listed = next(text for text in front.said if "disabled" in text and "hit" in text)
    assert (
        "loop/count after 2" in listed
        and "loop/twice log iteration, x" in listed
        and "loop/sum" not in listed
    )
    logged = next(text for text in front.said if "after loop/twice" in text)
    assert [line.split()[-2:] for line in logged.splitlines()][:3] == [
        ["0,", "2.0"],
        ["1,", "6.0"],
        ["2,", "14.0"],
    ]


def test_by_type_frame_dead_and_alone() -> None:
    _, front = drive(
        loop(2),
        [
            "b type:Mul",
            "c",
            "d",
            "b frame:loop",
            "c",
            "d",
            "b dead",
            "c",
            "d",
            "b if x == 3.0 and not dead",
            "c",
            "d",
            "c",
        ],
    )
    found = {
        each.reason.split(" at ")[0].split(" after ")[0]: each
        for each in front.at
        if each.reason.startswith("breakpoint")
    }
    assert found["breakpoint 1"].next.node == "loop/twice"
    assert found["breakpoint 2"].next.path.startswith("root > loop")
    assert found["breakpoint 3"].next.dead
    _, front = drive(loop(2), ["b if has_inf_or_nan", "b if x == 3.0", "c", "d", "c"])
    assert (
        front.at[3].reason.startswith("breakpoint 2 after loop/sum")
        or front.at[3].last.outputs[0].value.text == "3.0"
    )


def test_has_inf_or_nan_finds_the_first_node_that_makes_one() -> None:
    x = tf.constant([1.0, 0.0], name="x")
    y = tf.identity(tf.log(x, name="bad"), name="late")
    _, front = drive(y, ["b if has_inf_or_nan", "c", "d", "c"])
    stop = next(each for each in front.at if each.reason.startswith("breakpoint"))
    assert stop.last is not None and stop.last.activation.node == "bad"


def test_a_watch_stops_where_the_variable_changes_and_not_where_it_is_written_the_same() -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    same = tf.assign(v, [1.0, 2.0], name="same")
    with tf.control_dependencies([same]):
        more = tf.assign_add(v, [1.0, 1.0], name="more")
    _, front = drive(
        more, ["watch v", "c", "back 100", "c", "n 3", "rc", "d", "c"], tf.global_variables_initializer()
    )
    stops = [each for each in front.at if each.reason.startswith("watch 1")]
    assert stops[0].reason == f"watch 1 v changed by more #{stops[0].last.row}: [1. 2.] → [2. 3.]"
    assert {each.last.activation.node for each in stops if each.last} == {"more"}


def test_an_allocation_above_a_size_and_not_what_is_handed_on() -> None:
    x = tf.ones([1000], name="x")
    y = tf.identity(tf.reshape(tf.tile(x, [300], name="large"), [300, 1000]), name="same")
    _, front = drive(tf.reduce_sum(y), ["b alloc > 1MB", "c", "c", "d", "c"])
    stops = [
        each.last.activation.node for each in front.at if each.reason.startswith("breakpoint") and each.last
    ]
    assert set(stops) == {"large"}


def test_send_and_receive_by_key() -> None:
    with tf.device("/cpu:0"):
        a = tf.constant(2.0, name="apple") * 3.0
    with tf.device("/cpu:1"):
        b = tf.add(a, 1.0, name="pear")
    _, front = drive(
        b, ["b send:*mul*", "c", "d", "b recv:*", "c", "d", "until- transfer", "c"], device_count={"CPU": 2}
    )
    stops = [each.next.type for each in front.at if each.reason.startswith("breakpoint") and each.next]
    assert "_Send" in stops and "_Recv" in stops
    assert any(each.reason.startswith("at ") and each.next and each.next.type == "_Send" for each in front.at)


def test_errors_are_caught_or_not() -> None:
    bad = tf.gather(tf.constant([1, 2], name="x"), tf.constant(5), name="bad")
    for commands, stops in (
        (["c"], 2),
        (["catch off", "c"], 2),
        (["catch InvalidArg*", "c"], 3),
        (["catch NotFoundError", "c"], 2),
    ):
        front = Script(commands)
        with Debugger(front).installed(), tf.Session() as session, pytest.raises(errors.InvalidArgumentError):
            session.run(bad)
        assert len(front.at) == stops, commands
        assert ("error in bad" in front.reasons) == (commands[0] in ("c", "catch InvalidArg*"))


def test_a_condition_that_cannot_be_judged_stops_and_says_why() -> None:
    x = tf.constant([1.0, 2.0], name="x")
    _, front = drive(tf.identity(x, name="y"), ["b y if x > 1", "c", "info breakpoints", "d", "c"])
    stop = next(each for each in front.at if each.reason.startswith("breakpoint"))
    assert "its condition cannot be judged" in stop.reason and "any(…)" in stop.reason


# Moves.

MOVES: list[tuple[str, str, Callable[[Snapshot], bool]]] = [
    ("it", "it-", lambda s: s.next is not None and s.next.iteration == 3),
    (
        "until loop/sum if iteration == 4",
        "until- loop/sum if iteration == 3",
        lambda s: s.next is not None and s.next.node == "loop/sum",
    ),
    ("o", "o-", lambda s: s.next is not None and s.next.path == "root"),
    ("out iteration", "out- iteration", lambda s: True),
    ("over scope", "over- scope", lambda s: True),
    ("over", "s-", lambda s: True),
    ("into iteration", "into- iteration", lambda s: s.next is not None),
    ("nd 3", "nd- 3", lambda s: True),
    ("e", "e-", lambda s: s.next is None),
    ("until type:Mul", "until- type:Mul", lambda s: s.next is not None and s.next.type == "Mul"),
    ("until dead", "until- dead", lambda s: s.next is not None and s.next.dead),
    (
        "until if x == 31",
        "until- if x == 7",
        lambda s: s.last is not None and s.last.outputs[0].value.text == "31.0",
    ),
]


@pytest.mark.parametrize(("forward", "backward", "there"), MOVES, ids=[each[0] for each in MOVES])
def test_every_move_forward_has_one_back_and_results_stay(
    forward: str, backward: str, there: Callable[[Snapshot], bool]
) -> None:
    value, front = drive(
        loop(),
        [
            "b loop/twice if iteration >= 2",
            "c",
            "d",
            forward,
            backward,
            "redo all",
            forward,
            "begin",
            "redo all",
            "c",
        ],
    )
    assert value == 127.0
    begin = next(i for i, each in enumerate(front.at) if each.reason.startswith("breakpoint"))
    moved = front.at[begin + 2]
    assert moved.executed > front.at[begin].executed and there(moved), moved.reason
    back = front.at[begin + 3]
    assert back.executed < moved.executed and back.future == moved.executed - back.executed
    again = front.at[begin + 4]
    assert again.executed == moved.executed and again.next == moved.next and again.ready == moved.ready


def test_back_moves_are_the_mirror_of_forward_ones() -> None:
    _, front = drive(
        loop(),
        ["until loop/twice if iteration == 3", "o-", "redo all", "it-", "into- iteration", "until- write", "e-",
         "until loop/sum if iteration == 5",
         "until- if x == 15 and node == 'loop/sum'", "c"],
    )  # fmt: skip
    said = [each.reason for each in front.at]
    assert said[2].startswith("before root > loop")
    assert front.at[2].last is None or front.at[2].last.activation.path == "root"
    assert said[4].startswith("in iteration 2") and front.at[4].last.activation.iteration == 2
    assert said[6].startswith("the step begins here")
    assert said[-1].startswith("after loop/sum") and front.at[-1].last.outputs[0].value.text == "15.0"


def test_functions_are_units() -> None:
    @Defun(tf.float32)
    def double(x: Any) -> Any:
        return tf.multiply(tf.add(x, 1.0, name="more"), 2.0, name="twice")

    y = tf.add(double(double(tf.constant(3.0, name="three"))), 1.0, name="y")
    value, front = drive(y, ["into function", "over function", "out- function", "c"])
    assert value == 19.0
    assert front.reasons[1].startswith("into function double") and front.at[1].next.node.startswith("double")
    assert front.reasons[2].startswith("out of function double")
    assert front.at[3].executed <= front.at[1].executed


def test_reverse_continue_stops_at_the_places_where_going_forward_did() -> None:
    forward, back = [], []
    _, front = drive(
        loop(), ["b loop/sum if x > 5", "b loop/count", *["c"] * 11, "e", "d 99", *["rc"] * 14, "d", "c"]
    )
    for each, command in zip(front.at[1:], front.given):
        if each.reason.startswith("breakpoint"):
            (back if command == "rc" else forward).append(each.executed)
    assert set(back) == {at for at in forward if min(back) <= at <= max(back)}
    assert back == sorted(back, reverse=True) and len(set(back)) >= 9


def test_goto_jump_and_what_cannot_be_gone_to() -> None:
    called: list[int] = []
    y = tf.add(
        tf.py_func(lambda: called.append(1) or np.float32(1), [], tf.float32, name="outside"),
        loop(),
        name="y",
    )
    value, front = drive(
        y,
        ["goto 5", "n 20", "goto 3", "goto 12", "goto 999", "jump", "jump back", "jump back", "jump forward", "jump 0", "e",
         "goto 2", "redo all",
         "history", "goto x", "c"],
    )  # fmt: skip
    assert value == 128.0 and called == [1]
    at = [each.executed for each in front.at]
    assert "#5 is still to come" in front.said[1] and at[2:5] == [20, 3, 12]
    assert "#999 is still to come, and what was taken back reaches to #20" in front.said[5]
    assert "→   3  #12" in front.said[6]
    assert at[7:11] == [3, 20, 3, 0]
    went = next(text for text in front.said if "stays" in text)
    assert "outside #" in went and "it called a Python function" in went
    assert "executions can be taken back" in front.said[14]
    assert "is not the number of an execution" in front.said[15]


def test_the_budget_says_what_fell_out() -> None:
    value, front = drive(loop(40), ["history 100", "n 400", "info history", "goto 5", "e-", "c"])
    assert value == 2.0**41 - 1
    assert (
        "have fallen out: the budget is used up" in front.said[3]
        and "budget: 100 executions" in front.said[3]
    )
    assert "#5 is no longer kept" in front.said[4]
    assert (
        front.reasons[5].startswith("what came before is no longer kept")
        and 270 <= front.at[5].executed <= 300
    )
    assert front.at[5].first_row == front.at[5].executed


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("b", "there is no breakpoint"),
        ("b loop/sum after x", "after how many hits?"),
        ("b loop/sum if x >", "invalid syntax"),
        ("b type:", "type: of what? for instance type:MatMul"),
        ("b loop/sum if x.__class__", "there is no attribute '__class__'"),
        ("b once", "where?"),
        ("watch", "watch which variable?"),
        ("catch 7", "catch on, catch off, or catch ERROR"),
        ("until", "until what?"),
        ("until nothing", "there is no node 'nothing'"),
        ("until loop/sum log x", "log is for breakpoints"),
        ("into x", "'x' is not one of scope, frame, iteration, function"),
        ("it", "the next node is in no loop"),
        ("it-", "there is nothing to take back"),
        ("redo", "nothing that was taken back is ahead"),
        ("jump sideways", "jump back, jump forward, or jump NUMBER"),
        ("jump back", "there is no place visited before this one"),
        ("history much", "is not a number of executions"),
        ("enable 3", "there is no breakpoint 3"),
        ("log x", "log shows the last lines"),
        ("rc", "there is nothing to take back"),
    ],
)
def test_what_makes_no_sense_gets_one_clear_answer(line: str, says: str) -> None:
    value, front = drive(loop(2), [line, "c"])
    assert says in front.said[1] and value == 7.0


def test_a_step_that_waits_for_a_queue_waits_until_there_is_something_or_somebody_says_pause() -> None:
    queue = tf.FIFOQueue(3, [tf.float32], [()], name="queue")
    put = queue.enqueue(5.0)
    got = tf.add(queue.dequeue(name="take"), 1.0, name="got")
    front = Script(["n 50", "info step", "c"])
    debugger = Debugger(front)
    with tf.Session() as session, debugger.installed():
        timer = threading.Timer(0.5, lambda: session.run(put))
        timer.start()
        assert session.run(got) == 6.0
        timer.join()
    assert any(
        reason.startswith("nothing is ready; 'take'") and "(c waits)" in reason for reason in front.reasons
    )


def test_log_lines_are_told_at_the_next_stop() -> None:
    from workbench.debugger import text

    _, front = drive(loop(3), ["b loop/sum log 'total', x", "e", "d", "c"])
    end = next(each for each in front.at if each.reason == "the step is done")
    told = [line for line in text.stop(end).splitlines() if line.startswith("log ")]
    assert len(told) == 3 and told[0].split()[-2:] == ["total,", "3.0"] and end.logged_count == 3
