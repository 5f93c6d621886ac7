"""Fused elementwise programs as one CUDA kernel, without a GPU: the bits of the ops apart, or the ulps that are stated.

The kernels are compiled as C++ and compared with the programs run op by op in NumPy, whose own tests compare those with plain
references; NVRTC compiles them where it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCuda, nvrtc
from model_runs import nodes_of

import engine as tf
from engine.device.device import Device
from engine.op import cuda_elementwise
from engine.op.cuda_expressions import C_TYPES, HELPERS, is_float, ulps
from engine.op.fused_program import Step, read, write
from engine.op.registry import lookup
from engine.passes.fuse import ELEMENTWISE
from engine.runtime.context import KernelContext
from engine.types.dtypes import as_dtype

RUN = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "uint16",
    "int32",
    "int64",
    "bool",
)  # the rest is like them
# What is left to the steps' own kernels, and why.
LEFT = {
    "FloorMod": "CuPy's remainder takes its own way",
    "Lgamma": "a series of our own, not CUDA's function",
    "Xdivy": "no such op yet",
    "Xlogy": "no such op yet",
}


@pytest.fixture(scope="module")
def xp(tmp_path_factory: pytest.TempPathFactory) -> HostCuda:
    return HostCuda(tmp_path_factory.mktemp("cuda"))


def planned(text: str, inputs: Any) -> Any:
    return cuda_elementwise.plan(text, tuple((x.dtype.name, x.shape, x.strides) for x in inputs))


def apart(text: str, inputs: Any) -> Any:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(read(text).run(np, inputs))


# Each op alone.

_VALUES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 3.75, -6.25, 7.0, np.inf, -np.inf, np.nan, 1e-3, 12.5, -0.25)


def operands_for(op_type: str, dtype: str) -> list[Any] | None:
    """Arrays of `dtype` for the op's inputs (two for a list), or None if it does not take them."""
    opdef = lookup(op_type)
    if opdef is None:
        return None
    found: list[Any] = []
    rng = np.random.default_rng(len(op_type))
    for arg in opdef.signature.inputs:
        kinds = [arg.dtype] if arg.dtype is not None else opdef.signature.attrs[arg.type_attr].allowed
        own = as_dtype("bool") if arg.dtype is not None and arg.dtype.is_bool else as_dtype(dtype)
        if kinds is not None and own not in kinds:
            return None
        for _ in range(2 if arg.number_attr is not None else 1):
            found.append(values(rng, own.name))
    return found


def values(rng: np.random.Generator, dtype: str) -> Any:
    if dtype == "bool":
        return rng.integers(0, 2, 64).astype(bool)
    if is_float(dtype):
        drawn = np.concatenate([rng.permutation(_VALUES), rng.normal(size=48) * 4])
        return drawn.astype(as_dtype(dtype).np_dtype)
    unsigned = dtype.startswith("u")
    return np.concatenate([rng.integers(0 if unsigned else -9, 10, 48), rng.integers(0, 127, 16)]).astype(
        dtype
    )


def single(op_type: str, inputs: Any, dtype: str) -> str:
    attrs: dict[str, Any] = {}
    if op_type.startswith("LeakyRelu"):
        attrs["alpha"] = 0.3
    names = [f"x{i}" for i in range(len(inputs))]
    return write([Step(op_type, tuple(names), attrs)])


def singles(dtypes: Sequence[str]) -> list[tuple[str, str, str, Any]]:
    """(op type, dtype, program, inputs) of every op with every dtype that it has an expression for; Casts to every other."""
    found = []
    for op_type in sorted(ELEMENTWISE - {"Cast", "BiasAdd", "BiasAddV1"}):
        for dtype in dtypes:
            inputs = operands_for(op_type, dtype)
            if inputs is not None:
                found.append((op_type, dtype, single(op_type, inputs, dtype), inputs))
    rng = np.random.default_rng(0)
    for source in dtypes:
        x = values(rng, source)
        for target in dtypes:
            held = x
            if is_float(source) and not is_float(target):  # C and NumPy differ on what does not fit
                held = np.abs(x[np.isfinite(x.astype(np.float64))]) if target != "bool" else x
            found.append(("Cast", source, f"t0 = Cast(x0; DstT={target})", [held]))
    return found


