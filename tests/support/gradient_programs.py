"""Programs on custom gradients, functions, references and sparse tensors, which run with TensorFlow 1 as with the engine.

Each takes the module `tf` and `Defun`, builds a graph, and gives what to fetch and what to feed.  Variables are initialized
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, Callable[[Any, Any], tuple[list[Any], dict[Any, Any]]]] = {}


def program(build: Any) -> Any:
    PROGRAMS[build.__name__] = build
    return build


def values(tf: Any, *shape: int, seed: int = 0) -> Any:
    """A placeholder and what to feed it."""
    array = np.random.Generator(np.random.PCG64(seed)).normal(size=shape).astype(np.float32)
    return tf.placeholder(tf.float32, list(shape), name=f"x{seed}"), array


# Custom gradients.


def log1pexp(tf: Any) -> Any:
    @tf.custom_gradient
    def function(x: Any) -> Any:
        e = tf.exp(x)
        return tf.log(1 + e), lambda dy: dy * (1 - 1 / (1 + e))

    return function


@program
def custom_of_one_argument(tf: Any, Defun: Any) -> Any:
    x = tf.constant([100.0, 0.5, -3.0])
    y = log1pexp(tf)(x)
    return [y, *tf.gradients(y, x)], {}


@program
def custom_differentiated_twice(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 3)
    first = tf.gradients(log1pexp(tf)(x), x)[0]
    return [first, tf.gradients(first, x)[0]], {x: fed}


@program
def custom_of_structures(tf: Any, Defun: Any) -> Any:
    x, fed_x = values(tf, 2, 3)
    y, fed_y = values(tf, 3, seed=1)

    @tf.custom_gradient
    def function(a: Any, b: Any) -> Any:
        def grad(d_product: Any, d_sum: Any) -> Any:
            return d_product * 2 + d_sum * 3, None

        return {"sum": a + b, "product": [a * b]}, grad

    found = function(x, y)
    loss = tf.reduce_sum(found["sum"] * found["sum"]) + tf.reduce_sum(found["product"][0])
    return [found["product"][0], found["sum"], tf.gradients(loss, x)[0]], {x: fed_x, y: fed_y}


@program
def custom_in_a_branch(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 3)
    function = log1pexp(tf)
    y = tf.cond(tf.reduce_sum(x) < 100.0, lambda: function(x) * x, lambda: x)
    return [y, tf.gradients(y, x)[0]], {x: fed}


@program
def custom_in_a_loop(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 3)
    function = log1pexp(tf)
    y = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, function(v) * x), [0, x])[1]
    return [y, tf.gradients(y, x)[0]], {x: fed}


@program
def custom_that_returns_its_argument(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 3)

    @tf.custom_gradient
    def reversed_gradient(a: Any) -> Any:
        return a, lambda dy: -dy

    y = tf.square(reversed_gradient(x))
    return [y, tf.gradients(y, x)[0]], {x: fed}


@program
def custom_with_variables(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 2, 3)

    @tf.custom_gradient
    def layer(a: Any) -> Any:
        w = tf.get_variable("w", [3, 2], initializer=tf.ones_initializer(), use_resource=True)
        b = tf.get_variable("b", [2], initializer=tf.zeros_initializer(), use_resource=True)

        def grad(dy: Any, variables: Any = None) -> Any:
            assert [each.op.name for each in variables] == ["b", "w"]
            return 2 * tf.matmul(dy, w, transpose_b=True), [
                tf.reduce_sum(dy, 0),
                5 * tf.matmul(a, dy, transpose_a=True),
            ]

        return tf.matmul(a, w) + b, grad

    y = layer(x)
    variables = tf.trainable_variables()
    return [y, *tf.gradients(y * y, [x, *variables])], {x: fed}


@program
def recomputed(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 4)
    y = tf.recompute_grad(lambda a: tf.sin(a) * tf.cos(a) * a)(x)
    return [y, tf.gradients(y, x)[0]], {x: fed}


@program
def passed_through(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 4)
    y = tf.grad_pass_through(tf.round)(x * 3) * x
    return [y, tf.gradients(y, x)[0]], {x: fed}


# Functions.


@program
def function_of_two(tf: Any, Defun: Any) -> Any:
    @Defun(tf.float32, tf.float32, func_name="ProductAndSum", out_names=["product", "sum"])
    def function(a: Any, b: Any) -> Any:
        return a * tf.sin(b), a + b

    x, fed_x = values(tf, 3)
    y, fed_y = values(tf, 3, seed=1)
    product, total = function(x, y, name="called")
    return [product, total, *tf.gradients(product, [x, y])], {x: fed_x, y: fed_y}


@program
def function_with_a_gradient_function(tf: Any, Defun: Any) -> Any:
    @Defun(tf.float32, tf.float32, func_name="HalfGrad")
    def gradient(a: Any, d: Any) -> Any:
        return d * 10.0 + a

    @Defun(tf.float32, func_name="Half", grad_func=gradient)
    def function(a: Any) -> Any:
        return a / 2.0

    x, fed = values(tf, 3)
    y = function(x)
    return [y, *tf.gradients(y, x)], {x: fed}


@program
def function_with_a_python_gradient(tf: Any, Defun: Any) -> Any:
    @Defun(tf.float32, func_name="Third", python_grad_func=lambda op, d: d * op.inputs[0] * 100.0)
    def function(a: Any) -> Any:
        return a / 3.0

    x, fed = values(tf, 3)
    y = function(x)
    return [y, *tf.gradients(y, x)], {x: fed}


@program
def function_that_captures(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 3)
    scale = tf.constant(3.0) + 1.0

    @Defun(tf.float32, func_name="Inner")
    def inner(a: Any) -> Any:
        return a * scale

    @Defun(tf.float32, func_name="Outer")
    def outer(a: Any) -> Any:
        return inner(a) + inner(a * scale)

    y = outer(x)
    return [y, *tf.gradients(y, [x, scale])], {x: fed}


@program
def function_with_a_loop(tf: Any, Defun: Any) -> Any:
    scale = tf.constant(2.0)

    @Defun(tf.float32, tf.int32, func_name="Power")
    def power(a: Any, n: Any) -> Any:
        looped = tf.while_loop(lambda i, v: i < n, lambda i, v: (i + 1, v * scale), [0, a])[1]
        return tf.cond(n > 2, lambda: looped + 1.0, lambda: looped)

    x, fed = values(tf, 3)
    return [power(x, 2), power(x, 4)], {x: fed}


@program
def function_called_in_control_flow(tf: Any, Defun: Any) -> Any:
    @Defun(tf.float32, func_name="Step", shape_func=lambda op: [op.inputs[0].get_shape()])
    def step(a: Any) -> Any:
        return tf.tanh(a) * 2.0 + tf.constant(0.5)

    x, fed = values(tf, 3)
    looped = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, step(v)), [0, x])[1]
    chosen = tf.cond(x[0] > 1e6, lambda: step(x), lambda: x)
    return [looped, chosen, *tf.gradients([looped, chosen], x)], {x: fed}


@program
def function_with_a_variable(tf: Any, Defun: Any) -> Any:
    @Defun(tf.float32, func_name="Layer")
    def layer(a: Any) -> Any:
        w = tf.get_variable("w", [3], initializer=tf.constant_initializer(2.0))
        return a * w

    x, fed = values(tf, 3)
    y = layer(x) + layer(x * 2)
    return [y, *tf.gradients(y, [x, *tf.trainable_variables()])], {x: fed}


@program
def function_of_any_types(tf: Any, Defun: Any) -> Any:
    @Defun(func_name="Twice")
    def twice(a: Any) -> Any:
        return a + a

    return [twice(tf.constant(2)), twice(tf.constant(1.5))], {}


# References.


@program
def assigned_in_a_branch(tf: Any, Defun: Any) -> Any:
    v = tf.Variable(1.0, use_resource=False, name="v")
    pred = tf.placeholder(tf.bool, [], name="pred")
    y = tf.cond(pred, lambda: tf.assign_add(v, 10.0), lambda: tf.assign_sub(v, 1.0))
    with tf.control_dependencies([y]):
        after = v.read_value()
    return [after], {pred: True}


@program
def assigned_in_a_loop(tf: Any, Defun: Any) -> Any:
    v = tf.Variable(1.0, use_resource=False, name="v")

    def body(i: Any) -> Any:
        with tf.control_dependencies([tf.assign(v, v.read_value() * 2.0)]):
            return i + 1

    looped = tf.while_loop(lambda i: i < 3, body, [0], parallel_iterations=1)
    with tf.control_dependencies([looped]):
        after = v.read_value()
    return [looped, after], {}


@program
def a_reference_as_loop_variable(tf: Any, Defun: Any) -> Any:
    v = tf.Variable([1.0, 2.0], use_resource=False, name="v")

    def body(i: Any, ref: Any) -> Any:
        return i + 1, tf.assign_add(ref, [1.0, 10.0])

    _, last = tf.while_loop(lambda i, ref: i < 4, body, [0, v._ref()], parallel_iterations=1)
    with tf.control_dependencies([last]):
        after = v.read_value()
    return [after], {}


@program
def a_gradient_through_references(tf: Any, Defun: Any) -> Any:
    v = tf.Variable([1.5, 2.0], use_resource=False, name="v")
    pred = tf.placeholder(tf.bool, [], name="pred")
    through = tf.cond(pred, lambda: v._ref(), lambda: tf.raw_ops.RefIdentity(input=v._ref()))
    y = through * through
    return [y, *tf.gradients(y, v)], {pred: False}


@program
def a_selected_reference(tf: Any, Defun: Any) -> Any:
    v = tf.Variable(1.0, use_resource=False, name="v")
    w = tf.Variable(2.0, use_resource=False, name="w")
    chosen = tf.raw_ops.RefSelect(index=tf.constant(1), inputs=[v._ref(), w._ref()])
    with tf.control_dependencies([tf.assign(chosen, 7.0)]):
        return [v.read_value(), w.read_value()], {}


# Sparse tensors.


def sparse(tf: Any) -> Any:
    vector, fed = values(tf, 3)
    return tf.SparseTensor([[0, 1], [1, 0], [2, 2]], vector, [3, 3]), vector, fed


@program
def sparse_invariant_of_a_loop(tf: Any, Defun: Any) -> Any:
    matrix, vector, fed = sparse(tf)
    start, fed_start = values(tf, 3, 2, seed=1)

    def body(i: Any, x: Any) -> Any:
        return i + 1, tf.sparse_tensor_dense_matmul(matrix, x) + 0.5 * x

    y = tf.while_loop(lambda i, x: i < 3, body, [0, start])[1]
    return [y, *tf.gradients(y * y, [vector, start])], {vector: fed, start: fed_start}


@program
def sparse_loop_variable(tf: Any, Defun: Any) -> Any:
    matrix, vector, fed = sparse(tf)

    def body(i: Any, x: Any) -> Any:
        return i + 1, tf.sparse_add(x, tf.SparseTensor(x.indices, x.values * 0.5, x.dense_shape))

    y = tf.while_loop(lambda i, x: i < 3, body, [0, matrix])[1]
    return [y.indices, y.values, y.dense_shape, *tf.gradients(y.values, vector)], {vector: fed}


@program
def sparse_branches(tf: Any, Defun: Any) -> Any:
    matrix, vector, fed = sparse(tf)
    y = tf.cond(
        vector[0] > 100.0, lambda: matrix, lambda: tf.SparseTensor([[0, 0]], vector[:1] * 2.0, [3, 3])
    )
    dense = tf.sparse_tensor_to_dense(y)
    return [y.values, dense, *tf.gradients(dense, vector)], {vector: fed}


@program
def sparse_gradients(tf: Any, Defun: Any) -> Any:
    matrix, vector, fed = sparse(tf)
    shuffled = tf.SparseTensor([[2, 2], [0, 1], [1, 0]], vector, [3, 3])
    dense, fed_dense = values(tf, 3, 3, seed=1)
    y = [
        tf.sparse_tensor_to_dense(matrix) * dense,
        tf.sparse_reduce_sum(matrix, axis=1) * dense[0],
        tf.sparse_add(matrix, tf.sparse_reorder(shuffled)).values * dense[1],
        tf.sparse_add(matrix, dense) * dense,
        tf.sparse_tensor_dense_matmul(matrix, dense, adjoint_a=True, adjoint_b=True) * dense,
    ]
    return [*y, *tf.gradients(y, [vector, dense])], {vector: fed, dense: fed_dense}


@program
def sparse_moved(tf: Any, Defun: Any) -> Any:
    matrix, vector, fed = sparse(tf)
    y = tf.sparse_reshape(tf.sparse_transpose(matrix), [-1, 9])
    kept = tf.sparse_retain(matrix, [True, False, True])
    return [y.indices, y.values, y.dense_shape, kept.indices, kept.values], {vector: fed}


@program
def sparse_dependencies(tf: Any, Defun: Any) -> Any:
    matrix, vector, fed = sparse(tf)
    same = tf.identity(matrix)
    return [same.indices, same.values, same.dense_shape], {vector: fed}


# Smaller things.


@program
def clipped(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 2, 3)
    slices = tf.IndexedSlices(x * 2.0, tf.constant([1, 0]), tf.constant([4, 3]))
    (a, none, b), norm = tf.clip_by_global_norm([x, None, slices], 1.5)
    assert none is None
    by_norm = tf.clip_by_norm(x, 1.0, axes=[1])
    average = tf.clip_by_average_norm(x, 0.1)
    return [a, b.values, norm, by_norm, average, *tf.gradients([by_norm, average], x)], {x: fed}


@program
def looked_up(tf: Any, Defun: Any) -> Any:
    x, fed_x = values(tf, 4, 2)
    y, fed_y = values(tf, 3, 2, seed=1)
    ids = tf.constant([[0, 5], [6, 3]])
    found = [
        tf.nn.embedding_lookup(x, [[1, 2], [3, 3]]),
        tf.nn.embedding_lookup([x, y], ids),
        tf.nn.embedding_lookup([x, y], ids, partition_strategy="div"),
        tf.nn.embedding_lookup(x, [1, 2], max_norm=0.5),
    ]
    grads = [tf.convert_to_tensor(each) for each in tf.gradients(found, [x, y])]
    return [*found, *grads], {x: fed_x, y: fed_y}


@program
def normalized(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 2, 3)
    y = tf.nn.l2_normalize(x, axis=1)
    return [y, tf.nn.zero_fraction(tf.nn.relu(x)), *tf.gradients(y * x, x)], {x: fed}


@program
def matrices(tf: Any, Defun: Any) -> Any:
    x, fed = values(tf, 2, 3, 3)
    return [tf.eye(3), tf.eye(2, 4, batch_shape=[2]), tf.trace(x), *tf.gradients(tf.trace(x) * 3.0, x)], {
        x: fed
    }


@program
def sums_of_products(tf: Any, Defun: Any) -> Any:
    x, fed_x = values(tf, 2, 3, 4)
    y, fed_y = values(tf, 2, 4, 5, seed=1)
    z = [
        tf.einsum("bij,bjk->bik", x, y),
        tf.einsum("bij,cjk->bcik", x, y),
        tf.einsum("bij,bjk->k", x, y),
        tf.einsum("bij->jb", x),
        tf.einsum("bij", x),
    ]
    return [*z, *tf.gradients(z, [x, y])], {x: fed_x, y: fed_y}


@program
def switched(tf: Any, Defun: Any) -> Any:
    index = tf.placeholder(tf.int32, [], name="index")
    x, fed = values(tf, 3)
    y = tf.switch_case(index, [lambda: x * 2.0, lambda: x * x, lambda: x + 1.0], default=lambda: -x)
    return [y, *tf.gradients(y, x)], {x: fed, index: 1}
