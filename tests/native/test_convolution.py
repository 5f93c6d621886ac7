"""Native convolutions: against float64 NumPy, however the work is cut, wherever the arrays lie."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import windows_by_hand as by_hand
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from native_kernels import run, unaligned
from searches import examples

from engine.native import compiler
from engine.native.conv_geometry import Geometry, Padding, best_tile, geometry
from engine.native.convolution import conv2d, conv2d_backprop_filter, conv2d_backprop_input
from engine.native.emitter import Machine, this_machine
from engine.native.kernel import NativeKernel

pytestmark = pytest.mark.skipif(not compiler.available(), reason=compiler.why_not())

Array = np.ndarray[Any, Any]
MACHINES = [Machine(16, 16), Machine(32, 16), Machine(64, 32)]


@dataclass(frozen=True)
class Case:
    """What is convolved."""

    images: tuple[int, int, int, int]
    filters: tuple[int, int, int, int]
    strides: tuple[int, int]
    padding: Padding
    dtype: str = "float32"

    @property
    def window(self) -> Geometry | None:
        return geometry(self.images[1:3], self.filters[:2], self.strides, self.padding)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    images = draw(by_hand.images)
    filters = (*draw(by_hand.sizes), images[3], draw(st.integers(1, 40)))
    dtype = draw(st.sampled_from(["float32", "float32", "float64"]))
    found = Case(images, filters, draw(by_hand.strides), draw(by_hand.paddings), dtype)
    assume(found.window is not None)
    return found


Operands = tuple[list[Array], tuple[int, ...]]


def random(rng: np.random.Generator, case: Case, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape).astype(case.dtype)


def operands(case: Case, seed: int = 0) -> tuple[Array, Array, Array]:
    """Images, filters and gradients."""
    rng = np.random.default_rng(seed)
    assert case.window is not None
    gradients = (case.images[0], *case.window.output, case.filters[3])
    return random(rng, case, case.images), random(rng, case, case.filters), random(rng, case, gradients)


def computed(
    kernel: NativeKernel | None, inputs: list[Array], like: Array, chunk: int | None = None
) -> Array:
    assert kernel is not None
    found = np.full(like.shape, np.nan, inputs[0].dtype)
    run(kernel, [*inputs, found], chunk)
    return found


def check(found: Array, exact: Array, magnitude: Array, products: int) -> None:
    """Within (products + 1) / 2 units in the last place of the sum of the products' magnitudes: what sums in any order are."""
    bound = (products + 1) / 2 * np.finfo(found.dtype).eps * magnitude
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= bound + 1e-300).all()


def check_all(case: Case, machine: Machine | None = None, chunk: int | None = None) -> None:
    window = case.window
    assert window is not None
    images, filters, gradients = operands(case)
    given = (case.images, case.filters, case.strides, case.padding, case.dtype)
    taps = int(np.prod(case.filters[:3]))

    found = computed(conv2d(*given, machine=machine), [images, filters], gradients, chunk)
    check(
        found,
        by_hand.forward(images, filters, window),
        by_hand.forward(abs(images), abs(filters), window),
        taps,
    )

    found = computed(conv2d_backprop_input(*given, machine=machine), [filters, gradients], images, chunk)
    reaching = case.filters[0] * case.filters[1] * case.filters[3]
    exact = by_hand.to_input(filters, gradients, window)
    check(found, exact, by_hand.to_input(abs(filters), abs(gradients), window), reaching)

    found = computed(conv2d_backprop_filter(*given, machine=machine), [images, gradients], filters, chunk)
    exact = by_hand.to_filter(images, gradients, window)
    pixels = gradients[..., 0].size
    check(found, exact, by_hand.to_filter(abs(images), abs(gradients), window), pixels)


