"""Which devices have which op, and where its inputs and outputs are there: what the blocks say, and the registry's errors."""

from __future__ import annotations

from typing import Any

import pytest
from model_runs import nodes_of

import engine as tf
from engine.op.registry import ANY, DEVICE, HOST, all_ops, lookup, op
from engine.op.samples import untested
from engine.types import dtypes


def kernel(op_type: str, device: str, *kinds: Any) -> Any:
    found = lookup(op_type)
    assert found is not None
    return found.kernel_for(device, kinds)


def test_what_only_the_host_has() -> None:
    for op_type in ("PyFunc", "_Arg", "_Retval", "Print"):
        assert kernel(op_type, "CPU") is not None
        assert kernel(op_type, "GPU") is None
    assert kernel("Identity", "GPU", dtypes.float32) is not None
    assert kernel("Identity", "GPU", dtypes.string) is None
    assert kernel("Identity", "CPU", dtypes.string) is not None


def test_kernels_in_cuda_are_for_devices_that_run_cuda() -> None:
    shared = kernel("Softmax", "GPU", dtypes.float32)
    assert kernel("Softmax", "CPU", dtypes.float32) is shared
    for dtype in (dtypes.float32, dtypes.float16):
        assert kernel("Softmax", "CUDA", dtype) is not shared
    assert kernel("Exp", "CUDA", dtypes.float32) is kernel("Exp", "GPU", dtypes.float32)


def memory(make: Any) -> Any:
    with tf.Graph().as_default() as graph:
        make()
    node = nodes_of(graph)["node"]
    return node.opdef.memory_of(node)


def test_where_things_are() -> None:
    x = lambda dtype=tf.float32: tf.placeholder(dtype)  # noqa: E731
    found = memory(lambda: tf.reshape(x(), x(tf.int32), name="node"))
    assert (found.inputs, found.outputs) == ((ANY, HOST), (ANY,))
    found = memory(lambda: tf.concat([x(), x(), x()], 0, name="node"))
    assert (found.inputs, found.outputs) == ((DEVICE, DEVICE, DEVICE, HOST), (DEVICE,))
    found = memory(lambda: tf.shape(x(), name="node"))
    assert (found.inputs, found.outputs) == ((ANY,), (HOST,))


def test_arithmetic_on_shapes_is_the_hosts() -> None:
    for dtype, on_host in ((tf.int32, True), (tf.int64, False), (tf.float32, False)):
        found = memory(lambda dtype=dtype: tf.add(tf.placeholder(dtype), tf.placeholder(dtype), name="node"))
        assert found.on_host == on_host
        assert set(found.inputs) == {HOST if on_host else DEVICE}


def test_every_ops_memory_is_of_its_arguments() -> None:
    """The registry refuses other names; here it is that small integers are the host's wherever TensorFlow has it so."""
    hosted = {
        "shape",
        "axis",
        "perm",
        "paddings",
        "begin",
        "size",
        "multiples",
        "reduction_indices",
        "num_segments",
        "dims",
    }
    for opdef in all_ops():
        if opdef.memory == HOST or (opdef.devices is not None and "GPU" not in opdef.devices):
            continue
        for arg in opdef.signature.inputs:
            if (
                arg.name in hosted
                and arg.type_attr != "T"
                and arg.dtype in (None, dtypes.int32, dtypes.int64)
            ):
                assert isinstance(opdef.memory, str) or opdef.memory.get(arg.name) == HOST, (
                    f"{opdef.name}: {arg.name}"
                )


def test_memory_of_an_argument_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"op 'NoSuchOp' has no input or output named \['y'\]"):
        op(
            "NoSuchOp(x: float32) -> z: float32",
            kernel=lambda k, x: x,
            samples=untested("here"),
            memory={"y": HOST},
        )
    assert lookup("NoSuchOp") is None
