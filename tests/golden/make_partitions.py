"""Writes partitions.json: where TensorFlow cuts the programs of tests/support/partition_programs.py, and its control loops.

    /work/venvs/tf/bin/python tests/golden/make_partitions.py

needs TensorFlow (2.x, through its version 1 interface).  Grappler and constant folding are switched off: the graph that is cut is
the graph as written.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))

import tensorflow.compat.v1 as tf  # noqa: E402
from partition_programs import PROGRAMS, cuts, loops  # noqa: E402

tf.disable_v2_behavior()
tf.disable_control_flow_v2()

found = {}
for name, build in PROGRAMS.items():
    with tf.Graph().as_default():
        fetches = build(tf)
        config = tf.ConfigProto(device_count={"CPU": 2})
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
        metadata = tf.RunMetadata()
        with tf.Session(config=config) as session:
            session.run(fetches, options=tf.RunOptions(output_partition_graphs=True), run_metadata=metadata)
        found[name] = {"cuts": cuts(metadata.partition_graphs), "loops": loops(metadata.partition_graphs)}

(HERE / "partitions.json").write_text(
    json.dumps({"tensorflow": tf.__version__, "programs": found}, indent=1) + "\n"
)