@examples(8)
@given(cases(), st.sampled_from([None, *MACHINES]), st.sampled_from([None, 1, 2]))
@example(Case((0, 4, 4, 3), (3, 3, 3, 8), (1, 1), "SAME"), None, None)
@example(Case((2, 9, 9, 1), (5, 5, 1, 32), (1, 1), "SAME"), None, 1)
@example(Case((2, 8, 9, 16), (1, 1, 16, 24), (1, 1), "VALID"), None, 3)
@example(Case((1, 7, 7, 3), (2, 2, 3, 10), (3, 3), "SAME"), None, 1)  # pixels that no window meets
@example(Case((2, 3, 3, 4), (2, 2, 4, 5), (1, 2), ((4, 1), (0, 5))), None, 1)  # windows that meet no pixel
def test_against_numpy(case: Case, machine: Machine | None, chunk: int | None) -> None:
    check_all(case, machine, chunk)


@pytest.mark.slow
@pytest.mark.deep
@settings(max_examples=80)
@given(cases(), st.sampled_from([None, *MACHINES]), st.sampled_from([None, 1, 2]))
def test_against_numpy_at_length(case: Case, machine: Machine | None, chunk: int | None) -> None:
    check_all(case, machine, chunk)


LARGE = [
    Case((2, 20, 20, 32), (5, 5, 32, 40), (1, 1), "SAME"),  # filters in strips of whole rows
    Case((1, 10, 12, 300), (3, 2, 300, 20), (1, 1), "VALID"),  # filters in pieces of a row
    Case((1, 60, 60, 64), (3, 3, 64, 16), (2, 2), "SAME"),  # images in groups of rows
    Case((9, 7, 7, 40), (3, 3, 40, 48), (1, 1), "SAME"),  # gradients of several images in a strip
]
FEW_CHANNELS = [  # lanes are used for taps, forwards or backwards
    Case((2, 9, 8, 13), (3, 3, 13, 1), (1, 1), "SAME"),
    Case((1, 12, 12, 32), (5, 4, 32, 2), (2, 1), "VALID"),
    Case((1, 6, 6, 2500), (2, 3, 2500, 3), (1, 1), "SAME"),  # in pieces of a row
    Case((2, 9, 8, 1), (4, 3, 1, 32), (2, 2), "SAME"),
    Case((1, 9, 8, 2), (3, 3, 2, 19), (1, 1), "VALID"),
    Case((1, 9, 8, 2), (3, 3, 2, 40), (1, 1), "SAME", "float64"),
]


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_what_does_not_fit_the_caches(case: Case) -> None:
    check_all(case)


PRODUCTS = [  # of matrices, in truth
    Case((5, 4, 3, 7), (4, 3, 7, 20), (1, 1), "VALID"),  # the only window is the image
    Case((9, 1, 1, 40), (1, 1, 40, 24), (2, 2), "SAME"),
    Case((3, 6, 5, 130), (1, 1, 130, 12), (1, 1), "SAME"),  # filter rows in pieces
]


@pytest.mark.parametrize("case", [*PRODUCTS, Case((2, 17, 19, 3), (7, 9, 3, 12), (4, 5), "SAME")], ids=str)
@pytest.mark.parametrize("chunk", [None, 1])
def test_products_of_matrices_and_large_strides(case: Case, chunk: int | None) -> None:
    check_all(case, chunk=chunk)


@pytest.mark.parametrize("case", FEW_CHANNELS, ids=str)
@pytest.mark.parametrize("machine", [None, Machine(16, 16), Machine(64, 32)])
def test_few_output_channels(case: Case, machine: Machine | None) -> None:
    check_all(case, machine)


KERNELS: list[tuple[Callable[..., NativeKernel | None], tuple[int, int], int]] = [
    (conv2d, (0, 1), 2),  # which of images, filters and gradients are the inputs, and the result
    (conv2d_backprop_input, (1, 2), 0),
    (conv2d_backprop_filter, (0, 2), 1),
]
SOME = Case((5, 13, 11, 12), (3, 3, 12, 37), (1, 2), "SAME")


