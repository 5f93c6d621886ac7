"""Levels of a graph against a brute-force reading of the definition, and collapsing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.passes.stage import Stage
from viz.graph_model import ROOT, SIDE_LIMIT, Kind, ScopeTree, locate
from viz.scope_colours import ScopeColours
from viz.search import search
from viz.tree_model import TreeModel

MakeStage = Callable[..., Stage]


def random_stage(make_stage: MakeStage, seed: int, size: int = 40) -> Stage:
    rng = random.Random(seed)
    names: list[str] = []
    lines = []
    for i in range(size):
        depth = rng.randrange(4)
        name = "/".join([*(rng.choice("abc") for _ in range(depth)), f"op{i}"])
        if names and rng.random() < 0.1:
            name = rng.choice(names) + f"/under{i}"  # the first one becomes a scope beside its op
        reads = [rng.choice(names) for _ in range(rng.randrange(3))] if names else []
        waits = ["^" + rng.choice(names)] if names and rng.random() < 0.2 else []
        lines.append(f"{name} Op {' '.join([*reads, *waits])} -> float32[2]")
        names.append(name)
    return make_stage("\n".join(lines))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_edges_of_every_level_are_those_of_the_ops(seed: int, make_stage: MakeStage) -> None:
    """Each edge of the graph shows on a level exactly once if it starts or ends in the level's scope, between the right items."""
    stage = random_stage(make_stage, seed)
    tree = ScopeTree(stage)
    every = [(source, node.name, 0) for node in stage for source, _ in node.inputs] + [
        (source, node.name, 1) for node in stage for source in node.control_inputs
    ]
    for scope in tree.scopes.values():
        level = tree.level(scope.key)
        inside = set(scope.names())
        holder: dict[str, str] = {}
        for item in level.items:
            if item.kind in (Kind.OP, Kind.SCOPE):
                for name in tree.names_in(item.key):
                    assert name not in holder
                    holder[name] = item.key
        assert set(holder) == inside
        if sum(item.kind is Kind.INPUT for item in level.items) >= SIDE_LIMIT:
            continue
        wanted: Counter[tuple[str, str, int]] = Counter()
        outer = {item.key: item for item in level.items if item.kind in (Kind.INPUT, Kind.OUTPUT)}
        side: dict[tuple[str, str], str] = {}
        for key, item in outer.items():
            for name in tree.names_in(item.target):
                side[key[0], name] = key
        for source, target, kind in every:
            if source in inside or target in inside:
                ends = (
                    holder.get(source) or side["<", source],
                    holder.get(target) or side[">", target],
                )
                if ends[0] != ends[1]:
                    wanted[(*ends, kind)] += 1
        shown: Counter[tuple[str, str, int]] = Counter()
        for edge in level.edges:
            shown[edge.source, edge.target, 0] += edge.tensors
            shown[edge.source, edge.target, 1] += edge.controls
        assert +shown == wanted


@given(seed=st.integers(0, 10_000))
def test_what_is_outside_is_named_as_high_up_as_possible(seed: int, make_stage: MakeStage) -> None:
    tree = ScopeTree(random_stage(make_stage, seed))
    for scope in tree.scopes.values():
        above = {scope.key}
        walk = scope
        while walk.parent is not None:
            walk = walk.parent
            above.add(walk.key)
        for item in tree.level(scope.key).items:
            if item.kind in (Kind.INPUT, Kind.OUTPUT) and not item.target.startswith("*"):
                assert item.target not in above
                assert tree.level_key(item.target) in above


def test_an_op_named_like_a_scope_is_shown_inside_it(training: Stage) -> None:
    tree = ScopeTree(training)
    level = tree.level("dense1/w/")
    assert [item.label for item in level.items if item.kind is Kind.OP] == ["(w)", "init", "Assign", "read"]
    assert tree.level_key("dense1/w") == "dense1/w/"
    assert tree.level_key("dense1/w/") == "dense1/"


def test_the_first_level_of_the_training_graph(training: Stage) -> None:
    level = ScopeTree(training).level()
    assert [(item.label, item.size) for item in level.items] == [
        ("input", 2),
        ("dense1", 6),
        ("dense2", 5),
        ("loss", 3),
        ("gradients", 4),
        ("train", 4),
        ("decay", 11),
        ("init", 1),
    ]
    edges = {(edge.source, edge.target): edge for edge in level.edges}
    assert edges["dense1/", "dense2/"].label == "float32[?, 32]"
    assert edges["loss/", "gradients/"].label == "2 tensors"
    assert edges["dense1/", "init"].is_control


def test_constants_can_be_left_out(training: Stage) -> None:
    tree = ScopeTree(training)
    level = tree.level("decay/", constants=False)
    assert all(tree.stage.nodes[item.node].type != "Const" for item in level.items)
    assert level.note == "3 constants hidden"


