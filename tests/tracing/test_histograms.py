"""Histograms against NumPy, and against what TensorFlow's buckets promise."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracing.histograms import Histogram

_FLOATS = hnp.arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.floats(-1e19, 1e19) | st.sampled_from([0.0, 1e-13, -1e-13, 1.0, np.nan, np.inf, -np.inf]),
)


@given(_FLOATS)
def test_every_finite_value_is_in_its_bucket(values: np.ndarray) -> None:
    made = Histogram.of(values)
    finite = values[np.isfinite(values)]
    assert made.number == len(finite) == made.counts.sum()
    assert made.nonfinite == len(values) - len(finite)
    if len(finite):
        assert (made.minimum, made.maximum) == (finite.min(), finite.max())
        np.testing.assert_allclose(made.sum, finite.sum(), rtol=1e-9, atol=1e-3)
        assert np.all(np.diff(made.limits) > 0)
        assert made.counts[0] > 0 and made.counts[-1] > 0
        below = [np.count_nonzero(finite <= limit) for limit in made.limits]
        np.testing.assert_array_equal(np.cumsum(made.counts), below)
    again = Histogram.unpack(made.pack())
    np.testing.assert_array_equal(again.limits, made.limits)
    np.testing.assert_array_equal(again.counts, made.counts)
    for name in ("minimum", "maximum", "number", "sum", "sum_squares", "nonfinite"):
        assert getattr(again, name) == getattr(made, name)


def test_buckets_grow_by_a_tenth_around_zero() -> None:
    made = Histogram.of(np.linspace(-10, 10, 10_001))
    positive = made.limits[made.limits > 1e-6]
    np.testing.assert_allclose(positive[1:] / positive[:-1], 1.1, rtol=1e-9)
    assert 0.0 in made.limits


def test_integers_bools_and_nothing() -> None:
    assert Histogram.of(np.array([[True, False], [True, True]])).sum == 3
    assert Histogram.of(np.arange(10, dtype=np.uint8)).maximum == 9
    empty = Histogram.of(np.zeros((0, 3)))
    assert (empty.number, len(empty.limits)) == (0, 0)
    assert Histogram.unpack(empty.pack()).number == 0
