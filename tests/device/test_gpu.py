"""The op suite on a real GPU, against the CPU.  ``pytest -m gpu tests/device``; with REQUIRE_GPU=1 a missing GPU is a failure.

Every op with every dtype that it takes, and the kernels written in CUDA beside what they stand for, on the same GPU.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from model_runs import compare_case, gpu_cases, nodes_of, one_each, run_node
from op_cases import Case

import engine as tf
from engine.device.device import diagnostics, make_devices
from engine.op import cuda, cuda_elementwise, im2col
from engine.op.fused_program import read
from engine.op.windows import windows
from engine.runtime.config import ConfigProto
from engine.types.dtypes import as_dtype

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def devices() -> Any:
    missing = diagnostics().get("GPU")
    if missing:
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return make_devices(ConfigProto(device_count={"GPU": 1}))


ONE_EACH = one_each()


@pytest.mark.parametrize("case", ONE_EACH, ids=str)
def test_op(case: Case, devices: Any) -> None:
    compare_case(case, *devices[:2])


@pytest.mark.slow
@pytest.mark.parametrize("first", ONE_EACH, ids=lambda case: case.op_type)
def test_other_dtypes(first: Case, devices: Any) -> None:
    """All at once, so that a machine without a GPU has not some thousand tests to skip."""
    wrong = []
    for case in gpu_cases():
        if case.op_type == first.op_type and case != first and case.dtype_name != "string":
            try:
                compare_case(case, *devices[:2])
            except Exception as error:
                wrong.append(f"{case}: {type(error).__name__}: {error}")
    assert not wrong, "\n\n".join(wrong)


# The kernels written in CUDA, and what they stand for.

PROGRAMS = {
    # IEEE arithmetic: the same bits.
    "t0 = Mul(x0, x1)\nt1 = AddV2(t0, x0)\nt2 = SquaredDifference(t1, x1)\nt3 = Sqrt(t2)\nt4 = Relu6(t3)": 0,
    "t0 = Less(x0, x1)\nt1 = SelectV2(t0, x1, x0)\nt2 = RealDiv(t1, x0)\nt3 = Maximum(t2, x1)": 0,
    "t0 = BiasAdd(x0, x1)\nt1 = LeakyRelu(t0; alpha=0.3)\nt2 = Square(t1)\nt3 = Neg(t2)": 0,
    # Functions of CUDA's library: stated ulps a function.
    "t0 = Tanh(x0)\nt1 = Sigmoid(t0)\nt2 = Mul(t1, x1)\nt3 = Exp(t2)": 16,
    "t0 = Erf(x0)\nt1 = Softplus(t0)\nt2 = Elu(t1)\nt3 = Mul(t2, x1)": 16,
}
TEST = SimpleNamespace(name="a test")
EPSILONS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


@pytest.mark.parametrize("dtype", list(cuda.REALS))
@pytest.mark.parametrize("text", list(PROGRAMS))
def test_a_fused_program_is_one_kernel_with_the_bits_of_its_steps(
    text: str, dtype: str, devices: Any
) -> None:
    gpu = devices[1]
    rng = np.random.default_rng(0)
    held = as_dtype(dtype).np_dtype
    x, vector = (rng.normal(size=size).astype(held) for size in ((300, 77), (77,)))
    with tf.Graph().as_default() as graph:
        tensors = [tf.placeholder(as_dtype(dtype), None) for _ in range(2)]
        tf.raw_ops._FusedElementwise(tensors, T=as_dtype(dtype), program=text, name="node")
    before = cuda_elementwise.plan.cache_info().currsize
    (found,) = run_node(gpu, nodes_of(graph)["node"], [gpu.put(x), gpu.put(vector)])
    assert cuda_elementwise.plan.cache_info().currsize > before
    there = [gpu.put(x), gpu.put(vector)]
    gpu.synchronize()
    with gpu._in_kernel(TEST):
        apart = read(text).run(gpu.xp, there)
    one, other = (np.asarray(gpu.get(each)).astype(np.float64) for each in (found, apart))
    np.testing.assert_allclose(one, other, rtol=PROGRAMS[text] * EPSILONS[dtype], atol=0)


@pytest.mark.parametrize("dtype", list(cuda.REALS))
def test_a_layers_normalization_is_that_of_its_ops(dtype: str, devices: Any) -> None:
    gpu = devices[1]
    rng = np.random.default_rng(0)
    held = as_dtype(dtype).np_dtype
    x, scale, offset = (rng.normal(size=size).astype(held) for size in ((64, 1000), (1000,), (1000,)))
    there = [gpu.put(each) for each in (x, np.asarray(1e-3, held), scale, offset)]
    gpu.synchronize()
    with gpu._in_kernel(TEST):
        found = cuda.layer_norm(gpu.xp, *there)
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(
        wide.var(-1, keepdims=True) + float(np.asarray(1e-3, held))
    )
    wanted = wanted * scale.astype(np.float64) + offset.astype(np.float64)
    tolerance = 64 * EPSILONS[dtype] if dtype in ("float32", "float64") else 2 * EPSILONS[dtype]
    np.testing.assert_allclose(gpu.get(found).astype(np.float64), wanted, rtol=tolerance, atol=8 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_windows_out_of_images_and_back(dtype: str, devices: Any) -> None:
    """Whole numbers, so that the products are exact whatever their order."""
    gpu = devices[1]
    rng = np.random.default_rng(0)
    attrs = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 1), "padding": "SAME", "data_format": "NHWC"}
    window = windows(attrs, (30, 31), (3, 5))
    images, filters, gradients = (
        rng.integers(-4, 5, size).astype(dtype)
        for size in ((4, 30, 31, 8), (3, 5, 8, 16), (4, *window.output, 16))
    )
    for function, left, right in (
        (im2col.forward, images, filters),
        (im2col.to_input, filters, gradients),
        (im2col.to_filter, images, gradients),
    ):
        there = gpu.put(left), gpu.put(right)
        gpu.synchronize()
        with gpu._in_kernel(TEST):
            found = function(gpu.xp, *there, window)
        np.testing.assert_array_equal(gpu.get(found), function(np, left, right, window))


def test_a_model_with_all_of_them_runs(devices: Any) -> None:
    """A session on the GPU gives the CPU's numbers, by fused nodes."""
    rng = np.random.default_rng(0)

    def run(device: str, **count: int) -> tuple[Any, set[str]]:
        with tf.Graph().as_default(), tf.device(device):
            x = tf.placeholder(tf.float32, [None, 12, 12, 3])
            filters = np.random.default_rng(1).normal(size=(3, 3, 3, 8)).astype(np.float32)
            h = tf.tanh(tf.nn.conv2d(x, filters, 1, "SAME") * 0.1) + 1.0
            h = tf.reshape(h, [-1, 12 * 12 * 8])
            mean, variance = tf.nn.moments(h, [-1], keep_dims=True)
            h = tf.nn.batch_normalization(h, mean, variance, None, None, 1e-5)
            y = tf.nn.softmax(h)
            config = tf.ConfigProto(device_count=count, allow_soft_placement=True)
            with tf.Session(config=config) as session:
                feeds = {x: images}
                return session.run(y, feeds), {node.type for node in session.stage_for(y, [x])}

    images = rng.normal(size=(5, 12, 12, 3)).astype(np.float32)
    wanted, _ = run("/cpu:0")
    found, types = run("/gpu:0", GPU=1)
    assert {"_FusedElementwise", "_FusedLayerNorm"} <= types
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)


def test_copies_there_and_back(devices: Any) -> None:
    gpu = devices[1]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=size).astype(np.float32) for size in (1, 1000, 10**6)] * 20
    there = [gpu.put(array) for array in arrays]
    for array, held in zip(arrays, there, strict=True):
        np.testing.assert_array_equal(gpu.get(held), array)
    assert gpu.statistics().in_use >= 4 * 20 * 10**6