@pytest.mark.parametrize("limit", [5, 12, 40, 200])
def test_levels_keep_their_limit_and_lose_nothing(make_stage: MakeStage, limit: int) -> None:
    lines = [f"Assign_{i} Assign -> float32[]" for i in range(150)]
    lines += [f"layer_{i}/w VariableV2 -> float32[]" for i in range(60)]
    lines += [f"odd{i:c} Neg -> float32[]" for i in range(97, 123)]
    lines += [f"thing{i:c} Type{i:c} -> float32[]" for i in range(65, 91)]
    tree = ScopeTree(make_stage("\n".join(lines)))
    pending, seen = [ROOT], []
    while pending:
        level = tree.level(pending.pop(), limit=limit)
        assert len(level.items) <= limit
        for item in level.items:
            if item.kind in (Kind.SERIES, Kind.SCOPE):
                assert item.key in tree
                if item.kind is Kind.SERIES:
                    assert tree.level_key(item.key) == level.key
                pending.append(item.key)
            else:
                seen.append(item.key)
    assert sorted(seen) == sorted(tree.stage.nodes)


def test_everything_can_be_located(make_stage: MakeStage) -> None:
    lines = [f"part_{i} {'Const' if i % 3 else 'Neg'} -> float32[]" for i in range(400)]
    lines += [f"scope_{i}/op Neg -> float32[]" for i in range(30)]
    tree = ScopeTree(make_stage("\n".join(lines)))
    for key in ("part_0", "part_100", "part_399", "scope_7/", "scope_7/op"):
        level, constants = locate(tree, key, constants=False, limit=20)
        assert tree.level(level, limit=20, constants=constants).item(key) is not None
        assert constants == (key in ("part_100",))


def test_a_collapsed_level_says_so(make_stage: MakeStage) -> None:
    lines = [f"Assign_{i} Assign -> float32[]" for i in range(300)]
    level = ScopeTree(make_stage("\n".join([*lines, "x Placeholder -> float32[]"]))).level()
    assert [(item.label, item.size) for item in level.items] == [("Assign *", 300), ("x", 1)]
    assert "301 items" in level.note


def test_many_inputs_become_one(make_stage: MakeStage) -> None:
    lines = [f"v{i} Const -> float32[]" for i in range(60)]
    lines.append("inner/sum AddN " + " ".join(f"v{i}" for i in range(60)) + " -> float32[]")
    level = ScopeTree(make_stage("\n".join(lines))).level("inner/")
    inputs = [item for item in level.items if item.kind is Kind.INPUT]
    assert len(inputs) == SIDE_LIMIT
    assert inputs[-1].label == "37 more inputs"
    assert sum(edge.tensors for edge in level.edges) == 60


def test_search_ranks_the_last_part_of_a_name_first(training: Stage) -> None:
    assert search(training, "matmul")[:2] == ["dense1/MatMul", "dense2/MatMul"]
    assert search(training, "dense2 identity") == ["dense2/w/read"]
    assert search(training, "w")[:2] == ["dense1/w", "dense2/w"]
    assert search(training, "  ") == []
    assert search(training, "nowhere") == []


def test_scopes_have_hues_where_the_graph_branches(make_stage: MakeStage) -> None:
    stage = make_stage(
        "\n".join(f"model/{scope}/op{i} Neg -> float32[]" for scope in "abc" for i in range(3))
    )
    colours = ScopeColours(ScopeTree(stage))
    assert colours.names == ("model/a", "model/b", "model/c")
    assert colours.of("model/b/op1") == 1
    assert colours.of("model/b/") == 1
    assert colours.of("model") == -1
    assert colours.label(2) == "c"
    many = make_stage("\n".join(f"s{i}/op{j} Neg -> float32[]" for i in range(12) for j in range(i + 1)))
    colours = ScopeColours(ScopeTree(many))
    assert len(colours.names) == 8
    assert colours.of("s0/op0") == -1
    assert sorted({colours.of(f"s{i}/op0") for i in range(4, 12)}) == list(range(8))


def test_tree_rows_are_made_as_scopes_are_opened(training: Stage) -> None:
    model = TreeModel(ScopeTree(training))
    assert [row.label for row in model.rows][:3] == ["graph", "input", "dense1"]
    before = len(model.rows)
    model.toggle("dense1/")
    assert [(row.label, row.depth) for row in model.rows[2:6]] == [
        ("dense1", 1),
        ("w", 2),
        ("MatMul", 2),
        ("Relu", 2),
    ]
    row = model.reveal("dense1/w/read")
    assert model.rows[row].key == "dense1/w/read"
    assert model.index("dense2/MatMul") == -1
    assert not model.set_open("dense1/", True)
    assert model.set_open("dense1/", False)
    assert len(model.rows) == before
    assert model.reveal("nowhere") == -1
