"""Sessions over several devices: results, threads, what is told, how steps stop, and what is said of one that is stuck."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import PATIENCE, interrupt, once_it_runs
from searches import examples
from spread import cpus, cut, pruned, run, same

import engine as tf
from engine import observe
from engine.observe import TraceLevel
from engine.partition.options import PartitionOptions
from engine.passes.settings import Level, OptimizerOptions
from engine.runtime.context import StepContext
from engine.runtime.driver import Executable, Sequential, StepRun
from engine.runtime.parallel import Parallel
from engine.runtime.resources import ResourceManager
from engine.types import errors

TWO = {"CPU": 2}
raw = tf.raw_ops


def config(**options: Any) -> Any:
    options.setdefault("plans", "off")  # what is tried here is the interpreter; for plans see tests/plan
    return tf.ConfigProto(device_count=options.pop("device_count", TWO), **options)


def loop_over_two() -> Any:
    """A loop whose body is on both devices; 3 iterations give 45."""

    def body(i: Any, x: Any) -> Any:
        with tf.device("/cpu:1"):
            more = tf.add(x, 1.0, name="there")
        return i + 1, tf.multiply(more, 3.0, name="back")

    with tf.device("/cpu:0"):
        return tf.while_loop(lambda i, x: i < 3, body, [0, 0.5], name="loop")[1]


def test_devices_are_listed_as_tensorflow_lists_them() -> None:
    with tf.Session(config=config()) as session:
        devices = session.list_devices()
        assert [device.name[-5:] for device in devices] == ["CPU:0", "CPU:1"]
        assert {device.device_type for device in devices} == {"CPU"}
        assert all(device.memory_limit_bytes > 0 for device in devices)
        assert len({device.incarnation for device in devices}) == 2
        assert "device:CPU:1, CPU, " in repr(devices[1])


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_a_session_runs_a_loop_over_two_devices(threads: int) -> None:
    total = loop_over_two()
    with tf.Session(config=config(inter_op_parallelism_threads=threads)) as session:
        assert session.run(total) == 52.5
        stage = session.stage_for(total)
        assert stage.name == "partitioned" and len(stage.devices) == 2
        assert session.make_callable(total)() == 52.5


def test_a_session_with_one_device_makes_no_partition() -> None:
    x = tf.sqrt(tf.placeholder(tf.float32, [], name="x"))
    with tf.Session() as session:
        assert "partitioned" not in [stage.name for stage in session.stage_for(x, ["x:0"]).chain()]
    with tf.Session(config=config()) as session:
        assert "partitioned" not in [stage.name for stage in session.stage_for(x, ["x:0"]).chain()]


# Training.


def losses(
    build: Callable[[Callable[[int], str]], Any], options: Any, spread: bool, steps: int = 6
) -> list[Any]:
    """The losses of a model that is built with devices, or all on one."""
    with tf.Graph().as_default(), tf.Session(config=options) as session:
        tf.set_random_seed(7)
        loss, train = build((lambda i: f"/cpu:{i}") if spread else (lambda i: "/cpu:0"))
        session.run(tf.global_variables_initializer())
        found = [session.run([loss, train])[0] for _ in range(steps)]
        if spread:
            assert len(session.stage_for([loss, train]).devices) == 2
    return found


def convnet(on: Callable[[int], str]) -> Any:
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(8, 6, 6, 1)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 3, 8))
    with tf.device(on(0)):
        filters = tf.Variable(rng.normal(size=(3, 3, 1, 4)).astype(np.float32) * 0.3)
        hidden = tf.nn.relu(tf.nn.conv2d(images, filters, [1, 1, 1, 1], "SAME"))
        pooled = tf.nn.max_pool(hidden, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    with tf.device(on(1)):
        weights = tf.Variable(rng.normal(size=(36, 3)).astype(np.float32) * 0.3)
        logits = tf.matmul(tf.reshape(pooled, [8, 36]), weights)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    return loss, tf.train.AdamOptimizer(0.05).minimize(loss, colocate_gradients_with_ops=True)


def rnn(on: Callable[[int], str]) -> Any:
    rng = np.random.default_rng(2)
    rows = tf.constant(rng.normal(size=(5, 4, 3)).astype(np.float32))  # time, batch, features
    with tf.device(on(0)):
        inner = tf.Variable(rng.normal(size=(3, 6)).astype(np.float32) * 0.5)
        around = tf.Variable(rng.normal(size=(6, 6)).astype(np.float32) * 0.5)
    with tf.device(on(1)):
        out = tf.Variable(rng.normal(size=(6, 2)).astype(np.float32) * 0.5)

    def body(t: Any, state: Any, error: Any) -> Any:
        with tf.device(on(0)):
            state = tf.tanh(tf.matmul(tf.gather(rows, t), inner) + tf.matmul(state, around))
        with tf.device(on(1)):
            error = error + tf.reduce_sum(tf.square(tf.matmul(state, out) - 1.0))
        return t + 1, state, error

    _, _, loss = tf.while_loop(lambda t, *_: t < 5, body, [0, tf.zeros([4, 6]), 0.0])
    return loss, tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)


@pytest.mark.parametrize("build", [convnet, rnn])
def test_a_model_over_two_devices_trains_as_on_one(build: Any) -> None:
    off = tf.GraphOptions(optimizer_options=OptimizerOptions(opt_level=Level.L0))
    want = losses(build, tf.ConfigProto(graph_options=off), spread=False)
    assert want[-1] < want[0]
    for options in (
        {},
        {"inter_op_parallelism_threads": 1},
        {"inter_op_parallelism_threads": 3, "expensive_kernel_ns": 1},
    ):
        got = losses(build, config(graph_options=off, **options), spread=True)
        assert all(same(one, other) for one, other in zip(want, got, strict=True))


def test_training_with_short_floats_on_the_wire_still_learns() -> None:
    want = losses(convnet, tf.ConfigProto(), spread=False)
    got = losses(convnet, config(wire_compression="bfloat16"), spread=True)
    assert got[-1] < 0.5 * got[0]
    assert got != want
    np.testing.assert_allclose(got[:3], want[:3], rtol=0.02)


# What is told.


class Told(observe.Observer):
    level = TraceLevel.TIMES

    def __init__(self) -> None:
        self.sent: list[observe.Transfer] = []
        self.batches: list[observe.Executions] = []
        self.written: list[observe.ResourceWrite] = []

    def transfers(self, step: Any, batch: Any) -> None:
        self.sent += batch

    def executions(self, step: Any, batch: Any) -> None:
        self.stage = step.stage
        self.batches.append(batch)

    def resource_writes(self, step: Any, batch: Any) -> None:
        self.written += batch


@pytest.fixture
def told() -> Iterator[Told]:
    observer = Told()
    observe.install(observer)
    yield observer
    observe.uninstall(observer)


def test_every_transfer_is_told(told: Told) -> None:
    total = loop_over_two()
    with tf.Session(config=config()) as session:
        session.run(total)
    back = [each for each in told.sent if "loop/there" in each.key]
    assert [
        (each.iteration, each.dead, each.nbytes) for each in sorted(back, key=lambda each: each.iteration)
    ] == [
        (0, False, 4),
        (1, False, 4),
        (2, False, 4),
        (3, True, 0),
    ]
    assert {(each.source[-5:], each.destination[-5:]) for each in back} == {("CPU:1", "CPU:0")}
    assert all(0 < each.sent_ns <= each.received_ns for each in told.sent)
    receives = [node for node in told.stage if node.type == "_Recv"]
    (batch,) = told.batches
    names = [told.stage.order[index] for index in batch.node]
    assert batch.device == ""
    assert len(told.sent) == sum(names.count(node.name) for node in receives)
    assert not told.written


def test_memory_of_a_device_that_counts_is_told() -> None:
    class Allocations(observe.Observer):
        level = TraceLevel.TIMES

        def __init__(self) -> None:
            self.all: list[observe.Allocation] = []

        def allocations(self, step: Any, batch: Any) -> None:
            self.all += batch

    with tf.device("/gpu:0"):
        x = tf.tanh(tf.placeholder(tf.float32, [1000], name="x"))
        y = tf.reduce_sum(tf.square(x) * x)
    gpu = config(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
    told = Allocations()
    with tf.Session(config=gpu) as session:
        observe.install(told)
        try:
            session.run(y, {"x:0": np.ones(1000)})
        finally:
            observe.uninstall(told)
    assert {each.device[-5:] for each in told.all} == {"GPU:0"}
    in_use = 0
    for each in told.all:
        in_use += each.nbytes
        assert each.in_use == in_use >= 0
    assert max(each.in_use for each in told.all) >= 4000


def test_metadata_has_the_graphs_and_a_timeline_for_each_device() -> None:
    from tensorboard.compat.proto.config_pb2 import RunMetadata

    total, metadata = loop_over_two(), RunMetadata()
    with tf.Session(config=config()) as session:
        session.run(total, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
        assert not metadata.step_stats.dev_stats
        first, second = metadata.partition_graphs
        assert {node.device[-5:] for node in first.node} == {"CPU:0"}
        assert {node.device[-5:] for node in second.node} == {"CPU:1"}
        assert "loop/there" in {node.name for node in second.node}
        session.run(total, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
    assert not metadata.partition_graphs
    ran = {
        each.device[-5:]: {node.node_name for node in each.node_stats}
        for each in metadata.step_stats.dev_stats
    }
    assert "loop/there" in ran["CPU:1"] and "loop/back" in ran["CPU:0"]


def test_a_recording_keeps_devices_apart(tmp_path: Any) -> None:
    import tracing

    total = loop_over_two()
    with tf.Session(config=config()) as session, tracing.record(tmp_path) as recorder:
        session.run(total)
    recorded = tracing.Run.open(recorder.path)
    (step,) = recorded.steps()
    parts = recorded.partitions(step.id)
    assert {device[-5:] for device in parts} == {"CPU:0", "CPU:1"}
    assert sum(len(batch) for batches in parts.values() for batch in batches) == len(
        recorded.executions(step.id)
    )
    assert recorded.transfers(step.id)


# Threads.


def test_no_more_kernels_run_at_once_than_threads_are_allowed() -> None:
    at_once = most = 0
    changed = threading.Condition()

    def work(x: Any) -> Any:
        """Ends once as many others as may have been running at the same time, and a moment later."""
        nonlocal at_once, most
        with changed:
            at_once += 1
            most = max(most, at_once)
            changed.notify_all()
            assert changed.wait_for(lambda: most >= threads, PATIENCE)
        time.sleep(0.002)
        with changed:
            at_once -= 1
        return x

    total = tf.add_n([tf.py_func(work, [tf.constant(float(i))], tf.float32) for i in range(12)])
    for threads in (1, 2, 3):
        most = 0
        config = tf.ConfigProto(inter_op_parallelism_threads=threads, plans="off")
        with tf.Session(config=config) as session:
            assert session.run(total) == 66.0
        assert most == threads


def test_a_step_inside_a_step_needs_no_free_thread() -> None:
    with tf.Session(config=tf.ConfigProto(inter_op_parallelism_threads=2)) as session:
        inner = tf.square(tf.constant(3.0))
        outer = tf.add_n(
            [tf.py_func(lambda: np.float32(session.run(inner)), [], tf.float32) for _ in range(4)]
        )
        assert session.run(outer) == 36.0


def test_products_are_held_to_one_thread_of_blas() -> None:
    """BLAS' own threads collapse beside a busy process, and change last bits; outside of steps they are as they were."""
    from engine.native import blas

    if not blas.available():
        pytest.skip(blas.why_not())
    before = blas.threads()
    x = tf.placeholder(tf.float32, [2, 2])
    seen = tf.py_func(lambda _: np.int64(blas.threads()), [tf.matmul(x, x)], tf.int64)
    for plans in ("off", "always"):
        with tf.Session(config=tf.ConfigProto(plans=plans)) as session:
            assert session.run(seen, {x: np.eye(2)}) == 1
        assert blas.threads() == before


