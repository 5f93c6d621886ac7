"""Adds up logarithms in a loop and goes downhill along the sum.

The sum of the terms that count comes out finite, as it should.  The gradient is NaN, and so are the weights after one step.
"""

import numpy as np

import engine as tf

x = tf.constant([1.0, 0.5, 0.25, 0.0], name="x")
scale = tf.Variable([1.0, 1.0, 1.0, 1.0], name="scale")


def add_one_term(i, total):
    value = scale[i] * x[i]
    term = tf.where(value > 0.0, tf.log(value, name="log"), 0.0, name="term")
    return i + 1, total + term


_, total = tf.while_loop(lambda i, total: i < 4, add_one_term, [0, 0.0], name="sum")
train = tf.train.GradientDescentOptimizer(0.1).minimize(total, var_list=[scale])

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    print("sum:", session.run(total))
    session.run(train)
    weights = session.run(scale)
    print("weights after a step:", weights)
    print("finite:", bool(np.isfinite(weights).all()))
