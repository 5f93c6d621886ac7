"""How much work a node does: floating-point operations and bytes moved, from static shapes.

One row of a table for each family of ops; an op that is in no row counts one operation an element of its largest output.
The unit is one multiplication or addition as a matrix product does them, so a function that is worth a nanosecond an element has
the weight of what a product does in that time.  `benchmarks/costs.py` prints how well the table does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.op.fused_program import read
from engine.passes.stage import StageNode
from engine.types.dtypes import resource, variant
from engine.types.shape import TensorShape

Dims = tuple[int, ...]
Rule = Callable[[StageNode, Sequence[Dims], Sequence[Dims]], float]


class Work(NamedTuple):
    """What a node does once: floating-point operations, and bytes read and written."""

    flops: float
    nbytes: int


def _elementwise(weight: float) -> Rule:
    """`weight` operations for each element of the largest tensor that goes in or comes out."""
    return lambda node, inputs, outputs: weight * max(map(math.prod, (*inputs, *outputs)), default=0)


def _matmul(node: StageNode, inputs: Sequence[Dims], outputs: Sequence[Dims]) -> float:
    """Two for each element of the product and of the dimension that is summed over."""
    transposed = node.attrs.get("transpose_a") or node.attrs.get("adj_x")
    a = inputs[0]
    summed = a[-2 if transposed else -1] if len(a) >= 2 else 1
    return 2.0 * math.prod(outputs[0]) * summed


def _conv(filters: int, images: int) -> Rule:
    """Two for each element of the convolution's output and of one output channel's filter.

    `filters` and `images` say which tensor is the filter and which has the output's shape: an input's number, or -1 for the
    node's own output.
    """

    def rule(node: StageNode, inputs: Sequence[Dims], outputs: Sequence[Dims]) -> float:
        kernel = outputs[0] if filters < 0 else inputs[filters]
        image = outputs[0] if images < 0 else inputs[images]
        return 2.0 * math.prod(image) * math.prod(kernel[:-1])

    return rule


_PROGRAMS = frozenset(
    {"_FusedElementwise", "_FusedLayerNorm"}
)  # all that they do stands in their attr `program`


def parts_of(node: StageNode) -> tuple[str, ...]:
    """What a fused node does one after the other beside its product, its convolution or its normalization; () for other nodes."""
    if node.type in _PROGRAMS:
        return tuple(step.type for step in read(node.attrs["program"]).steps)
    if node.type == "_FusedBatchNormEx":
        activation: str = node.attrs["activation_mode"]
        side = ["Add"] * node.attrs["num_side_inputs"]
        return (*side, *([activation] if activation != "Identity" else []))
    return tuple(node.attrs["fused_ops"]) if "fused_ops" in node.attrs else ()


def _fused(main: Rule | None) -> Rule:
    """What `main` does, and what each part does with its result."""

    def rule(node: StageNode, inputs: Sequence[Dims], outputs: Sequence[Dims]) -> float:
        flops = main(node, inputs, outputs) if main is not None else 0.0
        return flops + sum(_RULES.get(part, _DEFAULT)(node, (), outputs[:1]) for part in parts_of(node))

    return rule


def _pool(node: StageNode, inputs: Sequence[Dims], outputs: Sequence[Dims]) -> float:
    """One for each element of each window."""
    window: Sequence[int] = node.attrs["ksize"]
    return float(max(map(math.prod, outputs)) * math.prod(window))


def _sort(node: StageNode, inputs: Sequence[Dims], outputs: Sequence[Dims]) -> float:
    elements = math.prod(inputs[0])
    return 500.0 * elements * math.log2(max(elements, 2))


# The weights of functions are those that benchmarks/costs.py shows on a CPU of 48e9 operations a second: 48 are a nanosecond.
_ROWS: tuple[tuple[str, Rule], ...] = (
    ("MatMul BatchMatMul BatchMatMulV2", _matmul),
    ("Conv2D", _conv(1, -1)),
    ("_FusedMatMul", _fused(_matmul)),
    ("_FusedConv2D", _fused(_conv(1, -1))),
    ("_FusedBatchNormEx", _fused(_elementwise(100))),
    ("_FusedElementwise _FusedLayerNorm", _fused(None)),
    ("Conv2DBackpropInput", _conv(1, 2)),
    ("Conv2DBackpropFilter", _conv(-1, 2)),
    ("MaxPool AvgPool MaxPoolGrad MaxPoolGradGrad AvgPoolGrad", _pool),
    ("TopK TopKV2 Unique UniqueWithCounts RandomShuffle", _sort),
    ("Exp Expm1 Log Log1p Tanh Sin Cos", _elementwise(25)),
    ("Sigmoid Softplus Elu Selu Pow Atan2", _elementwise(60)),
    ("Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh", _elementwise(200)),
    ("Erf Erfc Lgamma Digamma Polygamma Zeta", _elementwise(10_000)),
    (
        "Softmax LogSoftmax SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits",
        _elementwise(150),
    ),
    ("RandomUniform RandomUniformInt", _elementwise(1000)),
    ("RandomStandardNormal TruncatedNormal Multinomial", _elementwise(7000)),
    ("FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3", _elementwise(100)),
    ("FusedBatchNormGrad FusedBatchNormGradV2 FusedBatchNormGradV3", _elementwise(200)),
    ("ApplyAdam ApplyRMSProp ApplyCenteredRMSProp", _elementwise(200)),
    ("ApplyGradientDescent ApplyMomentum ApplyAdagrad ApplyAdagradV2", _elementwise(50)),
)
_RULES: dict[str, Rule] = {name: rule for names, rule in _ROWS for name in names.split()}
_DEFAULT = _elementwise(1)

# What hands on the very array that it got, or a view of it; for StackPushV2 that is its second input.
HANDS_ON = frozenset(
    {
        *(
            "Identity",
            "StopGradient",
            "PreventGradient",
            "CheckNumerics",
            "EnsureShape",
            "PlaceholderWithDefault",
        ),
        *("Reshape", "ExpandDims", "Squeeze", "Bitcast", "Transpose", "Slice", "StridedSlice"),
        *("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "StackPushV2"),
    }
)
# And what else reads and writes no elements: it looks at shapes alone, or passes references and handles.
_NO_TRAFFIC = HANDS_ON | {
    *("IdentityN", "Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs", "NoOp", "ControlTrigger"),
    *("RefSwitch", "RefMerge", "RefEnter", "RefExit", "RefNextIteration", "RefIdentity", "RefSelect"),
    *(
        "Const",
        "Variable",
        "VariableV2",
        "Placeholder",
        "PlaceholderV2",
        "_Arg",
        "_Retval",
        "IsVariableInitialized",
    ),
    *("StackV2", "StackPopV2", "StackCloseV2", "TensorArrayV3", "TensorArrayGradV3", "TensorArrayCloseV3"),
    *("TensorArrayWriteV3", "TensorArrayReadV3", "TensorArraySizeV3"),
}


def dims_of(shape: TensorShape, unknown: int) -> Dims:
    """The dimensions, an unknown one taken to be `unknown`; a shape of unknown rank is taken to be a vector of that length."""
    dims = shape.dims_or_none
    return (unknown,) if dims is None else tuple(unknown if dim is None else dim for dim in dims)


def work_of(node: StageNode, input_shapes: Sequence[TensorShape], unknown: int) -> Work:
    """What `node` does for inputs of these shapes."""
    if node.type in _NO_TRAFFIC:
        return Work(0.0, 0)
    inputs = [dims_of(shape, unknown) for shape in input_shapes]
    outputs = [dims_of(shape, unknown) for shape in node.output_shapes]
    flops = _RULES.get(node.type, _DEFAULT)(node, inputs, outputs) if inputs or outputs else 0.0
    moved = sum(
        math.prod(dims) * dtype.base_dtype.size
        for dims, dtype in zip((*inputs, *outputs), (*node.input_dtypes, *node.output_dtypes), strict=True)
    )
    # Each part of a fused node reads and writes whole arrays, of which the last and what comes from outside are counted already.
    between = len(parts_of(node)) - (node.type in _PROGRAMS)
    if between > 0:
        moved += 2 * between * math.prod(outputs[0]) * node.output_dtypes[0].size
    return Work(flops, moved)


def tensor_bytes(node: StageNode, slot: int, unknown: int) -> int:
    """The size of what output `slot` of `node` holds or, for a reference, refers to; handles have none."""
    dtype = node.output_dtypes[slot].base_dtype
    if dtype in (resource, variant):
        return 0
    return math.prod(dims_of(node.output_shapes[slot], unknown)) * dtype.size