def compare(found: Any, wanted: Any, allowed: int, note: str) -> None:
    assert found.dtype == wanted.dtype and found.shape == wanted.shape, note
    if wanted.dtype.itemsize == 2 and wanted.dtype.kind in "fV" or allowed:
        here, there = found.astype(np.float64), wanted.astype(np.float64)
    else:
        here, there = found, wanted
    if not allowed:
        np.testing.assert_array_equal(here, there, err_msg=note)
        return
    both = np.isfinite(here) & np.isfinite(there)
    np.testing.assert_array_equal(here[~both], there[~both], err_msg=note)
    spacing = np.abs(np.spacing(wanted.astype(np.float32 if wanted.dtype.itemsize == 4 else np.float64)))
    if wanted.dtype.itemsize == 2:
        scale = 2.0 ** (-10 if wanted.dtype == np.float16 else -7)
        spacing = np.maximum(np.abs(there) * scale, 1e-7)
    # NumPy's own functions are up to 4 units away from the true value.
    apart = np.abs(here[both] - there[both])
    assert (apart <= (allowed + 4) * spacing.astype(np.float64)[both]).all(), note


def test_each_op_alone(xp: HostCuda) -> None:
    cases = singles(RUN)
    keyed = {(dtype, text): planned(text, inputs) for _, dtype, text, inputs in cases}
    xp.prepare(
        list(dict.fromkeys(each.source for each in keyed.values() if each is not None)), "fused", HELPERS
    )
    without = set()
    for op_type, dtype, text, inputs in cases:
        if keyed[dtype, text] is None:
            without.add(op_type)
            continue
        found = cuda_elementwise.run(xp, text, inputs)
        compare(found, apart(text, inputs), ulps(op_type), f"{op_type} of {dtype}")
    assert len({op_type for op_type, *_ in cases}) > 80
    # Integer division and powers look at their operands first; the others are in no case.
    assert without - {
        "Div",
        "FloorDiv",
        "TruncateDiv",
        "Mod",
        "TruncateMod",
        "Pow",
        "Reciprocal",
        "Inv",
    } <= set(LEFT)


# Programs.

_EXACT = {
    "f": (
        ("Neg", 1), ("Abs", 1), ("Square", 1), ("Relu", 1), ("Relu6", 1), ("Sqrt", 1), ("Floor", 1), ("AddV2", 2), ("Sub", 2),
        ("Mul", 2), ("RealDiv", 2), ("Maximum", 2), ("Minimum", 2), ("SquaredDifference", 2), ("ReluGrad", 2), ("DivNoNan", 2),
        ("TanhGrad", 2), ("LeakyRelu", 1), ("EluGrad", 2), ("RsqrtGrad", 2),
    ),
    "i": (("Neg", 1), ("Abs", 1), ("Square", 1), ("Sign", 1), ("AddV2", 2), ("Sub", 2), ("Mul", 2), ("Maximum", 2)),
}  # fmt: skip
_SHAPES = ((6, 4, 5), (4, 5), (5,), (4, 1), (6, 1, 1), (1, 4, 1), (), (6, 4, 1))


LAYOUTS = ("plain", "plain", "turned", "stepped", "backwards")


def program(rng: np.random.Generator) -> tuple[str, list[Any]]:
    """A program every step of which is IEEE arithmetic, so that there is one right answer, and its inputs."""

    def one_of(choices: Sequence[Any]) -> Any:
        return choices[rng.integers(len(choices))]

    dtype = one_of(["float32", "float32", "float64", "float16", "bfloat16", "int64", "int8"])
    shapes = [one_of(_SHAPES) for _ in range(rng.integers(1, 5))]
    names = [f"x{i}" for i in range(len(shapes))]
    steps = []
    for i in range(rng.integers(1, 13)):
        op_type, count = one_of(_EXACT["f" if is_float(dtype) else "i"])
        steps.append(Step(op_type, tuple(one_of(names) for _ in range(count))))
        names.append(f"t{i}")
    last = f"t{len(steps) - 1}"
    for i in range(len(shapes)):  # all of the inputs are read
        steps.append(Step("AddV2", (last, f"x{i}")))
        last = f"t{len(steps) - 1}"
    return write(steps), [laid_out(rng, shape, dtype, one_of(LAYOUTS)) for shape in shapes]


