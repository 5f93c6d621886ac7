"""Smooths a signal a thousand times in a loop.

It gets slower and takes more and more memory, though the signal is always of one size.
"""

import numpy as np

import engine as tf

signal = tf.placeholder(tf.float32, [512], name="signal")


def smooth(i, current, history):
    neighbours = tf.concat([current[1:], current[:1]], 0)
    current = tf.multiply(current + neighbours, 0.5, name="current")
    history = tf.concat([history, tf.expand_dims(current, 0)], 0, name="history")
    return i + 1, current, history


_, smoothed, history = tf.while_loop(
    lambda i, current, history: i < 1000,
    smooth,
    [0, signal, tf.zeros([0, 512])],
    shape_invariants=[tf.TensorShape([]), tf.TensorShape([512]), tf.TensorShape([None, 512])],
    name="smooth",
)

with tf.Session() as session:
    ends = session.run([smoothed, history[-1]], {signal: np.sin(np.arange(512.0))})
    print("the last is the last:", bool((ends[0] == ends[1]).all()))
