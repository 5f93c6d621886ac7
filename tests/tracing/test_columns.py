"""Columns: what goes in comes out, whatever it is; what is damaged is refused, and with nothing but ColumnsError."""

from __future__ import annotations

import contextlib
import json
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracing import columns
from tracing.errors import ColumnsError

_NUMBERS = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="=", sizes=(64, 128)),
)
_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20)
_NUMERIC = _NUMBERS.flatmap(lambda dtype: hnp.arrays(dtype, _SHAPES))


def _byte_strings(items: list[bytes]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


_ARRAYS = st.one_of(_NUMERIC, st.lists(st.binary(max_size=20), max_size=10).map(_byte_strings))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), _ARRAYS, max_size=5), st.booleans())
def test_what_goes_in_comes_out(batch: dict[str, np.ndarray], plain: bool) -> None:
    found = columns.unpack(columns.pack(batch, plain=plain))
    assert list(found) == list(batch)
    for name, array in batch.items():
        assert _same(found[name], array), name
        assert not found[name].flags.writeable


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=50), st.booleans())
def test_differences_of_extreme_integers_are_exact(numbers: list[int], sort: bool) -> None:
    array = np.array(sorted(numbers) if sort else numbers, np.int64)
    assert _same(columns.unpack(columns.pack({"t": array}))["t"], array)
    unsigned = array.view(np.uint64)
    assert _same(columns.unpack(columns.pack({"t": unsigned}))["t"], unsigned)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4", "uint4"])
def test_types_of_ml_dtypes(name: str) -> None:
    array = np.arange(8).astype(np.dtype(getattr(ml_dtypes, name))).reshape(2, 4)
    found = columns.unpack(columns.pack({"a": array, "one": array[0, 0]}))
    assert found["a"].dtype == array.dtype
    assert found["a"].tobytes() == array.tobytes()
    assert found["one"].shape == ()


def test_every_way_of_lying_is_used() -> None:
    rng = np.random.default_rng(1)
    batch = {
        "raw": rng.normal(size=50),
        "same": np.full((3, 4), np.nan, np.float32),
        "narrow": np.array([1, 200, 7], np.int64),
        "delta": 10**15 + np.cumsum(rng.integers(1000, 60000, 100)),
        "sparse": 10**15 + np.cumsum(rng.integers(0, 2**20, 100) * (np.arange(100) % 7 == 0)),
        "bits": rng.integers(0, 2, 99).astype(bool),
        "bytes": _byte_strings([b"", b"abc", b"\x00"]),
    }
    blob = columns.pack(batch)
    length = int.from_bytes(blob[4:8], "little")
    header = json.loads(blob[8 : 8 + length])
    assert {row[0]: row[3] for row in header["columns"]} == {name: name for name in batch}
    found = columns.unpack(blob)
    assert all(_same(found[name], batch[name]) for name in batch)
    assert header["bytes"] < sum(array.nbytes for array in batch.values()) * 0.7


def test_zeros_of_both_signs_are_kept_apart() -> None:
    array = np.array([0.0, -0.0, 0.0])
    assert np.signbit(columns.unpack(columns.pack({"a": array}))["a"]).tolist() == [False, True, False]


def test_big_endian_and_strided_arrays() -> None:
    array = np.arange(20, dtype=">i4").reshape(4, 5)[::2, ::-1]
    found = columns.unpack(columns.pack({"a": array}))["a"]
    assert found.tolist() == array.tolist()
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([1, "x"], object), np.array([("a", 1)], "S1,i4"), np.array(["2020"], "M8[Y]")],
    ids=["text", "objects", "records", "dates"],
)
def test_what_cannot_be_stored_is_refused(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"cannot be stored|can hold bytes"):
        columns.pack({"a": array})


def test_small_columns_of_a_plain_batch_are_stored_as_they_are() -> None:
    small, large = 10**15 + np.arange(10), 10**15 + np.arange(1000) ** 2
    blob = columns.pack({"small": small, "large": large}, plain=True)
    length = int.from_bytes(blob[4:8], "little")
    header = json.loads(blob[8 : 8 + length])
    assert [row[3] for row in header["columns"]] == ["raw", "delta"]
    assert len(blob) == 8 + length + header["bytes"] < 80 + 2000 + 200


@pytest.mark.parametrize("which", [0, 17, -1])
def test_a_plain_batch_has_a_checksum(which: int) -> None:
    blob = bytearray(columns.pack({"x": np.linspace(0, 1, 30)}, plain=True))
    at = 8 + int.from_bytes(blob[4:8], "little") + which if which >= 0 else which
    blob[at] ^= 1
    with pytest.raises(ColumnsError, match="checksum"):
        columns.unpack(bytes(blob))
    with pytest.raises(ColumnsError, match="cut short"):
        columns.unpack(bytes(blob[:-1]))


def _blob(plain: bool = False) -> bytes:
    return columns.pack(
        {
            "t": 10**15 + np.arange(50) ** 2,
            "x": np.linspace(0, 1, 30),
            "s": _byte_strings([b"abc", b"de"]),
            "b": np.arange(9) % 2 == 0,
        },
        plain=plain,
    )


@pytest.mark.parametrize("plain", [False, True])
def test_every_truncation_is_refused(plain: bool) -> None:
    blob = _blob(plain)
    for length in range(len(blob)):
        with pytest.raises(ColumnsError):
            columns.unpack(blob[:length])


@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    blob = bytearray(_blob(data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ColumnsError):
        columns.unpack(bytes(blob))


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ColumnsError):
        columns.unpack(b"DFC1" + data)


def test_a_header_that_promises_more_is_refused() -> None:
    header = json.dumps({"bytes": 8, "columns": [["a", "int64", [10**9], "raw"]]}).encode()
    with pytest.raises(ColumnsError, match="cut short"):
        columns.unpack(b"DFC1" + len(header).to_bytes(4, "little") + header + zlib.compress(bytes(8)))
