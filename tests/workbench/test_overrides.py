"""Changes made by hand: what they do, that going back takes them back exactly, and what is said to descend from them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from debug_fronts import Quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, build, evaluate, programs

import engine as tf
from engine.runtime import driver as tf_driver
from engine.runtime.frames import ABSENT, DEAD
from engine.types.dtypes import as_dtype
from engine.types.shape import TensorShape
from workbench.debugger import changes, forcing, text
from workbench.debugger.command import Answer, CommandError
from workbench.debugger.core import Debugger
from workbench.debugger.expressions import evaluate as literal
from workbench.debugger.fitting import fitted
from workbench.debugger.snapshot import Snapshot
from workbench.debugger.stepping import Stepping
from workbench.debugger.values import Reference

pytestmark = pytest.mark.usefixtures("as_written")


class Script(Quiet):
    """A front that gives commands from a list, and keeps the answers and snapshots."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._commands = iter([*commands, *["c"] * 100])
        self.answers: list[Answer] = []
        self.stops: list[Snapshot] = []

    def stopped(self, debugger: Debugger) -> None:
        self.stops.append(debugger.snapshot())

    def command(self, debugger: Debugger) -> str:
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        self.answers.append(answer)
        self.stops.append(debugger.snapshot())


@pytest.fixture(autouse=True)
def _fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def drive(session: Any, fetches: Any, *commands: str) -> tuple[Any, Script]:
    front = Script(commands)
    with Debugger(front, script="test.py").installed():
        return session.run(fetches), front


def chain() -> Any:
    """``(1 + 2) * 3``, of which each part has a name."""
    total = tf.add(tf.constant(1.0, name="one"), tf.constant(2.0, name="two"), name="total")
    return tf.multiply(total, 3.0, name="product")


# Tensors.


@pytest.mark.parametrize(
    ("commands", "result"),
    [
        (["s total", "n", "set total = 10"], 30.0),
        (["s total", "n", "set total:0 = 10", "back"], 9.0),
        (["s total", "n", "set total = 10", "n", "back 2"], 9.0),
        (["s total", "set one = 5", "set two = old * 10"], 75.0),
        (["s total", "n", "set total = 10", "set total = old + 1"], 33.0),
        (["s total", "set next = 4"], 12.0),
        (["s total", "set next:0 = 4", "back"], 9.0),
        (["s total", "set next = 4", "n", "back 1", "n"], 12.0),
        (["skip total = 7"], 21.0),
        (["s product", "skip"], 0.0),
        (["s product", "skip", "back 2"], 9.0),
        (["s product", 'skip = tensor("total") * 2'], 6.0),
    ],
)
def test_tensors(commands: list[str], result: float) -> None:
    with tf.Session() as session:
        value, front = drive(session, chain(), *commands)
    assert [answer.text for answer in front.answers if not answer.ok] == []
    assert value == result


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        (["set total = 1"], "has not executed in this step yet; set next:0 ="),
        (["s product", "set one = 1"], "one:0 of #0 has been read by all who do; go back"),
        (["s total", "n", "set total = [1, 2]"], "total:0 has shape [], the value [2]"),
        (["s total", "n", "set total = True"], "is float32, and the value is a bool"),
        (["s total", "n", "set total = 'x'"], "the value is strings"),
        (["s total", "n", "set total = 1e300"], "cannot hold 1e+300"),
        (["s total", "n", "set total = 1j"], "the value is complex"),
        (["s total", "n", "set total"], "what is to be set to what?"),
        (
            ["s total", "n", "set total = __import__('os')"],
            "there is no function '__import__' in '»__import__«('os')'",
        ),
        (["s total", "n", "set total = 1 +"], "invalid syntax in '1 +»«'; a value is such as 2.5"),
        (["s total", "n", "set total = [[1], [1, 2]]"], "ragged"),
        (["s total", "n", "set total:3 = 1"], "'total' has only output 0, not '3'"),
        (["set nothing = 1"], "there is no node 'nothing'"),
        (["set var nothing = 1"], "the session has no variable 'nothing' yet"),
        (["skip total = (1, 2)"], "total:0 has shape [], the value [2]"),
        (["skip _retval_product_0_0"], "only passes tokens on"),
        (["set next:4 = 1"], "'one' has only output 0, not '4'"),
        (["force total true"], "neither a Switch nor a bool"),
        (["force nothing true"], "there is no Switch 'nothing'"),
        (["force total maybe"], "which branch of what?"),
    ],
)
def test_what_makes_no_sense_is_said_and_changes_nothing(commands: list[str], says: str) -> None:
    with tf.Session() as session:
        value, front = drive(session, chain(), *commands)
    last = front.answers[-1]
    assert not last.ok and says in last.text
    assert value == 9.0


