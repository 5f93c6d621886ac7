"""Whole programs on modelled GPUs, through sessions: they give what they give on the CPU, however slow the streams are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.device.modelled.parameters import GPUModel
from engine.types import errors

Program = Callable[[], tuple[list[Any], dict[Any, Any], int]]
PROGRAMS: dict[str, Program] = {}


def program(build: Program) -> Program:
    """Register a program: it gives what to fetch, what to feed, and how often to run."""
    PROGRAMS[build.__name__] = build
    return build


def on_gpus(count: int = 1, **parameters: Any) -> Any:
    figures = {"capacity": 2**28, "delay_ns": 20_000, "seed": 3, **parameters}
    options = tf.GPUOptions(modelled=GPUModel(**figures))
    return tf.ConfigProto(device_count={"GPU": count}, gpu_options=options, allow_soft_placement=True)


def data(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trained(optimizer: Any) -> tuple[list[Any], dict[Any, Any], int]:
    x, y = tf.placeholder(tf.float32, [None, 6]), tf.placeholder(tf.int64, [None])
    w = tf.Variable(tf.truncated_normal([6, 8], stddev=0.3, seed=1))
    b = tf.Variable(tf.zeros([8]))
    out = tf.Variable(tf.random_normal([8, 3], seed=2))
    hidden = tf.nn.dropout(tf.nn.relu(tf.matmul(x, w) + b), keep_prob=0.8, seed=4)
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tf.matmul(hidden, out))
    )
    step = optimizer.minimize(loss)
    with tf.control_dependencies([step]):
        after = [tf.identity(loss), w.read_value() if hasattr(w, "read_value") else tf.identity(w)]
    return after, {x: data(20, 6), y: np.arange(20) % 3}, 4


for _name, _make in {
    "sgd": lambda: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "adam": lambda: tf.train.AdamOptimizer(0.05),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.1),
    "rmsprop": lambda: tf.train.RMSPropOptimizer(0.01, momentum=0.5, centered=True),
}.items():
    PROGRAMS[_name] = lambda make=_make: trained(make())  # type: ignore[misc]


@program
def embedding() -> tuple[list[Any], dict[Any, Any], int]:
    """Sparse gradients: rows that come twice."""
    ids = tf.placeholder(tf.int32, [None])
    table = tf.Variable(tf.random_uniform([10, 4], seed=1))
    rows = tf.nn.embedding_lookup(table, ids) if hasattr(tf.nn, "embedding_lookup") else tf.gather(table, ids)
    loss = tf.reduce_sum(tf.square(rows))
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    with tf.control_dependencies([step]):
        return [tf.identity(table), loss], {ids: np.array([3, 3, 0, 7, 3], np.int32)}, 3


@program
def loop_with_gradient() -> tuple[list[Any], dict[Any, Any], int]:
    """Stacks keep what the backward loop needs."""
    x = tf.placeholder(tf.float32, [3, 3])
    _, y = tf.while_loop(lambda i, a: i < 4, lambda i, a: (i + 1, tf.tanh(tf.matmul(a, x)) + a), [0, x])
    return [y, tf.gradients(tf.reduce_sum(y * y), x)[0]], {x: data(3, 3)}, 2


@program
def tensor_arrays() -> tuple[list[Any], dict[Any, Any], int]:
    x = tf.placeholder(tf.float32, [5, 3])
    y = tf.map_fn(lambda row: tf.reduce_sum(row * row) * row, x)
    total = tf.scan(lambda a, row: a * 0.5 + row, x)
    return [y, total, tf.gradients([y, total], x)[0]], {x: data(5, 3)}, 2


@program
def branches() -> tuple[list[Any], dict[Any, Any], int]:
    x = tf.placeholder(tf.float32, [4])
    y = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.exp(x), lambda: tf.negative(x))
    z = tf.cond(tf.reduce_sum(x) < 0, lambda: tf.exp(x), lambda: tf.negative(x))
    return [y, z, tf.gradients(y, x)[0]], {x: np.array([1, 2, -1, 0.5], np.float32)}, 2


@program
def shapes_and_slices() -> tuple[list[Any], dict[Any, Any], int]:
    x = tf.placeholder(tf.float32, [None, None])
    dims = tf.shape(x)
    flat = tf.reshape(x, [dims[0] * dims[1] // 2, 2])
    turned = tf.transpose(tf.concat([flat[1:], flat[:1]], 0))
    filled = tf.fill(tf.stack([dims[1], tf.constant(2)]), 1.5)
    return (
        [turned, tf.tile(filled, [2, 1]), tf.pad(x[::2], [[1, 0], [0, 1]]), tf.range(dims[0])],
        {x: data(4, 6)},
        2,
    )


@program
def convolution() -> tuple[list[Any], dict[Any, Any], int]:
    x = tf.placeholder(tf.float32, [2, 8, 8, 3])
    kernel = tf.Variable(tf.truncated_normal([3, 3, 3, 4], seed=5))
    y = tf.nn.max_pool(
        tf.nn.relu(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME")), [1, 2, 2, 1], [1, 2, 2, 1], "VALID"
    )
    return [y, *tf.gradients(tf.reduce_mean(y * y), [x, kernel])], {x: data(2, 8, 8, 3)}, 2


@program
def randomness() -> tuple[list[Any], dict[Any, Any], int]:
    """The same bits on both devices."""
    return [
        tf.random_uniform([3, 5], seed=1),
        tf.random_uniform([7], maxval=100, dtype=tf.int32, seed=2),
        tf.random_normal([11], seed=3),
        tf.truncated_normal([40], seed=4),
        tf.random_uniform([4], seed=5, dtype=tf.float64),
        tf.random_shuffle(tf.range(6), seed=6),
        tf.multinomial(tf.log([[0.2, 0.3, 0.5]]), 8, seed=7),
    ], {}, 3  # fmt: skip


@program
def scatters() -> tuple[list[Any], dict[Any, Any], int]:
    v = tf.Variable(tf.ones([5, 2]))
    counts = tf.Variable(tf.zeros([5], tf.int64), name="counts")
    added = tf.scatter_add(v, [1, 3, 1], [[1.0, 2], [3, 4], [5, 6]])
    with tf.control_dependencies([added]):
        halved = tf.scatter_mul(v, [0, 0], [[0.5, 0.5], [0.5, 0.5]])
    counted = tf.scatter_add(counts, [4, 4, 0], np.array([1, 1, 1], np.int64))
    with tf.control_dependencies([halved, counted]):
        return [tf.identity(v), tf.identity(counts), tf.unsorted_segment_sum(v, [0, 1, 0, -1, 1], 2)], {}, 2


@program
def strings_stay_on_the_host() -> tuple[list[Any], dict[Any, Any], int]:
    x = tf.placeholder(tf.float32, [2])
    return [tf.as_string(tf.cast(x * 2.0, tf.int32)), tf.string_join([tf.constant("a"), tf.constant("b")]), x + 1.0], {
        x: np.array([1.25, 2.5], np.float32)
    }, 2  # fmt: skip


def run(build: Program, device: str, config: Any) -> list[Any]:
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(8)
        with tf.device(device):
            fetches, feeds, times = build()
            init = tf.global_variables_initializer()
        with tf.Session(graph=graph, config=config) as session:
            session.run(init)
            found = [session.run(fetches, feeds) for _ in range(times)]
            if config is not None:
                for gpu in session.devices[1:]:
                    gpu.synchronize()
                assert sum(stream.submitted for gpu in session.devices[1:] for stream in gpu.streams()) > 0
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_as_on_the_cpu(name: str) -> None:
    wanted = run(PROGRAMS[name], "/cpu:0", None)
    found = run(PROGRAMS[name], "/gpu:0", on_gpus())
    for step, (one, other) in enumerate(zip(wanted, found, strict=True)):
        for a, b in zip(one, other, strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype == b.dtype and a.shape == b.shape
            if a.dtype.kind == "f":
                np.testing.assert_allclose(b, a, rtol=2e-5, atol=1e-6, err_msg=f"step {step}")
            else:
                np.testing.assert_array_equal(b, a, err_msg=f"step {step}")


def test_two_gpus_hand_tensors_to_each_other() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [4, 4])
        y = x
        for i in range(6):
            with tf.device(f"/gpu:{i % 2}"):
                y = tf.tanh(tf.matmul(y, x) * 0.5, name=f"layer_{i}")
        with tf.Session(graph=graph, config=on_gpus(2)) as session:
            found = session.run(y, {x: data(4, 4)})
            first, second = session.devices[1:]
            kinds = [span.kind for gpu in (first, second) for span in gpu.take_spans()]
    wanted = data(4, 4)
    for _ in range(6):
        wanted = np.tanh(wanted @ data(4, 4) * np.float32(0.5))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert kinds.count("device to device") >= 5


def test_times_and_memory_are_the_same_in_every_run() -> None:
    def once() -> Any:
        with tf.Graph().as_default() as graph, tf.device("/gpu:0"):
            fetches, feeds, _ = trained(tf.train.AdamOptimizer(0.05))
            init = tf.global_variables_initializer()
            with tf.Session(graph=graph, config=on_gpus()) as session:
                session.run(init)
                session.run(fetches, feeds)
                gpu = session.devices[1]
                return gpu.clock.now, gpu.take_spans(), gpu.statistics().peak

    assert once() == once()


def test_out_of_memory_in_a_session_points_at_the_line() -> None:
    with tf.Graph().as_default() as graph, tf.device("/gpu:0"):
        x = tf.placeholder(tf.float32, [None, 64])
        wide = tf.matmul(x, x, transpose_b=True, name="gram")
        y = tf.reduce_sum(wide)
    with tf.Session(graph=graph, config=on_gpus(capacity=2**20)) as session:
        assert np.isfinite(session.run(y, {x: data(16, 64)}))
        with pytest.raises(errors.ResourceExhaustedError) as caught:
            session.run(y, {x: data(1000, 64)})
        text = str(caught.value)
        assert "gram" in text and "/device:GPU:0 (modelled)" in text and Path_name in text
        assert "4,000,256 bytes" in text
        assert np.isfinite(session.run(y, {x: data(16, 64)}))  # and it goes on


def test_out_of_memory_names_what_was_fed_and_what_is_a_variable() -> None:
    with tf.Graph().as_default() as graph, tf.device("/gpu:0"):
        x = tf.placeholder(tf.float32, [None, 64], name="images")
        w = tf.Variable(tf.ones([64, 64]), name="weights")
        y = tf.matmul(tf.matmul(x, w, name="hidden"), w, name="logits")
        init = tf.global_variables_initializer()
    with tf.Session(graph=graph, config=on_gpus(capacity=110_000)) as session:
        session.run(init)
        with pytest.raises(errors.ResourceExhaustedError, match="The largest tensors alive") as caught:
            session.run(y, {x: data(200, 64)})
    alive = caught.value.message.partition("alive:")[2]
    assert "images" in alive and "16,384 bytes  weights" in alive and "a copy from the host" not in alive


def test_run_metadata_says_that_times_are_a_models() -> None:
    """Whatever a reader shows of a record (its label, its thread, its allocator), "modelled" is in it."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [4, 4])
        with tf.device("/gpu:0"):
            y = tf.matmul(x, x, name="product")
        with tf.device("/cpu:0"):
            z = tf.exp(y, name="host")
    message = tf.RunMetadata()
    with tf.Session(graph=graph, config=on_gpus()) as session:
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(z, {x: data(4, 4)}, options=options, run_metadata=message)
    told = {each.device.rpartition("/device:")[2]: each for each in message.step_stats.dev_stats}
    assert set(told) == {"CPU:0", "GPU:0"}
    for name, stats in told.items():
        modelled = name == "GPU:0"
        labels = [record.timeline_label for record in stats.node_stats]
        assert labels and all(label.endswith(" (modelled)") == modelled for label in labels)
        assert all(("modelled" in thread) == modelled for thread in stats.thread_names.values())
        allocators = {memory.allocator_name for record in stats.node_stats for memory in record.memory}
        assert allocators <= ({"GPU:0 (modelled)"} if modelled else {"cpu"})


Path_name = __file__.rsplit("/", 1)[-1]


def test_a_bad_index_points_at_the_op_that_has_it() -> None:
    with tf.Graph().as_default() as graph, tf.device("/gpu:0"):
        ids = tf.placeholder(tf.int64, [None])
        rows = tf.gather(tf.Variable(tf.ones([4, 2])), ids, name="rows")
        y = tf.reduce_sum(rows * 2.0)
        init = tf.global_variables_initializer()
    with tf.Session(graph=graph, config=on_gpus()) as session:
        session.run(init)
        with pytest.raises(
            errors.InvalidArgumentError, match=r"indices\[1\] = 9 is not in \[0, 4\)"
        ) as caught:
            session.run(y, {ids: [0, 9]})
        assert caught.value.op.name == "rows"
        assert session.run(y, {ids: [0, 3]}) == 8.0
