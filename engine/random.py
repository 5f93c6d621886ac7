"""`tf.random`: random tensors under their later names."""

from __future__ import annotations

from engine.graph.default import set_random_seed
from engine.op.random import categorical, get_seed, multinomial, truncated_normal
from engine.op.random import random_normal as normal
from engine.op.random import random_shuffle as shuffle
from engine.op.random import random_uniform as uniform

__all__ = [
    "categorical",
    "get_seed",
    "multinomial",
    "normal",
    "set_random_seed",
    "shuffle",
    "truncated_normal",
    "uniform",
]
