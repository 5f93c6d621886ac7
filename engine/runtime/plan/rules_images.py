"""Convolution, pooling and batch normalization as native kernels: images in NHWC order (normalization takes others, too)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.op.fused import parts
from engine.op.fused_program import Program, Step
from engine.op.kernels import ints
from engine.op.windows import windows
from engine.runtime.plan.rule_table import call, constant, is_empty, rule
from engine.runtime.plan.tracer import Namespace, Traced

if TYPE_CHECKING:
    from engine.native.layout import View
    from engine.passes.stage import StageNode
    from engine.runtime.plan.recording import Recorder


def _then(recorder: Recorder, steps: Sequence[Step], inputs: Sequence[Any]) -> Any:
    """What steps of a fused node make of these operands."""
    if not steps:
        return inputs[0]
    traced = [each if constant(each) is not None else Traced(recorder, each) for each in inputs]
    return Program(list(steps)).run(Namespace(recorder), tuple(traced), ()).view


# Convolution.


def _window(attrs: Any, image: Sequence[int], size: Sequence[int]) -> Any:
    """The windows of a convolution or pooling in NHWC order; None for other orders.  Raises what the op's kernel would."""
    return windows(attrs, image, size) if attrs["data_format"] == "NHWC" else None


def _convolution(
    maker: Any, attrs: Any, images: Sequence[int], filters: Sequence[int], dtype: Any, **others: Any
) -> Any:
    """(kernel, windows) of what `maker` makes for these shapes; None where it does not serve."""
    if len(images) != 4 or len(filters) != 4 or not images[0]:
        return None
    window = _window(attrs, images[1:3], filters[:2])
    if window is None:
        return None
    kernel = maker(images, filters, window.stride, window.pads, dtype, dilations=window.dilation, **others)
    return None if kernel is None else (kernel, window)


