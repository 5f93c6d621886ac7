"""Two devices pass a ball to each other, five times.

It never ends.
"""

import engine as tf

with tf.device("/cpu:0"):
    to_left = tf.FIFOQueue(1, tf.int32, shapes=[], name="to_left")
    left_catches = to_left.dequeue(name="left_catches")
with tf.device("/cpu:1"):
    to_right = tf.FIFOQueue(1, tf.int32, shapes=[], name="to_right")
    right_catches = to_right.dequeue(name="right_catches")
    left_throws = to_right.enqueue(left_catches + 1, name="left_throws")
with tf.device("/cpu:0"):
    right_throws = to_left.enqueue(right_catches + 1, name="right_throws")

config = tf.ConfigProto(device_count={"CPU": 2}, operation_timeout_in_ms=2000)
with tf.Session(config=config) as session:
    for round in range(5):
        session.run([left_throws, right_throws])
        print("round", round)
