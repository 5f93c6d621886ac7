"""Writes `random_golden.json`: what TensorFlow's random ops draw for some seeds.  Needs TensorFlow; the tests do not.

    python tests/op/make_random_golden.py

Two runs of each op in one session, so that how far an op's counter moves on is in it, too.  Floats are written as the hexadecimal
of their bits, so that equal means equal.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

LOGITS = [[0.0, 1.0, -1.0, 2.0], [3.0, 0.5, 0.0, -2.0], [1.0, 1.0, 1.0, 1.0]]

# Name, op type, inputs by name, attrs by name.
CASES: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("uniform float32", "RandomUniform", {"shape": [11]}, {"dtype": "float32", "seed": 12, "seed2": 34}),
    ("uniform float64", "RandomUniform", {"shape": [3, 3]}, {"dtype": "float64", "seed": 12, "seed2": 34}),
    ("uniform float16", "RandomUniform", {"shape": [9]}, {"dtype": "float16", "seed": 12, "seed2": 34}),
    (
        "uniform, large and negative seeds",
        "RandomUniform",
        {"shape": [5]},
        {"dtype": "float32", "seed": -7, "seed2": 2**40 + 3},
    ),
    ("uniform, nothing", "RandomUniform", {"shape": [0, 3]}, {"dtype": "float32", "seed": 1, "seed2": 1}),
    (
        "normal float32",
        "RandomStandardNormal",
        {"shape": [6, 7]},
        {"dtype": "float32", "seed": 5, "seed2": 0},
    ),
    ("normal float16", "RandomStandardNormal", {"shape": [10]}, {"dtype": "float16", "seed": 5, "seed2": 6}),
    ("normal float64", "RandomStandardNormal", {"shape": [7]}, {"dtype": "float64", "seed": 5, "seed2": 6}),
    ("truncated float32", "TruncatedNormal", {"shape": [67]}, {"dtype": "float32", "seed": 8, "seed2": 9}),
    ("truncated float16", "TruncatedNormal", {"shape": [20]}, {"dtype": "float16", "seed": 8, "seed2": 9}),
    ("truncated float64", "TruncatedNormal", {"shape": [33]}, {"dtype": "float64", "seed": 8, "seed2": 9}),
    ("int32", "RandomUniformInt", {"shape": [10], "minval": -5, "maxval": 1000}, {"seed": 1, "seed2": 2}),
    ("shuffle", "RandomShuffle", {"value": list(range(13))}, {"seed": 3, "seed2": 4}),
    ("shuffle rows", "RandomShuffle", {"value": [[i, -i] for i in range(6)]}, {"seed": 3, "seed2": 4}),
    ("multinomial", "Multinomial", {"logits": LOGITS, "num_samples": 7}, {"seed": 6, "seed2": 7}),
)


def main() -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    golden = {}
    for name, op_type, inputs, attrs in CASES:
        with tf.Graph().as_default():
            output = getattr(tf.raw_ops, op_type)(**inputs, **attrs)
            with tf.Session() as session:
                runs = [session.run(output) for _ in range(2)]
        golden[name] = {
            "shape": list(runs[0].shape),
            "dtype": runs[0].dtype.name,
            "runs": [run.tobytes().hex() for run in runs],
        }
    path = Path(__file__).with_name("random_golden.json")
    path.write_text(json.dumps({"tensorflow": tf.__version__, "cases": golden}, indent=1) + "\n")


if __name__ == "__main__":
    main()