@pytest.mark.parametrize(
    ("make", "inputs", "output"), KERNELS, ids=lambda each: getattr(each, "__name__", None)
)
def test_the_same_bits_in_any_chunks(
    make: Callable[..., NativeKernel | None], inputs: tuple[int, int], output: int
) -> None:
    for case in (SOME, LARGE[0], LARGE[2], FEW_CHANNELS[0], PRODUCTS[2]):
        arrays = operands(case)
        kernel = make(case.images, case.filters, case.strides, case.padding, case.dtype)
        chosen = [arrays[i] for i in inputs]
        whole = computed(kernel, chosen, arrays[output])
        for chunk in (1, 2, 3):
            np.testing.assert_array_equal(computed(kernel, chosen, arrays[output], chunk), whole)


@pytest.mark.parametrize(
    ("make", "inputs", "output"), KERNELS, ids=lambda each: getattr(each, "__name__", None)
)
def test_arrays_that_are_hardly_aligned(
    make: Callable[..., NativeKernel | None], inputs: tuple[int, int], output: int
) -> None:
    arrays = operands(SOME)
    kernel = make(SOME.images, SOME.filters, SOME.strides, SOME.padding, SOME.dtype)
    assert kernel is not None
    found = unaligned(np.full_like(arrays[output], np.nan))
    run(kernel, [*(unaligned(arrays[i]) for i in inputs), found])
    chosen = [arrays[i] for i in inputs]
    np.testing.assert_array_equal(found, computed(kernel, chosen, arrays[output]))


@pytest.mark.parametrize(
    ("make", "inputs", "output"), KERNELS, ids=lambda each: getattr(each, "__name__", None)
)
def test_nothing_is_written_or_read_outside(
    make: Callable[..., NativeKernel | None], inputs: tuple[int, int], output: int
) -> None:
    """Around all arrays lie NaNs, which may neither change nor reach a result."""
    for case in (
        SOME,
        LARGE[0],
        FEW_CHANNELS[0],
        FEW_CHANNELS[4],
        Case((2, 5, 5, 3), (2, 2, 3, 10), (2, 2), "VALID"),
    ):
        arrays = operands(case)
        kernel = make(case.images, case.filters, case.strides, case.padding, case.dtype)
        assert kernel is not None
        spaces = [np.full(arrays[i].size + 200, np.nan, case.dtype) for i in (*inputs, output)]
        views = [
            space[100:-100].reshape(arrays[i].shape)
            for space, i in zip(spaces, (*inputs, output), strict=True)
        ]
        for view, i in zip(views, inputs, strict=False):
            view[...] = arrays[i]
        run(kernel, views)
        assert np.isfinite(views[-1]).all()
        for space in spaces:
            assert np.isnan(space[:100]).all() and np.isnan(space[-100:]).all()


@pytest.mark.parametrize(
    ("make", "inputs", "output"), KERNELS, ids=lambda each: getattr(each, "__name__", None)
)
def test_two_threads(make: Callable[..., NativeKernel | None], inputs: tuple[int, int], output: int) -> None:
    """Each thread takes every other unit of each phase."""
    case = Case((6, 14, 14, 16), (3, 3, 16, 40), (1, 1), "SAME")
    arrays = operands(case)
    kernel = make(case.images, case.filters, case.strides, case.padding, case.dtype)
    assert kernel is not None
    chosen = [arrays[i] for i in inputs]
    wanted = computed(kernel, chosen, arrays[output])
    found = np.full_like(arrays[output], np.nan)
    everything = [*chosen, found, *(np.full(size, 0xAB, np.uint8) for size in kernel.scratch)]
    for phase in kernel.phases:
        pointers = (ctypes.c_void_p * len(phase.args))(*(everything[i].ctypes.data for i in phase.args))
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(phase.address)

        def work(first: int, phase: Any = phase, function: Any = function, pointers: Any = pointers) -> None:
            for unit in range(first, phase.extent, 2):
                function(ctypes.addressof(pointers), unit, unit + 1)

        threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("case", [SOME, LARGE[0], LARGE[1], FEW_CHANNELS[1], FEW_CHANNELS[2]], ids=str)
