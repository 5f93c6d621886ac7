"""Families of ops: what kind of thing a node is, told from its type.

A family has a mark (one cell) and a hue, so that variables, inputs, control flow and heavy arithmetic stand out of a drawing at
a glance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Family:
    """One family: `mark` is drawn before the label, `hue` indexes the palette (-1: neutral)."""

    name: str
    mark: str
    hue: int


VARIABLE = Family("variable", "◆", 1)
UPDATE = Family("update", "◈", 7)
INPUT = Family("input", "▷", 2)
RESULT = Family("result", "◁", 2)
CONSTANT = Family("constant", "▪", -1)
CONTROL = Family("control flow", "◇", 3)
MATRIX = Family("matrix and convolution", "⊗", 0)
MATH = Family("arithmetic", "∙", 4)
REDUCTION = Family("reduction", "∑", 6)
ARRAY = Family("array", "▤", 5)
RANDOM = Family("random", "≈", 2)
HOST = Family("host and files", "⌂", 7)
OTHER = Family("other", "∙", -1)

_VARIABLES = "Variable VariableV2 VarHandleOp ReadVariableOp IsVariableInitialized VarIsInitializedOp TemporaryVariable"
_UPDATES = "Assign AssignAdd AssignSub AssignVariableOp AssignAddVariableOp AssignSubVariableOp"
_INPUTS = "Placeholder PlaceholderV2 PlaceholderWithDefault _Arg _Recv Recv"
_RESULTS = "_Retval _Send Send"
_CONTROL = (
    "Switch RefSwitch Merge RefMerge Enter RefEnter Exit RefExit NextIteration RefNextIteration LoopCond NoOp ControlTrigger "
    "Abort"
)
_MATRIX = (
    "MatMul BatchMatMul BatchMatMulV2 SparseMatMul Conv2D Conv3D DepthwiseConv2dNative Einsum MaxPool AvgPool LRN "
    "FusedBatchNorm FusedBatchNormV3 BiasAdd Cholesky MatrixInverse Svd Qr"
)
_REDUCTIONS = (
    "Sum Mean Prod Max Min All Any ArgMax ArgMin LogSumExp EuclideanNorm L2Loss Softmax LogSoftmax "
    "SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits InTopK InTopKV2 TopK TopKV2 SegmentSum "
    "UnsortedSegmentSum Cumsum Cumprod Bincount"
)
_ARRAYS = (
    "Reshape Transpose ConjugateTranspose Concat ConcatV2 Split SplitV Pack Unpack Slice StridedSlice Pad PadV2 MirrorPad Tile "
    "Gather GatherV2 GatherNd ScatterNd Where OneHot ExpandDims Squeeze Range Fill Shape ShapeN Size Rank Identity IdentityN "
    "BroadcastTo BroadcastArgs BroadcastGradientArgs ConcatOffset Reverse ReverseV2 ZerosLike OnesLike InvertPermutation "
    "DynamicStitch DynamicPartition Unique Bitcast Cast LinSpace StopGradient PreventGradient Snapshot MatrixDiag Empty "
    "CheckNumerics Diag MatrixBandPart"
)
_HOST = "Print PrintV2 Assert PyFunc EagerPyFunc ReadFile WriteFile Save SaveV2 Restore RestoreV2"

_TABLE: dict[str, Family] = {
    name: family
    for names, family in (
        (_VARIABLES, VARIABLE),
        (_UPDATES, UPDATE),
        (_INPUTS, INPUT),
        (_RESULTS, RESULT),
        ("Const", CONSTANT),
        (_CONTROL, CONTROL),
        (_MATRIX, MATRIX),
        (_REDUCTIONS, REDUCTION),
        (_ARRAYS, ARRAY),
        (_HOST, HOST),
    )
    for name in names.split()
}

# The rest follow TensorFlow's way of naming; the first pattern that fits decides.
_PATTERNS: tuple[tuple[re.Pattern[str], Family], ...] = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"^(Resource|Sparse)*Apply|^(Resource)?Scatter(Add|Sub|Update|Mul|Div|Min|Max)|Accumulator", UPDATE),
        (r"Random|Multinomial|Shuffle|Truncated|ParameterizedT", RANDOM),
        (r"Queue|Summary|Reader|File|Dataset|Iterator|Barrier|Decode|Encode|^Parse|^String", HOST),
        (r"^(Stack|TensorArray)", CONTROL),
        (r"(Conv|Pool|BiasAdd|BatchNorm|MatMul|Matrix).*", MATRIX),
        (r"Segment|Cum|Softmax|Reduce|CrossEntropy", REDUCTION),
        (r"Gather|Scatter|Concat|Slice|Pad|Batch|Space|Depth|Resize|Image", ARRAY),
    )
)


@lru_cache(maxsize=4096)
def family(op_type: str) -> Family:
    """The family of ops of that type: from the table, else by how the type is named, else arithmetic."""
    known = _TABLE.get(op_type)
    if known is not None:
        return known
    for pattern, found in _PATTERNS:
        if pattern.search(op_type):
            return found
    return OTHER if op_type.startswith("_") else MATH
