"""`tf.bitwise`: operations on the bits of integers, under TensorFlow 1's names."""

from __future__ import annotations

from engine.op.bitwise import *
