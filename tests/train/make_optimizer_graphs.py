"""Writes `optimizer_graphs.json`: the nodes that TensorFlow's optimizers add.  Needs TensorFlow; the tests do not.

    python tests/train/make_optimizer_graphs.py

For each program of `optimizer_programs.py`: every node but the gradients', as [name, op, inputs, colocation].
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main() -> None:
    import sys

    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    from optimizer_programs import PROGRAMS, nodes

    golden = {}
    for name, program in PROGRAMS.items():
        with tf.Graph().as_default() as graph:
            program(tf)
            golden[name] = nodes(graph)
    lines = []
    for name, found in golden.items():
        rows = ",\n  ".join(json.dumps(node) for node in found)
        lines.append(f"{json.dumps(name)}: [\n  {rows}\n ]")
    Path(__file__).with_name("optimizer_graphs.json").write_text("{\n " + ",\n ".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
