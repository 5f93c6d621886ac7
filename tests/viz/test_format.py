"""How numbers are written: units, digits, widths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from viz import format as fmt


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0 ns"),
        (412, "412 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (999_400, "999 µs"),
        (999_900, "1.00 ms"),
        (3_420_000, "3.42 ms"),
        (1_200_000_000, "1.20 s"),
        (99_900_000_000, "99.9 s"),
        (123_000_000_000, "2 min 03 s"),
        (3_600_000_000_000, "1 h 00 min"),
        (11_220_000_000_000, "3 h 07 min"),
        (-1500, "-1.50 µs"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert fmt.duration(value) == text


@given(st.floats(1, 9e10))
def test_a_duration_says_its_value_to_three_digits(value: float) -> None:
    number, unit = fmt.duration(value).split(" ")
    scale = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert math.isclose(float(number) * scale, value, rel_tol=0.006, abs_tol=0.51)
    assert 1 <= len(number) <= 4


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (1 << 20, "1.00 MiB"),
        (5 << 30, "5.00 GiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert fmt.nbytes(size) == text


@pytest.mark.parametrize(
    "share, text",
    [(0, "0 %"), (0.5, "50 %"), (0.0123, "1.2 %"), (0.0001, "<0.1 %"), (1, "100 %"), (0.0999, "10 %")],
)
def test_shares(share: float, text: str) -> None:
    assert fmt.percent(share) == text


def test_shapes_dtypes_and_devices() -> None:
    assert fmt.shape((None, 3)) == "[?, 3]"
    assert fmt.shape(()) == "[]"
    assert fmt.shape(None) == "<unknown>"
    assert fmt.tensor("float32_ref", (2,)) == "float32&[2]"
    assert fmt.device("/job:localhost/replica:0/task:0/device:CPU:0") == "CPU:0"
    assert fmt.device("/job:worker/replica:0/task:3/device:GPU:1") == "worker/3 GPU:1"
    assert fmt.device("") == "(any)"


def test_values() -> None:
    assert fmt.number(np.float32(0.1)) == "0.1"
    assert fmt.number(float("nan")) == "nan"
    assert fmt.number(np.int64(7)) == "7"
    assert fmt.number(True) == "True"
    assert fmt.number(b"abc") == "'abc'"
    assert fmt.number(1 + 2j) == "1+2j"


def test_names_lose_their_middle_first() -> None:
    name = "gradients/tower_0/dense_1/MatMul_grad/MatMul_1"
    assert fmt.shorten_name(name, 60) == name
    assert fmt.shorten_name(name, 33) == "gradients/…/MatMul_grad/MatMul_1"
    assert fmt.shorten_name(name, 20) == "gradients/…/MatMul_1"
    assert fmt.shorten_name(name, 8) == "MatMul_1"


@given(st.text("ab/_é漢", max_size=40), st.integers(1, 30))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert cell_len(fmt.shorten_name(text, width)) <= width
    assert cell_len(fmt.shorten(text, width)) <= width
    assert cell_len(fmt.pad(text, width)) == width
    assert cell_len(fmt.pad(text, width, "right")) == width


def test_sparklines_show_minimum_maximum_and_gaps() -> None:
    assert fmt.sparkline([0, 1, 2, 3, 4, 5, 6], 8) == "▁▂▃▄▅▆▇"
    assert fmt.sparkline([1, float("nan"), 2], 10) == "▁ ▇"
    assert fmt.sparkline([], 10) == ""
    assert fmt.sparkline([3, 3], 10) == "▁▁"
    # the mean of each cell's share
    assert fmt.sparkline([0, 0, 7, 7], 2) == "▁▇"


def test_meters() -> None:
    assert fmt.meter(0.5, 4) == "━━  "
    assert fmt.meter(0.6, 4) == "━━╸ "
    assert fmt.meter(0.0, 3) == "   "
    assert fmt.meter(0.001, 3) == "   "
    assert fmt.meter(2, 3) == "━━━"


def test_axis_labels_tell_neighbours_apart() -> None:
    labels = [fmt.axis_time(at, 500) for at in (0, 500, 1000, 1500, 2000)]
    assert labels == ["0", "500 ns", "1.0 µs", "1.5 µs", "2.0 µs"]
