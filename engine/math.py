"""`tf.math`: arithmetic, comparison and reduction, under TensorFlow 1's names."""

from __future__ import annotations

from engine.op.binary import *
from engine.op.compare import *
from engine.op.complex_numbers import *
from engine.op.cumulative import *
from engine.op.division import *
from engine.op.elementwise import *
from engine.op.extremes import *
from engine.op.reduce import *
from engine.op.segment import *
from engine.op.special import *
from engine.op.statistics import *
from engine.op.trigonometric import *
from engine.op.unsorted_segment import *
