"""`tf.train`: optimizers, the global step, learning rates that decay, under TensorFlow 1's names."""

from __future__ import annotations

from engine.train.adagrad import *
from engine.train.adam import *
from engine.train.global_step import *
from engine.train.gradient_descent import *
from engine.train.learning_rate import *
from engine.train.momentum import *
from engine.train.optimizer import *
from engine.train.rmsprop import *
from engine.graph.graphdef import write_graph
from engine.graph.meta_graph import export_meta_graph, import_meta_graph