def test_a_value_has_to_fit() -> None:
    shape = TensorShape([2, None])
    assert fitted([[1, 2], [3, 4]], as_dtype("int8"), shape, "x").dtype == np.int8
    assert fitted([[0.1], [2]], as_dtype("bfloat16"), shape, "x").shape == (2, 1)
    assert fitted("ü", as_dtype("string"), TensorShape([]), "x").item() == "ü".encode()
    assert fitted(np.zeros((2, 0)), as_dtype("int32"), shape, "x").shape == (2, 0)
    for value, dtype in (
        ([[300], [0]], "int8"),
        ([[0.5], [0]], "int32"),
        ([[-1], [0]], "uint8"),
        ([[1], [0]], "bool"),
    ):
        with pytest.raises(CommandError):
            fitted(value, as_dtype(dtype), shape, "x")
    with pytest.raises(CommandError, match=r"full\(\(2, 3,?\)"):
        fitted(1.0, as_dtype("float32"), TensorShape([2, 3]), "x")


@given(st.text(max_size=60))
def test_literals_are_values_or_errors(typed: str) -> None:
    try:
        literal(typed)
    except CommandError:
        return


@pytest.mark.parametrize(
    "typed",
    [
        "9**9**9**9",
        "zeros(10**12)",
        "ones((4000, 1, 4000)) * ones((1, 4000, 1))",
        "().__class__",
        "[x for x in (1,)]",
        "(lambda: 1)()",
        "'a' * 10**9",
        "arange(10**12)",
        "[" * 500 + "]" * 500,
        "-" * 100_000 + "1",
        "exec('1')",
        "full((2,), value=1)",
    ],
)
def test_literals_are_safe_and_bounded(typed: str) -> None:
    try:
        value = literal(typed)
    except CommandError:
        return
    assert np.size(value) <= 1 << 24


# Variables.


def test_variables_are_overridden_and_remembered_from_step_to_step() -> None:
    w = tf.Variable(1.0, name="w")
    more = tf.assign_add(w, 1.0, name="more")
    again = tf.assign(w, 5.0, name="again")
    with tf.Session() as session:
        session.run(w.initializer)
        assert drive(session, more, "set var w = 10")[0] == 11.0
        assert drive(session, more, "set var w:0 = 100", "back")[0] == 12.0
        assert drive(session, more, "set var w = old * 2", "n 3", "back 4", "n 2")[0] == 13.0
        front = Script(
            [
                "set var w = 0",
                "r",
                "n 2",
                "n 2",
                "info overrides",
                "r",
                "info overrides",
                "n 9",
                "info overrides",
            ]
        )
        with Debugger(front, script="test.py").installed():
            assert session.run(more) == 1.0
            assert session.run(more) == 2.0
            assert session.run(again) == 5.0
    assert "variable 'w' descends from an override at #0 of step 4" in front.answers[1].text
    later = [entry for stop in front.stops for entry in stop.history if entry.activation.node == "more"]
    assert later[-1].tainted == "#0 of step 4"
    assert "variable 'w'" in front.answers[2].text
    assert front.answers[3].text.startswith("nothing was changed")  # the assignment read nothing of it


def test_a_skipped_assignment_leaves_the_variable_alone() -> None:
    w = tf.Variable(1.0, name="w")
    more = tf.assign_add(w, 1.0, name="more")
    with tf.Session() as session:
        session.run(w.initializer)
        value, front = drive(session, more, "s more", "skip", "info overrides", "n 9")
        assert value == 1.0 and session.run(w) == 1.0
    assert "skip more = its reference" in front.answers[1].text


# Branches.


def branches(taken: bool) -> Any:
    x = tf.constant(3.0, name="x")
    pred = tf.less(x, 10.0 if taken else 0.0, name="pred")
    return tf.cond(pred, lambda: tf.add(x, 1.0, name="yes"), lambda: tf.negative(x, name="no"), name="if")


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("before", ["n 0", "s pred", "s if/Switch"])
@pytest.mark.parametrize("name", ["if", "if/Switch", "pred", "if/pred_id"])
def test_a_branch_is_forced_wherever_it_has_not_been_decided(taken: bool, before: str, name: str) -> None:
    forced = "false" if taken else "true"
    with tf.Session() as session:
        result = branches(taken)
        plain = 4.0 if taken else -3.0
        other = -3.0 if taken else 4.0
        commands = [f"force {name} {forced}"] if before == "n 0" else [before, f"force {name} {forced}"]
        value, front = drive(session, result, *commands)
        assert front.answers[-1].ok, front.answers[-1].text
        assert value == other
        assert drive(session, result, *commands, "n 30", "back 30")[0] == plain
        value, front = drive(session, result, *commands, "n 4", "back 5", "info overrides")
        assert value == plain and front.answers[-1].text.startswith("nothing was changed")


