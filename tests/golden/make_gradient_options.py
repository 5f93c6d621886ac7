"""TensorFlow's answers to the programs of `tests/support/gradient_options.py`: makes `gradient_options.npz`.

    /path/to/python/with/tensorflow tests/golden/make_gradient_options.py

For each program the values that it fetches, and the nodes (control flow v1) that these need.  Nothing of ours runs here.
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
    from control_programs import nodes_of
    from gradient_options import PROGRAMS

    tf.disable_v2_behavior()
    tf.disable_control_flow_v2()
    tf.logging.set_verbosity(tf.logging.ERROR)
    values, graphs = {}, {}
    for name, build in PROGRAMS.items():
        with tf.Graph().as_default() as graph:
            fetches, feeds = build(tf)
            graphs[name] = nodes_of(graph.as_graph_def(), [each for each in fetches if each is not None])
            with tf.Session() as session:
                found = session.run([each for each in fetches if each is not None], feeds)
        left = iter(found)
        values[name] = [None if each is None else next(left).tolist() for each in fetches]
    path = HERE / "gradient_options.npz"
    text = json.dumps({"values": values, "graphs": graphs}, separators=(",", ":"))
    np.savez_compressed(
        path, version=tf.__version__, answers=np.frombuffer(lzma.compress(text.encode()), np.uint8)
    )
    print(f"{path}: {len(PROGRAMS)} programs, {path.stat().st_size / 1e6:.2f} MB, {tf.__version__}")


if __name__ == "__main__":
    main()
