"""Arrays as TensorProto: TensorFlow's own messages are read, and what is written reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from engine.graph.tensor_proto import make_ndarray, make_tensor_proto, proto_to_array, tensor_to_proto
from engine.types.dtypes import as_dtype

CASES = json.loads((Path(__file__).parents[1] / "golden" / "tensor_protos.json").read_text())
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['dtype']}-{case['shape']}")
def test_tensorflows_messages(case: dict[str, Any]) -> None:
    dtype = as_dtype(case["dtype"])
    if dtype.name == "string":
        expected = np.empty(len(case["values"]), object)
        expected[:] = [bytes.fromhex(value) for value in case["values"]]
    else:
        expected = np.frombuffer(bytes.fromhex(case["values"]), dtype.np_dtype)
    expected = expected.reshape(case["shape"])
    proto = TensorProto.FromString(bytes.fromhex(case["proto"]))
    found = proto_to_array(proto)
    assert same(found, expected)
    assert found.flags.writeable
    assert same(proto_to_array(tensor_to_proto(expected)), expected)
    if len(set(expected.reshape(-1).tolist())) > 1 and proto.tensor_content:
        assert tensor_to_proto(expected) == proto  # no compact form, so there is only one


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
numbers = st.one_of(
    hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64)),
    hnp.integer_dtypes(endianness="<"),
    hnp.unsigned_integer_dtypes(endianness="<"),
    hnp.complex_number_dtypes(endianness="<", sizes=(64, 128)),
    hnp.boolean_dtypes(),
)


@given(hnp.arrays(numbers, shapes))
def test_numbers_read_back_to_the_bit(array: Any) -> None:
    again = proto_to_array(TensorProto.FromString(tensor_to_proto(array).SerializeToString()))
    assert same(again, array)


@given(hnp.arrays(np.uint16, shapes))
def test_bfloat16_reads_back_to_the_bit(bits: Any) -> None:
    array = bits.view(BFLOAT16)
    assert same(proto_to_array(tensor_to_proto(array)), array)


@given(st.lists(st.binary(max_size=4), max_size=6))
def test_strings_read_back(items: list[bytes]) -> None:
    array = np.empty(len(items), object)
    array[:] = items
    assert same(proto_to_array(tensor_to_proto(array)), array)


@pytest.mark.parametrize("value", [1.5, -0.0, np.nan, np.inf])
def test_a_fill_is_written_as_one_value(value: float) -> None:
    array = np.full((300, 200), value, np.float32)
    proto = tensor_to_proto(array)
    assert len(proto.SerializeToString()) < 40
    assert same(proto_to_array(proto), array)


def test_zeros_of_both_signs_are_no_fill() -> None:
    array = np.array([0.0, -0.0])
    assert same(proto_to_array(tensor_to_proto(array)), array)


def test_views_and_other_byte_orders() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    for view in (array.T, array[:, ::2], array[::-1], array.astype(">i4")):
        assert (proto_to_array(tensor_to_proto(view)) == view).all()
    assert proto_to_array(tensor_to_proto(array.astype(">i4"))).dtype == np.int32


@pytest.mark.parametrize(
    "text, expected",
    [
        ("dtype: DT_FLOAT tensor_shape {dim {size: 3}} float_val: [1, 2]", np.array([1, 2, 2], np.float32)),
        ("dtype: DT_FLOAT tensor_shape {dim {size: 2}}", np.zeros(2, np.float32)),
        ("dtype: DT_HALF tensor_shape {dim {size: 2}} half_val: 15360", np.ones(2, np.float16)),
        ("dtype: DT_BFLOAT16 tensor_shape {} half_val: 16256", np.array(1, BFLOAT16)),
        ("dtype: DT_INT8 tensor_shape {dim {size: 1}} int_val: -3", np.array([-3], np.int8)),
        ("dtype: DT_UINT8 tensor_shape {} int_val: 255", np.array(255, np.uint8)),
        (
            "dtype: DT_COMPLEX64 tensor_shape {dim {size: 2}} scomplex_val: [1, -2]",
            np.array([1 - 2j] * 2, np.complex64),
        ),
        ("dtype: DT_BOOL tensor_shape {dim {size: 2}} bool_val: true", np.array([True, True])),
        (
            "dtype: DT_STRING tensor_shape {dim {size: 2}} string_val: 'a'",
            np.array([b"a", b"a"], object),
        ),
        ("dtype: DT_STRING tensor_shape {dim {size: 1}}", np.array([b""], object)),
    ],
)
def test_compact_forms_are_read(text: str, expected: Any) -> None:
    assert same(proto_to_array(text_format.Parse(text, TensorProto())), expected)


@pytest.mark.parametrize(
    "text, error, message",
    [
        (
            "dtype: DT_FLOAT tensor_shape {dim {size: 1}} float_val: [1, 2]",
            ValueError,
            "2 values are too many",
        ),
        ("dtype: DT_FLOAT tensor_shape {dim {size: 2}} tensor_content: 'abc'", ValueError, "3 bytes"),
        ("dtype: DT_FLOAT tensor_shape {dim {size: -1}}", ValueError, "known shape"),
        ("dtype: DT_COMPLEX64 tensor_shape {} scomplex_val: 1", ValueError, "pairs"),
        ("dtype: DT_RESOURCE tensor_shape {}", TypeError, "resource"),
        ("tensor_shape {}", TypeError, "DT_INVALID"),
        ("dtype: DT_QINT8 tensor_shape {}", TypeError, "not a dtype"),
    ],
)
def test_what_is_no_tensor(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        proto_to_array(text_format.Parse(text, TensorProto()))


def test_public_functions() -> None:
    proto = make_tensor_proto([1, 2, 3], shape=[2, 2])
    assert make_ndarray(proto).tolist() == [[1, 2], [3, 3]]
    assert make_ndarray(proto).dtype == np.int32
    assert make_tensor_proto(proto) is proto
    assert make_tensor_proto(2.5, dtype="float64").double_val == [2.5]
    assert make_ndarray(make_tensor_proto("text")).item() == b"text"
    with pytest.raises(TypeError):
        make_tensor_proto("text", dtype="float32")
    with pytest.raises(TypeError, match="is not a dtype"):
        tensor_to_proto(np.array("2020-01-01", "M8[D]"))
