"""Against TensorFlow's own partitions (tests/golden/make_partitions.py): the same edges are cut, with the same control loops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from partition_programs import PROGRAMS, cuts, loops
from tensorboard.compat.proto.config_pb2 import RunMetadata

import engine as tf
from engine.passes.settings import Level, OptimizerOptions

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "partitions.json").read_text())["programs"]


def test_every_program_is_there() -> None:
    assert set(GOLDEN) == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_edges_are_cut(name: str) -> None:
    fetches = PROGRAMS[name](tf)
    as_written = tf.GraphOptions(optimizer_options=OptimizerOptions(opt_level=Level.L0))
    metadata = RunMetadata()
    config = tf.ConfigProto(device_count={"CPU": 2}, graph_options=as_written, late_receive_bytes=None)
    with tf.Session(config=config) as session:
        session.run(fetches, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
    assert cuts(metadata.partition_graphs) == GOLDEN[name]["cuts"]
    assert loops(metadata.partition_graphs) == GOLDEN[name]["loops"]