def test_what_has_been_decided_cannot_be_forced() -> None:
    with tf.Session() as session:
        value, front = drive(session, branches(True), "s if/Merge", "force if false")
    assert not front.answers[-1].ok and "has decided in #" in front.answers[-1].text
    assert value == 4.0


def test_a_loop_is_ended_and_prolonged() -> None:
    count = tf.while_loop(
        lambda i: tf.less(i, 3, name="again"), lambda i: tf.add(i, 1, name="next"), [0], name="loop"
    )
    with tf.Session() as session:
        assert drive(session, count, "force loop false")[0] == 0
        assert drive(session, count, "s loop/next", "n", "force loop false")[0] == 1
        assert drive(session, count, "b loop/again if iteration >= 3", "c", "force loop true")[0] == 4
        assert drive(session, count, "s loop/next", "n", "set loop/next = -10")[0] == 3
        assert drive(session, count, "s loop/next", "n", "set loop/next = 50", "n 5", "back 6")[0] == 3


def test_a_loops_constant_is_overridden_in_this_and_all_later_iterations() -> None:
    step = tf.constant(1, name="step")
    count = tf.while_loop(lambda i: tf.less(i, 10), lambda i: tf.add(i, step, name="next"), [0], name="loop")
    with tf.Session() as session:
        enter = next(
            op.name
            for op in session.graph.get_operations()
            if op.type == "Enter" and op.inputs[0].op.name == "step"
        )
        value, front = drive(session, count, "b loop/next if iteration == 2", "c", f"set {enter} = 100")
    assert front.answers[-1].ok, front.answers[-1].text
    assert value == 102


def test_overrides_go_through_devices() -> None:
    with tf.device("/cpu:0"):
        a = tf.constant(2.0, name="a")
        b = tf.add(a, 1.0, name="b")
    with tf.device("/cpu:1"):
        c = tf.multiply(b, 10.0, name="c")
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
        front = Script(["s b", "n", "set b = 7", "n 30", "w"])
        with Debugger(front, script="t").installed():
            assert session.run(c) == 70.0
    final = front.stops[-1].history
    assert all(entry.tainted for entry in final if entry.activation.node in ("c", "_retval_c_0_0"))
    assert not any(entry.tainted for entry in final if entry.activation.node == "a")


def test_the_words_for_it() -> None:
    with tf.Session() as session:
        _, front = drive(session, chain(), "s total", "n", "set total = 10", "n", "info overrides")
    lines = text.executed(front.stops[-1].history)
    assert lines[-2].endswith("(set total:0 = 10.0)")
    assert lines[-1].endswith("→ float32[] 30.0  (descends from an override at #4)")
    assert front.answers[-1].text.split() == ["#4", "set", "total:0", "=", "10.0", "root"]
    waits = front.stops[3].next_inputs[0]
    assert waits.tainted == "#4" and "descends from an override at #4" in "\n".join(text.tokens([waits]))


# Random programs.


def picture(stepping: Stepping) -> Any:
    """All of a step's state that could be changed, as something to compare."""
    frames = []
    for frame in sorted(stepping.state.live_frames(), key=lambda each: each.id):
        iterations = [
            (
                number,
                list(it.pending),
                [_seen(token) for token in it.inputs],
                dict(it.dead),
                it.outstanding,
                it.children,
            )
            for number, it in sorted(frame.iterations.items())
        ]
        held = [(item.index, _seen(token)) for item, token in (*frame.deferred, *frame.invariants)]
        frames.append((frame.id, frame.count, frame.pending_enters, frame.live, iterations, held))
    resources = sorted(
        (each.kind, each.name, each.version, repr(each.value))
        for each in stepping.step.resources
        if each.kind == "variable"
    )
    overrides = stepping.overrides
    marks = [
        {place: dict(marked) for place, marked in each.items() if marked}
        for each in (overrides._from, overrides._slots)
    ]
    return (
        frames,
        [(each.item.index, each.frame.id, each.iteration) for each in stepping.ready],
        resources,
        {place: dict(done) for place, done in stepping.done.items()},
        {index: entry.row for index, entry in stepping.latest.items()},
        stepping.executed,
        (
            dict(overrides.made),
            dict(overrides.orders),
            marks,
            [parts for parts in overrides.resources.values() if parts],
        ),
    )


def _seen(token: Any) -> Any:
    if token is ABSENT or token is DEAD:
        return repr(token)
    return repr(getattr(token, "value", token))


