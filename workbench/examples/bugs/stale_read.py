"""Adds to a balance and reports it, in one step.

The report is the balance before.
"""

import engine as tf

balance = tf.Variable(100.0, name="balance")
deposit = tf.placeholder(tf.float32, [], name="deposit")
pay_in = tf.assign_add(balance, deposit, name="pay_in")
report = tf.identity(balance, name="report")

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    for amount in (10.0, 20.0, 30.0):
        _, told = session.run([pay_in, report], {deposit: amount})
        print("paid in", amount, "report", told)
