"""A batch of columns as one compressed blob, and back.

A batch is a mapping from names to NumPy arrays; their shapes are free, they need not even be of one length.  A blob says all
about itself::

    b"DFC1"  header length (uint32)  header (JSON)  payload (zlib; as it is where the header has its CRC-32 as "plain")

The header lists for every column its name, dtype, shape, and how its bytes lie in the payload:

==========  ====================================================================================================
`raw`       the elements
`same`      one element that stands for all
`narrow`    integers, in a smaller integer type that holds them
`delta`     integers, as the differences between neighbours, in a smaller type; the first element is in the header
`sparse`    as `delta`, of differences that are 0 for the most part: which are not, as bits, and these
`bits`      booleans, eight to a byte
`bytes`     byte strings (an object array): their lengths, then their contents
==========  ====================================================================================================

Elements of more than one byte are stored byte plane by byte plane (all the lowest bytes, then all the next): on time stamps
that compresses faster and smaller than element by element.  Everything is little-endian.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tracing.errors import ColumnsError

Array = npt.NDArray[Any]

_MAGIC = b"DFC1"
_PREFIX = struct.Struct("<4sI")
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_LEVEL = 1  # higher levels take several times as long on time stamps and save a few percent
_NARROW = tuple(np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32"))
_LIMITS = tuple((int(np.iinfo(d).min), int(np.iinfo(d).max), d) for d in _NARROW)
_MAX_BYTES = 1 << 34  # a header that promises more than 16 GiB is damaged
_MAX_RANK = 64
_SMALL = 512  # bytes: of a smaller column it does not pay to find out how it can be stored in less


@lru_cache(maxsize=1024)
def _small(name: str, dtype: str, shape: tuple[int, ...]) -> str:
    return _to_json([name, dtype, shape, "raw"])


def pack(columns: Mapping[str, npt.ArrayLike], *, plain: bool = False) -> bytes:
    """The columns as a blob.

    plain: for a small batch, of which there are many: it is not compressed, and its smallest columns are stored as they are.

    Arrays may have any shape and any dtype that is a number, a bool, one of ml_dtypes, or object (whose elements must be
    `bytes`).  Raises TypeError for others.
    """
    described: list[str] = []
    payload: list[bytes] = []
    for name, column in columns.items():
        array = np.asarray(column)
        dtype = _names.get(array.dtype) if plain and array.nbytes <= _SMALL else None
        if dtype is not None and array.dtype.isnative:
            payload.append(_planes(np.ascontiguousarray(array).reshape(-1)))
            described.append(_small(name, dtype, array.shape))
        else:
            described.append(_to_json([name, *_encode(array, payload)]))
    body = b"".join(payload)
    about = f'{{"bytes":{len(body)},"columns":[{",".join(described)}]'
    if plain:
        header = f'{about},"plain":{zlib.crc32(body)}}}'.encode()
        return b"".join((_PREFIX.pack(_MAGIC, len(header)), header, body))
    header = f"{about}}}".encode()
    return b"".join((_PREFIX.pack(_MAGIC, len(header)), header, zlib.compress(body, _LEVEL)))


def unpack(blob: bytes) -> dict[str, Array]:
    """The columns of a blob, read-only.  Raises ColumnsError if the bytes are not a whole, undamaged blob."""
    described, body = _open(blob)
    found: dict[str, Array] = {}
    at = 0
    try:
        for name, dtype, shape, how, *details in described:
            array, at = _decode(body, at, dtype, shape, how, details)
            array.flags.writeable = False
            found[name] = array
    except ColumnsError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise ColumnsError(f"a batch of columns is damaged: {error}") from error
    if at != len(body):
        raise ColumnsError(f"a batch of columns is damaged: {len(body) - at} bytes more than its header says")
    return found


# Writing.


def _encode(array: Array, payload: list[bytes]) -> list[Any]:
    """Append the bytes of `array` to `payload`; returns dtype name, shape, how they lie, and what else that needs."""
    dtype = array.dtype
    shape = list(array.shape)
    if dtype.hasobject:
        return ["object", shape, "bytes", *_encode_bytes(array, payload)]
    name = _names.get(dtype)
    if name is None:
        raise TypeError(f"a column of dtype {dtype} cannot be stored: numbers, bools and bytes can")
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype.byteorder == ">":
        flat = flat.astype(dtype.newbyteorder("<"))
    if flat.size > 1 and _all_same(flat):
        payload.append(flat[:1].tobytes())
        return [name, shape, "same"]
    if dtype.kind == "b":
        payload.append(np.packbits(flat).tobytes())
        return [name, shape, "bits"]
    if dtype.kind in "iu" and dtype.itemsize > 1 and flat.size:
        return [name, shape, *_encode_integers(flat, payload)]
    payload.append(_planes(flat))
    return [name, shape, "raw"]


def _encode_integers(flat: Array, payload: list[bytes]) -> list[Any]:
    plain = _narrowest(flat)
    small = plain
    steps = flat
    if flat.dtype.itemsize == 8 and plain.itemsize > 1 and flat.size > 2:
        # Differences wrap around, and so do the sums that undo them: the way back is exact for every value.
        signed = flat.view(np.int64)
        steps = np.subtract(signed[1:], signed[:-1])
        small = _narrowest(steps)
    if small.itemsize < plain.itemsize:
        which = np.flatnonzero(steps)
        if 2 * len(which) < len(steps):
            at = np.zeros(len(steps), np.bool_)
            at[which] = True
            payload.append(np.packbits(at).tobytes())
            payload.append(_planes(steps[which].astype(small)))
            return ["sparse", _names[small], int(flat.view(np.int64)[0])]
        payload.append(_planes(steps.astype(small)))
        return ["delta", _names[small], int(flat.view(np.int64)[0])]
    if plain.itemsize < flat.dtype.itemsize:
        payload.append(_planes(flat.astype(plain)))
        return ["narrow", _names[plain]]
    payload.append(_planes(flat))
    return ["raw"]


def _encode_bytes(array: Array, payload: list[bytes]) -> list[Any]:
    items = array.reshape(-1).tolist()
    for item in items:
        if not isinstance(item, bytes):
            raise TypeError(f"a column of objects can hold bytes, not {type(item).__name__}")
    lengths = np.fromiter((len(item) for item in items), dtype=np.int64, count=len(items))
    described = _encode(lengths, payload)
    payload.extend(items)
    return described[2:]


def _all_same(flat: Array) -> bool:
    # Compared as bytes, so that NaNs count as equal to themselves and 0.0 not to -0.0.
    size = flat.dtype.itemsize
    if flat[:1].tobytes() != flat[-1:].tobytes():
        return False
    if size in (1, 2, 4, 8):
        as_ints = flat.view(f"u{size}")
        return bool((as_ints == as_ints[0]).all())
    as_bytes = flat.view(np.uint8).reshape(-1, size)
    return bool((as_bytes == as_bytes[0]).all())


def _narrowest(flat: Array) -> np.dtype[Any]:
    first = int(flat[0])
    if not -(1 << 31) <= first < 1 << 32:  # as times are
        return flat.dtype
    low, high = int(np.minimum.reduce(flat)), int(np.maximum.reduce(flat))
    for least, most, dtype in _LIMITS:
        if least <= low and high <= most:
            return dtype
    return flat.dtype


def _planes(flat: Array) -> bytes:
    size = flat.itemsize
    if size == 1 or flat.size < 2:
        return flat.tobytes()
    return flat.view(np.uint8).reshape(-1, size).T.tobytes()


# Reading.


def _header(blob: bytes) -> tuple[list[Any], int, int, Any]:
    """The descriptions of the columns, the size of the payload, where it begins, and its checksum if it is plain."""
    if len(blob) < _PREFIX.size:
        raise ColumnsError(f"a batch of columns is cut short: {len(blob)} bytes")
    magic, length = _PREFIX.unpack_from(blob)
    if magic != _MAGIC:
        raise ColumnsError(f"not a batch of columns: it begins with {magic!r}")
    start = _PREFIX.size + length
    try:
        header = json.loads(blob[_PREFIX.size : start])
        described, size = header["columns"], header["bytes"]
    except (ValueError, KeyError, TypeError) as error:
        raise ColumnsError(f"the header of a batch of columns is damaged: {error}") from error
    if not isinstance(described, list) or not isinstance(size, int) or not 0 <= size <= _MAX_BYTES:
        raise ColumnsError("the header of a batch of columns is damaged")
    if not all(isinstance(row, list) and len(row) >= 4 and isinstance(row[0], str) for row in described):
        raise ColumnsError("the header of a batch of columns is damaged")
    return described, size, start, header.get("plain")


def _open(blob: bytes) -> tuple[list[Any], bytes]:
    described, size, start, plain = _header(blob)
    if plain is not None:
        body = blob[start:]
        if len(body) != size:
            raise ColumnsError(f"a batch of columns is cut short: {len(body)} of {size} bytes")
        if zlib.crc32(body) != plain:
            raise ColumnsError("a batch of columns is damaged: its checksum is another one")
        return described, body
    decompressor = zlib.decompressobj()
    try:
        body = decompressor.decompress(blob[start:], size + 1)
    except zlib.error as error:
        raise ColumnsError(f"a batch of columns is damaged: {error}") from error
    if len(body) != size or not decompressor.eof:
        raise ColumnsError(f"a batch of columns is cut short: {len(body)} of {size} bytes")
    return described, body


def _decode(
    body: bytes, at: int, dtype_name: str, shape: list[int], how: str, details: list[Any]
) -> tuple[Array, int]:
    """The array that begins at byte `at`, and where the next one does."""
    if len(shape) > _MAX_RANK or any(not isinstance(size, int) or size < 0 for size in shape):
        raise ColumnsError(f"a batch of columns is damaged: a column of shape {shape}")
    count = 1
    for size in shape:
        count *= size
    if how == "bytes":
        array, at = _decode_bytes(body, at, count, details)
        return array.reshape(shape), at
    dtype = _by_name(dtype_name)
    if dtype is None:
        raise ColumnsError(f"a column has a dtype that is not known here: {dtype_name}")
    if how == "same":
        one, at = _take(body, at, 1, dtype)
        return np.broadcast_to(one.reshape(()), shape).copy(), at
    if how == "bits":
        packed, at = _take(body, at, (count + 7) // 8, np.dtype(np.uint8))
        return np.unpackbits(packed, count=count).astype(np.bool_).reshape(shape), at
    if how == "raw":
        array, at = _take(body, at, count, dtype)
        return array.reshape(shape), at
    small = _by_name(details[0])
    if small is None or small.kind not in "iu":
        raise ColumnsError(f"a batch of columns is damaged: integers in {details[0]}")
    if how == "narrow":
        array, at = _take(body, at, count, small)
        return array.astype(dtype).reshape(shape), at
    if how in ("delta", "sparse"):
        if how == "delta":
            steps, at = _take(body, at, count - 1, small)
        else:
            packed, at = _take(body, at, (count + 6) // 8, np.dtype(np.uint8))
            there = np.unpackbits(packed, count=count - 1).astype(np.bool_)
            found, at = _take(body, at, int(np.count_nonzero(there)), small)
            steps = np.zeros(count - 1, small)
            steps[there] = found
        sums = np.empty(count, np.int64)
        sums[0] = details[1]
        sums[1:] = steps
        np.cumsum(sums, out=sums)
        return sums.view(dtype).reshape(shape), at
    raise ColumnsError(f"a column is stored in a way that is not known here: {how}")


def _decode_bytes(body: bytes, at: int, count: int, details: list[Any]) -> tuple[Array, int]:
    lengths, at = _decode(body, at, "int64", [count], details[0], details[1:])
    array = np.empty(count, object)
    for i, length in enumerate(lengths.tolist()):
        if length < 0 or at + length > len(body):
            raise ColumnsError("a batch of columns is damaged: a byte string runs over the end")
        array[i] = body[at : at + length]
        at += length
    return array, at


def _take(body: bytes, at: int, count: int, dtype: np.dtype[Any]) -> tuple[Array, int]:
    end = at + count * dtype.itemsize
    if count < 0 or end > len(body):
        raise ColumnsError(f"a batch of columns is cut short: {end} bytes are needed, {len(body)} there")
    if dtype.itemsize == 1 or count < 2:
        return np.frombuffer(body, dtype, count, at).copy(), end
    planes = np.frombuffer(body, np.uint8, count * dtype.itemsize, at).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(count), end


def _find_dtypes() -> dict[str, np.dtype[Any]]:
    kinds: list[Any] = [np.bool_, *(np.dtype(code).type for code in "bBhHiIlLqQefdFD")]
    kinds += [
        kind for kind in vars(ml_dtypes).values() if isinstance(kind, type) and issubclass(kind, np.generic)
    ]
    found: dict[str, np.dtype[Any]] = {}
    for kind in kinds:
        dtype: np.dtype[Any] = np.dtype(kind)
        found[dtype.name] = dtype.newbyteorder("<") if dtype.kind in "iufc" else dtype
    return found


_dtypes = _find_dtypes()
# By both byte orders; a dtype's own `name` is worked out anew each time, which is most of the cost of a small column.
_names = {
    order: name
    for name, dtype in _dtypes.items()
    for order in ((dtype, dtype.newbyteorder(">")) if dtype.kind in "iufc" else (dtype,))
}


def _by_name(name: Any) -> np.dtype[Any] | None:
    return _dtypes.get(name) if isinstance(name, str) else None
