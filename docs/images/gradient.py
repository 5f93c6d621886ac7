"""The program in the pictures of control flow: a branch in a loop that runs two iterations at a time, and its gradient."""

import engine as tf

x = tf.constant(1.5, name="x")


def body(i, v):
    even = tf.equal(i % 2, 0, name="even")
    return i + 1, tf.cond(even, lambda: v * x, lambda: tf.sin(tf.sqrt(v)), name="choose")


_, y = tf.while_loop(lambda i, v: i < 5, body, [0, x], parallel_iterations=2, name="loop")
(gradient,) = tf.gradients(y, x)

with tf.Session() as session:
    print(session.run(gradient))
