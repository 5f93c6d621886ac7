"""Placements and refusals, beside TensorFlow's own placer (tests/placement/placements.json, by make_placements.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import placement_programs as programs
import pytest

import engine as tf
from engine.device.device import make_devices
from engine.passes.build import Builder
from engine.passes.prune import prune
from engine.passes.stage import Stage
from engine.placement.place import PlacementOptions, place
from engine.runtime.fetches import Fetches

GOLDEN = json.loads(Path(__file__).with_name("placements.json").read_text())
DEVICES = make_devices(tf.ConfigProto(device_count={"CPU": 2}))


def pruned(program: programs.Program) -> Stage:
    """The stage that running the program would start from."""
    with tf.Graph().as_default() as graph:
        fetches, feeds = program(tf)
        taken = Fetches(graph, fetches)
    tensors = [tensor.name for tensor in taken.tensors]
    return prune(
        Builder(graph).stage(), [feed.name for feed in feeds], tensors, [op.name for op in taken.targets]
    )


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_nodes_are_where_tensorflow_puts_them(name: str) -> None:
    options = PlacementOptions(allow_soft_placement=name in programs.SOFT)
    placed = place(pruned(programs.PROGRAMS[name]), DEVICES, options)
    expected = GOLDEN["devices"][name]
    found = {node.name: node.device[-5:] for node in placed if node.name in expected}
    assert len(found) >= 0.8 * len(expected), sorted(set(expected) - set(found))
    assert found == {node: expected[node] for node in found}
    for node in placed:
        if node.type in ("_Arg", "_Retval"):
            assert node.device == DEVICES[0].name


@pytest.mark.parametrize("name", programs.WRITTEN)
def test_the_graph_as_written_asks_for_what_tensorflows_does(name: str) -> None:
    with tf.Graph().as_default() as graph:
        programs.PROGRAMS[name](tf)
    assert programs.where(graph.as_graph_def()) == GOLDEN["written"][name]


@pytest.mark.parametrize("name", programs.IMPOSSIBLE)
def test_what_cannot_be_is_refused_in_tensorflows_words(name: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        place(pruned(programs.IMPOSSIBLE[name]), DEVICES, PlacementOptions())
    message = re.sub(r" \(defined at [^)]*\)", "", caught.value.message)
    assert message == GOLDEN["errors"][name].removesuffix(
        " The requested device appears to be a GPU, but CUDA is not enabled."
    )
    text = str(caught.value)
    assert f"{programs.__file__}:" in text  # the line that made the node
    if name in ("colocated_apart", "colocated_kinds", "two_variables"):
        assert len(set(re.findall(re.escape(programs.__file__) + r":(\d+)", text))) >= 2


def test_enough_is_compared() -> None:
    assert sum(len(nodes) for nodes in GOLDEN["devices"].values()) > 250
    both: Any = [set(nodes.values()) for nodes in GOLDEN["devices"].values()]
    assert sum(len(devices) == 2 for devices in both) >= 8