@rule("Conv2D")
def _conv2d(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.convolution import conv2d

    images, filters = inputs
    found = _convolution(conv2d, node.attrs, images.shape, filters.shape, images.dtype)
    if found is None:
        return None
    kernel, window = found
    shape = (images.shape[0], *window.output, filters.shape[3])
    return call(recorder, kernel, inputs, [(images.dtype, shape)])


@rule("_FusedConv2D")
def _fused_conv2d(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    """Bias, and a Relu that follows it, are done where the convolution is; the rest follows in steps of its own."""
    from engine.native.convolution import conv2d

    images, filters, *args = inputs
    attrs = node.attrs
    if attrs["filter_format"] != "HWIO" or attrs["num_host_args"] or len(args) != attrs["num_args"]:
        return None
    steps = parts("Conv2D", attrs)
    bias = steps[1].type == "BiasAdd" if len(steps) > 1 else False
    if bias and args[0].shape != filters.shape[3:]:
        return None
    relu = bias and len(steps) > 2 and steps[2].type == "Relu"
    done = 1 + bias + relu
    found = _convolution(conv2d, attrs, images.shape, filters.shape, images.dtype, bias=bias, relu=relu)
    if found is None:
        return None
    kernel, window = found
    shape = (images.shape[0], *window.output, filters.shape[3])
    (made,) = call(recorder, kernel, inputs[: 2 + bias], [(images.dtype, shape)])
    rest = _behind(steps, done)
    return [_then(recorder, rest, [made, *args[bias:]])]


def _behind(steps: Sequence[Step], done: int) -> list[Step]:
    """The steps behind the first `done`, whose operands are the result of those and then the inputs that are left."""
    taken = sum(name[0] == "x" for each in steps[:done] for name in each.operands)

    def operand(name: str) -> str:
        kind, number = name[0], int(name[1:])
        if kind == "x":
            return f"x{number - taken + 1}"
        return "x0" if number == done - 1 else f"t{number - done}"

    return [Step(each.type, tuple(map(operand, each.operands)), each.attrs) for each in steps[done:]]


@rule("Conv2DBackpropInput")
def _conv2d_backprop_input(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.convolution import conv2d_backprop_input

    sizes, filters, gradients = constant(inputs[0]), inputs[1], inputs[2]
    if sizes is None or sizes.shape != (4,):
        return None
    shape = ints(sizes)
    found = _convolution(conv2d_backprop_input, node.attrs, shape, filters.shape, filters.dtype)
    if found is None or gradients.shape != (shape[0], *found[1].output, filters.shape[3]):
        return None
    return call(recorder, found[0], [filters, gradients], [(filters.dtype, shape)])


@rule("Conv2DBackpropFilter")
def _conv2d_backprop_filter(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.convolution import conv2d_backprop_filter

    images, sizes, gradients = inputs[0], constant(inputs[1]), inputs[2]
    if sizes is None or sizes.shape != (4,):
        return None
    shape = ints(sizes)
    found = _convolution(conv2d_backprop_filter, node.attrs, images.shape, shape, images.dtype)
    if found is None or gradients.shape != (images.shape[0], *found[1].output, shape[3]):
        return None
    return call(recorder, found[0], [images, gradients], [(images.dtype, shape)])


# Pooling, whose bits are those of the ops' kernels.


def _pooling(maker: Any, attrs: Any, images: Sequence[int], dtype: Any) -> Any:
    size = attrs["ksize"]
    if len(images) != 4 or 0 in images or size[0] != 1 or size[3] != 1 or attrs["data_format"] != "NHWC":
        return None
    window = windows(attrs, images[1:3], size[1:3])
    kernel = maker(images, size[1:3], window.stride, window.pads, dtype)
    return None if kernel is None else (kernel, (images[0], *window.output, images[3]))


def _pool(name: str) -> Any:
    def pool(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
        from engine.native import pooling

        (images,) = inputs
        found = _pooling(getattr(pooling, name), node.attrs, images.shape, images.dtype)
        return None if found is None else call(recorder, found[0], inputs, [(images.dtype, found[1])])

    return pool


rule("MaxPool", exact=True)(_pool("max_pool"))
rule("AvgPool", exact=True)(_pool("avg_pool"))


@rule("MaxPoolGrad", exact=True)
def _max_pool_grad(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.pooling import max_pool_grad

    images, pooled, gradients = inputs
    found = _pooling(max_pool_grad, node.attrs, images.shape, images.dtype)
    if found is None or pooled.shape != found[1] or gradients.shape != found[1]:
        return None
    return call(recorder, found[0], inputs, [(images.dtype, images.shape)])


@rule("AvgPoolGrad", exact=True)
def _avg_pool_grad(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.pooling import avg_pool_grad

    sizes, gradients = constant(inputs[0]), inputs[1]
    if sizes is None or sizes.shape != (4,):
        return None
    shape = ints(sizes)
    found = _pooling(avg_pool_grad, node.attrs, shape, gradients.dtype)
    if found is None or gradients.shape != found[1]:
        return None
    return call(recorder, found[0], [gradients], [(gradients.dtype, shape)])


# Batch normalization.


def _channels(attrs: Any, x: Any, *vectors: Any) -> int | None:
    """The number of channels, where all these vectors have one element for each, in one dtype with x; else None."""
    if len(x.shape) not in (4, 5):
        return None
    count: int = x.shape[-1] if attrs["data_format"].endswith("C") else x.shape[1]
    fits = all(each.shape == (count,) and each.dtype == x.dtype for each in vectors)
    return count if fits and not is_empty(x) else None


def _normalized(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> list[View] | None:
    from engine.native.channels import batch_norm

    attrs = node.attrs
    x, scale, offset, mean, variance = inputs[:5]
    training, factor = attrs["is_training"], attrs["exponential_avg_factor"]
    fed = [] if training and factor == 1.0 else [mean, variance]
    channels = _channels(attrs, x, scale, offset, *fed)
    if channels is None:
        return None
    kernel = batch_norm(
        x.shape,
        attrs["epsilon"],
        training=training,
        factor=factor,
        data_format=attrs["data_format"],
        dtype=x.dtype,
    )
    if kernel is None:
        return None
    if not fed:  # which the kernel does not read
        mean = variance = scale
    vector = (x.dtype, (channels,))
    made = call(recorder, kernel, [x, scale, offset, mean, variance], [(x.dtype, x.shape), *[vector] * 4])
    return list(made)


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def _batch_norm(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    made = _normalized(recorder, node, inputs)
    if made is None:
        return None
    return [*made, np.zeros((), inputs[1].dtype)][: len(node.output_dtypes)]


@rule("_FusedBatchNormEx")
def _batch_norm_ex(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    made = _normalized(recorder, node, inputs)
    if made is None:
        return None
    side, activation = inputs[5:], node.attrs["activation_mode"]
    steps = [Step("AddV2", ("x0", "x1"))] if side else []
    if activation != "Identity":
        steps.append(Step(activation, (f"t{len(steps) - 1}" if steps else "x0",)))
    return [_then(recorder, steps, [made[0], *side]), *made[1:], np.zeros((), inputs[1].dtype)]


@rule("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3")
def _batch_norm_grad(recorder: Recorder, node: StageNode, inputs: Sequence[Any]) -> Any:
    from engine.native.channels import batch_norm_gradient

    attrs = node.attrs
    gradients, x, scale, mean, variance = inputs[:5]
    channels = _channels(attrs, x, scale, mean, variance)
    if channels is None or gradients.shape != x.shape or gradients.dtype != x.dtype:
        return None
    kernel = batch_norm_gradient(
        x.shape,
        attrs["epsilon"],
        training=attrs["is_training"],
        data_format=attrs["data_format"],
        dtype=x.dtype,
    )
    if kernel is None:
        return None
    vector = (x.dtype, (channels,))
    made = call(recorder, kernel, inputs[:5], [(x.dtype, x.shape), vector, vector])
    none = np.zeros((0,), x.dtype)
    return [*made, none, none]
