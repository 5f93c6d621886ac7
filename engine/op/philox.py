"""Counter-based random numbers: Philox 4×32-10, and the distributions made of it, number for number as TensorFlow's on the CPU.

A stream is a 64-bit key and a 128-bit counter.  Block i of a stream is four 32-bit words that depend on key and counter + i
alone: nothing is remembered, so replaying a step or going back in time needs the counter and nothing else.  Written against an
array namespace `xp`: the words are the same on the CPU and on a GPU.

Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from engine.op import cuda
from engine.op.libm import log32, sincos32

_WORD = 0xFFFFFFFF
_DOUBLE_WORD = 0xFFFFFFFFFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and the square root of 3, less 1
_ROUNDS = 10
_CHUNK = 1 << 13  # blocks computed at once on the CPU: the intermediates stay in the cache

# TensorFlow reserves so many blocks for each output element, whatever the distribution takes of them.
BLOCKS_PER_OUTPUT = 256

_SMALLEST_UNIFORM = 1.0e-7  # what Box–Muller takes for 0, whose logarithm is none
_TRUNCATE_AT = 2.0


@dataclass(frozen=True, slots=True)
class Stream:
    """A place in a sequence of random blocks: the key, and the 128-bit counter of the next block, low and high half."""

    key: int
    low: int
    high: int

    @classmethod
    def seeded(cls, seed: int, seed2: int) -> Stream:
        """The start of the stream that an op with these two seeds draws from."""
        return cls(seed & _DOUBLE_WORD, 0, seed2 & _DOUBLE_WORD)

    def skip(self, blocks: int) -> Stream:
        """The stream `blocks` further on."""
        counter = ((self.high << 64) | self.low) + blocks
        return Stream(self.key, counter & _DOUBLE_WORD, (counter >> 64) & _DOUBLE_WORD)


def words(xp: Any, stream: Stream, offsets: Any) -> Any:
    """The blocks at `offsets` (uint64, shape [n]) from the start of `stream`: uint32, shape [n, 4]."""
    if hasattr(xp, "RawKernel"):
        return cuda.philox(xp, offsets, stream.key, stream.low, stream.high)
    result = xp.empty((len(offsets), 4), xp.uint32)
    step = _CHUNK if xp is np else max(len(offsets), 1)
    for start in range(0, len(offsets), step):
        _fill(xp, stream, offsets[start : start + step], result[start : start + step])
    return result


def _fill(xp: Any, stream: Stream, offsets: Any, result: Any) -> None:
    u64 = xp.uint64
    mask, half = u64(_WORD), u64(32)
    low = offsets + u64(stream.low)
    high = u64(stream.high) + (low < offsets).astype(u64)  # the carry
    c0, c1, c2, c3 = low & mask, low >> half, high & mask, high >> half
    key0, key1 = stream.key & _WORD, stream.key >> 32
    p0, p1 = xp.empty_like(low), xp.empty_like(low)
    for _ in range(_ROUNDS):
        xp.multiply(c0, u64(_MULTIPLIERS[0]), out=p0)
        xp.multiply(c2, u64(_MULTIPLIERS[1]), out=p1)
        xp.bitwise_xor(c1, u64(key0), out=c1)
        xp.bitwise_xor(c3, u64(key1), out=c3)
        xp.right_shift(p1, half, out=c0)
        xp.right_shift(p0, half, out=c2)
        xp.bitwise_xor(c0, c1, out=c0)
        xp.bitwise_xor(c2, c3, out=c2)
        xp.bitwise_and(p1, mask, out=c1)
        xp.bitwise_and(p0, mask, out=c3)
        key0, key1 = (key0 + _KEY_STEPS[0]) & _WORD, (key1 + _KEY_STEPS[1]) & _WORD
    result[:, 0], result[:, 1], result[:, 2], result[:, 3] = c0, c1, c2, c3


def _blocks(xp: Any, stream: Stream, count: int) -> Any:
    return words(xp, stream, xp.arange(count, dtype=xp.uint64))


def raw_words(xp: Any, stream: Stream, count: int) -> Any:
    """The first `count` 32-bit words of the stream: uint32, shape [count]."""
    return _blocks(xp, stream, -(-count // 4)).reshape(-1)[:count]


# From words to floats in [0, 1): the mantissa is filled with random bits under the exponent of 1, and 1 taken away.


def _float32(xp: Any, word: Any) -> Any:
    return ((word & xp.uint32(0x7FFFFF)) | xp.uint32(0x3F800000)).view(xp.float32) - xp.float32(1)


def _float64(xp: Any, first: Any, second: Any) -> Any:
    mantissa = ((first & xp.uint32(0xFFFFF)).astype(xp.uint64) << xp.uint64(32)) | second.astype(xp.uint64)
    return (mantissa | xp.uint64(1023 << 52)).view(xp.float64) - 1.0


def _float16(xp: Any, word: Any) -> Any:
    bits = (word & xp.uint32(0x3FF)).astype(xp.uint16) | xp.uint16(15 << 10)
    return bits.view(xp.float16) - xp.float16(1)


def _bfloat16(xp: Any, word: Any) -> Any:
    bits = (word & xp.uint32(0x7F)).astype(xp.uint16) | xp.uint16(127 << 7)
    one = ml_dtypes.bfloat16(1)
    return bits.view(ml_dtypes.bfloat16) - one


def uniform(xp: Any, stream: Stream, count: int, dtype: np.dtype[Any]) -> Any:
    """`count` floats of `dtype`, uniform in [0, 1)."""
    if dtype == np.float64:
        blocks = _blocks(xp, stream, -(-count // 2))
        pairs = _float64(xp, blocks[:, ::2], blocks[:, 1::2])
        return pairs.reshape(-1)[:count]
    flat = raw_words(xp, stream, count)
    convert = {"float32": _float32, "float16": _float16}.get(dtype.name, _bfloat16)
    return convert(xp, flat)


def uniform_int(xp: Any, stream: Stream, count: int, low: int, high: int, dtype: np.dtype[Any]) -> Any:
    """`count` integers of `dtype` (int32 or int64) in [low, high), with the slight bias of a plain remainder, as TensorFlow's."""
    if dtype == np.int32:
        drawn = raw_words(xp, stream, count) % xp.uint32(high - low)
        return (drawn + xp.uint32(low & _WORD)).view(xp.int32)
    blocks = _blocks(xp, stream, -(-count // 2)).astype(xp.uint64)
    wide = (blocks[:, ::2] | (blocks[:, 1::2] << xp.uint64(32))).reshape(-1)[:count]
    return (wide % xp.uint64(high - low) + xp.uint64(low & _DOUBLE_WORD)).view(xp.int64)


# Normal deviates: Box and Muller, "A Note on the Generation of Random Normal Deviates" (1958).


def _box_muller32(xp: Any, blocks: Any) -> Any:
    """Four float32 deviates from each block: shape [n, 4]."""
    u1 = xp.maximum(_float32(xp, blocks[:, ::2]), xp.float32(_SMALLEST_UNIFORM))
    angle = (_float32(xp, blocks[:, 1::2]).astype(xp.float64) * (2.0 * math.pi)).astype(xp.float32)
    radius = xp.sqrt(xp.float32(-2) * log32(xp, u1))
    sine, cosine = sincos32(xp, angle)
    return xp.stack([sine * radius, cosine * radius], axis=-1).reshape(-1, 4)


def _box_muller64(xp: Any, blocks: Any) -> Any:
    """Two float64 deviates from each block: shape [n, 2]."""
    u1 = xp.maximum(_float64(xp, blocks[:, 0], blocks[:, 1]), _SMALLEST_UNIFORM)
    angle = _float64(xp, blocks[:, 2], blocks[:, 3]) * (2.0 * math.pi)
    radius = xp.sqrt(-2.0 * xp.log(u1))
    return xp.stack([xp.sin(angle) * radius, xp.cos(angle) * radius], axis=-1)


def _deviates(xp: Any, blocks: Any, dtype: np.dtype[Any]) -> Any:
    return _box_muller64(xp, blocks) if dtype == np.float64 else _box_muller32(xp, blocks)


def normal(xp: Any, stream: Stream, count: int, dtype: np.dtype[Any]) -> Any:
    """`count` floats of `dtype` from the normal distribution with mean 0 and standard deviation 1."""
    per_block = 2 if dtype == np.float64 else 4
    found = _deviates(xp, _blocks(xp, stream, -(-count // per_block)), dtype)
    return found.reshape(-1)[:count].astype(dtype)


def truncated_normal(xp: Any, stream: Stream, count: int, dtype: np.dtype[Any]) -> Any:
    """As `normal`, but values with a magnitude of 2 or more are drawn again.

    As the number of draws is not known beforehand, each group of outputs (as many as a block yields) has its own far-apart part
    of the stream.
    """
    size = 2 if dtype == np.float64 else 4
    groups = -(-count // size)
    apart = size * BLOCKS_PER_OUTPUT // 4
    starts = xp.arange(groups, dtype=xp.uint64) * xp.uint64(apart)
    result = _deviates(xp, words(xp, stream, starts), dtype)
    lacking = xp.flatnonzero((xp.abs(result) >= _TRUNCATE_AT).any(axis=1))
    depth = 4
    while len(lacking):
        offsets = starts[lacking][:, None] + xp.arange(depth, dtype=xp.uint64)
        drawn = _deviates(xp, words(xp, stream, offsets.reshape(-1)), dtype).reshape(
            len(lacking), depth * size
        )
        inside = xp.abs(drawn) < _TRUNCATE_AT
        enough = inside.sum(axis=1) >= size
        order = xp.argsort(~inside, axis=1, kind="stable")[:, :size]
        result[lacking[enough]] = xp.take_along_axis(drawn, order, axis=1)[enough]
        lacking = lacking[~enough]
        depth *= 4
    return result.reshape(-1)[:count].astype(dtype)


def permutation(stream: Stream, count: int) -> Any:
    """A random order of `count` things: int64, shape [count], on the host.

    Fisher and Yates's exchanges are one after the other by nature, so this is a loop.
    """
    order = list(range(count))
    draws = raw_words(np, stream, max(count - 1, 0)).tolist()
    for i, word in enumerate(draws):
        j = i + word % (count - i)
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
