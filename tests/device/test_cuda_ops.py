"""Every op that has a kernel in CUDA, or makes use of one, on its samples: the CPU's values, with the kernels run on the host.

And a session on a device that runs them so: the passes make nodes for it, as they do for a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from host_cuda import HostCuda
from model_runs import node_of
from op_cases import Case, assert_close, cases, flat

import engine as tf
from engine.device.device import Device, Speed, register, unregister
from engine.op.cuda_elementwise import plan
from engine.op.cuda_expressions import HELPERS
from engine.op.registry import all_ops
from engine.runtime.context import KernelContext

# These run what all devices run, which makes use of kernels in CUDA where there are any.
INSIDE = {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "_FusedConv2D"}
REGISTERED = {opdef.name for opdef in all_ops() if any(kind == "CUDA" for kind, _, _ in opdef.kernels)}
CASES = [case for case in cases() if case.op_type in REGISTERED | INSIDE]


@pytest.fixture(scope="module")
def xp(tmp_path_factory: pytest.TempPathFactory) -> HostCuda:
    return HostCuda(tmp_path_factory.mktemp("cuda"))


def test_which_ops_have_kernels_in_cuda() -> None:
    assert {
        "Softmax", "LogSoftmax", "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits",
        "_FusedElementwise", "_FusedLayerNorm",
    } == REGISTERED  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_op(case: Case, xp: HostCuda) -> None:
    xp.launches.clear()
    if case.op_type == "_FusedElementwise":
        _prepare(case, xp)
    for number, sample in enumerate(case.samples()):
        node = node_of(case, sample)
        assert node is not None
        kinds = (*node.input_dtypes, *node.output_dtypes)
        if node.opdef.memory_of(node).on_host:
            continue  # int32: the host's
        found, wanted = (
            _outputs(node, node.opdef.kernel_for(kind, kinds), space, flat(sample))
            for kind, space in (("CUDA", xp), ("CPU", np))
        )
        for slot, (value, expected) in enumerate(zip(found, wanted, strict=True)):
            assert value.dtype == expected.dtype and value.shape == expected.shape, f"{case} #{number}:{slot}"
            assert_close(value, expected, node.output_dtypes[slot], sample)
    if not (case.op_type == "_FusedElementwise" and case.dtype_name not in ("float32", "float64", "bool")):
        assert xp.launches or not case.samples(), f"{case} has used no kernel"


def _prepare(case: Case, xp: HostCuda) -> None:
    """Compile the kernels of all samples at once."""
    plans = [
        plan(sample.attrs["program"], tuple((x.dtype.name, x.shape, x.strides) for x in flat(sample)))
        for sample in case.samples()
    ]
    codes = list(dict.fromkeys(each.source for each in plans if each is not None))
    if codes:
        xp.prepare(codes, "fused", HELPERS)


def _outputs(node: Any, kernel: Any, xp: Any, inputs: Any) -> list[Any]:
    device_kernel = kernel or node.opdef.kernel
    with np.errstate(all="ignore"):
        result = device_kernel(KernelContext(node, xp), *inputs)
    return [np.asarray(each) for each in (result if isinstance(result, tuple | list) else [result])]


class OnHost(Device):
    """A CPU with kernels in CUDA."""

    type = "ONHOST"
    kinds = ("ONHOST", "CUDA", "CPU")


def test_a_session_uses_them(xp: HostCuda) -> None:
    def make(config: Any) -> list[Device]:
        speed = Speed(flops={"float32": 1e9}, bytes_per_second=1e9, launch_ns=10)
        made = [
            OnHost(i, description="", memory_limit=1, speed=speed)
            for i in range(config.device_count.get("ONHOST", 0))
        ]
        for device in made:
            device.xp = xp
        return made

    def run(device: str, **count: int) -> Any:
        rng = np.random.default_rng(0)
        with tf.Graph().as_default(), tf.device(device):
            x = tf.placeholder(tf.float32, [None, 5, 6, 2])
            h = tf.nn.conv2d(x, rng.normal(size=(3, 3, 2, 3)).astype(np.float32), 1, "SAME")
            h = tf.reshape(tf.tanh(h * 0.25) + 1.0, [-1, 5 * 6 * 3])
            mean, variance = tf.nn.moments(h, [-1], keep_dims=True)
            h = tf.nn.batch_normalization(
                h, mean, variance, None, rng.normal(size=90).astype(np.float32), 1e-5
            )
            y = tf.nn.softmax(h, name="y")
            with tf.Session(config=tf.ConfigProto(device_count=count)) as session:
                return session.run(y, {x: rng.normal(size=(3, 5, 6, 2))}), session.stage_for(y, [x])

    register("ONHOST", make)
    try:
        xp.launches.clear()
        found, stage = run("/device:ONHOST:0", ONHOST=1)
    finally:
        unregister("ONHOST")
    wanted, _ = run("/cpu:0")
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)
    assert xp.launches == ["im2col", "fused", "layer_norm", "softmax"]
    assert {"_FusedElementwise", "_FusedLayerNorm"} <= {node.type for node in stage}
