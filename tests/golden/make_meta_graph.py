"""A MetaGraphDef that TensorFlow exported, and what TensorFlow makes of one that we exported: makes the files in `meta_graph/`.

    python tests/golden/make_meta_graph.py --tf /path/to/python/with/tensorflow

`tensorflow.pb` is the program of `tests/support/meta_graph_program.py` as TensorFlow exports it, `ours.pb` as we do.
`answers.npz` has results and gradients that TensorFlow computed: "built" of the program itself, "ours" after its own
`import_meta_graph` of `ours.pb`, with gradients made after the import.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FOLDER = HERE / "meta_graph"
sys.path.insert(0, str(HERE.parent / "support"))


def theirs() -> None:
    """Runs in the Python that has TensorFlow."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    import tensorflow.compat.v1 as tf  # type: ignore[import-not-found]
    from meta_graph_program import answers, build, gradients

    tf.disable_v2_behavior()
    tf.disable_control_flow_v2()
    with tf.Graph().as_default() as graph:
        build(tf)
        tf.train.export_meta_graph(str(FOLDER / "tensorflow.pb"))
        with tf.Session() as session:
            built = answers(tf, session, gradients(tf, graph))
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(str(FOLDER / "ours.pb"))
        with tf.Session() as session:
            ours = answers(tf, session, gradients(tf, graph))
    arrays = {f"built {i}": value for i, value in enumerate(built)} | {
        f"ours {i}": value for i, value in enumerate(ours)
    }
    np.savez_compressed(FOLDER / "answers.npz", version=tf.__version__, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tf", help="the Python that has TensorFlow")
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        theirs()
        return
    if options.tf is None:
        parser.error("--tf is needed")
    sys.path.insert(0, str(HERE.parents[1]))
    from meta_graph_program import build

    import engine as tf
    from engine.graph.meta_graph import export_meta_graph

    FOLDER.mkdir(exist_ok=True)
    with tf.Graph().as_default():
        build(tf)
        export_meta_graph(str(FOLDER / "ours.pb"))
    subprocess.run([options.tf, __file__, "--theirs"], check=True)


if __name__ == "__main__":
    main()
