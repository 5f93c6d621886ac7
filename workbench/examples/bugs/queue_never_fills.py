"""One thread puts twenty examples into a queue, another takes them out in batches of eight.

Two batches come out; the third, of four, never does.
"""

import threading

import numpy as np

import engine as tf

queue = tf.FIFOQueue(32, tf.float32, shapes=[[3]], name="examples")
example = tf.placeholder(tf.float32, [3], name="example")
put = queue.enqueue(example, name="put")
batch = queue.dequeue_many(8, name="batch")
mean = tf.reduce_mean(batch, name="mean")


def produce(session):
    for number in range(20):
        session.run(put, {example: np.full(3, number)})


with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=2000)) as session:
    producer = threading.Thread(target=produce, args=(session,))
    producer.start()
    producer.join()
    for number in range(3):
        print("batch", number, "mean", session.run(mean))
