"""Doubles a counter and adds one, ten times: 1, 3, 7, 15, and so on up to 2047.

It ends with another number.
"""

import engine as tf

counter = tf.Variable(1, name="counter")
double = tf.assign(counter, counter * 2, name="double")
increment = tf.assign_add(counter, 1, name="increment")
turn = tf.group(double, increment, name="turn")

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for _ in range(10):
        session.run(turn)
    print("counter:", session.run(counter), "expected:", 2**11 - 1)