def test_one_kernel_may_use_so_many_threads() -> None:
    from engine.native import pool
    from engine.runtime.plan.threads import parallel_for

    for threads in (1, 2):
        limited = pool.default().limit(threads)
        assert limited.threads == min(threads, pool.default().threads)
        assert parallel_for(threads) == parallel_for(threads) != parallel_for(threads + 1)
    x = tf.placeholder(tf.float32, [64, 64])
    y = tf.matmul(tf.tanh(tf.matmul(x, x)), x)
    value = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    results = []
    for threads in (0, 1, 2):
        config = tf.ConfigProto(intra_op_parallelism_threads=threads, exact=True)
        with tf.Session(config=config) as session:
            results += [session.run(y, {x: value}) for _ in range(5)]
    assert all(result.tobytes() == results[0].tobytes() for result in results)


# How it stops.


def long_loop() -> Any:
    def body(i: Any) -> Any:
        with tf.device("/cpu:1"):
            return tf.add(i, 1, name="there")

    with tf.device("/cpu:0"):
        return tf.while_loop(lambda i: i >= 0, body, [0], name="loop")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_timeout_says_where_the_step_was(threads: int) -> None:
    endless = long_loop()
    where = r"next to run: '.*' in .* on CPU:[01]|waiting to receive"
    with (
        tf.Session(config=config(inter_op_parallelism_threads=threads)) as session,
        pytest.raises(errors.DeadlineExceededError, match=where),
    ):
        session.run(endless, options=tf.RunOptions(timeout_in_ms=60))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_says_where_the_step_was(threads: int) -> None:
    endless = long_loop()
    with tf.Session(config=config(inter_op_parallelism_threads=threads)) as session:
        with once_it_runs(interrupt), pytest.raises(KeyboardInterrupt) as caught:
            session.run(endless)
        assert any("interrupted in Session.run; next to run:" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_names_its_op_and_line(threads: int) -> None:
    with tf.device("/cpu:1"):
        broken = tf.reshape(tf.placeholder(tf.float32, [None], name="x"), [2, 2], name="broken")
    with tf.device("/cpu:0"):
        total = tf.reduce_sum(broken)
    with tf.Session(config=config(inter_op_parallelism_threads=threads)) as session:
        with pytest.raises(errors.InvalidArgumentError, match="in op 'broken'(.|\n)*test_running.py"):
            session.run(total, {"x:0": [1.0, 2.0, 3.0]})
        assert session.run(total, {"x:0": [1.0, 2.0, 3.0, 4.0]}) == 10.0


# What is said of a step that is stuck.


def without(stage: Any, *names: str) -> Any:
    return replace(stage, nodes=MappingProxyType({k: v for k, v in stage.nodes.items() if k not in names}))


def chain_over_two() -> Any:
    devices = cpus(2)
    x = tf.constant(4.0, name="x")
    root = tf.sqrt(x, name="root")
    stage = pruned(tf.get_default_graph(), [tf.square(root, name="square")])
    at = {"x": 0, "root": 1, "square": 0}
    nodes = {name: replace(node, device=devices[at.get(name, 0)].name) for name, node in stage.nodes.items()}
    from engine.partition.partition import partition

    return partition(replace(stage, nodes=MappingProxyType(nodes)), devices), devices


@pytest.mark.parametrize("driver", [Sequential(), Parallel(2)])
def test_a_missing_send_is_named(driver: Any) -> None:
    stage, devices = chain_over_two()
    with pytest.raises(
        errors.InternalError
    ) as caught:  # it is found out; what would hang is cut off by pytest
        run(without(stage, "root/_Send_CPU_0"), devices=devices, driver=driver)
    text = str(caught.value)
    assert "nothing is left to run, and 1 receive waits for a tensor that nobody sends" in text
    assert "device:CPU:1;" in text and "_root;0:0" in text
    assert "awaited by _Recv 'root/_Recv_CPU_0' on CPU:0" in text and "test_running.py:" in text
    assert "there is no _Send of 'edge_1_root' in the graph" in text


def test_a_deadlock_is_followed_to_its_cause() -> None:
    """The first send waits for the last node: a cycle that only the two devices together have."""
    stage, devices = chain_over_two()
    send = stage.nodes["x/_Send_CPU_1"]
    nodes = {**stage.nodes, send.name: replace(send, control_inputs=("square",))}
    with pytest.raises(errors.InternalError) as caught:
        run(replace(stage, nodes=MappingProxyType(nodes)), devices=devices)
    text = str(caught.value)
    assert "2 receives wait" in text
    assert "its _Send 'x/_Send_CPU_1' on CPU:0" in text
    assert "has not run: it waits for Square 'square' on CPU:0" in text
    assert (
        "which has not run: it waits for _Recv 'root/_Recv_CPU_0'" in text
        and "which waits to receive, too" in text
    )


def test_a_receive_by_hand_that_nobody_serves() -> None:
    route = {"tensor_name": "t", "send_device": "a", "send_device_incarnation": 1, "recv_device": "b"}
    got = raw._Recv(tensor_type=tf.float32, **route)
    with tf.Session() as session:
        with pytest.raises(errors.InternalError, match="there is no _Send of 't' in the graph"):
            session.run(got)
        sent = raw._Send(tensor=tf.constant(2.0), **route)
        assert session.run([got, sent]) == [2.0, None]


def test_a_loop_that_waits_for_another_device_is_named() -> None:
    devices = cpus(2)
    with tf.Graph().as_default() as graph:
        total = loop_over_two()
        stage = pruned(graph, [total])
    from engine.partition.partition import partition

    known = {"/device:CPU:1": devices[1].name}
    nodes = {n.name: replace(n, device=known.get(n.device, devices[0].name)) for n in stage}
    cut_up = partition(
        replace(stage, nodes=MappingProxyType(nodes)), devices, PartitionOptions(late_bytes=None)
    )
    (send,) = [node.name for node in cut_up if node.type == "_Send" and node.inputs[0][0] == "loop/there"]
    with pytest.raises(
        errors.InternalError, match="loop/there;loop/while_context@0:0(.|\n)*there is no _Send of"
    ):
        run(without(cut_up, send), devices=devices)


# There and back.


def everything(step: StepRun) -> Any:
    """All there is to know of a step over several devices, in plain form."""
    assert step.transfers is not None
    state = step.state
    frames = [
        (
            frame.id,
            frame.path,
            frame.count,
            frame.pending_enters,
            [
                (
                    number,
                    list(it.pending),
                    [repr(value) for value in it.inputs],
                    sorted(it.dead.items()),
                    it.outstanding,
                )
                for number, it in sorted(frame.iterations.items())
            ],
        )
        for frame in state.live_frames()
    ]
    table = step.transfers.rendezvous
    return (
        sorted(frames),
        [(each.name, each.frame.id, each.iteration) for each in step.ready],
        sorted((key, each.name) for key, each in step.transfers.parked.items()),
        sorted(each.key for each in table.state().waiting),
        sorted((each.key, each.dead, each.nbytes) for each in table.state().sent),
        [repr(value) for value in step.context.results],
    )


@given(st.integers(0, 1 << 30), st.integers(1, 3))
@examples(8)
def test_walking_back_restores_everything(seed: int, count: int) -> None:
    rng = random.Random(seed)
    devices = cpus(count + 1)
    with tf.Graph().as_default() as graph:

        def body(i: Any, x: Any) -> Any:
            return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: x + 1.0, lambda: x * 2.0)

        _, total = tf.while_loop(lambda i, x: i < 3, body, [0, 1.0], parallel_iterations=rng.choice([1, 10]))
        stage = cut(pruned(graph, [total]), devices, seed)
    if not any(node.type == "_Recv" for node in stage):
        return
    step = StepRun(
        Executable(stage, devices), None, StepContext(1, [], 1), ResourceManager(), None, record=True
    )
    step.begin()
    seen = [everything(step)]
    for _ in range(12):
        for _ in range(rng.randint(1, 40)):
            if not (ready := step.ready):
                break
            activation = rng.choice(ready)
            step.finish(activation, step.execute(activation))
            seen.append(everything(step))
        for _ in range(rng.randint(0, 25)):
            if len(seen) > 1:
                step.undo()
                seen.pop()
                assert everything(step) == seen[-1]
    while ready := step.ready:
        activation = rng.choice(ready)
        step.finish(activation, step.execute(activation))
    step.check_complete()
    assert step.context.results == [5.0]


