"""`tf.nn`: what neural networks are made of, under TensorFlow 1's names."""

from __future__ import annotations

from engine.nn.embedding import *
from engine.op.activation import *
from engine.op.batchnorm import *
from engine.op.bias import *
from engine.op.conv import *
from engine.op.cross_entropy import *
from engine.op.dropout import *
from engine.op.pool import *
from engine.op.smooth_activation import *
from engine.op.softmax import *
from engine.op.sorting import top_k
from engine.op.statistics import l2_loss
from engine.op.trigonometric import sigmoid, tanh
