"""Make placements.json: where TensorFlow's own placer puts the nodes of tests/support/placement_programs.py, over two CPUs, and
what it says of those that cannot be placed.  Grappler and constant folding are off, so that the nodes are those of the program.

Run: PYTHONPATH=tests/support /work/venvs/tf/bin/python tests/placement/make_placements.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import placement_programs as programs
import tensorflow

tf = tensorflow.compat.v1
tf.disable_v2_behavior()
tf.disable_control_flow_v2()

# What partitioning and the replication of constants add.
ADDED = re.compile(r"/_\d+$|^_cloop|^_arg_|^_retval_")


def config(name: str) -> Any:
    made = tf.ConfigProto(device_count={"CPU": 2}, allow_soft_placement=name in programs.SOFT)
    made.graph_options.rewrite_options.disable_meta_optimizer = True
    made.graph_options.optimizer_options.opt_level = -1
    return made


def run(name: str, program: programs.Program) -> dict[str, str]:
    """Run it; the device of each node that ran, without the job and task."""
    with tf.Graph().as_default():
        fetches, feeds = program(tf)
        initializer = tf.global_variables_initializer()
        with tf.Session(config=config(name)) as session:
            if initializer.control_inputs:
                session.run(initializer)
            metadata = tf.RunMetadata()
            options = tf.RunOptions(output_partition_graphs=True)
            session.run(fetches, feeds, options=options, run_metadata=metadata)
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    return {node.name: node.device[-5:] for node in nodes if not ADDED.search(node.name)}


def written(program: programs.Program) -> dict[str, str]:
    """The op, the device and the colocation of each node of the graph as written."""
    with tf.Graph().as_default() as graph:
        program(tf)
    return programs.where(graph.as_graph_def())


def message(name: str, program: programs.Program) -> str:
    try:
        run(name, program)
    except tf.errors.InvalidArgumentError as error:
        lines = [line for line in error.message.splitlines() if line.startswith("Cannot ")]
        return re.sub(r"\{\{(?:colocation_node )?(.*?)\}\}", r"\1", lines[-1])
    raise AssertionError(f"{name} was placed")


if __name__ == "__main__":
    found = {
        "version": tensorflow.__version__,
        "devices": {name: run(name, program) for name, program in programs.PROGRAMS.items()},
        "written": {name: written(programs.PROGRAMS[name]) for name in programs.WRITTEN},
        "errors": {name: message(name, program) for name, program in programs.IMPOSSIBLE.items()},
    }
    path = Path(__file__).with_name("placements.json")
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(path, path.stat().st_size, {name: len(nodes) for name, nodes in found["devices"].items()})
    print(json.dumps(found["errors"], indent=1))
