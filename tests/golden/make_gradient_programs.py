"""TensorFlow's answers to the programs of `tests/support/gradient_programs.py`: makes `gradient_programs.npz`.

    /path/to/python/with/tensorflow tests/golden/make_gradient_programs.py

For each program: the values of its fetches, its nodes (name, type and inputs, control flow v1), and, if it has functions, its
GraphDef.  Nothing of ours runs here.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"


def main() -> None:
    import tensorflow.compat.v1 as tf  # type: ignore[import-not-found]
    from gradient_programs import PROGRAMS
    from tensorflow.python.framework.function import Defun  # type: ignore[import-not-found]

    tf.disable_v2_behavior()
    tf.disable_control_flow_v2()
    tf.logging.set_verbosity(tf.logging.ERROR)
    # One of the programs makes the optimizer abort.
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    answers: dict[str, np.ndarray] = {}
    graphs = {}
    for name, build in PROGRAMS.items():
        with tf.Graph().as_default() as graph, tf.Session(config=config) as session:
            print(name, flush=True)
            fetches, feeds = build(tf, Defun)
            found = {
                "nodes": [[node.name, node.op, list(node.input)] for node in graph.as_graph_def().node],
                "fetches": [each.name for each in fetches],
            }
            message = graph.as_graph_def()
            if message.library.function:
                found["graph"] = base64.b64encode(message.SerializeToString()).decode()
                found["feeds"] = [each.name for each in feeds]
            graphs[name] = found
            session.run(tf.global_variables_initializer())
            for i, value in enumerate(session.run(fetches, feeds)):
                answers[f"{name}/{i}"] = value
    packed = np.frombuffer(lzma.compress(json.dumps(graphs, separators=(",", ":")).encode()), np.uint8)
    np.savez_compressed(HERE / "gradient_programs.npz", graphs=packed, **answers)


if __name__ == "__main__":
    main()
