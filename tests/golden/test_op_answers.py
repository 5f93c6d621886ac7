"""Every op's samples, and their gradients, against what TensorFlow answered (`make_op_answers.py`).

What is not compared is in the tables below, with the reason; a test makes sure that they hold nothing else.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import (
    NOT_ASKED,
    Case,
    build,
    cases,
    checked_inputs,
    differentiable,
    digest,
    flat,
    placeholders,
    tolerances,
    weights,
)
from optimizing import plain

import engine as tf
from engine.op.samples import Sample
from engine.types.dtypes import as_dtype

# Where the answers differ, and why: patterns of "op-dtype #number description of the sample".
DIFFERENT: dict[str, str] = {
    "Erf-float64 *special values*": "TensorFlow's erf of infinity is NaN in float64",
    "EuclideanNorm-*int8 *": "TensorFlow's sum of squares overflows in 8 bits before the root is taken",
    "_FusedMatMul-* *[[]3, 0[]]*": "TensorFlow forgets the bias of a product over no element",
    "Round-int* *": "TensorFlow's kernel gives 0 for every integer",
    "FusedBatchNorm* *is_training=False*": "in inference TensorFlow leaves the batch's mean and variance uninitialized",
}
DIFFERENT_GRADIENTS: dict[str, str] = {
    "Cumprod-complex* *": "TensorFlow does not conjugate the derivative here",
    "MulNoNan-complex* *": "TensorFlow does not conjugate the derivative here",
    "SegmentProd-complex* *": "TensorFlow does not conjugate the derivative here",
    "UnsortedSegmentProd-complex* *": "TensorFlow does not conjugate the derivative here",
    "PadV2-* *": "TensorFlow has no gradient for the padding value",
    "SoftmaxCrossEntropyWithLogits-* *": "TensorFlow forgets that the second output depends on the labels",
    "FusedBatchNormGrad* *": "the engine does not differentiate batch normalization twice",
}
# Where TensorFlow gives no answer: what its error says, and what that means.
REFUSED: dict[str, str] = {
    "No OpKernel was registered": "it has no CPU kernel for a dtype that the op's definition allows",
    "TileOp : The input data type is not supported": "the same, found when it runs",
    "No WhereOp available for float16": "the same, found when it runs",
    "only supports NHWC": "it computes NCHW on GPUs only",
    "only supports the NHWC": "it computes NCHW on GPUs only",
    "only support NHWC": "it computes NCHW on GPUs only",
    "do not yet support dilation rates larger than 1": "it has these gradients on GPUs only",
    "filter_size does not have enough elements": "it has the gradients of grouped convolutions on GPUs only",
    "Gradients for grouped convolutions are not supported": "it has the gradients of grouped convolutions on GPUs only",
    "Invalid input first dimension. Found 0.": "it does not reverse an empty tensor",
    "Indices and updates specified for empty": "it does not scatter nothing into nothing",
    "WhereOp : Unhandled input dimensions: 0": "it does not look for true elements in a scalar",
    "Op TopK is not available": "it has taken the op out of GraphDefs",
    "aborted": "its kernel aborts the process",
    "Op does not support N5Eigen4halfE inputs": "it fuses convolutions of float16 on GPUs only",
    "Fused conv implementation": "it fuses neither grouped convolutions nor NCHW on the CPU",
    "Fusion is not implemented: [BiasAdd,": "it fuses fewer activations into a convolution on the CPU",
}


@cache
def answers() -> tuple[dict[str, Any], dict[str, Any]]:
    """The index, and for each case and sample its numbers, taken off the long arrays in the index's order."""
    with np.load(Path(__file__).with_name("op_answers.npz")) as stored:
        index = json.loads(stored["index"].tobytes())["cases"]
        numbers = {name: stored[name] for name in stored.files if name != "index"}
    position = dict.fromkeys(numbers, 0)
    for rows in index.values():
        for row in rows:
            for key in ("outputs", "gradients"):
                for entry in row[key]:
                    dtype, shape = entry[:2]
                    if dtype in numbers:
                        count = int(np.prod(shape))
                        start = position[dtype]
                        position[dtype] += count
                        array = numbers[dtype][start : start + count].reshape(shape)
                        entry.append(
                            array.view(as_dtype("bfloat16").np_dtype) if dtype == "bfloat16" else array
                        )
    return index, numbers


@cache
def ours() -> list[Case]:
    asked = [case for case in cases() if not case.opdef.stateful and case.op_type not in NOT_ASKED]
    return [case for case in asked if case.samples()]


def lookup(table: dict[str, str], case: str) -> str | None:
    return next((reason for pattern, reason in table.items() if fnmatchcase(case, pattern)), None)


