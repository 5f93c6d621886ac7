"""Kernels written in CUDA, for devices whose namespace has `RawKernel`: CuPy's.

One kernel does here what takes several in the array namespace: a softmax or a layer's normalization reads its input three times
and writes once, a block of random words is made in registers.  16-bit floats are computed in float32 and rounded once.  The
blocks of the ops register what is here (`register_kernel` with device "CUDA").
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

THREADS = 256  # in a block; a power of two

# 16-bit floats and back.  Where HALF_BY_HAND is set, it is the compiler's own float16 (C++ on a host).
HALVES = r"""
typedef unsigned short half_t;
#ifdef HALF_BY_HAND
__device__ float from_half(half_t bits) { HALF_BY_HAND h; __builtin_memcpy(&h, &bits, 2); return (float)h; }
__device__ half_t to_half(float x) { HALF_BY_HAND h = (HALF_BY_HAND)x; half_t b; __builtin_memcpy(&b, &h, 2); return b; }
__device__ half_t to_half(double x) { HALF_BY_HAND h = (HALF_BY_HAND)x; half_t b; __builtin_memcpy(&b, &h, 2); return b; }
__device__ unsigned float_bits(float x) { unsigned u; __builtin_memcpy(&u, &x, 4); return u; }
__device__ float bits_float(unsigned u) { float x; __builtin_memcpy(&x, &u, 4); return x; }
#else
__device__ float from_half(half_t bits) { float x; asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits)); return x; }
__device__ half_t to_half(float x) { half_t b; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(b) : "f"(x)); return b; }
__device__ half_t to_half(double x) { half_t b; asm("cvt.rn.f16.f64 %0, %1;" : "=h"(b) : "d"(x)); return b; }
__device__ unsigned float_bits(float x) { return __float_as_uint(x); }
__device__ float bits_float(unsigned u) { return __uint_as_float(u); }
#endif
__device__ float from_bfloat(half_t bits) { return bits_float((unsigned)bits << 16); }
__device__ half_t to_bfloat(float x) {  // to the nearest, ties to even
    unsigned u = float_bits(x);
    if (x != x) return (half_t)((u >> 16) | 0x40);
    return (half_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
"""

# NVRTC has no math.h.
CONSTANTS = r"""
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
"""

# One block of threads a row.  fmax passes over NaN, the sum does not: a row with a NaN is all NaN, as elsewhere.
ROWS = (
    CONSTANTS
    + HALVES
    + r"""
typedef long long index_t;

__device__ REAL block_max(REAL value, REAL* part) {
    part[threadIdx.x] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] = fmax(part[threadIdx.x], part[threadIdx.x + half]);
        __syncthreads();
    }
    REAL result = part[0];
    __syncthreads();
    return result;
}

__device__ REAL block_sum(REAL value, REAL* part) {
    part[threadIdx.x] = value;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    REAL result = part[0];
    __syncthreads();
    return result;
}

// The largest of a row whose elements are `step` apart, and the sum of the exponentials of what is left of each without it.
__device__ REAL row_max(const STORED* row, index_t columns, index_t step, REAL* part) {
    REAL largest = -INFINITY;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) largest = fmax(largest, LOAD(row[c * step]));
    return block_max(largest, part);
}

__device__ REAL row_sum_exp(const STORED* row, index_t columns, index_t step, REAL largest, REAL* part) {
    REAL total = 0;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) total += exp(LOAD(row[c * step]) - largest);
    return block_sum(total, part);
}

extern "C" __global__ void softmax(const STORED* x, STORED* y, index_t columns, int logarithm) {
    __shared__ REAL part[THREADS];
    const STORED* row = x + blockIdx.x * columns;
    STORED* out = y + blockIdx.x * columns;
    REAL largest = row_max(row, columns, 1, part);
    REAL total = row_sum_exp(row, columns, 1, largest, part);
    REAL log_total = log(total);
    for (index_t c = threadIdx.x; c < columns; c += THREADS) {
        REAL shifted = LOAD(row[c]) - largest;
        out[c] = SAVE(logarithm ? shifted - log_total : exp(shifted) / total);
    }
}

