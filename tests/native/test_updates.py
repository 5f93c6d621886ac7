"""The optimizers' native updates against the ops' own kernels: the same bits, in place and out of place."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from native_kernels import run, unaligned

import engine as tf  # noqa: F401  # fills the registry
from engine.native import compiler
from engine.native.updates import slots, update
from engine.op.registry import lookup

pytestmark = [
    pytest.mark.skipif(not compiler.available(), reason=compiler.why_not()),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

_SCALARS = {
    "alpha": 0.01, "lr": 0.01, "momentum": 0.9, "beta1_power": 0.729, "beta2_power": 0.997, "beta1": 0.9, "beta2": 0.999,
    "epsilon": 1e-8, "rho": 0.95,
}  # fmt: skip
CASES = [
    ("ApplyGradientDescent", {}),
    ("ApplyMomentum", {"use_nesterov": False}),
    ("ApplyMomentum", {"use_nesterov": True}),
    ("ApplyAdam", {"use_nesterov": False}),
    ("ApplyAdam", {"use_nesterov": True}),
    ("ApplyAdagrad", {"update_slots": True}),
    ("ApplyAdagrad", {"update_slots": False}),
    ("ApplyAdagradV2", {"update_slots": True}),
    ("ApplyAdagradV2", {"update_slots": False}),
    ("ApplyRMSProp", {}),
    ("ApplyCenteredRMSProp", {}),
]


class Ref:
    """What a kernel sees of a variable."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value
        self.lock = nullcontext()

    def read(self, _: Any) -> Any:
        return self.value


def by_the_op(type: str, attrs: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    opdef = lookup(type)
    assert opdef is not None and opdef.kernel is not None
    refs = {name: Ref(name, inputs[name].copy()) for name in slots(type)}

    def write(ref: Ref, value: Any, kind: str) -> None:
        ref.value = value

    k: Any = SimpleNamespace(xp=np, attrs=attrs, op=None, write=write)
    opdef.kernel(k, *(refs.get(name, value) for name, value in inputs.items()))
    return {name: ref.value for name, ref in refs.items()}


def inputs_of(type: str, dtype: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    opdef = lookup(type)
    assert opdef is not None
    rng = np.random.default_rng(1)
    found: dict[str, Any] = {}
    for spec in opdef.signature.inputs:
        if spec.name in _SCALARS:
            found[spec.name] = np.asarray(_SCALARS[spec.name], dtype)
        else:
            values = rng.normal(size=shape)
            if spec.name in ("v", "ms", "accum"):
                values = np.abs(values) + 1
            found[spec.name] = np.asarray(values, dtype)
    return found


def same(found: Any, expected: Any, name: str) -> None:
    """float64 holds each of these numbers; its NaN are equal to each other."""
    np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64), err_msg=name)


@pytest.mark.parametrize("type,attrs", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (3, 37)])
def test_bits(type: str, attrs: dict[str, Any], dtype: Any, shape: tuple[int, ...]) -> None:
    inputs = inputs_of(type, dtype, shape)
    expected = by_the_op(type, attrs, inputs)
    kernel = update(type, dtype, shape, attrs)
    assert kernel is not None
    assert kernel.ulps == 0
    outputs = {name: np.empty(shape, dtype) for name in slots(type)}
    run(kernel, [*inputs.values(), *outputs.values()], chunk=40)
    for name, value in outputs.items():
        same(value, expected[name], name)
    # In place, and no better aligned than it must be.
    held = {name: unaligned(value) for name, value in inputs.items()}
    run(kernel, [*held.values(), *(held[name] for name in outputs)])
    order = list(inputs)
    for i, name in enumerate(outputs):
        same(held[name], expected[name], name)
        assert order.index(name) in kernel.overwrites[i]


def test_many_steps_of_adam() -> None:
    kernel = update("ApplyAdam", np.float32, (50,))
    assert kernel is not None
    inputs = inputs_of("ApplyAdam", np.float32, (50,))
    other = {name: value.copy() for name, value in inputs.items()}
    for step in range(1, 20):
        for held in (inputs, other):
            held["grad"] = np.cos(held["var"] + np.float32(step))
            held["beta1_power"] = np.asarray(0.9**step, np.float32)
            held["beta2_power"] = np.asarray(0.999**step, np.float32)
        inputs.update(by_the_op("ApplyAdam", {"use_nesterov": False}, inputs))
        run(kernel, [*other.values(), other["var"], other["m"], other["v"]])
    np.testing.assert_array_equal(inputs["var"], other["var"])


def test_empty_and_unknown() -> None:
    kernel = update("ApplyMomentum", np.float32, (0, 3))
    assert kernel is not None
    run(kernel, [np.empty(0, np.float32)] * 7)
    assert update("ApplyFtrl", np.float32, (3,)) is None
    assert update("ApplyAdam", np.complex64, (3,)) is None
