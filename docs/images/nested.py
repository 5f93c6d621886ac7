"""The program in the pictures: a loop with a branch in it, and a branch around what it gives."""

import engine as tf

n = tf.placeholder(tf.int32, [], name="n")
x = tf.constant(2.0, name="x")


def body(i, v):
    even = tf.equal(i % 2, 0, name="even")
    return i + 1, tf.cond(even, lambda: v * x, lambda: tf.sqrt(v + 7.0), name="choose")


_, total = tf.while_loop(lambda i, v: i < n, body, [0, x], name="loop")
result = tf.cond(n > 1, lambda: total + 100.0, lambda: -total, name="finish")

with tf.Session() as session:
    print(session.run(result, {n: 3}))