def compare(found: Any, entry: list[Any], sample: Sample, where: str, factor: float = 1.0) -> None:
    dtype_name, shape, wanted = entry
    found = np.array(found, object) if isinstance(found, bytes) else np.asarray(found)
    assert list(found.shape) == shape, f"{where}: shape {found.shape}, TensorFlow's is {shape}"
    dtype = as_dtype(dtype_name if dtype_name != "object" else "string")
    assert as_dtype(found.dtype) is dtype, f"{where}: {found.dtype}, TensorFlow's is {dtype_name}"
    if isinstance(wanted, int):
        assert digest([found]) == wanted, f"{where}: TensorFlow gives something else than {found!r}"
        return
    rtol, atol = tolerances(dtype, sample, factor)
    wide = np.complex128 if dtype.is_complex else np.float64
    finite = np.abs(wanted.astype(wide))
    scale = max(1.0, float(np.max(finite[np.isfinite(finite)], initial=0)))
    np.testing.assert_allclose(
        found.astype(wide), wanted.astype(wide), rtol=rtol, atol=atol * scale, equal_nan=True, err_msg=where
    )


OPS = sorted({case.op_type for case in ours()})


@pytest.mark.parametrize("op_type", OPS)
def test_answers(op_type: str) -> None:
    for case in ours():
        if case.op_type == op_type:
            # As written: that passes change nothing is seen in tests/op, on the same samples.
            with (
                tf.Graph().as_default(),
                tf.Session(config=plain()) as session,
                np.errstate(all="ignore"),
            ):
                check_case(case, session)


def check_case(case: Case, session: Any) -> None:
    """All samples of one op and dtype: their outputs in one run, the gradients in another."""
    index, _ = answers()
    assert str(case) in index, f"{case} has no answers: run make_op_answers.py again"
    rows, samples = index[str(case)], case.samples()
    assert len(rows) == len(samples), f"{case}: the samples have changed, run make_op_answers.py again"
    feeds: dict[Any, Any] = {}
    built = []
    for number, (sample, row) in enumerate(zip(samples, rows)):
        where = f"{case} #{number} {sample}"
        arrays = flat(sample)
        assert digest(arrays) == row["digest"], f"{where}: has changed, run make_op_answers.py again"
        inputs = placeholders(arrays)
        feeds.update(zip(inputs, arrays))
        built.append((where, sample, row, inputs, build(case, sample, inputs)))
    values = session.run([outputs for *_, outputs in built], feeds)
    for (where, sample, row, *_), found in zip(built, values):
        if "error" not in row and lookup(DIFFERENT, where) is None:
            for value, entry in zip(found, row["outputs"], strict=True):
                compare(value, entry, sample, where)
    gradients = []
    for number, ((where, sample, row, inputs, outputs), found) in enumerate(zip(built, values)):
        if "connected" in row and lookup(DIFFERENT_GRADIENTS, where) is None:
            flowing = [(t, v) for t, v in zip(outputs, found) if differentiable(t.dtype)]
            starts = weights(case, number, [np.shape(v) for _, v in flowing], [t.dtype for t, _ in flowing])
            chosen = [inputs[i] for i in checked_inputs(Sample(*sample.inputs))]
            made = tf.gradients(
                [t for t, _ in flowing], chosen, [tf.constant(w, as_dtype(w.dtype)) for w in starts]
            )
            assert [g is not None for g in made] == row["connected"], f"gradient of {where}"
            dense = [tf.convert_to_tensor(g) for g in made if g is not None]
            gradients.append((where, sample, row["gradients"], dense))
    for (where, sample, entries, _), found in zip(gradients, session.run([g[-1] for g in gradients], feeds)):
        for value, entry in zip(found, entries, strict=True):
            compare(value, entry, sample, f"gradient of {where}", factor=4)


def test_what_tensorflow_refuses() -> None:
    index, _ = answers()
    errors = {
        row["error"]: f"{case} #{i}"
        for case, rows in index.items()
        for i, row in enumerate(rows)
        if "error" in row
    }
    unknown = {case: error for error, case in errors.items() if not any(text in error for text in REFUSED)}
    assert unknown == {}
    for text in REFUSED:
        assert any(text in error for error in errors), text


def test_the_tables_name_nothing_else() -> None:
    samples = [f"{case} #{i} {sample}" for case in ours() for i, sample in enumerate(case.samples())]
    for table in (DIFFERENT, DIFFERENT_GRADIENTS):
        for pattern in table:
            assert any(fnmatchcase(sample, pattern) for sample in samples), pattern


def test_most_are_compared() -> None:
    index, _ = answers()
    rows = [row for rows in index.values() for row in rows]
    assert sum("error" not in row for row in rows) > 0.94 * len(rows)
    assert sum("connected" in row for row in rows) > 1000
