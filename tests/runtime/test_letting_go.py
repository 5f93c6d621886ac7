"""When a step is over its arrays are gone at once, without the garbage collector: on hosts and devices, after errors too."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from running import wait_until

import engine as tf
from engine.runtime import step
from engine.types import errors

SHAPE = [16, 16]
CPUS = {"device_count": {"CPU": 2}}
GPU = {
    "device_count": {"GPU": 1},
    "gpu_options": tf.GPUOptions(modelled=True),
    "allow_soft_placement": True,
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """(node, weak reference) of every array that a node makes, but for the constants that the graph holds; no collector runs."""
    found: list[tuple[str, Any]] = []
    constants: set[int] = set()

    def note(node: Any, outputs: Any) -> None:
        if node.type == "Const":
            constants.update(map(id, outputs))
        for value in outputs:
            if getattr(value, "shape", None) and id(value) not in constants:
                found.append((node.name, weakref.ref(value)))

    monkeypatch.setattr(step, "checker", note)
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


def straight(x: Any) -> Any:
    return tf.reduce_sum(tf.matmul(tf.tanh(tf.matmul(x, x)), x))


def looped(x: Any, device: str = "/cpu:0") -> Any:
    def body(i: Any, v: Any) -> Any:
        with tf.device(device):
            return i + 1, tf.tanh(tf.matmul(v, x))

    last = tf.while_loop(lambda i, v: i < 4, body, [0, x])[1]
    return tf.gradients(tf.reduce_sum(last), x)[0]


def looped_apart(x: Any) -> Any:
    return looped(x, "/cpu:1")


def spread(x: Any) -> Any:
    with tf.device("/cpu:1"):
        there = tf.matmul(x, x)
    with tf.device("/cpu:0"):
        return tf.reduce_sum(tf.matmul(there, x))


def on_gpu(x: Any) -> Any:
    with tf.device("/gpu:0"):
        return straight(x)


@pytest.mark.parametrize("plans", ["off", "always"])
@pytest.mark.parametrize(
    "build, options",
    [(straight, {}), (looped, {}), (looped_apart, CPUS), (spread, CPUS), (on_gpu, GPU)],
    ids=["one_cpu", "loop", "loop_on_two", "two_cpus", "gpu"],
)
def test_after_a_step(build: Callable[[Any], Any], options: Any, plans: str, made: Any) -> None:
    x = tf.placeholder(tf.float32, SHAPE)
    y = build(x)
    # Tapes make no arrays but those that they give.
    with tf.Session(config=tf.ConfigProto(plans=plans, native=False, **options)) as session:
        for _ in range(2):
            session.run(y, {x: np.ones(SHAPE, np.float32)})
            assert len(made) >= 3
            # A thread that took part may not have returned yet.
            wait_until(lambda: [name for name, array in made if array() is not None] == [])


def misfit(value: Any) -> Any:
    """A Reshape that fails while it runs."""
    return tf.reshape(value, tf.placeholder_with_default([7, 7], [2]))


def raising(value: Any) -> Any:
    def function(array: Any) -> Any:
        raise ValueError("never")

    return tf.py_func(function, [value], tf.float32)


def unequal(value: Any) -> Any:
    """Two kernels of NumPy's, in one fused node, of which one raises a ValueError of its own."""
    return tf.tanh(tf.exp(value) + tf.placeholder_with_default(np.ones(3, np.float32), None))


@pytest.mark.parametrize("fail", [misfit, raising, unequal])
@pytest.mark.parametrize("device, options", [("/cpu:0", {}), ("/cpu:1", CPUS), ("/gpu:0", GPU)])
def test_after_an_error(fail: Callable[[Any], Any], device: str, options: Any, made: Any) -> None:
    x = tf.placeholder(tf.float32, SHAPE)
    with tf.device(device):
        first = tf.matmul(x, x)
    with tf.device("/gpu:0" if options is GPU else "/cpu:0"):
        y = tf.reduce_sum(fail(tf.matmul(first, x)))
    with tf.device(device):
        z = tf.square(y)  # which waits, and never hears
    with tf.Session(config=tf.ConfigProto(**options)) as session:
        for _ in range(2):
            failed = False
            try:
                session.run(z, {x: np.ones(SHAPE, np.float32)})
            except errors.OpError:
                failed = True
            assert failed
            for each in session.devices:
                each.synchronize()  # a copy that is under way keeps its source
            assert made
            wait_until(lambda: [name for name, array in made if array() is not None] == [])


def test_an_error_that_is_kept_does_not_keep_the_step(made: Any) -> None:
    """Only what was fed and what the kernel that failed was given, as with every traceback."""
    x = tf.placeholder(tf.float32, SHAPE)
    early = tf.matmul(x, x, name="early")
    late = tf.matmul(early, early, name="late")
    with tf.Session() as session, pytest.raises(errors.InvalidArgumentError) as caught:
        session.run([raising(late), early], {x: np.ones(SHAPE, np.float32)})
    assert isinstance(caught.value.__cause__, ValueError)
    kept = {name for name, array in made if array() is not None}
    assert "early" in {name for name, _ in made} and kept <= {"_arg_Placeholder_0_0", "late"}


@pytest.mark.parametrize("options", [{}, CPUS], ids=["one", "two"])
def test_after_an_interrupt(options: Any, made: Any) -> None:
    def interrupt(array: Any) -> Any:
        raise KeyboardInterrupt

    x = tf.placeholder(tf.float32, SHAPE)
    with tf.device("/cpu:1" if options else None):
        y = tf.py_func(interrupt, [tf.matmul(x, x)], tf.float32)
    interrupted = False
    with tf.Session(config=tf.ConfigProto(**options)) as session:
        try:
            session.run(tf.add(y, 1.0), {x: np.ones(SHAPE, np.float32)})
        except KeyboardInterrupt:
            interrupted = True
    assert interrupted and made
    wait_until(lambda: [name for name, array in made if array() is not None] == [])
