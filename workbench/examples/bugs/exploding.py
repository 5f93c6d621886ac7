"""Trains a network of four layers for thirty steps.

The loss grows and ends as inf or nan.
"""

import numpy as np

import engine as tf

random = np.random.RandomState(0)
x = tf.placeholder(tf.float32, [16, 8], name="x")
y = tf.placeholder(tf.float32, [16, 1], name="y")
h = x
for number in range(4):
    with tf.name_scope(f"layer{number}"):
        width = 8 if number < 3 else 1
        weights = tf.Variable((0.4 * random.normal(size=(8, width))).astype(np.float32), name="weights")
        h = tf.matmul(h, weights, name="out")
loss = tf.reduce_mean(tf.square(h - y), name="loss")
train = tf.train.GradientDescentOptimizer(0.15).minimize(loss)

inputs = random.normal(size=(16, 8)).astype(np.float32)
targets = inputs.sum(1, keepdims=True)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for step in range(30):
        _, value = session.run([train, loss], {x: inputs, y: targets})
        if step % 5 == 0 or not np.isfinite(value):
            print("step", step, "loss", value)
        if not np.isfinite(value):
            break
