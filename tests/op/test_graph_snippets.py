"""The nodes that array functions make are TensorFlow 1's: names, types, inputs, dtypes and static shapes.

graph_snippets.json holds what TensorFlow makes of each snippet; make_graph_snippets.py wrote it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import engine as tf
from engine.types.shape import TensorShape

SNIPPETS = json.loads(Path(__file__).with_name("graph_snippets.json").read_text())


def nodes_of(graph: tf.Graph) -> list[dict[str, Any]]:
    return [
        {
            "name": op.name,
            "op": op.type,
            "inputs": [t.name for t in op.inputs],
            "dtypes": [t.dtype.name for t in op.outputs],
            "shapes": [None if t.shape.ndims is None else t.shape.as_list() for t in op.outputs],
        }
        for op in graph.get_operations()
    ]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet["code"])
def test_nodes(snippet: dict[str, Any]) -> None:
    with tf.Graph().as_default() as graph:
        scope: dict[str, Any] = {"tf": tf}
        exec(snippet["setup"], scope)
        eval(snippet["code"], scope)
    found, wanted = nodes_of(graph), snippet["nodes"]
    for node in (*found, *wanted):
        node["inputs"] = tuple(node["inputs"])
    text = "\n".join(f"{n['name']} {n['op']} {n['inputs']} {n['dtypes']}" for n in found)
    assert text == "\n".join(f"{n['name']} {n['op']} {n['inputs']} {n['dtypes']}" for n in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        for mine, known in zip(ours["shapes"], theirs["shapes"], strict=True):
            # At least what TensorFlow knows, and nothing that contradicts it.
            merged = TensorShape(mine).merge_with(TensorShape(known))
            assert TensorShape(mine) == merged, f"{ours['name']}: {mine}, where TensorFlow knows {known}"