def laid_out(rng: np.random.Generator, shape: Any, dtype: str, how: str) -> Any:
    def drawn(size: Any) -> Any:
        return np.asarray(rng.normal(size=size) * 4).astype(as_dtype(dtype).np_dtype)

    if how == "turned":
        return drawn(shape[::-1]).T
    if how == "stepped" and shape:
        return drawn((*shape[:-1], 2 * shape[-1]))[..., ::2]
    if how == "backwards" and shape:
        return drawn(shape)[::-1]
    return drawn(shape)


def test_random_programs_have_the_bits_of_the_ops_apart(xp: HostCuda) -> None:
    rng = np.random.default_rng(0)
    drawn = [program(rng) for _ in range(80)]
    xp.prepare(list(dict.fromkeys(planned(*each).source for each in drawn)), "fused", HELPERS)
    for text, inputs in drawn:
        compare(cuda_elementwise.run(xp, text, inputs), apart(text, inputs), 0, text)


def test_a_bias_is_read_along_the_channels(xp: HostCuda) -> None:
    rng = np.random.default_rng(0)
    x, bias = rng.normal(size=(2, 3, 4, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    first = "t0 = BiasAdd(x0, x1; data_format='NCHW')"
    # One vector along both.
    text = f"{first}\nt1 = BiasAdd(t0, x1)\nt2 = Mul(t1, x1)"
    np.testing.assert_array_equal(cuda_elementwise.run(xp, text, [x, bias]), apart(text, [x, bias]))
    for bad in ([x, bias[:2]], [x[0, 0, 0], bias], [x, bias[None]]):
        assert cuda_elementwise.run(xp, first, bad) is None
    assert (
        cuda_elementwise.run(xp, "t0 = Neg(x1)\nt1 = BiasAdd(x0, t0; data_format='NCHW')", [x, bias]) is None
    )


def test_nothing_and_scalars(xp: HostCuda) -> None:
    text = "t0 = Exp(x0)\nt1 = Mul(t0, x1)"
    found = cuda_elementwise.run(xp, text, [np.zeros((0, 3), np.float32), np.ones(3, np.float32)])
    assert found.shape == (0, 3) and found.dtype == np.float32
    found = cuda_elementwise.run(xp, text, [np.zeros((), np.float32), np.array(2, np.float32)])
    assert found.shape == () and found == 2


# One compilation serves all shapes of a pattern.


def test_another_shape_of_the_same_pattern_is_the_same_kernel() -> None:
    text = "t0 = Mul(x0, x1)\nt1 = AddV2(t0, x2)"

    def code(*shapes: Any) -> str:
        return str(planned(text, [np.zeros(shape, np.float32) for shape in shapes]).source)

    assert code((4, 5), (5,), ()) == code((7, 2), (2,), (1, 1))
    assert code((4, 5), (4, 5), (4, 5)) == code((9,), (9,), (9,)) == code((2, 3, 4), (2, 3, 4), (2, 3, 4))
    assert code((4, 5), (5,), ()) != code((4, 5), (4, 1), ())
    assert "rest = i" not in code(
        (2, 3, 4), (2, 3, 4), ()
    )  # no division where nothing broadcasts along dimensions
    assert code((2, 3, 4), (3, 4), ()) == code((2, 4), (4,), ())


def test_dimensions_that_step_alike_are_one() -> None:
    shape, strides = cuda_elementwise.collapse((2, 1, 3, 4), [(12, 12, 4, 1), (0, 0, 4, 1), (0, 0, 0, 0)])
    assert (shape, strides) == ((2, 12), [(12, 1), (0, 1), (0, 0)])
    assert cuda_elementwise.collapse((1, 1), [(0, 0)]) == ((), [()])


# The op.


def fused(text: str, xp: Any, *inputs: Any) -> Any:
    with tf.Graph().as_default() as graph:
        tensors = [tf.placeholder(as_dtype(x.dtype), None) for x in inputs]
        tf.raw_ops._FusedElementwise(tensors, T=as_dtype(inputs[0].dtype), program=text, name="node")
    node = nodes_of(graph)["node"]
    kernel = node.opdef.kernel_for("CUDA", (*node.input_dtypes, *node.output_dtypes))
    assert kernel is not node.opdef.kernel
    return kernel(KernelContext(node, xp), *inputs)


def test_what_no_kernel_expresses_runs_op_by_op(xp: HostCuda) -> None:
    xp.launches.clear()
    x = np.array([7, -7], np.int64)
    np.testing.assert_array_equal(
        fused("t0 = Neg(x0)\nt1 = FloorDiv(t0, x1)", xp, x, np.array([2, 2])), [-4, 3]
    )
    z = np.array([1 + 2j], np.complex64)
    np.testing.assert_array_equal(fused("t0 = Neg(x0)\nt1 = Conj(t0)", xp, z), [-1 + 2j])
    text = "t0 = Neg(x0)\nt1 = Relu(t0)"
    np.testing.assert_array_equal(fused(text, np, x), [0, 7])  # int32 is the host's
    assert xp.launches == []
    np.testing.assert_array_equal(fused(text, xp, x), [0, 7])
    assert xp.launches == ["fused"]


def test_errors_are_those_of_the_ops(xp: HostCuda) -> None:
    a, b = np.zeros((2, 3), np.float32), np.zeros((4,), np.float32)
    with pytest.raises(Exception, match="could not be broadcast"):
        fused("t0 = Neg(x0)\nt1 = AddV2(t0, x1)", xp, a, b)
    with pytest.raises(ValueError, match="reads 2 inputs, it has 1"):
        fused("t0 = AddV2(x0, x1)", xp, a)


def test_the_pass_makes_such_nodes_for_devices_with_kernels_in_cuda() -> None:
    """Ops that have no kernel of their own in CUDA still join."""

    class Cuda(Device):
        type, kinds = "GPU", ("CUDA", "GPU")

    opdef, exp = lookup("_FusedElementwise"), lookup("Exp")
    assert opdef is not None and exp is not None
    device = object.__new__(Cuda)
    kinds = [as_dtype("float32")]
    assert device.kernel(opdef, kinds) is not opdef.kernel
    assert device.kernel(exp, kinds) is exp.kernel


# With CuPy and NVIDIA's compiler at hand.


def everything(dtype: str) -> tuple[str, int]:
    """A program of every op that has an expression for `dtype`, none of which is dead code; and how many inputs it reads."""
    steps = [Step("ZerosLike", ("x0",))]
    total = "t0"

    def add(each: Step) -> str:
        steps.append(each)
        return f"t{len(steps) - 1}"

    for op_type, kind, text, inputs in singles(list(C_TYPES)):
        if kind != dtype or planned(text, inputs) is None:
            continue
        (only,) = read(text).steps
        bools = [x.dtype == np.bool_ and dtype != "bool" for x in inputs]
        operands = [
            add(Step("Cast", (name,), {"DstT": as_dtype("bool")})) if is_bool else name
            for name, is_bool in zip(only.operands, bools, strict=True)
        ]
        value = add(Step(op_type, tuple(operands), only.attrs))
        back = add(Step("Cast", (value,), {"DstT": as_dtype(dtype)}))
        total = add(Step("LogicalOr" if dtype == "bool" else "AddV2", (total, back)))
    return write(steps), 3


@pytest.mark.parametrize("dtype", list(C_TYPES))
def test_nvrtc_compiles_every_expression_for_hopper(dtype: str) -> None:
    text, count = everything(dtype)
    read_here = read(text).n_inputs
    assert read_here <= count
    x = np.zeros((4, 5, 6), as_dtype(dtype).np_dtype)
    turned = np.zeros((6, 5, 4), x.dtype).T  # of the same shape, which some ops ask for
    for inputs, index in (
        ([x] * read_here, "unsigned int"),
        ([x, *[turned] * (read_here - 1)], "unsigned long long"),
    ):
        found = planned(text, inputs)
        assert found is not None
        code = found.source.replace("typedef unsigned int index_t", f"typedef {index} index_t")
        nvrtc(code, ["fused"], cuda_elementwise.OPTIONS)
