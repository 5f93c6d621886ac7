"""Kernels written in CUDA, for devices whose namespace has `RawKernel`: CuPy's.

One kernel does here what takes several in the array namespace: a softmax reads its input three times and writes once, a block of
random words is made in registers.  The blocks of the ops register what is here (`register_kernel` with device "CUDA").
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

THREADS = 256  # in a block; a power of two

# One block of threads a row.  fmax passes over NaN, the sum does not: a row with a NaN is all NaN, as elsewhere.
ROWS = r"""
#ifndef INFINITY  // NVRTC has no math.h
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif
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

__device__ REAL row_max(const REAL* row, index_t columns, REAL* part) {
    REAL largest = -INFINITY;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) largest = fmax(largest, row[c]);
    return block_max(largest, part);
}

__device__ REAL row_sum_exp(const REAL* row, index_t columns, REAL largest, REAL* part) {
    REAL total = 0;
    for (index_t c = threadIdx.x; c < columns; c += THREADS) total += exp(row[c] - largest);
    return block_sum(total, part);
}

extern "C" __global__ void softmax(const REAL* x, REAL* y, index_t columns, int logarithm) {
    __shared__ REAL part[THREADS];
    const REAL* row = x + blockIdx.x * columns;
    REAL* out = y + blockIdx.x * columns;
    REAL largest = row_max(row, columns, part);
    REAL total = row_sum_exp(row, columns, largest, part);
    REAL log_total = log(total);
    for (index_t c = threadIdx.x; c < columns; c += THREADS)
        out[c] = logarithm ? (row[c] - largest) - log_total : exp(row[c] - largest) / total;
}

extern "C" __global__ void sparse_cross_entropy(
    const REAL* x, const index_t* labels, REAL* loss, REAL* backprop, index_t columns) {
    __shared__ REAL part[THREADS];
    const REAL* row = x + blockIdx.x * columns;
    REAL* out = backprop + blockIdx.x * columns;
    index_t label = labels[blockIdx.x];
    REAL largest = row_max(row, columns, part);
    REAL total = row_sum_exp(row, columns, largest, part);
    for (index_t c = threadIdx.x; c < columns; c += THREADS)
        out[c] = exp(row[c] - largest) / total - (c == label ? REAL(1) : REAL(0));
    // A label that is out of range reads nothing; whoever checks it says so.
    if (threadIdx.x == 0)
        loss[blockIdx.x] = label >= 0 && label < columns ? log(total) - (row[label] - largest) : REAL(NAN);
}
"""

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

SOURCES = {"softmax": ROWS, "sparse_cross_entropy": ROWS, "philox": PHILOX}
REALS = {"float32": "float", "float64": "double"}


def options(dtype: str = "float32") -> tuple[str, ...]:
    """What the compiler is given for a kernel on arrays of `dtype`."""
    return (f"-DREAL={REALS[dtype]}", f"-DTHREADS={THREADS}")


@cache
def _kernel(xp: Any, name: str, dtype: str) -> Any:
    return xp.RawKernel(SOURCES[name], name, options=options(dtype))


def softmax(xp: Any, logits: Any, logarithm: bool) -> Any:
    """The softmax along the last axis, or its logarithm: float32 or float64, of any shape with elements."""
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
    loss, backprop = xp.empty((rows,), logits.dtype), xp.empty_like(logits)
    arguments = (logits, labels, loss, backprop, np.int64(columns))
    _kernel(xp, "sparse_cross_entropy", logits.dtype.name)((rows,), (THREADS,), arguments)
    return loss, backprop


def philox(xp: Any, offsets: Any, key: int, low: int, high: int) -> Any:
    """The blocks of random words at `offsets` (uint64, shape [n]) from the counter (low, high): uint32, shape [n, 4]."""
    count = len(offsets)
    words = xp.empty((count, 4), np.uint32)
    if count:
        arguments = (offsets, words, np.uint64(count), np.uint64(key), np.uint64(low), np.uint64(high))
        _kernel(xp, "philox", "float32")((-(-count // THREADS),), (THREADS,), arguments)
    return words