extern "C" __global__ void sparse_cross_entropy(
    const STORED* x, const index_t* labels, STORED* loss, STORED* backprop, index_t columns) {
    __shared__ REAL part[THREADS];
    const STORED* row = x + blockIdx.x * columns;
    STORED* out = backprop + blockIdx.x * columns;
    index_t label = labels[blockIdx.x];
    REAL largest = row_max(row, columns, 1, part);
    REAL total = row_sum_exp(row, columns, 1, largest, part);
    for (index_t c = threadIdx.x; c < columns; c += THREADS)
        out[c] = SAVE(exp(LOAD(row[c]) - largest) / total - (c == label ? REAL(1) : REAL(0)));
    // A label that is out of range reads nothing; whoever checks it says so.
    if (threadIdx.x == 0) {
        bool there = label >= 0 && label < columns;
        loss[blockIdx.x] = SAVE(there ? log(total) - (LOAD(row[label]) - largest) : REAL(NAN));
    }
}

// Logits and labels may broadcast: a step of 0 stays where it is.
extern "C" __global__ void cross_entropy(
    const STORED* x, const STORED* labels, STORED* loss, STORED* backprop, index_t columns,
    index_t x_row, index_t x_step, index_t label_row, index_t label_step) {
    __shared__ REAL part[THREADS];
    const STORED* row = x + blockIdx.x * x_row;
    const STORED* target = labels + blockIdx.x * label_row;
    STORED* out = backprop + blockIdx.x * columns;
    REAL largest = row_max(row, columns, x_step, part);
    REAL total = row_sum_exp(row, columns, x_step, largest, part);
    REAL log_total = log(total), lost = 0;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) {
        REAL shifted = LOAD(row[c * x_step]) - largest, wanted = LOAD(target[c * label_step]);
        lost += wanted * (log_total - shifted);
        out[c] = SAVE(exp(shifted) / total - wanted);
    }
    lost = block_sum(lost, part);
    if (threadIdx.x == 0) loss[blockIdx.x] = SAVE(lost);
}

// parts: 1 there is a scale, 2 there is an offset.
extern "C" __global__ void layer_norm(
    const STORED* x, const STORED* epsilon, const STORED* scale, const STORED* offset, STORED* y, index_t columns, int parts) {
    __shared__ REAL part[THREADS];
    const STORED* row = x + blockIdx.x * columns;
    STORED* out = y + blockIdx.x * columns;
    REAL total = 0;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) total += LOAD(row[c]);
    REAL mean = block_sum(total, part) / REAL(columns);
    total = 0;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) {
        REAL away = LOAD(row[c]) - mean;
        total += away * away;
    }
    REAL variance = block_sum(total, part) / REAL(columns);
    REAL inverse = REAL(1) / sqrt(variance + LOAD(epsilon[0]));
    for (index_t c = threadIdx.x; c < columns; c += THREADS) {
        REAL value = (LOAD(row[c]) - mean) * inverse;
        if (parts & 1) value *= LOAD(scale[c]);
        if (parts & 2) value += LOAD(offset[c]);
        out[c] = SAVE(value);
    }
}
"""
)

# Philox 4×32-10 (see `engine.op.philox`): one thread a block of four words.
PHILOX = r"""
typedef unsigned int word_t;
typedef unsigned long long wide_t;

