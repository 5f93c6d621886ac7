"""Tests that the ops' own samples generate: every registered op, every dtype.

Values against a float64 reference, dtypes and static shapes against the results (with static shapes known, unknown, and inputs
constant), gradients against finite differences in float64 and against themselves in other dtypes, and a round trip through
GraphDef.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import (
    Case,
    assert_close,
    build,
    cases,
    checked_inputs,
    differentiable,
    flat,
    placeholders,
    regroup,
    run_outputs,
    sampled_ops,
    tolerances,
    type_attr,
    weights,
)

import engine as tf
from engine.op.registry import NotDifferentiable, all_ops
from engine.op.samples import Sample, Untested
from engine.types import dtypes
from engine.types.dtypes import as_dtype

CASES = [case for case in cases() if not case.opdef.stateful]
PRECISE = (dtypes.float64, dtypes.complex128)
DOUBLE = {dtypes.float32: dtypes.float64, dtypes.complex64: dtypes.complex128}

# Ops whose references look at the bits of the inputs, and get them as they are instead of widened.
ABOUT_BITS = {"Bitcast"}

# Ops with neither a reference of their own nor a ufunc, and what proves their values instead.
PROVEN_ELSEWHERE: dict[str, str] = {
    "LeftShift": "test_bitwise.py",
    "RightShift": "test_bitwise.py",
}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def wide(array: Any) -> Any:
    """The array in the widest type of its kind."""
    dtype = as_dtype(array.dtype)
    if dtype.is_floating:
        return array.astype(np.float64)
    if dtype.is_complex:
        return array.astype(np.complex128)
    if dtype.is_integer:
        return array.astype(
            np.uint64 if dtype is dtypes.uint64 and array.size and array.max() > 2**62 else np.int64
        )
    return array


def reference_values(case: Case, sample: Sample) -> list[Any] | None:
    """What the outputs should be; None if nothing says so."""
    opdef = case.opdef
    arrays = flat(sample) if opdef.name in ABOUT_BITS else [wide(array) for array in flat(sample)]
    inputs = regroup(sample, arrays)
    if opdef.reference is not None:
        result = opdef.reference(*inputs, **sample.attrs)
    elif opdef.ufunc is not None:
        result = getattr(np, opdef.ufunc)(*inputs)
    else:
        return None
    return list(result) if isinstance(result, tuple | list) else [result]


def explain(case: Case, number: int, sample: Sample, what: str) -> str:
    return f"{case} #{number} {sample}: {what}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_dtype_and_static_shape(case: Case) -> None:
    for number, sample in enumerate(case.samples()):
        arrays = flat(sample)
        with tf.Graph().as_default():
            known, unknown = placeholders(arrays), placeholders(arrays, shapes=False)
            variants = {
                "static shapes known": build(case, sample, known),
                "static shapes unknown": build(case, sample, unknown),
                "constant inputs": build(case, sample, [tf.constant(a, as_dtype(a.dtype)) for a in arrays]),
            }
            feeds = {**dict(zip(known, arrays)), **dict(zip(unknown, arrays))}
            outputs = [output for variant in variants.values() for output in variant]
            try:
                results = iter(run_outputs(outputs, feeds))
            except Exception as error:
                error.add_note(explain(case, number, sample, "while running"))
                raise
        wanted = reference_values(case, sample)
        for variant, tensors in variants.items():
            for i, tensor in enumerate(tensors):
                where = explain(case, number, sample, f"output {i}, {variant}")
                value = next(results)
                assert value.dtype == tensor.dtype.np_dtype, where
                assert tensor.shape.is_compatible_with(value.shape), (
                    f"{where}: {tensor.shape} for {value.shape}"
                )
                if wanted is not None:
                    try:
                        assert_close(value, wanted[i], tensor.dtype, sample)
                    except AssertionError as error:
                        raise AssertionError(f"{where}\n{error}") from None


def gradient_cases() -> list[Case]:
    return [
        case
        for case in CASES
        if case.opdef.grad not in (None, NotDifferentiable)
        and (case.dtype is None or differentiable(case.dtype))
    ]


def gradient_run(
    case: Case, sample: Sample, number: int, arrays: list[Any], chosen: list[int]
) -> tuple[Any, ...]:
    """A graph of the op and its gradients.

    Returns a session, its placeholders, the outputs through which gradients flow, the gradients, the start values.
    """
    inputs = placeholders(arrays)
    outputs = [output for output in build(case, sample, inputs) if differentiable(output.dtype)]
    session = tf.Session()
    feeds = dict(zip(inputs, arrays))
    values = session.run(outputs, feeds)
    starts = weights(case, number, [np.shape(v) for v in values], [output.dtype for output in outputs])
    found = tf.gradients(
        outputs, [inputs[i] for i in chosen], [tf.constant(w, as_dtype(w.dtype)) for w in starts]
    )
    return session, inputs, outputs, found, starts


@pytest.mark.parametrize(
    "case", [case for case in gradient_cases() if case.dtype is None or case.dtype in PRECISE], ids=str
)
def test_gradient_against_finite_differences(case: Case) -> None:
    rng = np.random.default_rng(0)
    for number, sample in enumerate(case.samples()):
        arrays = flat(sample)
        chosen = [i for i in checked_inputs(sample) if as_dtype(arrays[i].dtype) in PRECISE]
        if not chosen:
            continue
        with tf.Graph().as_default():
            session, inputs, outputs, found, starts = gradient_run(case, sample, number, arrays, chosen)
            if not outputs:
                continue
            feeds = dict(zip(inputs, arrays))

            def loss(
                changed: dict[Any, Any],
                feeds: Any = feeds,
                session: Any = session,
                ys: Any = outputs,
                ws: Any = starts,
            ) -> float:
                values = session.run(ys, {**feeds, **changed})
                return float(sum(np.sum((v * np.conj(w)).real) for v, w in zip(values, ws)))

            for i, gradient in zip(chosen, found):
                where = explain(case, number, sample, f"gradient of input {i}")
                x = arrays[i]
                if gradient is None:
                    value = np.zeros_like(x)
                else:
                    dense = tf.convert_to_tensor(gradient)
                    assert dense.dtype is as_dtype(x.dtype), where
                    assert dense.shape.is_compatible_with(x.shape), where
                    value = session.run(dense, feeds)
                assert value.shape == x.shape, where
                for _ in range(3 if x.size else 0):
                    direction = rng.normal(size=x.shape)
                    if np.iscomplexobj(x):
                        direction = direction + 1j * rng.normal(size=x.shape)
                    step = 1e-5 * direction
                    rise = (loss({inputs[i]: x + step}) - loss({inputs[i]: x - step})) / 2e-5
                    slope = float(np.sum((np.conj(value) * direction).real))
                    scale = 1 + np.sum(np.abs(value * direction))
                    assert abs(rise - slope) <= 2e-6 * scale + (sample.atol or 0), (
                        f"{where}: {slope} by the gradient, {rise} by finite differences"
                    )
            session.close()


@pytest.mark.parametrize(
    "case", [c for c in gradient_cases() if c.dtype is not None and c.dtype not in PRECISE], ids=str
)
def test_gradient_in_other_dtypes(case: Case) -> None:
    """In float32 and less the gradient has the right dtype and shape, and the value that float64 gives."""
    precise = dtypes.complex128 if case.dtype.is_complex else dtypes.float64
    twin = Case(case.op_type, precise.name)
    for number, sample in enumerate(case.samples()):
        arrays = flat(sample)
        chosen = checked_inputs(sample)
        if not chosen or number >= 6:
            continue
        with tf.Graph().as_default():
            session, inputs, outputs, found, starts = gradient_run(case, sample, number, arrays, chosen)
            values = [
                None if g is None else session.run(tf.convert_to_tensor(g), dict(zip(inputs, arrays)))
                for g in found
            ]
            session.close()
        attr = type_attr(twin.opdef)
        wider = [a.astype(precise.np_dtype) if as_dtype(a.dtype) is case.dtype else a for a in arrays]
        if attr.allowed is not None and precise not in attr.allowed:
            continue
        attrs = {
            name: DOUBLE.get(value, value) if name == "Tout" else value
            for name, value in sample.attrs.items()
        }
        wide_sample = Sample(*regroup(sample, wider), attrs=attrs)
        with tf.Graph().as_default():
            session, inputs, outputs, reference, _ = gradient_run(twin, wide_sample, number, wider, chosen)
            placed = tf.gradients(
                outputs,
                [inputs[i] for i in chosen],
                [tf.constant(w.astype(o.dtype.np_dtype), o.dtype) for w, o in zip(starts, outputs)],
            )
            del reference
            wanted = [
                None if g is None else session.run(tf.convert_to_tensor(g), dict(zip(inputs, wider)))
                for g in placed
            ]
            session.close()
        for i, value, want in zip(chosen, values, wanted):
            where = explain(case, number, sample, f"gradient of input {i}")
            assert (value is None) == (want is None), where
            if value is None:
                continue
            assert np.asarray(value).dtype == arrays[i].dtype, where
            dtype = as_dtype(arrays[i].dtype)
            rtol, atol = tolerances(dtype, sample, 8)
            size = max(1.0, float(np.max(np.abs(want), initial=0)))
            np.testing.assert_allclose(
                np.asarray(value).astype(want.dtype), want, rtol=rtol, atol=atol * size, err_msg=where
            )


def one_case_an_op() -> list[Case]:
    """For each op the case of the dtype that most resembles float32."""
    order = ("float32", "float64", "int32", "complex64", "bool", "string")
    best: dict[str, Case] = {}
    for case in CASES:
        rank = order.index(case.dtype_name) if case.dtype_name in order else len(order)
        old = best.get(case.op_type)
        if old is None or rank < (order.index(old.dtype_name) if old.dtype_name in order else len(order)):
            best[case.op_type] = case
    return list(best.values())


@pytest.mark.parametrize("case", one_case_an_op(), ids=str)
def test_round_trip_through_graphdef(case: Case) -> None:
    for number, sample in enumerate(case.samples()):
        arrays = flat(sample)
        with tf.Graph().as_default() as graph:
            inputs = placeholders(arrays)
            outputs = build(case, sample, inputs)
            first = run_outputs(outputs, dict(zip(inputs, arrays)))
            data = graph.as_graph_def().SerializeToString()
        with tf.Graph().as_default() as copy:
            message = tf.GraphDef()
            message.ParseFromString(data)
            tf.import_graph_def(message, name="")
            where = explain(case, number, sample, "imported")
            for node in graph.get_operations():
                twin = copy.get_operation_by_name(node.name)
                assert twin.type == node.type, where
                assert [t.name for t in twin.inputs] == [t.name for t in node.inputs], where
                assert [t.shape.as_proto() for t in twin.outputs] == [
                    t.shape.as_proto() for t in node.outputs
                ], where
                assert twin.node_def == node.node_def, where
            second = run_outputs(
                [copy.get_tensor_by_name(t.name) for t in outputs],
                {copy.get_tensor_by_name(t.name): a for t, a in zip(inputs, arrays)},
            )
        for a, b in zip(first, second):
            np.testing.assert_array_equal(a, b, err_msg=where)


def test_every_op_is_proven() -> None:
    """An op has samples for some dtype, and something says what its values are; or its block names the tests that do."""
    root = Path(__file__).parents[2]
    for opdef in all_ops():
        if isinstance(opdef.samples, Untested):
            assert (root / opdef.samples.where).exists(), f"{opdef.name}: there is no {opdef.samples.where}"
            continue
        if opdef.stateful:
            continue
        found = [case for case in CASES if case.op_type == opdef.name and case.samples()]
        assert found, f"{opdef.name} has no samples for any dtype"
        if opdef.reference is None and opdef.ufunc is None:
            assert opdef.name in PROVEN_ELSEWHERE, f"{opdef.name} has no reference"
    assert len(sampled_ops()) > 100
