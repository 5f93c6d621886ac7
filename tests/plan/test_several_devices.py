"""Steps over several CPU devices as one plan: the interpreter's results on the cut graph, and on one device, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from partition_programs import PROGRAMS
from random_programs import Program, anywhere, build, programs
from running import interrupt, once_it_runs
from searches import examples
from spread import cpus, cut, pruned, run, same

import engine as tf
from engine import observe
from engine.observe import TraceLevel
from engine.partition.options import PartitionOptions
from engine.partition.partition import partition
from engine.passes.settings import Level, OptimizerOptions
from engine.passes.stage import Stage
from engine.runtime.context import StepContext
from engine.runtime.executable import Executable
from engine.runtime.plan.ir import NotExpressible
from engine.runtime.plan.plan import Plan
from engine.runtime.resources import ResourceManager
from engine.types import errors

SEEDS = st.integers(0, 1 << 30)
OPTIONS = st.builds(
    PartitionOptions, wire=st.sampled_from(["", "bfloat16"]), late_bytes=st.sampled_from([None, 0])
)
AS_WRITTEN = tf.GraphOptions(optimizer_options=OptimizerOptions(opt_level=Level.L0))


def config(count: int = 2, **options: Any) -> Any:
    options.setdefault("plans", "always")
    return tf.ConfigProto(device_count={"CPU": count}, **options)


def plan_of(session: Any, fetches: Any) -> Plan:
    """The plan that runs `fetches`.  Raises AssertionError, with the reason, if there is none."""
    named = [each.name for each in fetches]
    choice = next(each.choice for key, each in session._executables.items() if list(key.fetches) == named)
    if choice.reason is not None:  # a few random programs have no such form, and are interpreted
        assume(choice.reason.reason != "it may run where the loop around it is not entered")
    assert choice.plan is not None, choice.reason
    return choice.plan


# Random programs.


def run_plan(plan: Plan, stage: Stage, feeds: list[Any], resources: ResourceManager) -> list[Any]:
    context = StepContext(1, list(feeds), len(stage.fetches))
    with np.errstate(all="ignore"):
        plan.run(context, resources)
    assert not any(each.kind == "rendezvous" for each in resources)
    return context.results


def held(resources: ResourceManager) -> dict[str, Any]:
    return {each.name: each.value for each in resources if each.kind == "variable"}


def check(program: Program, count: int, seed: int, options: PartitionOptions) -> None:
    """The program cut at random: interpreted, and planned in Python and with native segments."""
    built = build(program, tf)
    stage = pruned(built.graph, built.fetches, list(built.feeds))
    start = pruned(built.graph, [], targets=[built.initializer.name])
    feeds = [
        tensor.dtype.np_dtype.type(value) if tensor.shape.ndims == 0 else value
        for tensor, value in built.feeds.items()
    ]
    devices = cpus(count)
    parts = cut(stage, devices, seed, options)

    def resources() -> ResourceManager:
        made = ResourceManager()
        made.entropy = 1
        run(start, resources=made)
        return made

    want = run(parts, feeds, devices, resources=resources())
    plan = Plan(Executable(parts, devices), exact=True)
    if not options.wire:
        alone = run(stage, feeds, resources=resources())
        assert all(same(one, other) for one, other in zip(alone.results, want.results, strict=True))
    mine = resources()
    for number in range(3):  # from the third run on, native segments where there is no loop
        got = run_plan(plan, parts, feeds, mine)
        if number == 0:
            assert all(same(one, other) for one, other in zip(want.results, got, strict=True))
            assert want.variables.keys() == held(mine).keys()
            assert all(same(want.variables[name], value) for name, value in held(mine).items())


@given(programs(), st.integers(2, 4), SEEDS, OPTIONS)
@examples(8)
def test_random_programs_cut_at_random(program: Program, count: int, seed: int, options: Any) -> None:
    check(program, count, seed, options)


@pytest.mark.slow
@pytest.mark.deep
@given(programs(depth=4), st.integers(2, 4), SEEDS, OPTIONS)
@settings(max_examples=60)
def test_deeper_programs(program: Program, count: int, seed: int, options: Any) -> None:
    check(program, count, seed, options)


def runs(program: Program, seed: int, plans: str, **options: Any) -> list[Any]:
    built = build(program, tf, device=anywhere(seed, ["/cpu:0", "/cpu:1", "/cpu:2"]))
    given: list[Any] = []
    with tf.Session(graph=built.graph, config=config(3, plans=plans, exact=True, **options)) as session:
        session.run(built.initializer)
        for _ in range(4):
            given += [*session.run(built.fetches, built.feeds), *session.run(built.variables).values()]
        if plans == "always":
            plan_of(session, built.fetches)
        assert not any(each.kind == "rendezvous" for each in session.resources)
    return given


@given(programs(), SEEDS, st.booleans(), st.booleans())
@settings(max_examples=6)
def test_sessions(program: Program, seed: int, optimized: bool, native: bool) -> None:
    graph = {} if optimized else {"graph_options": AS_WRITTEN}
    want = runs(program, seed, "off", **graph)
    got = runs(program, seed, "always", native=native, **graph)
    assert len(want) == len(got) and all(same(one, other) for one, other in zip(want, got, strict=True))


# Programs by hand.


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_two_devices(name: str) -> None:
    found = []
    for plans in ("off", "always"):
        with tf.Graph().as_default():
            tf.set_random_seed(3)
            fetches = PROGRAMS[name](tf)
            fetches = list(fetches) if isinstance(fetches, tuple) else [fetches]
            with tf.Session(config=config(plans=plans, exact=True, graph_options=AS_WRITTEN)) as session:
                found.append([session.run(fetches) for _ in range(4)])
                assert len(session.stage_for(fetches).devices) == 2
                if plans == "always":
                    assert plan_of(session, fetches).joins
    for want, got in zip(*found, strict=True):
        assert all(same(one, other) for one, other in zip(want, got, strict=True))


@pytest.mark.parametrize("taken", [False, True])
def test_dead_tensors_that_are_sent(taken: bool) -> None:
    """A branch, and a loop in one, over both devices: what is not taken is dead on either."""
    p = tf.placeholder(tf.bool, [], name="p")
    v = tf.Variable(1.0, name="v")

    def there(x: Any) -> Any:
        with tf.device("/cpu:1"):
            return tf.add(x, 2.0)

    def loop() -> Any:
        return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, there(x) * 2.0), [0, 0.5])[1]

    with tf.device("/cpu:0"):
        chosen = tf.cond(p, loop, lambda: there(tf.assign_add(v, 1.0)))
    with tf.device("/cpu:1"):
        twice = chosen * 2.0
    with tf.Session(config=config()) as session:
        session.run(v.initializer)
        for number in range(4):
            want = 0.5
            for _ in range(3):
                want = (want + 2.0) * 2.0
            got = session.run(twice, {p: taken})
            assert got == (2 * want if taken else 2 * (2.0 + number + 2.0))
        assert session.run(v) == (1.0 if taken else 5.0)
        plan_of(session, [twice])


def test_a_dead_fetch_is_refused_in_the_same_words() -> None:
    p = tf.placeholder(tf.bool, [], name="p")
    with tf.device("/cpu:0"):
        off, _ = tf.raw_ops.Switch(data=tf.constant(1.0), pred=p)
    with tf.device("/cpu:1"):
        fetched = tf.square(off, name="fetched")
    told = []
    for plans in ("off", "always"):
        with (
            tf.Session(config=config(plans=plans)) as session,
            pytest.raises(errors.InvalidArgumentError, match="'fetched:0' is dead") as caught,
        ):
            assert session.run(fetched, {p: False}) == 1.0
            session.run(fetched, {p: True})
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_variables_are_read_when_their_reader_would_read_them() -> None:
    """A read on another device comes after what its reader waits for."""
    with tf.device("/cpu:0"):
        v = tf.Variable([1.0, 2.0], name="v")
        change = tf.assign(v, [5.0, 6.0])
    with tf.device("/cpu:1"):
        before = tf.add(v, 0.0, name="before")
        with tf.control_dependencies([change]):
            after = tf.add(v, 0.0, name="after")
    with tf.device("/cpu:0"), tf.control_dependencies([before]):
        again = tf.assign_add(v, [1.0, 1.0])
    for native in (False, True):
        with tf.Session(config=config(native=native)) as session:
            session.run(v.initializer)
            for _ in range(5):
                assert session.run(after).tolist() == [5.0, 6.0]
                assert session.run([before, again])[0].tolist() == [5.0, 6.0]
                assert session.run(v).tolist() == [6.0, 7.0]


def test_native_segments_go_over_devices() -> None:
    x = tf.placeholder(tf.float32, [4], name="x")
    y = x
    for number in range(12):
        with tf.device(f"/cpu:{number % 2}"):
            y = tf.tanh(y) + 1.0
    with tf.Session(config=config(exact=True, graph_options=AS_WRITTEN)) as session:
        feed = {x: np.arange(4, dtype=np.float32)}
        found = [session.run(y, feed) for _ in range(5)]
        specials = plan_of(session, [y]).specials
    assert all(same(found[0], each) for each in found)
    assert specials is not None
    for special in specials.made.values():
        assert special is not None and len(special.segments) == 1


# Models.


def convnet() -> Any:
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(8, 6, 6, 1)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 3, 8))
    with tf.device("/cpu:0"):
        filters = tf.Variable(rng.normal(size=(3, 3, 1, 4)).astype(np.float32) * 0.3)
        hidden = tf.nn.relu(tf.nn.conv2d(images, filters, [1, 1, 1, 1], "SAME"))
        pooled = tf.nn.max_pool(hidden, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    with tf.device("/cpu:1"):
        weights = tf.Variable(rng.normal(size=(36, 3)).astype(np.float32) * 0.3)
        logits = tf.matmul(tf.reshape(pooled, [8, 36]), weights)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    return loss, tf.train.AdamOptimizer(0.05).minimize(loss, colocate_gradients_with_ops=True)


def rnn() -> Any:
    rng = np.random.default_rng(2)
    rows = tf.constant(rng.normal(size=(5, 4, 3)).astype(np.float32))  # time, batch, features
    with tf.device("/cpu:0"):
        inner = tf.Variable(rng.normal(size=(3, 6)).astype(np.float32) * 0.5)
        around = tf.Variable(rng.normal(size=(6, 6)).astype(np.float32) * 0.5)
    with tf.device("/cpu:1"):
        out = tf.Variable(rng.normal(size=(6, 2)).astype(np.float32) * 0.5)

    def body(t: Any, state: Any, error: Any) -> Any:
        with tf.device("/cpu:0"):
            state = tf.tanh(tf.matmul(tf.gather(rows, t), inner) + tf.matmul(state, around))
        with tf.device("/cpu:1"):
            error = error + tf.reduce_sum(tf.square(tf.matmul(state, out) - 1.0))
        return t + 1, state, error

    _, _, loss = tf.while_loop(lambda t, *_: t < 5, body, [0, tf.zeros([4, 6]), 0.0])
    return loss, tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)


@pytest.mark.parametrize("model", [convnet, rnn])
@pytest.mark.parametrize("wire", ["", "bfloat16"])
def test_models_train_as_they_do_interpreted(model: Callable[[], Any], wire: str) -> None:
    found = []
    for plans, native in (("off", False), ("always", False), ("always", True)):
        options = {"exact": True, "wire_compression": wire, "native": native, "plans": plans}
        with tf.Graph().as_default(), tf.Session(config=config(**options)) as session:
            tf.set_random_seed(7)
            loss, train = model()
            session.run(tf.global_variables_initializer())
            found.append([session.run([loss, train])[0] for _ in range(8)])
            assert len(session.stage_for([loss, train]).devices) == 2
            if plans == "always":
                assert plan_of(session, [loss]).joins
    assert found[0][-1] < found[0][0]
    for other in found[1:]:
        assert all(same(one, two) for one, two in zip(found[0], other, strict=True))


# When plans run.


def over_two() -> Any:
    with tf.device("/cpu:0"):
        x = tf.placeholder(tf.float32, [None], name="x")
    with tf.device("/cpu:1"):
        y = tf.square(x, name="y")
    with tf.device("/cpu:0"):
        return tf.reduce_sum(y, name="total")


def test_auto_takes_the_plan_from_the_second_run_on() -> None:
    total = over_two()
    with tf.Session(config=config(plans="auto")) as session:
        assert session.run(total, {"x:0": [1.0, 2.0]}) == 5.0
        (choice,) = [each.choice for each in session._executables.values()]
        assert choice.plan is None and choice.why_not("auto") == "the first run"
        assert session.run(total, {"x:0": [1.0, 2.0]}) == 5.0
        assert choice.plan is not None
    with tf.Session(config=config(plans="off")) as session:
        assert [session.run(total, {"x:0": [3.0]}) for _ in range(3)] == [9.0] * 3
        assert all(each.choice.plan is None for each in session._executables.values())


class Watching(observe.Observer):
    level = TraceLevel.TIMES

    def __init__(self) -> None:
        self.infos: list[Any] = []
        self.moved: list[str] = []

    def step_begin(self, step: Any) -> None:
        self.infos.append(step)

    def transfers(self, step: Any, batch: Any) -> None:
        self.moved += [each.destination[-5:] for each in batch]


def test_transfers_that_are_watched_are_interpreted() -> None:
    total = over_two()
    watching = Watching()
    with tf.Session(config=config()) as session:
        session.run(total, {"x:0": [1.0]})
        observe.install(watching)
        try:
            assert session.run(total, {"x:0": [1.0, 2.0]}) == 5.0
        finally:
            observe.uninstall(watching)
        assert session.run(total, {"x:0": [1.0, 2.0]}) == 5.0
    (info,) = watching.infos
    assert info.executor.startswith("interpreter: a plan sends nothing")
    assert info.stage.name == "partitioned" and watching.moved == ["CPU:1", "CPU:0"]


def test_a_device_with_a_memory_of_its_own_keeps_the_interpreter() -> None:
    total = over_two()
    options = tf.ConfigProto(
        device_count={"CPU": 2, "GPU": 1}, gpu_options=tf.GPUOptions(modelled=True), plans="always"
    )
    with tf.device("/gpu:0"):
        root = tf.sqrt(total)
    with tf.Session(config=options) as session:
        assert session.run(root, {"x:0": [3.0, 4.0]}) == 5.0
        (choice,) = [each.choice for each in session._executables.values()]
    assert choice.reason is not None and "a memory and streams of its own" in choice.reason.reason


def test_explain_lists_the_one_program() -> None:
    total = over_two()
    with tf.Session(config=config(graph_options=AS_WRITTEN)) as session:
        said = session.explain(total, ["x:0"])
    assert said.planned and len(said.partitions) == 2
    assert {each.executor for each in said.partitions} == {"plan: python"}
    assert said.lines_of("y") and "CPU:1" in str(said)


# Steps that are stuck, fail or are stopped.


def stuck_stage() -> tuple[Stage, Any]:
    """A chain over two devices whose first send waits for the last node."""
    devices = cpus(2)
    x = tf.constant(4.0, name="x")
    stage = pruned(tf.get_default_graph(), [tf.square(tf.sqrt(x, name="root"), name="square")])
    at = {"x": 0, "root": 1, "square": 0}
    nodes = {name: replace(node, device=devices[at.get(name, 0)].name) for name, node in stage.nodes.items()}
    parts = partition(replace(stage, nodes=MappingProxyType(nodes)), devices)
    send = parts.nodes["x/_Send_CPU_1"]
    nodes = {**parts.nodes, send.name: replace(send, control_inputs=("square",))}
    return replace(parts, nodes=MappingProxyType(nodes)), devices


def test_devices_that_wait_for_each_other_have_no_plan_and_the_interpreter_says_why() -> None:
    stage, devices = stuck_stage()
    executable = Executable(stage, devices)
    assert executable.choice.for_run(config()) is None
    assert executable.choice.reason is not None
    assert "its devices do not fit together: The graph has a cycle" in executable.choice.reason.reason
    with pytest.raises(errors.InternalError, match="2 receives wait(.|\n)*which waits to receive, too"):
        run(stage, devices=devices)


def test_a_tensor_that_nobody_sends_is_named() -> None:
    route = {"tensor_name": "t", "send_device": "a", "send_device_incarnation": 1, "recv_device": "b"}
    got = tf.raw_ops._Recv(tensor_type=tf.float32, **route) * 2.0
    with tf.Session(config=config()) as session:
        for _ in range(2):
            with pytest.raises(errors.InternalError, match="there is no _Send of 't' in the graph"):
                session.run(got)
        (choice,) = [each.choice for each in session._executables.values()]
        assert choice.reason is not None and choice.reason.reason == "nobody sends what it waits for"
        with pytest.raises(NotExpressible, match="nobody sends"):
            Plan(choice.executable)


def test_what_is_sent_in_another_frame_never_comes() -> None:
    route = {"tensor_name": "t", "send_device": "a", "send_device_incarnation": 1, "recv_device": "b"}

    def body(i: Any) -> Any:
        with tf.control_dependencies([tf.raw_ops._Send(tensor=i, **route)]):
            return tf.identity(i) + 1

    loop = tf.while_loop(lambda i: i < 2, body, [0])
    got = tf.raw_ops._Recv(tensor_type=tf.int32, **route)
    with (
        tf.Session(config=config()) as session,
        pytest.raises(errors.InternalError, match="1 receive waits"),
    ):
        session.run([loop, got])


@pytest.mark.parametrize("in_loop", [False, True])
def test_an_error_names_its_op_and_line(in_loop: bool) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")

    def broken(value: Any) -> Any:
        with tf.device("/cpu:1"):
            return tf.reshape(value, [4], name="broken")

    with tf.device("/cpu:0"):
        if in_loop:
            start = [tf.constant(0), tf.placeholder_with_default(x, [None])]
            fetched = tf.while_loop(
                lambda i, _: i < 2,
                lambda i, value: (i + 1, broken(value)),
                start,
                shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
                name="loop",
            )[1]
        else:
            fetched = tf.reduce_sum(broken(x))
    with tf.Session(config=config()) as session:
        for _ in range(3):
            with pytest.raises(
                errors.InvalidArgumentError, match=r"in op '[\w/]*broken'(.|\n)*test_several_devices.py"
            ):
                session.run(fetched, {x: [1.0, 2.0, 3.0]})
            assert np.sum(session.run(fetched, {x: [1.0, 2.0, 3.0, 4.0]})) == 10.0
        plan_of(session, [fetched])


def endless() -> Any:
    def body(i: Any) -> Any:
        with tf.device("/cpu:1"):
            return tf.add(i, 1, name="there")

    with tf.device("/cpu:0"):
        return tf.while_loop(lambda i: i >= 0, body, [tf.constant(0, tf.int64)], name="loop")


@pytest.mark.parametrize("native", [False, True])
def test_a_timeout_says_where_the_step_was(native: bool) -> None:
    loop = endless()
    with tf.Session(config=config(native=native)) as session:
        with pytest.raises(
            errors.DeadlineExceededError, match=r"next to run: 'loop/.*' \(root > .*\) on CPU:[01]"
        ):
            session.run(loop, options=tf.RunOptions(timeout_in_ms=150))
        plan_of(session, [loop])


@pytest.mark.parametrize("native", [False, True])
def test_an_interrupt_says_where_the_step_was(native: bool) -> None:
    loop = endless()
    with tf.Session(config=config(native=native)) as session:
        with once_it_runs(interrupt), pytest.raises(KeyboardInterrupt) as caught:
            session.run(loop)
        assert any("interrupted in Session.run; next to run:" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("native", [False, True])
def test_an_interrupt_on_any_line_says_what_was_next(native: bool) -> None:
    """Also on those that are about no node, like the head of a loop: signals are handled there, too."""
    loop = endless()
    with tf.Session(config=config(native=native)) as session:
        with pytest.raises(errors.DeadlineExceededError):
            session.run(loop, options=tf.RunOptions(timeout_in_ms=1))
        program = plan_of(session, [loop]).program()

    def interrupted_at(line: int) -> Any:
        with pytest.raises(KeyboardInterrupt) as caught:
            exec(compile("\n" * (line - 1) + "raise KeyboardInterrupt", program.filename, "exec"), {})
        return program.node_next(caught.value)

    assert all(interrupted_at(line) is not None for line in range(2, len(program.lines)))
    texts = program.text.splitlines()
    (head,) = [line for line, text in enumerate(texts, 1) if text.lstrip().startswith("while")]
    assert program.lines[head] is None and interrupted_at(head).name.startswith("loop/")


def test_closing_the_session_stops_the_step() -> None:
    loop = endless()
    session = tf.Session(config=config())
    with (
        once_it_runs(session.close),
        pytest.raises(errors.CancelledError, match="its session was closed"),
    ):
        session.run(loop)


def test_a_key_that_two_nodes_have_is_left_to_the_interpreter() -> None:
    route = {"tensor_name": "t", "send_device": "a", "send_device_incarnation": 1, "recv_device": "b"}
    got = tf.raw_ops._Recv(tensor_type=tf.float32, **route)
    sent = [tf.raw_ops._Send(tensor=tf.constant(value), **route) for value in (1.0, 2.0)]
    with tf.Session(config=config()) as session:
        with tf.control_dependencies(sent):
            fetched = got + 1.0
        with pytest.raises(errors.InternalError, match="sent twice under the key"):
            session.run(fetched)
        (choice,) = [each.choice for each in session._executables.values()]
    assert choice.reason is not None and choice.reason.reason == "another node has the same key"