extern "C" __global__ void philox(
    const wide_t* offsets, word_t* words, wide_t count, wide_t key, wide_t low, wide_t high) {
    wide_t i = (wide_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    wide_t at = low + offsets[i];
    if (at < low) high += 1;
    word_t c0 = (word_t)at, c1 = (word_t)(at >> 32), c2 = (word_t)high, c3 = (word_t)(high >> 32);
    word_t key0 = (word_t)key, key1 = (word_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        wide_t p0 = (wide_t)0xD2511F53u * c0, p1 = (wide_t)0xCD9E8D57u * c2;
        c0 = (word_t)(p1 >> 32) ^ c1 ^ key0;
        c1 = (word_t)p1;
        c2 = (word_t)(p0 >> 32) ^ c3 ^ key1;
        c3 = (word_t)p0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    words[4 * i] = c0;
    words[4 * i + 1] = c1;
    words[4 * i + 2] = c2;
    words[4 * i + 3] = c3;
}
"""

ROW_KERNELS = ("softmax", "sparse_cross_entropy", "cross_entropy", "layer_norm")
SOURCES = {**dict.fromkeys(ROW_KERNELS, ROWS), "philox": PHILOX}

# By dtype: what is computed in, what is in memory, and the functions from one to the other.
REALS: dict[str, tuple[str, str, str, str]] = {
    "float16": ("float", "half_t", "from_half", "to_half"),
    "bfloat16": ("float", "half_t", "from_bfloat", "to_bfloat"),
    "float32": ("float", "float", "", ""),
    "float64": ("double", "double", "", ""),
}


def options(dtype: str = "float32") -> tuple[str, ...]:
    """What the compiler is given for a kernel on arrays of `dtype`."""
    names = zip(("REAL", "STORED", "LOAD", "SAVE"), REALS[dtype], strict=True)
    return (*(f"-D{name}={value}" for name, value in names), f"-DTHREADS={THREADS}")


@cache
def _kernel(xp: Any, name: str, dtype: str) -> Any:
    return xp.RawKernel(SOURCES[name], name, options=options(dtype))


def softmax(xp: Any, logits: Any, logarithm: bool) -> Any:
    """The softmax along the last axis, or its logarithm: floats, of any shape with elements."""
    logits = xp.ascontiguousarray(logits)
    result = xp.empty_like(logits)
    columns = logits.shape[-1]
    rows = logits.size // columns
    arguments = (logits, result, np.int64(columns), np.int32(logarithm))
    _kernel(xp, "softmax", logits.dtype.name)((rows,), (THREADS,), arguments)
    return result


def sparse_cross_entropy(xp: Any, logits: Any, labels: Any) -> tuple[Any, Any]:
    """The losses (shape [n]) and their gradient (shape [n, classes]) for logits [n, classes] and labels [n], n > 0."""
    logits, labels = xp.ascontiguousarray(logits), xp.ascontiguousarray(labels.astype(np.int64))
    rows, columns = logits.shape
    loss, backprop = xp.empty((rows,), logits.dtype), xp.empty(logits.shape, logits.dtype)
    arguments = (logits, labels, loss, backprop, np.int64(columns))
    _kernel(xp, "sparse_cross_entropy", logits.dtype.name)((rows,), (THREADS,), arguments)
    return loss, backprop


def cross_entropy(xp: Any, logits: Any, labels: Any) -> tuple[Any, Any]:
    """The losses (shape [n]) and their gradient (shape [n, classes]) for logits and labels [n, classes] with elements.

    Both may be views with any steps, 0 too.
    """
    rows, columns = logits.shape
    loss, backprop = xp.empty((rows,), logits.dtype), xp.empty((rows, columns), logits.dtype)
    steps = [np.int64(stride // each.itemsize) for each in (logits, labels) for stride in each.strides]
    arguments = (logits, labels, loss, backprop, np.int64(columns), *steps)
    _kernel(xp, "cross_entropy", logits.dtype.name)((rows,), (THREADS,), arguments)
    return loss, backprop


def layer_norm(xp: Any, x: Any, epsilon: Any, scale: Any, offset: Any) -> Any:
    """(x - mean) / sqrt(variance + epsilon) · scale + offset along the last axis of x, which has elements.

    epsilon: one element; scale, offset: as many elements as the last axis is long, or None for 1 and 0; all of x's dtype.
    """
    x = xp.ascontiguousarray(x)
    result = xp.empty(x.shape, x.dtype)
    columns = x.shape[-1]
    vectors = [x if each is None else xp.ascontiguousarray(each) for each in (scale, offset)]
    parts = (scale is not None) + 2 * (offset is not None)
    arguments = (x, epsilon, *vectors, result, np.int64(columns), np.int32(parts))
    _kernel(xp, "layer_norm", x.dtype.name)((x.size // columns,), (THREADS,), arguments)
    return result


def philox(xp: Any, offsets: Any, key: int, low: int, high: int) -> Any:
    """The blocks of random words at `offsets` (uint64, shape [n]) from the counter (low, high): uint32, shape [n, 4]."""
    count = len(offsets)
    words = xp.empty((count, 4), np.uint32)
    if count:
        arguments = (offsets, words, np.uint64(count), np.uint64(key), np.uint64(low), np.uint64(high))
        _kernel(xp, "philox", "float32")((-(-count // THREADS),), (THREADS,), arguments)
    return words
