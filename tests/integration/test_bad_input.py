"""What goes wrong with several devices, and what a person is told: which op, which line, which value, what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from running import PATIENCE, looks

import engine as tf
from engine import observe
from engine.device.modelled.parameters import GPUModel
from engine.types import errors

HERE = "test_bad_input.py:"


def cpus(count: int, **options: Any) -> Any:
    return tf.ConfigProto(device_count={"CPU": count}, **options)


def gpu(**figures: Any) -> Any:
    return tf.ConfigProto(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=GPUModel(**figures)))


def told(config: Any, build: Callable[[], Any], kind: Any = errors.InvalidArgumentError) -> str:
    """What a session with `config` says of the program."""
    with tf.Session(config=config) as session, pytest.raises(kind) as caught:
        session.run(build())
    return str(caught.value)


def one(device: str) -> Callable[[], Any]:
    def build() -> Any:
        with tf.device(device):
            return tf.add(1.0, 2.0, name="sum")

    return build


def test_options_of_transfers_that_make_no_sense() -> None:
    x = tf.placeholder_with_default(tf.ones([4]), [4])
    with tf.device("/cpu:1"):
        y = tf.tanh(x)
    for options, words in (
        ({"late_receive_bytes": -1}, "not -1"),
        ({"wire_compression": "zip"}, "not 'zip'"),
    ):
        with tf.Session(config=cpus(2, **options)) as session, pytest.raises(ValueError, match=words):
            session.run(y)


def test_less_than_no_threads_are_the_callers_own() -> None:
    with tf.Session(config=cpus(2, inter_op_parallelism_threads=-1)) as session:
        assert session.run(one("/cpu:1")()) == 3


# Devices that are not there.


def test_an_unknown_device_lists_those_there_are() -> None:
    text = told(cpus(2), one("/cpu:7"))
    assert "'sum'" in text and HERE in text
    assert "device:CPU:0" in text and "device:CPU:1" in text and "allow_soft_placement" in text


def test_a_gpu_without_one_says_how_to_get_one() -> None:
    for config in (None, cpus(2)):
        text = told(config, one("/gpu:0"))
        assert HERE in text and "modelled=True" in text and "/device:GPU:0" in text


def test_an_unknown_kind_of_device() -> None:
    text = told(cpus(2), one("/device:TPU:0"))
    assert "TPU:0" in text and "device:CPU:1" in text and HERE in text


@pytest.mark.parametrize("given", ["/cpu:x", "processor", "/gpu:-1", "/job", "/device:", "/cpu:0/cpu:1x"])
def test_a_malformed_device_is_refused_where_it_is_written(given: str) -> None:
    with pytest.raises(ValueError) as caught, tf.device(given):
        tf.constant(1.0)
    assert given in str(caught.value)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        ({"CPU": -1}, "-1"),
        ({"CPU": "two"}, "two"),
        ({"GPU": 1.5}, "1.5"),
        ({"NONSENSE": 1}, "NONSENSE"),
        ([("CPU", 2)], "CPU"),
    ],
)
def test_a_device_count_that_makes_no_sense(count: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError, errors.OpError)) as caught:
        tf.Session(config=tf.ConfigProto(device_count=count))
    assert words in str(caught.value) and "device_count" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("placement", "best"), ("wire_compression", "zip")],
)
def test_an_option_that_makes_no_sense(option: str, value: Any) -> None:
    with tf.device("/cpu:1"):
        x = tf.add(1.0, 2.0)
    options = cpus(2, **{option: value})
    with (
        pytest.raises((ValueError, errors.InvalidArgumentError)) as caught,
        tf.Session(config=options) as session,
    ):
        session.run(x)
    assert option in str(caught.value) and str(value) in str(caught.value)


# Places that contradict each other.


def test_impossible_constraints_name_both_sides() -> None:
    def build() -> Any:
        with tf.device("/cpu:0"):
            a = tf.exp(tf.random_uniform([2]), name="here")
        with tf.get_default_graph().colocate_with(a.op):
            b = tf.exp(tf.random_uniform([2]), name="there")
        b.op._set_device("/cpu:1")
        return a + b

    text = told(cpus(2), build)
    assert "here" in text and "there" in text and "CPU:0" in text and "CPU:1" in text
    assert text.count(HERE) >= 2


def test_references_to_variables_in_two_places_name_both() -> None:
    with tf.device("/cpu:0"):
        v = tf.Variable(1.0, use_resource=False, name="v")
    with tf.device("/cpu:1"):
        w = tf.Variable(2.0, use_resource=False, name="w")
    both = tf.raw_ops.RefSelect(index=0, inputs=[v._ref(), w._ref()], name="select")
    text = told(cpus(2), lambda: both)
    assert (
        "v (defined at" in text
        and "w (defined at" in text
        and "CPU:0" in text
        and "CPU:1" in text
        and HERE in text
    )


# Memory.


def test_out_of_memory_names_the_op_and_what_is_alive() -> None:
    def build() -> Any:
        with tf.device("/gpu:0"):
            x = tf.fill([1000, 1000], 1.0, name="big")
            return tf.reduce_sum(tf.matmul(x, tf.exp(x, name="more"), name="product"))

    text = told(gpu(capacity=10_000_000), build, errors.ResourceExhaustedError)
    assert "'product'" in text and HERE in text
    assert "4,000,256 bytes" in text and "8,001,024 bytes of 10,000,000 are in use" in text  # in units of 512
    assert "big:0" in text and "more:0" in text and "modelled" in text


def test_after_running_out_of_memory_it_is_all_free_again() -> None:
    with tf.device("/gpu:0"):
        n = tf.placeholder(tf.int32, [])
        x = tf.fill(tf.stack([n, n]), 1.0)
        y = tf.reduce_sum(tf.matmul(x, tf.exp(x)))
    with tf.Session(config=gpu(capacity=10_000_000)) as session:
        assert np.isfinite(session.run(y, {n: 10}))
        before = session.devices[-1].statistics().in_use
        for _ in range(3):
            with pytest.raises(errors.ResourceExhaustedError):
                session.run(y, {n: 1000})
        assert np.isfinite(session.run(y, {n: 800}))
        assert np.isfinite(session.run(y, {n: 10}))
        assert session.devices[-1].statistics().in_use <= before


# A step that fails.


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_when_one_device_fails_all_stop_and_the_first_error_is_told(threads: int) -> None:
    """CPU:0 waits to receive what CPU:1 cannot make, and has much left to do."""
    after = []

    def note(x: Any) -> Any:
        after.append(float(x))
        return x

    with tf.device("/cpu:1"):
        p = tf.placeholder(tf.float32, [None], name="p")
        broken = tf.reshape(p, [2, 2], name="broken")
    with tf.device("/cpu:0"):
        late = tf.py_func(note, [tf.reduce_sum(broken)], tf.float32)
        for _ in range(20):
            late = tf.py_func(note, [late], tf.float32)
    with tf.Session(config=cpus(2, inter_op_parallelism_threads=threads)) as session:
        with pytest.raises(errors.InvalidArgumentError, match="'broken'") as caught:
            session.run(late, {p: [1.0, 2.0, 3.0]})
        assert HERE in str(caught.value) and not after
        assert session.run(late, {p: [1.0, 2.0, 3.0, 4.0]}) == 10.0


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_loop_over_devices_leaves_nothing_behind(threads: int) -> None:
    def body(i: Any, x: Any) -> Any:
        with tf.device("/cpu:1"):
            y = tf.gather(tf.constant([1.0, 2.0, 3.0]), i, name="row")
        return i + 1, x + y

    n = tf.placeholder(tf.int32, [])
    with tf.device("/cpu:0"):
        _, total = tf.while_loop(lambda i, x: i < n, body, [0, 0.0])
    with tf.Session(config=cpus(2, inter_op_parallelism_threads=threads)) as session:
        for _ in range(3):
            with pytest.raises(errors.InvalidArgumentError, match="'while/row'"):
                session.run(total, {n: 9})
            assert session.run(total, {n: 3}) == 6.0
        assert not [each for each in session.resources if each.kind == "rendezvous"]


def test_a_check_that_a_gpu_answers_late_names_its_op() -> None:
    with tf.device("/gpu:0"):
        ids = tf.placeholder(tf.int32, [None], name="ids")
        rows = tf.gather(tf.constant(np.eye(4, dtype=np.float32)), ids, name="rows")
        total = tf.reduce_sum(rows * 2.0)
    config = gpu()
    config.allow_soft_placement = True
    with tf.Session(config=config) as session:
        with pytest.raises(errors.InvalidArgumentError, match="'rows'") as caught:
            session.run(total, {ids: [1, 7]})
        assert HERE in str(caught.value) and "7" in str(caught.value)
        assert session.run(total, {ids: [1, 2]}) == 4.0


# Closing, waiting.


def endless() -> Any:
    def body(i: Any) -> Any:
        with tf.device("/cpu:1"):
            return tf.add(i, 1, name="there")

    with tf.device("/cpu:0"):
        return tf.while_loop(lambda i: i >= 0, body, [0])


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_closing_the_session_stops_a_step_whose_devices_wait(threads: int) -> None:
    loop = endless()
    session = tf.Session(config=cpus(2, inter_op_parallelism_threads=threads))
    found: list[BaseException] = []

    def run() -> None:
        try:
            session.run(loop)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    with looks() as looked:
        thread.start()
        assert looked.wait(2)  # it is under way
        session.close()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert isinstance(found[0], errors.CancelledError) and "closed" in str(found[0])


# Watched while partitioned.


class Broken(observe.Observer):
    level = observe.TraceLevel.TIMES

    def transfers(self, step: Any, batch: Any) -> None:
        raise RuntimeError("the observer's own mistake")


def test_an_observer_that_fails_is_named_and_the_session_goes_on() -> None:
    with tf.device("/cpu:1"):
        x = tf.add(tf.placeholder(tf.float32, [], name="x"), 1.0)
    with tf.device("/cpu:0"):
        y = x * 2.0
    broken = Broken()
    with tf.Session(config=cpus(2)) as session:
        observe.install(broken)
        try:
            with pytest.raises(RuntimeError, match="the observer's own mistake"):
                session.run(y, {"x:0": 1.0})
        finally:
            observe.uninstall(broken)
        assert session.run(y, {"x:0": 1.0}) == 4.0