def change_something(stepping: Stepping, chance: random.Random) -> bool:
    """Try a random change; whether one was made."""
    kind = chance.choice(["set", "set", "var", "skip", "force", "next"])
    try:
        if kind == "set":
            entry = chance.choice(stepping.history)
            item = entry.activation.item
            slot = chance.randrange(item.n_outputs)
            old = (entry.outputs or ())[slot]
            changes.set_tensor(
                stepping, item, slot, np.asarray(old) * 0 + (not old if old.dtype == bool else 3)
            )
        elif kind == "var":
            variables = [
                each for each in stepping.step.resources if each.kind == "variable" and each.value is not None
            ]
            variable = chance.choice(variables)
            changes.set_variable(stepping, variable.name, variable.value * 0 + 2)
        elif kind == "skip":
            changes.skip(stepping, chance.choice(stepping.step.program.items), None)
        elif kind == "force":
            switches = [item for item in stepping.step.program.items if item.node.type == "Switch"]
            forcing.force(stepping, chance.choice(switches).name, chance.random() < 0.5)
        else:
            at = stepping.next
            if at is None:
                return False
            shape = [size or 1 for size in at.item.node.output_shapes[0].as_list()]
            changes.set_next(stepping, 0, np.full(shape, 2))
    except (CommandError, IndexError, AttributeError, TypeError, ValueError):
        return False
    return True


class Changer:
    """A driver that steps, changes things, and takes it all back, again and again; then runs on as if nothing had been."""

    record = True

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.made = 0

    def drive(self, step: Any) -> None:
        stepping, chance = Stepping(step), self.random
        while stepping.ready:
            for _ in range(chance.randrange(1, 12)):
                if stepping.ready:
                    stepping.execute()
            before, executed = picture(stepping), stepping.executed
            for _ in range(chance.randrange(1, 5)):
                self.made += change_something(stepping, chance)
                for _ in range(chance.randrange(4)):
                    if not stepping.ready or stepping.executed > executed + 60:
                        break
                    try:
                        stepping.execute()
                    except tf.OpError:
                        break
            while stepping.executed > executed:
                stepping.back()
            after = picture(stepping)
            for was, now in zip(before, after, strict=True):
                assert now == was


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_going_back_over_changes_leaves_no_trace(program: Program, seed: int) -> None:
    built = build(program, tf)
    outcome = evaluate(program)
    changer = Changer(seed)
    with tf.Session(graph=built.graph) as session:
        session.run(built.initializer)
        tf_driver.install(changer)
        try:
            results: Any = session.run(built.fetches, built.feeds)
        finally:
            tf_driver.uninstall()
        variables = session.run(built.variables)
    assert results[0] == outcome.results[0]
    np.testing.assert_allclose(results[1], outcome.results[1], rtol=1e-9, atol=1e-12)
    for name, value in variables.items():
        np.testing.assert_allclose(value, outcome.variables[name], rtol=1e-9, atol=1e-12, err_msg=name)


class Follower:
    """A driver that makes one change somewhere, if `seed` is given, and keeps what every execution gave."""

    record = True

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self.seen: dict[tuple[str, str, int], tuple[Any, bool]] = {}
        self.changed = False

    def drive(self, step: Any) -> None:
        stepping = Stepping(step)
        chance = random.Random(self.seed)
        at = chance.randrange(40)
        while stepping.ready and stepping.executed < 500:
            if self.seed is not None and not self.changed and stepping.executed >= at and stepping.history:
                self.changed = change_something(stepping, chance)
                continue
            entry = stepping.execute()
            activation = entry.activation
            outputs = None if entry.outputs is None else [_plain(value) for value in entry.outputs]
            self.seen[activation.name, activation.frame.tag, activation.iteration] = (outputs, entry.tainted)


def _plain(value: Any) -> Any:
    value = value.value if isinstance(value, Reference) else value
    return repr(value) if isinstance(value, np.ndarray | np.generic) or value is DEAD else "handle"


@given(programs(), st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_what_comes_out_otherwise_is_said_to_descend_from_the_change(program: Program, seed: int) -> None:
    """Against a run without the change: whatever gives something else, or runs only in one of them, is marked."""
    runs = []
    for each in (None, seed):
        built = build(program, tf)
        follower = Follower(each)
        with tf.Session(graph=built.graph) as session:
            session.run(built.initializer)
            session.resources.entropy = 1
            tf_driver.install(follower)
            try:
                session.run(built.fetches, built.feeds)
            except tf.OpError:  # what a change can lead to
                pass
            finally:
                tf_driver.uninstall()
        runs.append(follower.seen)
    plain, changed = runs
    variables = {node.name for node in built.graph.get_operations() if node.type == "VariableV2"}
    for place, (outputs, tainted) in changed.items():
        if not tainted:
            # A reference shows what the variable held when it was passed on, which the override may have changed.
            assert place in plain, place
            if place[0] not in variables:
                assert outputs == plain[place][0], place
    assert not any(tainted for _, tainted in plain.values())
