"""Fits a line through points: the slope should come out as 2.

It comes out as 0, however long it trains.
"""

import numpy as np

import engine as tf

inputs = np.linspace(-1, 1, 32).astype(np.float32).reshape(32, 1)
targets = 2 * inputs[:, 0]

x = tf.placeholder(tf.float32, [32, 1], name="x")
y = tf.placeholder(tf.float32, [32], name="y")
slope = tf.Variable([[0.5]], name="slope")
prediction = tf.matmul(x, slope, name="prediction")
error = tf.subtract(prediction, y, name="error")
loss = tf.reduce_mean(tf.square(error), name="loss")
train = tf.train.GradientDescentOptimizer(0.5).minimize(loss)

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for _ in range(50):
        session.run(train, {x: inputs, y: targets})
    print("slope:", session.run(slope)[0, 0], "expected: 2.0")
