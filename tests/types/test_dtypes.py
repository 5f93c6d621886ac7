"""Dtypes: one object each, TensorFlow's numbers, and the many ways to name one."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from tensorboard.compat.proto import types_pb2

from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype


def test_numbers_are_those_of_the_protocol_buffer_enum() -> None:
    names = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
    checked = 0
    for key, number in types_pb2.DataType.items():
        is_ref = key.endswith("_REF")
        base = key.removesuffix("_REF")
        name = names.get(base, base.removeprefix("DT_").lower())
        found = dtypes.by_name(name + ("_ref" if is_ref else ""))
        if found is not None:
            assert found.as_datatype_enum == number
            assert as_dtype(number) is found
            checked += 1
    assert checked == 2 * len(dtypes.ALL) == 36


@pytest.mark.parametrize(
    "given, expected",
    [
        ("float32", dtypes.float32),
        ("half", dtypes.float16),
        ("double", dtypes.float64),
        ("float", dtypes.float32),
        ("float32_ref", dtypes.float32_ref),
        ("bool", dtypes.bool),
        (np.float32, dtypes.float32),
        (np.dtype("int64"), dtypes.int64),
        (np.dtype(">i4"), dtypes.int32),
        (np.longlong, dtypes.int64),
        (np.dtype("S7"), dtypes.string),
        (np.dtype("U2"), dtypes.string),
        (np.array([b"x"], object).dtype, dtypes.string),
        (np.zeros(3, np.uint8), dtypes.uint8),
        (ml_dtypes.bfloat16, dtypes.bfloat16),
        (np.dtype("bfloat16"), dtypes.bfloat16),
        (float, dtypes.float32),
        (int, dtypes.int64),
        (bool, dtypes.bool),
        (str, dtypes.string),
        (complex, dtypes.complex128),
        (1, dtypes.float32),
        (np.int32(1), dtypes.float32),
        (101, dtypes.float32_ref),
    ],
)
def test_as_dtype(given: object, expected: DType) -> None:
    assert as_dtype(given) is expected


@pytest.mark.parametrize("given", [None, "nope", "", [1], {}, True, 1.0, 99, "O", dtypes, np.dtype("M8[s]")])
def test_as_dtype_refuses_and_names_the_value(given: object) -> None:
    with pytest.raises(TypeError, match="is not a dtype"):
        as_dtype(given)


def test_each_is_one_object_through_pickle_and_copy() -> None:
    for dtype in (*dtypes.ALL, *[each._as_ref for each in dtypes.ALL]):
        assert pickle.loads(pickle.dumps(dtype)) is dtype
        assert copy.deepcopy(dtype) is dtype
        assert dtype._as_ref.base_dtype is dtype.base_dtype


def test_equality_is_with_anything_that_means_the_same() -> None:
    assert dtypes.float32 == "float32"
    assert dtypes.float32 == np.float32
    assert dtypes.float32 == np.dtype("float32")
    assert dtypes.float32 != "float64"
    assert dtypes.float32 != dtypes.float32_ref
    assert dtypes.float32 != None  # noqa: E711 (the operator is what is tested)
    assert dtypes.float32 != "nonsense"
    assert dtypes.string == np.object_
    assert len({dtypes.float32, dtypes.float32_ref, as_dtype("float32")}) == 2


def test_a_reference_may_stand_for_a_value_but_not_the_other_way() -> None:
    assert dtypes.float32.is_compatible_with(dtypes.float32_ref)
    assert not dtypes.float32_ref.is_compatible_with(dtypes.float32)
    assert dtypes.int32.is_compatible_with("int32")


def test_kinds_agree_with_numpy() -> None:
    kinds = {
        "float": "is_floating",
        "int": "is_integer",
        "uint": "is_integer",
        "complex": "is_complex",
        "bool": "is_bool",
    }
    for dtype in dtypes.ALL:
        stem = dtype.name.rstrip("0123456789").removeprefix("b" if dtype.name.startswith("bfloat") else "")
        for flag in ("is_floating", "is_integer", "is_complex", "is_bool"):
            assert getattr(dtype, flag) == (kinds.get(stem) == flag), (dtype, flag)
        assert dtype.is_unsigned == (stem == "uint")
        if dtype.is_numpy_compatible:
            assert dtype.size == np.zeros(1, dtype.as_numpy_dtype).itemsize
    assert not dtypes.resource.is_numpy_compatible


def test_limits() -> None:
    assert (dtypes.int8.min, dtypes.int8.max) == (-128, 127)
    assert (dtypes.uint64.min, dtypes.uint64.max) == (0, 2**64 - 1)
    assert dtypes.float16.max == 65504
    assert float(dtypes.bfloat16.max) == float.fromhex("0x1.FEp127")
    for dtype in (dtypes.bool, dtypes.string, dtypes.complex64, dtypes.resource):
        with pytest.raises(TypeError, match=dtype.name):
            dtype.max


def test_texts() -> None:
    assert repr(dtypes.float32) == "tf.float32"
    assert str(dtypes.float32_ref) == "<dtype: 'float32_ref'>"
    assert dtypes.complex64.real_dtype is dtypes.float32
    assert dtypes.complex128._as_ref.real_dtype is dtypes.float64
    assert dtypes.int32.real_dtype is dtypes.int32
