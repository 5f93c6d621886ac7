"""Keeps a running mean, with a count that begins at zero.

It fails, although both variables have initializers and these have run.
"""

import engine as tf

mean = tf.Variable(0.0, name="mean")
initialize = tf.global_variables_initializer()
count = tf.Variable(0.0, name="count")

x = tf.placeholder(tf.float32, [], name="x")
new_count = tf.assign_add(count, 1.0, name="new_count")
update = tf.assign_add(mean, (x - mean) / new_count, name="update")

with tf.Session() as session:
    session.run(initialize)
    for value in (1.0, 2.0, 3.0):
        print("mean:", session.run(update, {x: value}))
