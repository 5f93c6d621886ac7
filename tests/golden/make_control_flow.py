"""TensorFlow's answers to the programs of `tests/support/control_programs.py`: makes `control_flow.npz`.

    /path/to/python/with/tensorflow tests/golden/make_control_flow.py

For each program: its value, which of its gradients are dense, sparse or absent, their values, and the nodes (control
flow v1) that these need.  Nothing of ours runs here.
"""

from __future__ import annotations

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
    from control_programs import COUNT, Built, inputs, nodes_of, program
    from tensorflow.python.autograph.core import ag_ctx  # type: ignore[import-not-found]

    tf.disable_v2_behavior()
    tf.disable_control_flow_v2()
    tf.logging.set_verbosity(tf.logging.ERROR)
    values, kinds, gradients, graphs = [], [], [], []
    for seed in range(COUNT):
        # Autograph would rewrite what map_fn is given.
        with tf.Graph().as_default() as graph, ag_ctx.ControlStatusCtx(ag_ctx.Status.DISABLED):
            built = Built(tf, program(seed))
            graphs.append(nodes_of(graph.as_graph_def(), built.wanted))
            feeds = dict(zip(built.inputs, inputs(seed), strict=True))
            with tf.Session() as session:
                value = session.run(built.result, feeds)
                try:
                    found = session.run([g for g in built.gradients if g is not None], feeds)
                except tf.errors.OpError as error:
                    print(
                        f"program {seed}: TensorFlow fails on its own gradient: {error.message.splitlines()[-2].strip()}"
                    )
                    found, built.kinds = [], "!"
        values.append(value)
        kinds.append(built.kinds)
        gradients.extend(np.ravel(each) for each in found)
    path = HERE / "control_flow.npz"
    np.savez_compressed(
        path,
        version=tf.__version__,
        values=np.array(values, np.float32),
        kinds=np.array(kinds),
        gradients=np.concatenate(gradients),
        graphs=np.frombuffer(lzma.compress(json.dumps(graphs, separators=(",", ":")).encode()), np.uint8),
    )
    sizes = [len(nodes) for nodes in graphs]
    print(
        f"{path}: {COUNT} programs of {min(sizes)} to {max(sizes)} nodes, {path.stat().st_size / 1e6:.2f} MB, {tf.__version__}"
    )


if __name__ == "__main__":
    main()
