"""`tf.sparse`: sparse tensors, under TensorFlow 1's names."""

from __future__ import annotations

from engine.graph.sparse_tensor import SparseTensor
from engine.op.sparse import sparse_placeholder as placeholder
from engine.op.sparse import sparse_reorder as reorder
from engine.op.sparse import sparse_reshape as reshape
from engine.op.sparse import sparse_retain as retain
from engine.op.sparse import sparse_tensor_to_dense as to_dense
from engine.op.sparse import sparse_transpose as transpose
from engine.op.sparse_arithmetic import sparse_add as add
from engine.op.sparse_matmul import sparse_tensor_dense_matmul as matmul
from engine.op.sparse_matmul import sparse_tensor_dense_matmul as sparse_dense_matmul
from engine.op.sparse_reduce import sparse_reduce_sum as reduce_sum
from engine.op.sparse_reduce import sparse_reduce_sum_sparse as reduce_sum_sparse

__all__ = [
    "SparseTensor", "add", "matmul", "placeholder", "reduce_sum", "reduce_sum_sparse", "reorder", "reshape", "retain",
    "sparse_dense_matmul", "to_dense", "transpose",
]  # fmt: skip
