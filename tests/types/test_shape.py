"""Partial shapes: what a shape says is a set of full shapes, and every rule is checked against that meaning."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.types.shape import (
    Dimension,
    TensorShape,
    as_dimension,
    as_shape,
    broadcast_static_shape,
    unknown_shape,
)

sizes = st.integers(0, 4)
full_dims = st.lists(sizes, max_size=4).map(tuple)
partial_dims = st.none() | st.lists(st.none() | sizes, max_size=4).map(tuple)


def fits(dims: tuple[int | None, ...] | None, full: tuple[int, ...]) -> bool:
    """Whether the full shape is one of those that the partial one stands for."""
    if dims is None:
        return True
    return len(dims) == len(full) and all(d is None or d == f for d, f in zip(dims, full))


@st.composite
def blurred(draw: st.DrawFn, full: tuple[int, ...]) -> tuple[int | None, ...] | None:
    """A partial shape that `full` fits."""
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    return tuple(None if draw(st.booleans()) else size for size in full)


@given(full_dims, full_dims)
def test_broadcasting_full_shapes_is_numpys(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ValueError, match="cannot be broadcast"):
            broadcast_static_shape(a, b)
    else:
        assert broadcast_static_shape(a, b).as_list() == list(expected)


@given(st.data(), full_dims, full_dims)
def test_what_is_not_known_never_contradicts_what_happens(
    data: st.DataObject, a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        assume(False)
    partial = broadcast_static_shape(data.draw(blurred(a)), data.draw(blurred(b)))
    assert fits(partial.dims_or_none, expected)


@given(st.lists(st.none() | sizes, max_size=3).map(tuple), st.lists(st.none() | sizes, max_size=3).map(tuple))
def test_broadcasting_says_all_that_can_be_known(
    a: tuple[int | None, ...], b: tuple[int | None, ...]
) -> None:
    universe = range(6)
    results = set()
    choices = [universe if d is None else (d,) for d in (*a, *b)]
    for chosen in itertools.product(*choices):
        try:
            results.add(np.broadcast_shapes(chosen[: len(a)], chosen[len(a) :]))
        except ValueError:
            continue
    if not results:
        with pytest.raises(ValueError, match="cannot be broadcast"):
            broadcast_static_shape(a, b)
        return
    expected = [column[0] if len(set(column)) == 1 else None for column in zip(*results)]
    assert broadcast_static_shape(a, b).as_list() == expected


@given(partial_dims, partial_dims)
def test_merging_is_intersection(a: tuple[int | None, ...] | None, b: tuple[int | None, ...] | None) -> None:
    x, y = TensorShape(a), TensorShape(b)
    ranks = range(5)
    fulls = [f for rank in ranks for f in itertools.product(range(5), repeat=min(rank, 3)) if rank <= 3]
    both = {f for f in fulls if fits(a, f) and fits(b, f)}
    compatible = (
        a is None
        or b is None
        or (len(a) == len(b) and all(p in (None, q) or q is None for p, q in zip(a, b)))
    )
    assert x.is_compatible_with(y) == y.is_compatible_with(x) == compatible
    if not compatible:
        with pytest.raises(ValueError, match="not compatible"):
            x.merge_with(y)
        return
    merged = x.merge_with(y)
    assert {f for f in fulls if fits(merged.dims_or_none, f)} == both
    assert merged == y.merge_with(x) == merged.merge_with(x) == merged.merge_with(y)


@given(partial_dims, partial_dims, partial_dims)
def test_merging_is_associative(a: object, b: object, c: object) -> None:
    def merged(*shapes: object) -> TensorShape | None:
        result = TensorShape(None)
        try:
            for shape in shapes:
                result = result.merge_with(shape)
        except ValueError:
            return None
        return result

    assert merged(a, b, c) == merged(c, a, b) == merged(b, c, a)


@given(partial_dims, partial_dims)
def test_most_specific_compatible_shape_holds_both(a: object, b: object) -> None:
    union = TensorShape(a).most_specific_compatible_shape(b)
    assert union.is_compatible_with(a)
    assert union.is_compatible_with(b)
    assert TensorShape(a).merge_with(union) == TensorShape(a)


@given(partial_dims)
def test_round_trips(dims: tuple[int | None, ...] | None) -> None:
    shape = TensorShape(dims)
    assert TensorShape(shape.as_proto()) == shape
    assert pickle.loads(pickle.dumps(shape)) == shape
    assert TensorShape.of(dims) is TensorShape.of(dims)
    assert TensorShape.of(dims) == shape
    assert hash(TensorShape.of(dims)) == hash(shape)
    assert bool(shape) == (dims is not None)
    if dims is not None:
        assert [d.value for d in shape] == shape.as_list() == list(dims)
        assert len(shape) == shape.rank == shape.ndims == len(dims)
        assert shape.num_elements() == (None if None in dims else int(np.prod(dims)))


@given(partial_dims, partial_dims)
def test_concatenation(a: tuple[int | None, ...] | None, b: tuple[int | None, ...] | None) -> None:
    joined = TensorShape(a).concatenate(b)
    assert joined.dims_or_none == (None if a is None or b is None else a + b)
    assert TensorShape(a) + TensorShape(b) == joined


@given(st.lists(st.none() | sizes, max_size=4), st.slices(4))
def test_slices_are_those_of_a_list(dims: list[int | None], key: slice) -> None:
    assert TensorShape(dims)[key].as_list() == dims[key]


def test_slices_of_unknown_rank() -> None:
    shape = TensorShape(None)
    assert shape[1].value is None
    assert shape[2:].ndims is None
    assert shape[1:3].as_list() == [None, None]
    assert shape[:-1].ndims is None
    with pytest.raises(ValueError, match="step"):
        shape[::2]


@pytest.mark.parametrize(
    "given, expected",
    [
        (None, None),
        ([], []),
        (5, [5]),
        (np.int64(5), [5]),
        (np.array(5), [5]),
        ([None, 3], [None, 3]),
        ((Dimension(2), Dimension(None)), [2, None]),
        (np.array([2, 3]), [2, 3]),
        (TensorShape([1]), [1]),
        (iter([4, 5]), [4, 5]),
    ],
)
def test_what_a_shape_is_made_of(given: object, expected: list[int | None] | None) -> None:
    shape = as_shape(given)
    assert (shape.as_list() if shape else None) == expected
    if shape:
        assert all(d is None or type(d) is int for d in shape.as_list())


@pytest.mark.parametrize(
    "given, error", [([-1], ValueError), ("ab", TypeError), ([1.5], TypeError), (object(), TypeError)]
)
def test_what_is_no_shape(given: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        TensorShape(given)


def test_ranks() -> None:
    shape = TensorShape([2, None])
    assert shape.with_rank(2) is shape
    assert TensorShape(None).with_rank(2) == unknown_shape(2) == unknown_shape(ndims=2)
    assert shape.with_rank_at_least(2).with_rank_at_most(2) is shape
    for wrong in (
        lambda: shape.with_rank(3),
        lambda: shape.with_rank_at_least(3),
        lambda: shape.with_rank_at_most(1),
        lambda: shape.assert_has_rank(1),
        lambda: shape.assert_same_rank([1]),
        shape.assert_is_fully_defined,
        lambda: shape.assert_is_compatible_with([3, 3]),
    ):
        with pytest.raises(ValueError, match=r"\(2, \?\)"):
            wrong()
    for wrong in (lambda: len(TensorShape(None)), lambda: list(TensorShape(None)), TensorShape(None).as_list):
        with pytest.raises(ValueError, match="unknown rank"):
            wrong()


def test_equality_and_texts() -> None:
    assert TensorShape([2, None]) == [2, None]
    assert TensorShape([2]) != TensorShape([3])
    assert TensorShape(None) != TensorShape([])
    assert TensorShape([2]) != "ab"
    assert str(TensorShape(None)) == "<unknown>"
    assert [str(TensorShape(d)) for d in ([], [3], [None, 2])] == ["()", "(3,)", "(?, 2)"]
    assert repr(TensorShape([None, 2])) == "TensorShape([None, 2])"
    assert repr(TensorShape(None)) == "TensorShape(None)"


def test_dimensions_as_tensorflow_1_has_them() -> None:
    d, unknown = Dimension(6), Dimension(None)
    assert (int(d), d.value, d // 4, 13 // d, d % 4, 8 - d, 2 * d + 1) == (6, 6, 1, 2, 2, 2, 13)
    assert (d + unknown).value is None
    assert (d == 6, d == unknown, unknown == unknown, unknown != 6, d < unknown) == (
        True,
        None,
        None,
        None,
        None,
    )
    assert (d < 7, d >= 7, d != 7, d == "x") == (True, False, True, False)
    assert d.merge_with(unknown).value == unknown.merge_with(6).value == 6
    assert list(range(9))[Dimension(2)] == 2
    assert (str(d), str(unknown), repr(unknown)) == ("6", "?", "Dimension(None)")
    assert as_dimension(d) is d
    with pytest.raises(TypeError, match="//"):
        d / 2
    with pytest.raises(TypeError, match="unknown"):
        int(unknown)
    with pytest.raises(ValueError, match="not compatible"):
        d.merge_with(5)
    with pytest.raises(TypeError):
        d + "x"
