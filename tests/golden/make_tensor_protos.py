"""Makes tensor_protos.json: arrays as TensorFlow writes them, in each of the forms it has.  Run with TensorFlow's Python.

`values` are the array's bytes in hex, little-endian (for strings: the strings in hex); `proto` is the serialized TensorProto.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
import tensorflow as tf

SHAPES = ((), (1,), (3,), (2, 2), (0, 3))
DTYPES = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
    "complex128",
    "string",
]


def listed(array, dtype):
    """The form with the values in the dtype's own list, which Python's TensorFlow makes only for single values."""
    fields = {"float32": "float_val", "float64": "double_val", "int64": "int64_val", "uint32": "uint32_val"}
    fields |= {
        "uint64": "uint64_val",
        "bool": "bool_val",
        "complex64": "scomplex_val",
        "complex128": "dcomplex_val",
    }
    proto = tf.make_tensor_proto(array, dtype=dtype)
    if dtype == "string" or array.size == 0:
        return proto
    proto.tensor_content = b""
    flat = array.reshape(-1)
    if dtype in ("float16", "bfloat16"):
        field, values = "half_val", flat.view(np.uint16)
    elif array.dtype.kind == "c":
        field, values = fields[dtype], np.stack([flat.real, flat.imag], -1).reshape(-1)
    else:
        field, values = fields.get(dtype, "int_val"), flat
    proto.ClearField(field)
    getattr(proto, field).extend(values.tolist())
    return proto


def main() -> None:
    rng = np.random.default_rng(1)
    cases = []
    for dtype in DTYPES:
        for shape in SHAPES:
            if dtype == "string":
                array = np.array(
                    [bytes(rng.integers(0, 256, 3, dtype=np.uint8)) for _ in range(max(1, np.prod(shape)))],
                    object,
                )
                array = array[: int(np.prod(shape))].reshape(shape)
                values = [item.hex() for item in array.reshape(-1)]
            else:
                numpy = tf.as_dtype(dtype).as_numpy_dtype
                array = (rng.integers(0, 100, shape) - (0 if dtype.startswith(("u", "bool")) else 50)) / 3
                array = np.asarray(
                    array + 1j * rng.integers(0, 9, shape) if dtype.startswith("complex") else array
                ).astype(numpy)
                values = array.tobytes().hex()
            protos = [tf.make_tensor_proto(array, dtype=dtype), listed(array, dtype)]
            for proto in protos:
                restored = tf.make_ndarray(proto)
                assert restored.shape == shape and (restored == array).all(), (dtype, shape)
                cases.append(
                    {
                        "dtype": dtype,
                        "shape": shape,
                        "values": values,
                        "proto": proto.SerializeToString().hex(),
                    }
                )
    path = pathlib.Path(__file__).with_name("tensor_protos.json")
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


main()
