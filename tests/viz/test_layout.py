"""The layout's promises, on random graphs with cycles: nothing overlaps, every edge has its line, lines that do not belong
together only cross."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viz.canvas import Canvas, trace
from viz.layering import backward_edges, components, crossings, layers_of, skeleton, split_wide
from viz.layout import Box, Layout, Link, Route, layout


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Box], list[Link]]:
    size = draw(st.integers(1, 22))
    widths = draw(st.lists(st.integers(3, 14), min_size=size, max_size=size))
    boxes = [Box(f"n{i}", width) for i, width in enumerate(widths)]
    node = st.integers(0, size - 1)
    pairs = draw(st.lists(st.tuples(node, node, st.sampled_from(["data", "control"])), max_size=45))
    return boxes, [Link(f"n{a}", f"n{b}", kind) for a, b, kind in pairs]


def cells_of(route: Route) -> list[tuple[str, int, int]]:
    """The unit pieces of a line: ('h', x, y) from (x, y) to (x + 1, y), ('v', x, y) from (x, y) to (x, y + 1)."""
    found = []
    for (x, y), (after_x, after_y) in itertools.pairwise(route.points):
        assert x == after_x or y == after_y, "a slanted piece"
        assert (x, y) != (after_x, after_y)
        if y == after_y:
            found += [("h", at, y) for at in range(min(x, after_x), max(x, after_x))]
        else:
            found += [("v", x, at) for at in range(min(y, after_y), max(y, after_y))]
    return found


def check(boxes: list[Box], links: list[Link], plan: Layout) -> None:
    covered: dict[tuple[int, int], str] = {}
    for box in boxes:
        place = plan.places[box.key]
        assert place.width >= box.width
        for x in range(place.x, place.x + place.width):
            assert (x, place.y) not in covered, "two boxes overlap"
            covered[x, place.y] = box.key
        assert place.x >= 0
        assert place.x + place.width <= plan.width
        assert 0 <= place.y < plan.height
    wanted = {(link.source, link.target, link.kind) for link in links if link.source != link.target}
    assert {(route.source, route.target, route.kind) for route in plan.routes} == wanted
    assert len(plan.routes) == len(wanted)
    users: dict[tuple[str, int, int], list[Route]] = defaultdict(list)
    for route in plan.routes:
        start, end = plan.places[route.source], plan.places[route.target]
        (x, y), (last_x, last_y) = route.points[0], route.points[-1]
        assert y == start.y
        assert start.x <= x < start.x + start.width
        assert last_y == end.y
        assert end.x <= last_x < end.x + end.width
        assert (start.y < end.y) != route.back
        for piece in cells_of(route):
            users[piece].append(route)
        for x, y in route.points[1:-1]:
            assert 0 <= x < plan.width
            assert 0 <= y < plan.height
        for _, x, y in cells_of(route):
            assert covered.get((x, y)) in (None, route.source, route.target), "a line goes through a box"
    for piece, routes in users.items():
        ends = [(r.target, r.source) if r.back else (r.source, r.target) for r in routes]
        assert len({source for source, _ in ends}) == 1 or len({target for _, target in ends}) == 1, (
            f"lines that have no end in common lie upon each other at {piece}"
        )


@settings(max_examples=150)
@given(graphs(), st.integers(10, 120))
def test_random_graphs(graph: tuple[list[Box], list[Link]], room: int) -> None:
    boxes, links = graph
    check(boxes, links, layout(boxes, links, room=room))


def test_a_large_graph() -> None:
    boxes = [Box(f"n{i}", 6 + i * 7 % 11) for i in range(180)]
    links = [Link(f"n{i}", f"n{(i * i + 3 * i + 1) % 180}") for i in range(180)]
    links += [Link(f"n{i}", f"n{i + 1}") for i in range(179)]
    check(boxes, links, layout(boxes, links))


@settings(max_examples=60)
@given(graphs())
def test_every_line_can_be_followed_on_the_canvas(graph: tuple[list[Box], list[Link]]) -> None:
    """From each box, going along connected characters, one gets to every box that it feeds."""
    boxes, links = graph
    plan = layout(boxes, links)
    canvas = Canvas(plan.width, plan.height, trace((route.points, False) for route in plan.routes))
    arms = {"│": "ns", "─": "ew", "╭": "es", "╮": "sw", "╰": "ne", "╯": "nw"}
    arms |= {"├": "nes", "┤": "nsw", "┬": "esw", "┴": "new", "┼": "nesw"}
    for route in plan.routes:
        (x, y), rest = route.points[0], route.points[1:]
        for after_x, after_y in rest:
            while (x, y) != (after_x, after_y):
                dx = (after_x > x) - (after_x < x)
                dy = (after_y > y) - (after_y < y)
                leave, enter = {(1, 0): "ew", (-1, 0): "we", (0, 1): "sn", (0, -1): "ns"}[dx, dy]
                here, there = canvas.cell(x, y)[0], canvas.cell(x + dx, y + dy)[0]
                # A horizontal line goes behind a vertical one where they cross.
                assert leave in arms.get(here, "nesw") or (here == "│" and dx)
                assert enter in arms.get(there, "nesw") or (there == "│" and dx)
                x, y = x + dx, y + dy


def test_a_chain_is_a_straight_column() -> None:
    boxes = [Box(name, 7) for name in "abcd"]
    plan = layout(boxes, [Link(a, b) for a, b in itertools.pairwise("abcd")])
    assert all(len(route.points) == 2 for route in plan.routes)
    assert plan.height == 7


def test_a_loop_runs_up_on_its_last_edge() -> None:
    boxes = [Box(name, 7) for name in ("Merge", "Switch", "Next")]
    links = [Link("Merge", "Switch"), Link("Switch", "Next"), Link("Next", "Merge")]
    plan = layout(boxes, links)
    assert [route.target for route in plan.routes if route.back] == ["Merge"]


def test_rows_are_not_wider_than_the_room() -> None:
    boxes = [Box(f"v{i}", 10) for i in range(40)] + [Box("init", 6)]
    plan = layout(boxes, [Link(f"v{i}", "init", "control") for i in range(40)], room=72)
    rows = defaultdict(int)
    for place in plan.places.values():
        rows[place.y] += place.width
    assert max(rows.values()) <= 72
    assert plan.width < 110


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="same key"):
        layout([Box("a", 3), Box("a", 3)], [])
    with pytest.raises(KeyError):
        layout([Box("a", 3)], [Link("a", "b")])
    assert layout([], []).height == 0


# The combinatorial half against brute force.

edge_lists = st.integers(1, 7).flatmap(
    lambda size: st.tuples(
        st.just(size), st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=14)
    )
)


def reachable(size: int, edges: list[tuple[int, int]]) -> set[tuple[int, int]]:
    found = {(i, i) for i in range(size)} | set(edges)
    for middle in range(size):
        found |= {(a, c) for a in range(size) for c in range(size) if {(a, middle), (middle, c)} <= found}
    return found


@given(edge_lists)
def test_components_are_mutual_reachability(case: tuple[int, list[tuple[int, int]]]) -> None:
    size, edges = case
    reach = reachable(size, edges)
    group = components(size, edges)
    for a, b in itertools.product(range(size), repeat=2):
        assert (group[a] == group[b]) == ({(a, b), (b, a)} <= reach)


@given(edge_lists)
def test_turning_the_backward_edges_leaves_no_cycle(case: tuple[int, list[tuple[int, int]]]) -> None:
    size, edges = case
    edges = [edge for edge in edges if edge[0] != edge[1]]
    back = backward_edges(size, edges, [1] * len(edges))
    turned = [(b, a) if i in back else (a, b) for i, (a, b) in enumerate(edges)]
    assert len(set(components(size, turned))) == size or not turned
    # No more than a brute-force search over all orders would find on graphs without cycles, which is none.
    if len(set(components(size, edges))) == size:
        assert not back
    layer = layers_of(size, turned)
    assert all(layer[a] < layer[b] for a, b in turned)
    assert min(layer) == 0


@given(edge_lists)
def test_few_backward_edges(case: tuple[int, list[tuple[int, int]]]) -> None:
    """At most half of the edges of a cycle: the given order or its reverse would do that well, the greedy one is better."""
    size, edges = case
    edges = [edge for edge in edges if edge[0] != edge[1]]
    back = backward_edges(size, edges, [1] * len(edges))
    assert len(back) <= max(0, len(edges) // 2)


@given(edge_lists, st.integers(6, 30))
def test_crossings_are_counted_right(case: tuple[int, list[tuple[int, int]]], room: int) -> None:
    from viz.layering import Edge

    size, edges = case
    edges = list(dict.fromkeys((a, b) for a, b in edges if a < b))
    layer = split_wide(layers_of(size, edges), [5] * size, room)
    made = skeleton(size, layer, [Edge(a, b, "") for a, b in edges])
    total = 0
    for at, strands in enumerate(made.channels):
        pairs = [
            (made.layers[at].index(strand.above), made.layers[at + 1].index(item))
            for strand in strands
            for item in strand.below
        ]
        total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in itertools.combinations(pairs, 2))
    assert crossings(made.layers, made.channels) == total
