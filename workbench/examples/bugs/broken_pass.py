"""Computes 10 - 3 with a pass of its own in the pipeline, which is to put the operands of commutative operations in order.

It prints -7.
"""

import engine as tf
from engine.passes import pipeline


def order_operands(draft, facts):
    for name, node in list(draft.nodes.items()):
        if node.type in ("AddV2", "Mul", "Sub", "Maximum") and node.inputs[0] > node.inputs[1]:
            draft.replace(
                name, inputs=tuple(reversed(node.inputs)), reason="operands in order of their names"
            )


pipeline.PASSES = (pipeline.Pass("order", order_operands, why="Puts operands in order."), *pipeline.PASSES)

ten = tf.placeholder(tf.float32, [], name="ten")
three = tf.placeholder(tf.float32, [], name="three")
x = tf.identity(ten, name="x")
a = tf.identity(three, name="a")
difference = tf.subtract(
    tf.multiply(x, 1.5, name="more_x"), tf.multiply(a, 1.5, name="more_a"), name="difference"
)
result = tf.divide(difference, 1.5, name="result")

with tf.Session() as session:
    print("10 - 3 =", session.run(result, {ten: 10.0, three: 3.0}))
