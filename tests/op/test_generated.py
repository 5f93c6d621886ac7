"""Tests that the ops' own samples generate: every registered op, every dtype.

Values against a float64 reference, dtypes and static shapes against the results (with static shapes known, unknown, and inputs
constant), gradients against finite differences in float64 and against themselves in other dtypes, and a round trip through
GraphDef.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import searches
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
    sampled_ops,
    tolerances,
    type_attr,
    weights,
)
from optimizing import plain

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


class Built(NamedTuple):
    """A sample in the default graph: its arrays, the tensors that take them, what it gives."""

    case: Case
    number: int
    sample: Sample
    arrays: list[Any]
    inputs: list[Any]
    outputs: list[Any]

    @property
    def where(self) -> str:
        """What it is called in messages."""
        return f"{self.case} #{self.number} {self.sample}"

    @property
    def feeds(self) -> dict[Any, Any]:
        return dict(zip(self.inputs, self.arrays))


def run_all(session: Any, built: Sequence[tuple[Built, Any]]) -> list[Any]:
    """The values of some tensors of each sample, of all in one step; where that fails, one by one, to say which it was."""
    built = [(each, tensors) for each, tensors in built if tensors]
    if not built:
        return []
    try:
        return session.run(
            [tensors for _, tensors in built], {k: v for each, _ in built for k, v in each.feeds.items()}
        )
    except Exception:
        for each, tensors in built:
            try:
                session.run(tensors, each.feeds)
            except Exception as error:
                error.add_note(f"{each.where}: while running")
                raise
        raise


def arrays_of(values: Sequence[Any]) -> list[Any]:
    """Values as arrays; strings of rank 0, too, which are bare bytes."""
    return [np.array(v, object) if isinstance(v, bytes) else np.asarray(v) for v in values]


# What is known of the inputs.  Rules for shapes do not ask for dtypes: one of an op goes through all three.
VARIANTS = ("static shapes known", "static shapes unknown", "constant inputs")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_dtype_and_static_shape(case: Case) -> None:
    in_full = searches.deep or case in IN_FULL
    built = []
    for number, sample in enumerate(case.samples()):
        arrays = flat(sample)
        known, unknown = placeholders(arrays), placeholders(arrays, shapes=False) if in_full else []
        outputs = [build(case, sample, known)]
        if in_full:
            outputs.append(build(case, sample, unknown))
            outputs.append(build(case, sample, [tf.constant(a, as_dtype(a.dtype)) for a in arrays]))
        built.append(Built(case, number, sample, arrays * (2 if in_full else 1), [*known, *unknown], outputs))
    with tf.Session() as session:
        results = run_all(session, [(each, each.outputs) for each in built if any(each.outputs)])
    for each, found in zip((each for each in built if any(each.outputs)), results, strict=True):
        wanted = reference_values(case, each.sample)
        for variant, tensors, values in zip(VARIANTS, each.outputs, found):
            for i, (tensor, value) in enumerate(zip(tensors, arrays_of(values), strict=True)):
                what = f"output {i}, {variant}"
                assert value.dtype == tensor.dtype.np_dtype, f"{each.where}: {what}"
                assert tensor.shape.is_compatible_with(value.shape), (
                    f"{each.where}: {what}: {tensor.shape} for {value.shape}"
                )
                if wanted is not None:
                    try:
                        assert_close(value, wanted[i], tensor.dtype, each.sample)
                    except AssertionError as error:
                        raise AssertionError(f"{each.where}: {what}\n{error}") from None


def gradient_cases() -> list[Case]:
    return [
        case
        for case in CASES
        if case.opdef.grad not in (None, NotDifferentiable)
        and (case.dtype is None or differentiable(case.dtype))
    ]


class Differentiated(NamedTuple):
    """A sample, the outputs of it through which gradients flow, what these start with, and the gradients by `chosen` inputs."""

    built: Built
    chosen: list[int]
    starts: list[Any]
    gradients: list[Any]

    @property
    def dense(self) -> list[Any]:
        return [tf.convert_to_tensor(each) for each in self.gradients if each is not None]

    def spread(self, values: Sequence[Any]) -> list[Any]:
        """The values of `dense`, and None where there is no gradient."""
        remaining = iter(values)
        return [None if each is None else next(remaining) for each in self.gradients]


def differentiate(
    session: Any,
    case: Case,
    samples: Sequence[tuple[int, Sample, list[int]]],
    starts: Sequence[Sequence[Any]] | None = None,
) -> list[Differentiated]:
    """Numbered samples in the default graph, with their gradients; those without an output to differentiate are left out.

    starts: what gradients start with, of each sample; without, `weights` in the shapes that a run gives.
    """
    built = []
    for number, sample, chosen in samples:
        arrays = flat(sample)
        inputs = placeholders(arrays)
        outputs = [output for output in build(case, sample, inputs) if differentiable(output.dtype)]
        if outputs:
            each = Built(case, number, sample, arrays, inputs, outputs)
            built.append((each, chosen))
    if starts is None:
        starts = [
            weights(case, each.number, [np.shape(v) for v in values], [out.dtype for out in each.outputs])
            for (each, _), values in zip(
                built, run_all(session, [(each, each.outputs) for each, _ in built]), strict=True
            )
        ]
    made = []
    for (each, chosen), begin in zip(built, starts, strict=True):
        begin = [w.astype(out.dtype.np_dtype) for w, out in zip(begin, each.outputs, strict=True)]
        constants = [tf.constant(w, out.dtype) for w, out in zip(begin, each.outputs, strict=True)]
        found = tf.gradients(each.outputs, [each.inputs[i] for i in chosen], constants)
        made.append(Differentiated(each, chosen, begin, found))
    return made


def gradients_of(session: Any, made: Sequence[Differentiated]) -> list[list[Any]]:
    """The values of all gradients of each sample, None where there is none."""
    dense = [each.dense for each in made]
    values = iter(run_all(session, list(zip((each.built for each in made), dense, strict=True))))
    return [each.spread(next(values) if tensors else []) for each, tensors in zip(made, dense, strict=True)]


@pytest.mark.parametrize(
    "case", [case for case in gradient_cases() if case.dtype is None or case.dtype in PRECISE], ids=str
)
def test_gradient_against_finite_differences(case: Case) -> None:
    rng = np.random.default_rng(0)
    samples = [
        (number, sample, [i for i in checked_inputs(sample) if as_dtype(flat(sample)[i].dtype) in PRECISE])
        for number, sample in enumerate(case.samples())
    ]
    with tf.Session() as session:
        made = differentiate(session, case, [each for each in samples if each[2]])
        for each, values in zip(made, gradients_of(session, made), strict=True):
            inputs, outputs, feeds = each.built.inputs, each.built.outputs, each.built.feeds

            def loss(
                changed: dict[Any, Any], feeds: Any = feeds, ys: Any = outputs, ws: Any = each.starts
            ) -> float:
                values = session.run(ys, {**feeds, **changed})
                return float(sum(np.sum((v * np.conj(w)).real) for v, w in zip(values, ws)))

            for i, gradient, value in zip(each.chosen, each.gradients, values, strict=True):
                where = f"{each.built.where}: gradient of input {i}"
                x = each.built.arrays[i]
                if gradient is None:
                    value = np.zeros_like(x)
                else:
                    dense = tf.convert_to_tensor(gradient)
                    assert dense.dtype is as_dtype(x.dtype), where
                    assert dense.shape.is_compatible_with(x.shape), where
                assert value.shape == x.shape, where
                for _ in range(2 if x.size else 0):
                    direction = rng.normal(size=x.shape)
                    if np.iscomplexobj(x):
                        direction = direction + 1j * rng.normal(size=x.shape)
                    step = 1e-5 * direction
                    rise = (loss({inputs[i]: x + step}) - loss({inputs[i]: x - step})) / 2e-5
                    slope = float(np.sum((np.conj(value) * direction).real))
                    scale = 1 + np.sum(np.abs(value * direction))
                    assert abs(rise - slope) <= 2e-6 * scale + (each.built.sample.atol or 0), (
                        f"{where}: {slope} by the gradient, {rise} by finite differences"
                    )


def widened(case: Case, twin: Case, sample: Sample) -> Sample:
    """The sample as `twin`, the same op in a wider dtype, takes it."""
    wider = [a.astype(twin.dtype.np_dtype) if as_dtype(a.dtype) is case.dtype else a for a in flat(sample)]
    attrs = {
        name: DOUBLE.get(value, value) if name == "Tout" else value for name, value in sample.attrs.items()
    }
    return Sample(*regroup(sample, wider), attrs=attrs)


@pytest.mark.parametrize(
    "case", [c for c in gradient_cases() if c.dtype is not None and c.dtype not in PRECISE], ids=str
)
def test_gradient_in_other_dtypes(case: Case) -> None:
    """In float32 and less the gradient has the right dtype and shape, and the value that float64 gives."""
    twin = Case(case.op_type, (dtypes.complex128 if case.dtype.is_complex else dtypes.float64).name)
    count = 6 if searches.deep else 3
    samples = [
        (number, sample, checked_inputs(sample)) for number, sample in enumerate(case.samples()[:count])
    ]
    with tf.Graph().as_default(), tf.Session() as session:
        made = differentiate(session, case, [each for each in samples if each[2]])
        found = gradients_of(session, made)
    allowed = type_attr(twin.opdef).allowed
    if allowed is not None and twin.dtype not in allowed:
        return
    with tf.Graph().as_default(), tf.Session(config=plain()) as session:
        twins = differentiate(
            session,
            twin,
            [(each.built.number, widened(case, twin, each.built.sample), each.chosen) for each in made],
            [each.starts for each in made],
        )
        reference = gradients_of(session, twins)
    for each, values, wanted in zip(made, found, reference, strict=True):
        for i, value, want in zip(each.chosen, values, wanted, strict=True):
            where = f"{each.built.where}: gradient of input {i}"
            assert (value is None) == (want is None), where
            if value is None:
                continue
            given = each.built.arrays[i]
            assert np.asarray(value).dtype == given.dtype, where
            rtol, atol = tolerances(as_dtype(given.dtype), each.built.sample, 8)
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


IN_FULL = frozenset(one_case_an_op())


@pytest.mark.parametrize("case", one_case_an_op(), ids=str)
def test_round_trip_through_graphdef(case: Case) -> None:
    built = []
    with tf.Graph().as_default() as graph, tf.Session() as session:
        for number, sample in enumerate(case.samples()):
            arrays = flat(sample)
            inputs = placeholders(arrays)
            built.append(Built(case, number, sample, arrays, inputs, build(case, sample, inputs)))
        built = [each for each in built if each.outputs]
        first = run_all(session, [(each, each.outputs) for each in built])
        data = graph.as_graph_def().SerializeToString()
    with tf.Graph().as_default() as copy, tf.Session() as session:
        message = tf.GraphDef()
        message.ParseFromString(data)
        tf.import_graph_def(message, name="")
        assert len(copy.get_operations()) == len(graph.get_operations())
        for node in graph.get_operations():
            twin = copy.get_operation_by_name(node.name)
            assert twin.type == node.type, node
            assert [t.name for t in twin.inputs] == [t.name for t in node.inputs], node
            assert [t.shape.as_proto() for t in twin.outputs] == [t.shape.as_proto() for t in node.outputs], (
                node
            )
            assert twin.node_def == node.node_def, node
        again = [
            each._replace(
                inputs=[copy.get_tensor_by_name(t.name) for t in each.inputs],
                outputs=[copy.get_tensor_by_name(t.name) for t in each.outputs],
            )
            for each in built
        ]
        second = run_all(session, [(each, each.outputs) for each in again])
    for each, ours, theirs in zip(built, first, second, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{each.where}: imported")


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