def test_a_loop_whose_predicate_is_constant_has_its_condition_on_every_device() -> None:
    """Folding leaves nobody who reads the LoopCond; the Enters wait for an effect, so that the loop stays."""
    with tf.Graph().as_default():
        starts = [tf.placeholder(tf.float32, []) for _ in range(2)]
        variable = tf.Variable(1.0)
        with (
            tf.device(lambda op: "/cpu:1" if op.name.endswith("_1") else "/cpu:0"),
            tf.control_dependencies([tf.assign_add(variable, 1.0)]),
        ):
            ends = tf.while_loop(lambda a, b: tf.constant(False), lambda a, b: (a * b, b + 1.0), starts)
            with tf.control_dependencies(ends):
                after = tf.identity(variable)
        with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
            session.run(variable.initializer)
            stage = session.stage_for([ends, after], starts)
            assert session.run([ends, after], dict(zip(starts, (2.0, 4.0)))) == [(2.0, 4.0), 2.0]
    assert len(stage.devices) == 2
    placed = next(each for each in stage.chain() if each.name == "placed")
    types = [node.type for node in placed]
    assert types.count("LoopCond") == 1 and "NextIteration" not in types and "Enter" in types


@pytest.mark.parametrize("colocate", [False, True])
@pytest.mark.parametrize("parallel", [1, 10])
def test_the_gradient_of_a_loop_over_two_devices(colocate: bool, parallel: int) -> None:
    """Also of one where TensorFlow's placer finds a stack that would have to be on both."""
    results = []
    for devices in (1, 2):
        with tf.Graph().as_default():
            x, w = tf.placeholder(tf.float64, [3, 3]), tf.placeholder(tf.float64, [3, 3])

            def body(i: Any, v: Any, w: Any = w, there: str = f"/cpu:{devices - 1}") -> Any:
                with tf.device(there):
                    product = tf.matmul(v, w)
                with tf.device("/cpu:0"):
                    return i + 1, tf.tanh(product) * v

            with tf.device("/cpu:0"):
                last = tf.while_loop(lambda i, v: i < 4, body, [0, x], parallel_iterations=parallel)[1]
            found = tf.gradients(tf.reduce_sum(last), [x, w], colocate_gradients_with_ops=colocate)
            rng = np.random.default_rng(0)
            feeds = {x: rng.normal(size=(3, 3)), w: rng.normal(size=(3, 3))}
            with tf.Session(config=tf.ConfigProto(device_count={"CPU": devices})) as session:
                results.append(session.run([last, *found], feeds))
                stage = session.stage_for([last, *found], [x, w])
                assert len(stage.devices) == devices
                backward = {
                    node.device
                    for node in stage
                    if node.type == "MatMul" and node.name.startswith("gradients")
                }
                assert len(backward) == 1 and (devices == 1 or backward.pop().endswith("1") == colocate)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(other, one)
