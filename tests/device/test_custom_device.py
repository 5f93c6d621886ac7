"""A kind of device that this file alone makes: numbers of its own, in a memory of its own.

`Fixed` holds floats as 32-bit integers with 16 bits after the point.  It has kernels for a few ops; whatever else a program needs
is placed on the CPU, and tensors are converted on their way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.device.device import Device, Speed, Statistics, diagnostics, make_devices, register, unregister
from engine.op.registry import lookup, register_kernel
from engine.types import errors

ONE = 1 << 16


class FixedArray:
    """Whole numbers of 1/65536."""

    def __init__(self, raw: Any) -> None:
        self.raw = np.asarray(raw, np.int64)

    shape = property(lambda self: self.raw.shape)
    dtype = property(lambda self: np.dtype(np.float32))
    nbytes = property(lambda self: 4 * self.raw.size)

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        raise errors.InternalError(None, None, "a fixed-point array was used on the host")


class Fixed(Device):
    type = "FIXED"
    kinds = ("FIXED",)
    on_host = False

    def __init__(self, index: int) -> None:
        speed = Speed(flops={"float32": 1e9}, bytes_per_second=1e9, launch_ns=10)
        super().__init__(index, description="fixed point, 16 bits", memory_limit=2**20, speed=speed)
        self.ran: list[str] = []

    def kernel(self, opdef: Any, dtypes: Sequence[Any]) -> Any:
        if opdef.flow:  # Send, Recv, Switch, …: tensors pass through
            return opdef.kernel
        return next((kernel for kind, _, kernel in opdef.kernels if kind == "FIXED"), None)

    def put(self, array: Any) -> FixedArray:
        return FixedArray(np.round(np.asarray(array, np.float64) * ONE))

    def get(self, array: Any) -> Any:
        return (array.raw / ONE).astype(np.float32) if isinstance(array, FixedArray) else array

    def run(self, kernel: Any, k: Any, inputs: Sequence[Any]) -> Any:
        self.ran.append(k.op.name)
        assert all(isinstance(x, FixedArray) for x in inputs), "an input is not in this device's memory"
        return kernel(k, *inputs)

    def statistics(self) -> Statistics:
        return Statistics(0, 0, self.memory_limit, len(self.ran))


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    register("FIXED", lambda config: [Fixed(i) for i in range(config.device_count.get("FIXED", 0))])
    kernels = {
        "AddV2": lambda k, x, y: FixedArray(x.raw + y.raw),
        "Mul": lambda k, x, y: FixedArray(x.raw * y.raw // ONE),
        "Neg": lambda k, x: FixedArray(-x.raw),
    }
    for op_type, kernel in kernels.items():
        register_kernel(op_type, device="FIXED")(kernel)
    yield
    unregister("FIXED")
    for op_type in kernels:
        opdef = lookup(op_type)
        assert opdef is not None
        opdef.kernels[:] = [entry for entry in opdef.kernels if entry[0] != "FIXED"]


def test_a_program_uses_it() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [3], name="x")
        with tf.device("/device:FIXED:0"):
            product = tf.multiply(x, x, name="product")
            total = tf.add(product, x, name="total")
        root = tf.sqrt(total, name="root")  # it has no kernel of this
        negative = tf.negative(total, name="less")
    config = tf.ConfigProto(device_count={"FIXED": 1}, allow_soft_placement=True)
    values = np.array([0.5, 1 / 3, 2.25], np.float32)
    with tf.Session(graph=graph, config=config) as session:
        found = session.run([total, root, negative], {x: values})
        fixed = session.devices[-1]
        assert {"product", "total"} <= {name.split("/")[0] for name in fixed.ran}
        names = [each.name for each in session.list_devices()]
    # Plain integers: what 16 bits after the point make of it.
    raw = [round(float(v) * ONE) for v in values]
    wanted = [r * r // ONE + r for r in raw]
    np.testing.assert_array_equal(found[0], np.array([w / ONE for w in wanted], np.float32))
    np.testing.assert_allclose(found[1], np.sqrt(np.array(wanted) / ONE), rtol=1e-6)
    np.testing.assert_array_equal(found[2], -found[0])
    assert found[0][1] != np.float32(1 / 9 + 1 / 3)  # it was not float32 that computed
    assert "/job:localhost/replica:0/task:0/device:FIXED:0" in names


def test_kernels_of_its_own_are_not_fused_away() -> None:
    """A device that runs the CPU's kernels, but for one op: what stands for that op with others would not run it."""

    class Diary(Device):
        type = "DIARY"
        kinds = ("DIARY", "CPU")

    def make(config: Any) -> list[Device]:
        speed = Speed(flops={"float32": 1e9}, bytes_per_second=1e9, launch_ns=10)
        count = config.device_count.get("DIARY", 0)
        return [Diary(i, description="a CPU", memory_limit=2**20, speed=speed) for i in range(count)]

    calls = []

    @register_kernel("Exp", device="DIARY")
    def _exp(k: Any, x: Any) -> Any:
        calls.append(k.op.name)
        return np.exp(x)

    register("DIARY", make)
    try:
        with tf.Graph().as_default() as graph, tf.device("/device:DIARY:0"):
            x = tf.placeholder(tf.float32, [3])
            y = tf.tanh(tf.sin(tf.exp(tf.cos(tf.sqrt(x)), name="mine")))
        with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"DIARY": 1})) as session:
            session.run(y, {x: [0.1, 0.2, 0.3]})
            types = [node.type for node in session.stage_for(y, [x])]
    finally:
        unregister("DIARY")
        exp = lookup("Exp")
        assert exp is not None
        exp.kernels[:] = [entry for entry in exp.kernels if entry[0] != "DIARY"]
    assert calls == ["mine"]
    assert types.count("Exp") == 1 and types.count("_FusedElementwise") == 2


def test_kernels_of_all_its_kinds_go_before_the_shared_body() -> None:
    class Both(Device):
        type = "GPU"
        kinds = ("FIXED2", "FIXED", "CPU")

    speed = Speed(flops={"float32": 1e9}, bytes_per_second=1e9, launch_ns=10)
    device = Both(0, description="", memory_limit=1, speed=speed)
    negative, exp = lookup("Neg"), lookup("Exp")
    assert negative is not None and exp is not None
    assert device.kernel(negative, []) is negative.own_kernel_for("FIXED", []) is not None
    assert device.kernel(exp, []) is exp.kernel


def test_without_it_the_program_says_what_is_missing() -> None:
    with tf.Graph().as_default() as graph, tf.device("/device:FIXED:0"):
        y = tf.add(tf.constant(1.0), tf.constant(2.0))
    with tf.Session(graph=graph) as session, pytest.raises(errors.InvalidArgumentError, match="FIXED"):
        session.run(y)


def test_registering() -> None:
    with pytest.raises(ValueError, match="9"):
        register("9", lambda config: [])
    register("NONE", lambda config: [], diagnose=lambda: "none grow here")
    try:
        assert diagnostics()["NONE"] == "none grow here"
        config = tf.ConfigProto(device_count={"FIXED": 2})
        assert [device.short_name for device in make_devices(config)] == [
            "/device:CPU:0", "/device:FIXED:0", "/device:FIXED:1",
        ]  # fmt: skip
    finally:
        unregister("NONE")
