"""The headless debugger, in this process, against what plain Python says must happen."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet

import engine as tf
from engine.types import errors
from workbench.debugger import text
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger, Quit
from workbench.debugger.snapshot import Snapshot, Status, TokenState, from_dict, to_dict

# Here the graph as written is stepped through; what passes make of it is in test_debugger_optimized.py.
pytestmark = pytest.mark.usefixtures("as_written")


class Script(Quiet):
    """A front that gives commands from a list (or a function of the snapshot) and keeps what it is shown."""

    def __init__(self, commands: Sequence[str] | Callable[[Snapshot], str]) -> None:
        self._commands = commands if callable(commands) else iter([*commands, *["c"] * 100])
        self.stops: list[Snapshot] = []
        self.answers: list[Answer] = []
        self.lefts = 0

    def stopped(self, debugger: Debugger) -> None:
        self.stops.append(debugger.snapshot())

    def command(self, debugger: Debugger) -> str:
        if callable(self._commands):
            return self._commands(debugger.snapshot())
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)
        self.stops.append(debugger.snapshot())

    def left(self, debugger: Debugger) -> None:
        self.lefts += 1


@pytest.fixture(autouse=True)
def _fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def drive(
    fetches: Any, commands: Sequence[str] | Callable[[Snapshot], str], feed: Any = None
) -> tuple[Any, Script]:
    """Run `fetches` under the debugger; their values, and the front."""
    front = Script(commands)
    with Debugger(front, script="test.py").installed(), tf.Session() as session:
        return session.run(fetches, feed), front


# A while_loop in a while_loop in a cond, and what plain Python says of it.


def nested_program(outer: int, inner: int) -> Any:
    """``if taken: for i in range(outer): for j in range(inner): total += start``, else ``start * 10``."""
    taken = tf.placeholder(tf.bool, [], name="taken")
    start = tf.constant(3.0, name="start")

    def inner_loop(i: Any, total: Any) -> Any:
        _, total = tf.while_loop(
            lambda j, t: tf.less(j, inner, name="again"),
            lambda j, t: (tf.add(j, 1, name="count"), tf.add(t, start, name="sum")),
            (0, total),
            name="in",
        )
        return tf.add(i, 1, name="count"), total

    def outer_loop() -> Any:
        return tf.while_loop(
            lambda i, t: tf.less(i, outer, name="again"), inner_loop, (0, start), name="out"
        )[1]

    result = tf.cond(taken, outer_loop, lambda: tf.multiply(start, 10.0, name="other"), name="if")
    return taken, result


def expected_executions(taken: bool, outer: int, inner: int) -> Counter[tuple[str, str, int, str]]:
    """(node, frame path, iteration, outcome) of every named node, by running the program in plain Python.

    A node of a loop's body executes dead in the iteration whose predicate is false; one of a branch not taken executes dead
    once, in the only iteration of each frame that the dead tokens enter.
    """
    seen: Counter[tuple[str, str, int, str]] = Counter()

    def note(node: str, path: str, iteration: int, value: Any) -> None:
        said = "DEAD" if value is None else f"{type(value).__name__} {value}"
        seen[(node, path, iteration, said)] += 1

    def inner_loop(path: str, total: float | None, alive: bool) -> float | None:
        j = 0
        while True:
            here = f"{path} > in:{j}"
            again = j < inner if alive else None
            note("if/out/in/again", here, j, again)
            if not again:  # the body's nodes get dead tokens
                note("if/out/in/count", here, j, None)
                note("if/out/in/sum", here, j, None)
                return total
            assert total is not None
            j, total = j + 1, total + 3.0
            note("if/out/in/count", here, j - 1, j)
            note("if/out/in/sum", here, j - 1, total)

    i, total = 0, 3.0 if taken else None
    while True:
        here = f"root > if/out:{i}"
        again = i < outer if taken else None
        note("if/out/again", here, i, again)
        if not again:
            inner_loop(here, None, alive=False)
            note("if/out/count", here, i, None)
            break
        total = inner_loop(here, total, alive=True)
        i += 1
        note("if/out/count", here, i - 1, i)
    note("if/other", "root", 0, None if taken else 30.0)
    return seen


def outcome_of(view: Any) -> str:
    if view.activation.dead:
        return "DEAD"
    summary = view.outputs[0].value
    kind = {"int32": "int", "float32": "float", "bool": "bool"}[summary.dtype]
    return f"{kind} {summary.text}"


@pytest.mark.parametrize(
    ("taken", "outer", "inner"), [(True, 2, 2), (True, 3, 1), (True, 1, 0), (True, 0, 2), (False, 2, 2)]
)
def test_stepping_a_while_in_a_while_in_a_cond_shows_frame_iteration_and_dead_tokens(
    taken: bool, outer: int, inner: int
) -> None:
    placeholder, result = nested_program(outer, inner)
    value, front = drive(result, lambda snapshot: "n", {placeholder: taken})
    expected = expected_executions(taken, outer, inner)
    assert value == (3.0 + 3.0 * outer * inner if taken else 30.0)

    names = {node for node, *_ in expected}
    seen: Counter[tuple[str, str, int, str]] = Counter()
    before: Snapshot | None = None
    for snapshot in front.stops:
        last = snapshot.last
        if before is not None and last is not None:
            # What was announced as next is what has executed, where and as dead or alive as was said.
            assert before.next == last.activation
            assert snapshot.executed == before.executed + 1 == last.row + 1
            if last.activation.node in names:
                at = last.activation
                seen[(at.node, at.path, at.iteration, outcome_of(last))] += 1
                # … and the text says so too.
                (line,) = text.executed([last])
                said = outcome_of(last)
                shown = "DEAD" if said == "DEAD" else said.partition(" ")[2]
                assert line.split()[:2] == [f"#{last.row}", at.node]
                assert f"  {at.path}  " in line and line.endswith(f" {shown}")
        before = snapshot
    assert seen == expected


def test_the_frame_tree_and_the_waiting_tokens_of_a_nested_loop_at_one_point() -> None:
    placeholder, result = nested_program(2, 2)
    _, front = drive(
        result,
        ["b if/out/in/sum if iteration == 1", "c", "info frames", "info waiting", "d", "c"],
        {placeholder: True},
    )
    stop = next(snapshot for snapshot in front.stops if snapshot.reason.startswith("breakpoint"))
    assert stop.next is not None
    assert (stop.next.node, stop.next.path, stop.next.iteration) == (
        "if/out/in/sum",
        "root > if/out:0 > in:1",
        1,
    )
    frames = {frame.path: frame for frame in stop.frames}
    assert set(frames) == {"root", "root > if/out", "root > if/out:0 > in"} | (set(frames) - {"root"})
    inner = frames["root > if/out:0 > in"]
    assert inner.live and inner.parent == frames["root > if/out"].id and inner.parent_iteration == 0
    assert 1 in [iteration.number for iteration in inner.iterations]
    # One pass through the inner body has been made: 3 + 3.
    (total, addend) = stop.next_inputs
    assert total.value is not None and total.value.text == "6.0"
    assert addend.value is not None and addend.value.text == "3.0"
    # The conditional's Merge has its dead side already and waits for the loop's.
    merge = next(view for view in stop.waiting if view.activation.node == "if/Merge")
    assert [token.state for token in merge.inputs] == [TokenState.DEAD, TokenState.MISSING]
    said = [answer.text for answer in front.answers]
    assert (
        f"root > if/out:0 > in  (frame 2, #{inner.begin_row}, 2 iterations begun, {inner.ended_count} ended)"
        in said[1]
    )
    assert "entered by if/out/in/Enter" in said[1]
    assert [each.node for each in inner.enters if each.row == inner.begin_row]
    assert inner.made_at.startswith("test_debugger.py:") and "tf.while_loop" in inner.made_by
    assert "DEAD" in said[2] and "… not yet" in said[2]


def test_snapshots_survive_the_way_through_json() -> None:
    import json

    placeholder, result = nested_program(1, 1)
    _, front = drive(result, lambda snapshot: "n", {placeholder: True})
    assert len(front.stops) > 40
    for snapshot in front.stops:
        assert from_dict(json.loads(json.dumps(to_dict(snapshot), allow_nan=False))) == snapshot


def test_a_dead_token_on_a_control_edge() -> None:
    taken = tf.placeholder(tf.bool, [], name="taken")

    def yes() -> Any:
        with tf.control_dependencies([tf.constant(1, name="first")]):
            return tf.constant(2, name="second")

    result = tf.cond(taken, yes, lambda: tf.constant(5), name="if")
    _, front = drive(result, lambda snapshot: "n", {taken: False})
    stop = next(snapshot for snapshot in front.stops if snapshot.next and snapshot.next.node == "if/second")
    assert stop.next is not None and stop.next.dead
    assert {token.name: token.state for token in stop.next_inputs} == {
        "^if/first": TokenState.DEAD,
        **{t.name: t.state for t in stop.next_inputs if t.name != "^if/first"},
    }


# Moves.


def test_continue_runs_to_the_end_and_stops_at_no_later_run() -> None:
    x = tf.constant(2.0) * 3.0
    front = Script(["c"])
    with Debugger(front).installed(), tf.Session() as session:
        assert session.run(x) == 6.0
        assert session.run(x) == 6.0
    assert len(front.stops) == 1


def test_run_stops_at_the_beginning_of_the_next_run_and_next_at_the_end_of_this() -> None:
    x = tf.add(tf.constant(2.0, name="a"), tf.constant(3.0, name="b"), name="x")
    front = Script(["r", "n 100", "n", "c"])
    with Debugger(front).installed(), tf.Session() as session:
        for _ in range(3):
            session.run(x)
    reasons = [(snapshot.step.step if snapshot.step else 0, snapshot.reason) for snapshot in front.stops]
    assert reasons == [
        (1, "Session.run begins"),
        (2, "Session.run begins"),
        (2, "the step is done"),
        (3, "Session.run begins"),
    ]


def test_out_leaves_the_frame_and_scope_leaves_the_scope() -> None:
    placeholder, result = nested_program(2, 2)
    _, front = drive(result, ["b if/out/in/sum", "c", "d", "o", "o", "o", "c"], {placeholder: True})
    paths = [
        (snapshot.reason, snapshot.next.path if snapshot.next else "")
        for snapshot in front.stops
        if not snapshot.message
    ]
    assert paths[1:] == [
        ("breakpoint 1 at if/out/in/sum", "root > if/out:0 > in:0"),
        ("out of root > if/out:0 > in", paths[2][1]),
        ("out of root > if/out", "root"),
        ("the step is done", ""),
    ]
    assert paths[2][1].startswith("root > if/out:")


def test_scope_executes_what_is_ready_in_the_scope_and_nothing_else() -> None:
    with tf.name_scope("first"):
        a = tf.add(tf.constant(1.0, name="one"), tf.constant(2.0, name="two"), name="sum")
    with tf.name_scope("second"):
        b = tf.multiply(tf.constant(4.0, name="four"), a, name="product")
    _, front = drive(b, ["s second", "back 10", "s", "c"])
    into, over = front.stops[1], front.stops[3]
    assert into.next is not None and into.next.node == "second/four" and into.reason == "at second"
    done = {view.activation.node for view in over.history}
    assert {"first/one", "first/two", "first/sum"} <= done
    assert over.next is not None and over.next.node.startswith("second/")
    assert "second/product" not in done


def test_scope_names_a_node_exactly_and_a_pattern() -> None:
    a = tf.add(1.0, 2.0, name="sum")  # makes sum/x and sum/y too
    b = tf.multiply(a, 2.0, name="product")
    _, front = drive(b, ["s sum", "back 100", "s *duct", "c"])
    at = [snapshot.next.node if snapshot.next else "" for snapshot in front.stops]
    assert at[1] == "sum" and at[3] == "product"


# Breakpoints.


def test_breakpoints_on_iterations_scopes_and_patterns() -> None:
    total = tf.while_loop(lambda i: tf.less(i, 6), lambda i: tf.add(i, 1, name="next"), [0], name="loop")
    front = Script(["b loop/next if iteration >= 4", "c", "c", "info breakpoints", "d 1", "b */next", "c"])
    with Debugger(front).installed(), tf.Session() as session:
        session.run(total)
    hits = [snapshot.next for snapshot in front.stops if snapshot.reason.startswith("breakpoint 1")]
    assert [(at.node, at.iteration, at.dead) for at in hits if at] == [
        ("loop/next", 4, False),
        ("loop/next", 5, False),
        ("loop/next", 5, False),  # the answers are told at the same stop
        ("loop/next", 5, False),
        ("loop/next", 5, False),
    ]
    assert "2 hits" in front.answers[1].text
    last = [snapshot.next for snapshot in front.stops if snapshot.reason.startswith("breakpoint 2")]
    assert [(at.node, at.iteration, at.dead) for at in last if at] == [("loop/next", 6, True)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("b loop/nxt", "there is no node 'loop/nxt' in this step; did you mean loop/next"),
        ("b loop/next if", "if what? an expression is missing"),
        ("b loop/next if iteration > y", "there is no name 'y' in 'iteration > »y«'"),
        ("b loop/next or loop/other", "'loop/next or loop/other' is not a place"),
        ("d 7", "there is no breakpoint 7 (there is: none)"),
        ("d x", "'x' is not the number of a breakpoint"),
        ("p", "which tensor?"),
        (
            "p loop/next",
            "'loop/next' has not executed in this step yet; its frame loop/while_context is not open",
        ),
        ("p loop/next:3", "'loop/next' has only output 0, not '3'"),
        ("p loop/next:-1", "'loop/next' has only output 0, not '-1'"),
        ("info", "info about what?"),
        ("info nothing", "there is no node 'nothing' in this step"),
        ("n 0", "'0' is not a number of nodes"),
        ("n -3", "'-3' is not a number of nodes"),
        ("n 99999999999999999999", "is not a number of nodes"),
        ("back", "there is nothing to take back: the step has executed nothing yet"),
        ("frobnicate", "there is no command 'frobnicate'; h lists all"),
        ("nxt", "there is no command 'nxt'; did you mean next?"),
        ("", "no command given; h lists them"),
        ("s nowhere", "there is no node or scope 'nowhere' in this step"),
        ("x" * 5000, "the command is too long"),
        ("l nothing", "there is no node 'nothing'"),
    ],
)
def test_a_command_that_makes_no_sense_gets_one_clear_answer(line: str, says: str) -> None:
    total = tf.while_loop(lambda i: tf.less(i, 3), lambda i: tf.add(i, 1, name="next"), [0], name="loop")
    value, front = drive(total, [line, "c"])
    assert says in front.answers[0].text
    assert "\n" not in front.answers[0].text.rstrip() or front.answers[0].ok
    assert value == 3


def test_every_command_explains_itself() -> None:
    from workbench.debugger.commands import BY_NAME, COMMANDS

    _, front = drive(tf.constant(1.0), ["h", *[f"h {name}" for name in BY_NAME], "c"])
    overview, *each = [answer.text for answer in front.answers]
    assert all(command.usage in overview for command in COMMANDS)
    assert all(answer.ok for answer in front.answers)
    for name, said in zip(BY_NAME, each, strict=True):
        assert BY_NAME[name].help in " ".join(said.split())


# Looking.


def test_print_shows_values_dead_tensors_and_more_than_a_summary() -> None:
    numbers = tf.constant(np.arange(200.0).reshape(20, 10), name="numbers")
    taken, other = tf.constant(True, name="taken"), tf.constant(0.5, name="half")
    result = tf.cond(
        taken,
        lambda: tf.reduce_sum(numbers),
        lambda: tf.cast(tf.square(other, name="gone"), tf.float64),
        name="if",
    )
    _, front = drive([result, numbers], ["n 100", "p numbers", "p if/gone", "p taken:0", "c"])
    big, dead, small = (answer.text for answer in front.answers)
    assert "float64[20, 10] 0 … 199, mean 99.5" in big and "[190., 191., 192." in big and "..." not in big
    assert "if/gone:0  DEAD" in dead and ", dead" in dead
    assert small.endswith("taken:0  bool[] True")


def test_info_tells_of_attrs_inputs_users_the_users_line_and_the_tokens() -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    w = tf.constant([[1.0], [2.0]], name="w")
    y = tf.matmul(x, w, name="y")  # this line
    z = tf.identity(y, name="z")
    _, front = drive(
        z, ["info y", "n", "info y", "n 100", "info y", "w", "l y", "l run", "c"], {x: np.ones((3, 2))}
    )
    before, half, after, where, source, run = (answer.text for answer in front.answers)
    assert "y  (MatMul)" in before and "transpose_a = False" in before
    assert "used by   z" in before and "tf.matmul(x, w, name" in before and "test_debugger.py:" in before
    assert "outputs   y:0  float32[?, 1]" in before
    assert "waiting   root" in half and "… not yet" in half
    assert "latest" in after and "waiting" not in after
    assert "fetch z:0" in where and "feed  x:0" in where
    assert "→ " in source and "# this line" in source
    assert "session.run(fetches, feed)" in run


def test_print_says_what_a_variable_holds_now_if_that_has_changed() -> None:
    v = tf.Variable(1.0, name="v")
    update = tf.assign_add(v, 41.0, name="update")
    front = Script(["r", "n 100", "p v", "p update", "c"])
    with Debugger(front).installed(), tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(update)
    before, after = (answer.text for answer in front.answers)
    assert before.splitlines()[1:] == ["v:0  float32_ref[] 1.0", "changed since; now float32_ref[] 42.0"]
    assert after.splitlines()[1:] == ["update:0  float32_ref[] 42.0"]


def test_strings_integers_empty_and_nan_are_shown_for_what_they_are() -> None:
    values = {
        "s": np.array([b"ab", b"x" * 200], dtype=object),
        "e": np.zeros((0, 3), np.float32),
        "n": np.array([np.nan, np.inf, 1.0, 3.0]),
        "i": np.int64(7),
        "c": np.complex64(1 + 2j),
    }
    fed = {
        name: tf.placeholder(tf.as_dtype("string" if name == "s" else value.dtype), value.shape, name=name)
        for name, value in values.items()
    }
    fetched = [tf.identity(each, name=f"id_{name}") for name, each in fed.items()]
    _, front = drive(
        fetched, ["n 100", *[f"p id_{name}" for name in values], "c"], {fed[k]: v for k, v in values.items()}
    )
    said = {name: answer.text for name, answer in zip(values, front.answers, strict=True)}
    assert "string[2]" in said["s"] and "b'ab'" in said["s"] and "…" in said["s"] and len(said["s"]) < 400
    assert "float32[0, 3] []" in said["e"]
    assert "1 … 3, mean 2, 1 NaN, 1 Inf" in said["n"] or "nan" in said["n"]
    assert said["i"].endswith("int64[] 7")
    assert "complex64[] (1+2j)" in said["c"]


# Back.


def test_back_restores_tokens_frames_and_ready_nodes_at_every_point() -> None:
    placeholder, result = nested_program(2, 2)
    forward: dict[int, Snapshot] = {}
    value, front = drive(result, lambda snapshot: "n", {placeholder: True})
    for snapshot in front.stops:
        forward[snapshot.executed] = snapshot
    rng = np.random.default_rng(5)
    steps = 0

    def wander(snapshot: Snapshot) -> str:
        nonlocal steps
        steps += 1
        same = forward[snapshot.executed]
        for name in ("next", "next_inputs", "waiting", "frames", "ready_count"):
            assert getattr(snapshot, name) == getattr(same, name), name
        assert {view.activation for view in snapshot.ready} == {view.activation for view in same.ready}
        if steps > 400:
            return "c"
        return (
            f"back {rng.integers(1, 12)}"
            if snapshot.executed and rng.random() < 0.4
            else f"n {rng.integers(1, 12)}"
        )

    again, _ = drive(result, wander, {placeholder: True})
    assert again == value and steps > 100


def test_back_takes_back_what_was_written_to_variables_and_random_numbers() -> None:
    v = tf.Variable([1.0, 2.0], name="v")
    noise = tf.random_normal([2], seed=3, name="noise")
    update = tf.assign_add(v, noise, name="update")
    straight = tf.Session()
    straight.run(tf.global_variables_initializer())
    expected = straight.run(update)

    front = Script(["r", "n 100", "back 100", "n 100", "back 2", "n 100", "c"])
    with Debugger(front).installed(), tf.Session() as session:
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(session.run(update), expected)
    executed = [snapshot.executed for snapshot in front.stops[1:]]
    assert executed == [0, executed[1], 0, executed[1], executed[1] - 2, executed[1]] and executed[1] > 3


def test_history_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.debugger.stepping.KEPT", 50)
    total = tf.while_loop(lambda i: tf.less(i, 100), lambda i: tf.add(i, 1), [0])
    value, front = drive(total, ["n 600", "back 1000", "back", "n", "c"])
    assert value == 100
    taken, problem = front.answers[0], front.answers[1]
    assert taken.ok and 50 <= 600 - front.stops[2].executed <= 100
    assert problem.text == "there is nothing to take back: what came before is no longer kept"


# Errors and endings.


def test_an_error_stops_before_it_reaches_the_script_and_can_be_looked_at() -> None:
    x = tf.constant([1, 2], name="x")
    y = tf.gather(x, tf.constant(5, name="where"), name="y")
    front = Script(["c", "p x", "info y", "back", "n", "n"])
    with (
        Debugger(front).installed(),
        tf.Session() as session,
        pytest.raises(errors.InvalidArgumentError, match="5"),
    ):
        session.run(y)
    stop = front.stops[1]
    assert stop.reason == "error in y" and stop.error is not None
    assert stop.error.type == "InvalidArgumentError" and "5" in stop.error.message
    assert stop.next is not None and stop.next.node == "y"
    assert "[1, 2]" in front.answers[0].text
    assert front.stops[-1].reason == "error in y"  # again, after having gone back


def test_quit_raises_out_of_the_run() -> None:
    x = tf.constant(1.0)
    with Debugger(Script(["q"])).installed(), tf.Session() as session, pytest.raises(Quit):
        session.run(x)


def test_pause_from_another_thread_stops_a_running_step() -> None:
    forever = tf.while_loop(lambda i: tf.less(i, 10_000_000), lambda i: tf.add(i, 1), [0], name="loop")
    front = Script(["c", "info frames", "q"])
    debugger = Debugger(front)
    timer = threading.Timer(0.3, debugger.pause)
    with debugger.installed(), tf.Session() as session:
        timer.start()
        with pytest.raises(Quit):
            session.run(forever)
    assert front.stops[1].reason == "paused" and front.stops[1].executed > 100


def test_other_threads_run_on_while_one_step_is_looked_at() -> None:
    x = tf.add(tf.constant(1.0), tf.constant(2.0), name="x")
    results: list[float] = []
    stopped, done = threading.Event(), threading.Event()

    def commands(snapshot: Snapshot) -> str:
        stopped.set()
        assert done.wait(100)
        return "c"

    front = Script(commands)
    with Debugger(front).installed(), tf.Session() as session:
        thread = threading.Thread(target=lambda: results.append(session.run(x)))
        thread.start()
        assert stopped.wait(100)
        results.append(session.run(x))  # this thread's step is not the one that is stopped
        done.set()
        thread.join(100)
    assert results == [3.0, 3.0]


def test_a_session_inside_a_python_function_inside_a_step_runs_through() -> None:
    inner = tf.constant(5.0, name="inner")
    session = tf.Session()
    outer = tf.py_func(lambda: session.run(inner), [], tf.float32, name="outer")
    value, front = drive(outer, lambda snapshot: "n")
    assert value == 5.0
    assert all(snapshot.step and snapshot.step.fetches == ("outer:0",) for snapshot in front.stops)


def test_status_after_a_step() -> None:
    front = Script(["c"])
    debugger = Debugger(front, script="test.py")
    with debugger.installed(), tf.Session() as session:
        session.run(tf.constant(1.0))
    snapshot = debugger.snapshot()
    assert snapshot.status is Status.WAITING_FOR_RUN and snapshot.executed > 0 and front.lefts == 1
    assert not debugger.execute("n").ok and "no step is stopped" in debugger.execute("n").text
    debugger.finish(None, 0)
    assert text.stop(debugger.snapshot()) == "test.py has finished with exit status 0"
