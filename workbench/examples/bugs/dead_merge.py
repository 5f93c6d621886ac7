"""Takes the square root of what is positive, and zero of what is not, with switches and a merge of its own.

It fails: there is nothing to fetch.
"""

import engine as tf

x = tf.placeholder(tf.float32, [], name="x")
positive = tf.greater(x, 0.0, name="positive")
negative = tf.less(x, 0.0, name="negative")
_, if_positive = tf.raw_ops.Switch(data=x, pred=positive, name="keep_positive")
_, if_negative = tf.raw_ops.Switch(data=x, pred=negative, name="keep_negative")
root = tf.sqrt(if_positive, name="root")
zero = tf.multiply(if_negative, 0.0, name="zero")
either, _ = tf.raw_ops.Merge(inputs=[root, zero], name="either")

with tf.Session() as session:
    for value in (4.0, -1.0, 0.0):
        print(value, "->", session.run(either, {x: value}))