@pytest.mark.parametrize(("with_bias", "relu"), [(True, False), (False, True), (True, True)])
def test_bias_and_relu(case: Case, with_bias: bool, relu: bool) -> None:
    images, filters, gradients = operands(case)
    bias = random(np.random.default_rng(1), case, (case.filters[3],))
    given = (case.images, case.filters, case.strides, case.padding, case.dtype)
    plain = computed(conv2d(*given), [images, filters], gradients)
    inputs = [images, filters] + ([bias] if with_bias else [])
    found = computed(conv2d(*given, bias=with_bias, relu=relu), inputs, gradients)
    wanted = plain + bias if with_bias else plain
    wanted = np.maximum(wanted, 0) if relu else wanted
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    assert not relu or not np.signbit(found).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(value: float) -> None:
    case = Case((1, 6, 7, 3), (3, 3, 3, 10), (1, 1), "SAME")
    assert case.window is not None
    images, filters, gradients = operands(case)
    images[0, 2, 3, 1] = gradients[0, 4, 1, 9] = value
    given = (case.images, case.filters, case.strides, case.padding, case.dtype)
    with np.errstate(invalid="ignore"):
        for found, wanted in (
            (
                computed(conv2d(*given), [images, filters], gradients),
                by_hand.forward(images, filters, case.window),
            ),
            (
                computed(conv2d_backprop_input(*given), [filters, gradients], images),
                by_hand.to_input(filters, gradients, case.window),
            ),
            (
                computed(conv2d_backprop_filter(*given), [images, gradients], filters),
                by_hand.to_filter(images, gradients, case.window),
            ),
        ):
            assert not np.isfinite(wanted).all()
            np.testing.assert_allclose(found, wanted.astype(case.dtype), rtol=1e-4, atol=1e-4)
        relu = computed(conv2d(*given, relu=True), [images, filters], gradients)
        wanted = np.maximum(by_hand.forward(images, filters, case.window), 0)
    np.testing.assert_allclose(relu, wanted.astype(case.dtype), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [conv2d, conv2d_backprop_input, conv2d_backprop_filter])
def test_what_is_left_to_others(make: Callable[..., NativeKernel | None]) -> None:
    images, filters = (1, 5, 5, 4), (3, 3, 4, 2)
    assert make(images, filters, (1, 1), "VALID", np.float16) is None
    assert make(images, filters, (1, 1), "VALID", np.float32, dilations=(2, 1)) is None
    assert make(images, (3, 3, 2, 2), (1, 1), "VALID", np.float32) is None  # two groups
    assert make(images, (6, 3, 4, 2), (1, 1), "VALID", np.float32) is None  # no window fits
    assert make((1, 5, 0, 4), filters, (1, 1), "SAME", np.float32) is None


@given(
    st.sampled_from(MACHINES),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(1, 40),
    st.integers(1, 5000),
)
def test_tiles_fit_the_registers(machine: Machine, size: tuple[int, int], vectors: int, taps: int) -> None:
    tile = best_tile(machine, size, vectors, taps)
    pixels = tile.rows * tile.columns
    assert pixels * tile.vectors + tile.vectors + 1 <= machine.registers
    assert tile.rows <= size[0] and tile.columns <= size[1] and tile.vectors <= vectors


def test_tiles_are_as_large_as_they_can_be() -> None:
    assert best_tile(Machine(32, 16), (28, 28), 4, 800).columns * 2 >= 8
    tile = best_tile(Machine(64, 32), (28, 28), 2, 800)
    assert (tile.columns, tile.vectors) == (14, 2)
    assert this_machine().registers in (16, 32)
