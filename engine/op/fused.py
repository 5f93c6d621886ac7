"""Products and convolutions with what follows them as one node: bias, batch normalization, activation.

The graphs that TensorFlow's optimizer leaves have these ops, and ours makes them (`engine.passes.remap`).  What is fused is named
in `fused_ops`, in the order in which it is applied; `args` are its further inputs.  Each part runs as its own op does, so that
the result has the same bits; where memory allows, it is written over the product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from engine.op import fused_samples
from engine.op.batchnorm_samples import forward_reference
from engine.op.fused_program import NAMES, Program, Step, StepFailed
from engine.op.kernels import invalid
from engine.op.registry import lookup, op

__all__: list[str] = []

# How many of `args` each part takes, and the op and attrs that it stands for.
ACTIVATIONS: Mapping[str, str] = {
    name: name for name in ("Relu", "Relu6", "Elu", "LeakyRelu", "Tanh", "Sigmoid")
}
_ARGS: Mapping[str, int] = {"BiasAdd": 1, "Add": 1, "FusedBatchNorm": 4, **dict.fromkeys(ACTIVATIONS, 0)}


def _part(name: str, operands: tuple[str, ...], attrs: Mapping[str, Any]) -> Step:
    if name == "LeakyRelu":
        return Step(name, operands, {"alpha": attrs["leakyrelu_alpha"]})
    if name == "BiasAdd":
        return Step(name, operands, {"data_format": attrs.get("data_format", "NHWC")})
    if name == "Add":
        return Step("AddV2", operands)
    if name == "FusedBatchNorm":
        given = {"epsilon": attrs["epsilon"], "data_format": attrs["data_format"], "is_training": False}
        return Step("FusedBatchNormV3", operands, given)
    return Step(name, operands)


def parts(main: str, attrs: Mapping[str, Any], own: Sequence[str] = ()) -> list[Step]:
    """The steps of a fused `main` with these attrs, of which those named in `own` are the main op's.

    Raises InvalidArgumentError for a part that cannot be fused.
    """
    steps = [Step(main, ("x0", "x1"), {name: attrs[name] for name in own})]
    taken = 2
    for name in attrs["fused_ops"]:
        if name not in _ARGS:
            raise invalid(f"'{name}' cannot be fused; what can: {', '.join(_ARGS)}")
        operands = tuple(f"x{i}" for i in range(taken, taken + _ARGS[name]))
        steps.append(_part(name, (f"t{len(steps) - 1}", *operands), attrs))
        taken += _ARGS[name]
    return steps


@lru_cache(maxsize=4096)
def _program(
    main: str, main_attrs: tuple[tuple[str, Any], ...], rest: tuple[tuple[str, Any], ...]
) -> Program:
    own = dict(main_attrs)
    return Program(parts(main, {**own, **dict(rest)}, tuple(own)))


_REST = ("fused_ops", "leakyrelu_alpha", "epsilon")


def _fused(main: str, own: Sequence[str]) -> Any:
    """The kernel of a fused `main` with these attrs of its own."""

    def kernel(k: Any, *inputs: Any) -> Any:
        attrs = k.attrs
        program = _program(
            main, tuple((name, attrs[name]) for name in own), tuple((name, attrs[name]) for name in _REST)
        )
        if len(inputs) != program.n_inputs:
            raise invalid(
                f"fused_ops {', '.join(attrs['fused_ops']) or '(none)'} needs {program.n_inputs - 2} args, got {len(inputs) - 2}"
            )
        return program.run(k.xp, inputs, attrs.get(NAMES, ()))

    return kernel


def _shape_of(main: str) -> Any:
    def shape(node: Any) -> Any:
        found = lookup(main)
        assert found is not None and found.shape is not None, main
        return found.shape(node)

    return shape


_EXTRA = "fused_ops: list(string) = [], epsilon: float = 0.0001, leakyrelu_alpha: float = 0.2"

op(
    "_FusedMatMul(a: T, b: T, args: num_args * T; transpose_a: bool = False, transpose_b: bool = False, "
    f"T: {{bfloat16, float16, float32}}, num_args: int, {_EXTRA}) -> product: T",
    kernel=_fused("MatMul", ("transpose_a", "transpose_b")),
    shape=_shape_of("MatMul"),
    samples=fused_samples.matmul_samples,
    reference=fused_samples.matmul_reference,
)


_CONV_ATTRS = ("strides", "padding", "explicit_paddings", "data_format", "dilations")


def _fused_conv2d() -> Any:
    fused = _fused("Conv2D", _CONV_ATTRS)

    def kernel(k: Any, images: Any, filters: Any, *args: Any) -> Any:
        if k.attrs["filter_format"] != "HWIO" or k.attrs["num_host_args"]:
            raise invalid("_FusedConv2D takes filters in HWIO order and no host_args")
        return fused(k, images, filters, *args)

    return kernel


op(
    "_FusedConv2D(input: T, filter: T, args: list(TArgs), host_args: num_host_args * float32; "
    "T: {float16, float32, float64}, TArgs: list(type) >= 1, num_args: int, num_host_args: int = 0, strides: list(int), "
    "padding: {'SAME', 'VALID', 'EXPLICIT'}, explicit_paddings: list(int) = [], data_format: {'NHWC', 'NCHW'} = 'NHWC', "
    "filter_format: {'HWIO'} = 'HWIO', dilations: list(int) = [1, 1, 1, 1], use_cudnn_on_gpu: bool = True, "
    f"{_EXTRA}) -> output: T",
    kernel=_fused_conv2d(),
    shape=_shape_of("Conv2D"),
    samples=fused_samples.conv2d_samples,
    reference=fused_samples.conv2d_reference,
)


# Batch normalization with what is added to its result and an activation: one node where the channels are normalized in training.


def _batch_norm(k: Any, x: Any, scale: Any, offset: Any, mean: Any, variance: Any, *side: Any) -> Any:
    normalize = lookup("FusedBatchNormV3")
    assert normalize is not None and normalize.kernel is not None
    attrs = k.attrs
    names = attrs.get(NAMES, ())
    try:
        y, *rest = normalize.kernel(k, x, scale, offset, mean, variance)
    except Exception as error:
        raise StepFailed("FusedBatchNormV3", names[0] if names else "", error) from error
    steps = [Step("AddV2", ("x0", "x1"))] if side else []
    activation = attrs["activation_mode"]
    if activation != "Identity":
        if activation not in ACTIVATIONS:
            raise invalid(f"activation_mode '{activation}' is none of Identity, {', '.join(ACTIVATIONS)}")
        steps.append(Step(activation, (f"t{len(steps) - 1}",) if steps else ("x0",)))
    if steps:
        y = _steps(tuple((each.type, each.operands) for each in steps)).run(k.xp, (y, *side), names[1:])
    return (y, *rest)


@lru_cache(maxsize=64)
def _steps(rows: tuple[tuple[str, tuple[str, ...]], ...]) -> Program:
    return Program([Step(op_type, operands) for op_type, operands in rows])


op(
    "_FusedBatchNormEx(x: T, scale: U, offset: U, mean: U, variance: U, side_input: num_side_inputs * T; "
    "T: {float16, bfloat16, float32}, U: {float32}, epsilon: float = 0.0001, exponential_avg_factor: float = 1.0, "
    "num_side_inputs: int = 0, activation_mode: string = 'Identity', data_format: {'NHWC', 'NCHW'} = 'NHWC', "
    "is_training: bool = True) -> "
    "y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U, reserve_space_3: U",
    kernel=_batch_norm,
    shape=_shape_of("FusedBatchNormV3"),
    samples=fused_samples.batch_norm_samples,
    reference=fused_samples.batch_norm_reference(forward_reference),
)
