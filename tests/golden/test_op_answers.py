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

import engine as tf
from engine.op.samples import Sample
from engine.types.dtypes import as_dtype

# Cases (patterns of op-dtype) in which the answers differ, and why.
DIFFERENT: dict[str, str] = {}
DIFFERENT_GRADIENTS: dict[str, str] = {}


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


def ours() -> list[Case]:
    return [case for case in cases() if not case.opdef.stateful and case.samples()]


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
    index, _ = answers()
    for case in ours():
        if case.op_type != op_type:
            continue
        assert str(case) in index, f"{case} has no answers: run make_op_answers.py again"
        rows = index[str(case)]
        samples = case.samples()
        assert len(rows) == len(samples), f"{case}: the samples have changed, run make_op_answers.py again"
        with tf.Graph().as_default(), tf.Session() as session, np.errstate(all="ignore"):
            for number, (sample, row) in enumerate(zip(samples, rows)):
                where = f"{case} #{number} {sample}"
                arrays = flat(sample)
                assert digest(arrays) == row["digest"], f"{where}: has changed, run make_op_answers.py again"
                inputs = placeholders(arrays)
                feeds = dict(zip(inputs, arrays))
                outputs = build(case, sample, inputs)
                values = session.run(outputs, feeds)
                if "error" not in row and lookup(DIFFERENT, str(case)) is None:
                    for value, entry in zip(values, row["outputs"], strict=True):
                        compare(value, entry, sample, where)
                if "connected" in row and lookup(DIFFERENT_GRADIENTS, str(case)) is None:
                    _compare_gradients(session, case, number, sample, row, inputs, outputs, values, feeds)


def _compare_gradients(
    session: Any,
    case: Case,
    number: int,
    sample: Sample,
    row: dict[str, Any],
    inputs: list[Any],
    outputs: list[Any],
    values: list[Any],
    feeds: dict[Any, Any],
) -> None:
    flowing = [(t, v) for t, v in zip(outputs, values) if differentiable(t.dtype)]
    starts = weights(case, number, [np.shape(v) for _, v in flowing], [t.dtype for t, _ in flowing])
    chosen = [inputs[i] for i in checked_inputs(Sample(*sample.inputs))]
    found = tf.gradients([t for t, _ in flowing], chosen, [tf.constant(w, as_dtype(w.dtype)) for w in starts])
    where = f"gradient of {case} #{number} {sample}"
    assert [g is not None for g in found] == row["connected"], where
    dense = session.run([tf.convert_to_tensor(g) for g in found if g is not None], feeds)
    for value, entry in zip(dense, row["gradients"], strict=True):
        compare(value, entry, sample, where, factor=4)


def test_what_tensorflow_refuses() -> None:
    """TensorFlow has no CPU kernel for some dtypes that its op definitions allow; nothing else went wrong there."""
    index, _ = answers()
    wrong = {}
    for case, rows in index.items():
        for row in rows:
            error = row.get("error", "")
            missing = error.startswith(
                ("NotFoundError", "InvalidArgumentError: No OpKernel", "UnimplementedError")
            )
            if error and not missing:
                wrong[case] = error
    assert not wrong


def test_the_tables_name_nothing_else() -> None:
    index, _ = answers()
    for table in (DIFFERENT, DIFFERENT_GRADIENTS):
        for pattern in table:
            assert any(fnmatchcase(case, pattern) for case in index), pattern
