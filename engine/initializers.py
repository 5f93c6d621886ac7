"""Initializers: objects that make a variable's initial value from its shape and dtype, under TensorFlow 1's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.op import const, fills
from engine.op import random as draws
from engine.types import dtypes
from engine.types.dtypes import DType, as_dtype

__all__ = [
    "constant_initializer",
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "ones_initializer",
    "random_normal_initializer",
    "random_uniform_initializer",
    "truncated_normal_initializer",
    "uniform_unit_scaling_initializer",
    "variance_scaling_initializer",
    "zeros_initializer",
]

_TRUNCATED_STDDEV = 0.87962566103423978  # of a normal distribution cut off at two standard deviations


class Initializer:
    """Called with a shape (and a dtype, a partition's information), it returns the initial value, a tensor."""

    dtype: DType

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        raise NotImplementedError

    def _dtype(self, dtype: Any) -> DType:
        return self.dtype if dtype is None else as_dtype(dtype)


def _floating(dtype: Any) -> DType:
    found = as_dtype(dtype)
    if not found.is_floating:
        raise ValueError(f"Expected floating point type, got {found!r}.")
    return found


class zeros_initializer(Initializer):
    """All 0."""

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        return fills.zeros(shape, self._dtype(dtype))


class ones_initializer(Initializer):
    """All 1."""

    def __init__(self, dtype: Any = dtypes.float32) -> None:
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        return fills.ones(shape, self._dtype(dtype))


class constant_initializer(Initializer):
    """`value` everywhere, or the values of a list or array, filled up with the last one as `tf.constant` does.

    verify_shape: whether a list must have the variable's shape exactly.  Raises TypeError for what is no number, list or array.
    """

    def __init__(self, value: Any = 0, dtype: Any = dtypes.float32, verify_shape: bool = False) -> None:
        if not (np.isscalar(value) or isinstance(value, list | tuple | np.ndarray)):
            raise TypeError(
                f"Invalid type for initial value: {type(value).__name__}. Expected a number, list, tuple or array."
            )
        self.value = value
        self.dtype = as_dtype(dtype)
        self._verify_shape = verify_shape

    def __call__(
        self,
        shape: Sequence[int],
        dtype: Any = None,
        partition_info: Any = None,
        verify_shape: bool | None = None,
    ) -> Any:
        verify = self._verify_shape if verify_shape is None else verify_shape
        return const.constant(self.value, dtype=self._dtype(dtype), shape=shape, verify_shape=verify)


class identity_initializer(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere.  Raises ValueError for another rank than 2."""

    def __init__(self, gain: float = 1.0, dtype: Any = dtypes.float32) -> None:
        self.gain = gain
        self.dtype = _floating(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        if len(shape) != 2:
            raise ValueError(
                f"Identity matrix initializer can only be used for 2D matrices, not for shape {tuple(shape)}."
            )
        return const.constant(np.eye(shape[0], shape[1]) * self.gain, dtype=self._dtype(dtype))


class random_uniform_initializer(Initializer):
    """Uniform in [minval, maxval); maxval None: 1 for floats."""

    def __init__(
        self, minval: Any = 0.0, maxval: Any = None, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.minval, self.maxval, self.seed = minval, maxval, seed
        self.dtype = as_dtype(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        return draws.random_uniform(shape, self.minval, self.maxval, self._dtype(dtype), seed=self.seed)


class random_normal_initializer(Initializer):
    """Normally distributed."""

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        return draws.random_normal(shape, self.mean, self.stddev, self._dtype(dtype), seed=self.seed)


class truncated_normal_initializer(Initializer):
    """Normally distributed, values two or more standard deviations away drawn again."""

    def __init__(
        self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = dtypes.float32
    ) -> None:
        self.mean, self.stddev, self.seed = mean, stddev, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        return draws.truncated_normal(shape, self.mean, self.stddev, self._dtype(dtype), seed=self.seed)


def _fans(shape: Sequence[int]) -> tuple[float, float]:
    """How many inputs and outputs a unit of weights of that shape has; leading dimensions are a convolution's window."""
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    window = float(np.prod(shape[:-2]))
    return shape[-2] * window, shape[-1] * window


class variance_scaling_initializer(Initializer):
    """Random with variance scale / n, where n is the number of a unit's inputs, outputs, or their mean.

    mode: "fan_in", "fan_out" or "fan_avg"; distribution: "truncated_normal" ("normal" is the same), "untruncated_normal" or
    "uniform".  Raises ValueError for others, or a scale that is not positive.
    Glorot and Bengio (2010); He et al. (2015).
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: Any = dtypes.float32,
    ) -> None:
        if scale <= 0.0:
            raise ValueError(f"`scale` must be a positive float, not {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"Invalid `mode` argument: {mode!r}; it is 'fan_in', 'fan_out' or 'fan_avg'")
        distribution = distribution.lower()
        if distribution not in ("normal", "uniform", "truncated_normal", "untruncated_normal"):
            raise ValueError(f"Invalid `distribution` argument: {distribution!r}")
        self.scale, self.mode, self.distribution, self.seed = scale, mode, distribution, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        whole = partition_info.full_shape if partition_info is not None else shape
        fan_in, fan_out = _fans(whole)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[self.mode]
        variance = self.scale / max(1.0, count)
        wanted = self._dtype(dtype)
        if self.distribution in ("normal", "truncated_normal"):
            return draws.truncated_normal(
                shape, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, wanted, seed=self.seed
            )
        if self.distribution == "untruncated_normal":
            return draws.random_normal(shape, 0.0, math.sqrt(variance), wanted, seed=self.seed)
        limit = math.sqrt(3.0 * variance)
        return draws.random_uniform(shape, -limit, limit, wanted, seed=self.seed)


class uniform_unit_scaling_initializer(Initializer):
    """Uniform, with a variance that keeps the scale of the inputs: factor · sqrt(3 / inputs) is the limit.

    Sussillo and Abbott, "Random Walk Initialization" (2014).
    """

    def __init__(self, factor: float = 1.0, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        self.factor, self.seed = factor, seed
        self.dtype = _floating(dtype)

    def __call__(self, shape: Sequence[int], dtype: Any = None, partition_info: Any = None) -> Any:
        whole = partition_info.full_shape if partition_info is not None else shape
        inputs = max(1.0, float(np.prod(whole[:-1])))
        limit = math.sqrt(3 / inputs) * self.factor
        return draws.random_uniform(shape, -limit, limit, self._dtype(dtype), seed=self.seed)


class glorot_uniform_initializer(variance_scaling_initializer):
    """Uniform in ±sqrt(6 / (inputs + outputs)): Glorot and Bengio (2010).  What `get_variable` uses for floats."""

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, dtype)


class glorot_normal_initializer(variance_scaling_initializer):
    """Truncated normal with variance 2 / (inputs + outputs): Glorot and Bengio (2010)."""

    def __init__(self, seed: int | None = None, dtype: Any = dtypes.float32) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, dtype)


def he_normal(seed: int | None = None) -> variance_scaling_initializer:
    """Truncated normal with variance 2 / inputs: He et al. (2015)."""
    return variance_scaling_initializer(2.0, "fan_in", "truncated_normal", seed)


def he_uniform(seed: int | None = None) -> variance_scaling_initializer:
    """Uniform with variance 2 / inputs: He et al. (2015)."""
    return variance_scaling_initializer(2.0, "fan_in", "uniform", seed)


def lecun_normal(seed: int | None = None) -> variance_scaling_initializer:
    """Truncated normal with variance 1 / inputs: LeCun et al., "Efficient BackProp" (1998)."""
    return variance_scaling_initializer(1.0, "fan_in", "truncated_normal", seed)


def lecun_uniform(seed: int | None = None) -> variance_scaling_initializer:
    """Uniform with variance 1 / inputs: LeCun et al. (1998)."""
    return variance_scaling_initializer(1.0, "fan_in", "uniform", seed)


# The same under the names of `tf.initializers`.
zeros = zeros_initializer
ones = ones_initializer
constant = constant_initializer
identity = identity_initializer
random_uniform = random_uniform_initializer
random_normal = random_normal_initializer
truncated_normal = truncated_normal_initializer
uniform_unit_scaling = uniform_unit_scaling_initializer
variance_scaling = variance_scaling_initializer
glorot_uniform = glorot_uniform_initializer
glorot_normal = glorot_normal_initializer
