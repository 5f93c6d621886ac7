"""Made `schema1.sqlite`, with the last version of this package that wrote schema 1 (`tracing.schema.VERSION`):

git archive f7c9ad5 | tar -x -C OLD; PYTHONPATH=OLD python make_schema1.py; cp OLD/runs/*/run.sqlite schema1.sqlite
"""

import sys

import engine as tf
import tracing

x = tf.constant(2.0, name="x")


def body(i, v):
    return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: v * x, lambda: tf.sin(v))


y = tf.while_loop(lambda i, v: i < 3, body, [0, x], name="loop")[1]
gradient = tf.gradients(y, x)[0]
with (
    tracing.record(f"{sys.path[1]}/runs", "values", name="schema1", tensorboard=False),
    tf.Session() as session,
):
    session.run([y, gradient])
