"""Nested structures: flattening and putting together again."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import nest


class Point(NamedTuple):
    x: Any
    y: Any


leaves = st.integers() | st.text(max_size=3) | st.none()
structures = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=12,
)


@given(structures)
def test_round_trip(structure: Any) -> None:
    flat = nest.flatten(structure)
    assert not any(nest.is_nested(leaf) for leaf in flat)
    assert nest.pack_sequence_as(structure, flat) == structure
    nest.assert_same_structure(structure, nest.map_structure(lambda leaf: [leaf][0], structure))
    numbered = nest.pack_sequence_as(structure, list(range(len(flat))))
    assert nest.flatten(numbered) == list(range(len(flat)))


@given(structures, structures)
def test_same_structure_is_what_packing_respects(a: Any, b: Any) -> None:
    try:
        nest.assert_same_structure(a, b)
    except (ValueError, TypeError):
        return
    assert nest.pack_sequence_as(a, nest.flatten(b)) == b


def test_dicts_go_by_key_and_keep_their_order() -> None:
    structure = OrderedDict([("b", 1), ("a", (2, [3]))])
    assert nest.flatten(structure) == [2, 3, 1]
    packed = nest.pack_sequence_as(structure, ["x", "y", "z"])
    assert type(packed) is OrderedDict
    assert list(packed.items()) == [("b", "z"), ("a", ("x", ["y"]))]
    assert nest.flatten({2: "two", "one": 1}) == ["two", 1]
    assert type(nest.pack_sequence_as(defaultdict(int, a=1), [5])) is defaultdict


def test_leaves() -> None:
    assert nest.flatten(3) == [3]
    assert nest.flatten("abc") == ["abc"]
    assert nest.pack_sequence_as(3, ["x"]) == "x"
    assert nest.flatten([]) == []
    assert nest.pack_sequence_as(((), [()]), []) == ((), [()])


def test_map_over_several() -> None:
    assert nest.map_structure(lambda a, b: a + b, {"x": (1, 2)}, {"x": (10, 20)}) == {"x": (11, 22)}
    assert nest.map_structure(lambda a, b: a + b, [1, 2], (10, 20), check_types=False) == [11, 22]


@pytest.mark.parametrize(
    "a, b, error, text",
    [
        ([1], [1, 2], ValueError, "1 items against 2"),
        ([1], 1, ValueError, "differ"),
        ([1, [2]], [1, 2], ValueError, r"at \[1\]"),
        ({"a": 1}, {"b": 1}, ValueError, "keys"),
        ({"k": [1]}, {"k": (1,)}, TypeError, r"at \['k'\].*list.*tuple"),
        ({"a": 1}, [1], TypeError, "dict.*list"),
        (Point(1, 2), (1, 2), TypeError, "Point"),
    ],
)
def test_differences_are_named(a: Any, b: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        nest.assert_same_structure(a, b)


def test_wrong_number_of_values() -> None:
    with pytest.raises(ValueError, match="2 leaves, but 1"):
        nest.pack_sequence_as([1, 2], [1])
    with pytest.raises(TypeError, match="list or tuple"):
        nest.pack_sequence_as([1], iter([1]))
