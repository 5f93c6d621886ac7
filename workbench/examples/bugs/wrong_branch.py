"""Halves the learning rate when the loss has grown since the last step.

The losses fall all the time, and the rate is halved all the same.
"""

import engine as tf

loss = tf.placeholder(tf.float32, [], name="loss")
best = tf.Variable(float("inf"), name="best")
rate = tf.Variable(1.0, name="rate")

remember = tf.assign(best, tf.minimum(best, loss), name="remember")
with tf.control_dependencies([remember]):
    worse = tf.greater_equal(loss, best, name="worse")
new_rate = tf.cond(worse, lambda: rate * 0.5, lambda: tf.identity(rate), name="choose")
update = tf.assign(rate, new_rate, name="update")

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for value in (3.0, 2.0, 1.0, 0.5):
        print("loss", value, "rate", session.run(update, {loss: value}))
