"""A dataflow engine in the manner of TensorFlow 1: ``import engine as tf``.

Graphs of operations and tensors, sessions with feeds and fetches, variables, gradients by graph extension, control flow on
Switch, Merge, Enter, Exit and NextIteration; every stage and every token can be observed (`engine.observe`).
"""

from __future__ import annotations

from builtins import bool as _bool
from os import environ as _environ

from engine import device as _devices  # the package, before the function that has its name
from engine.types import errors
from engine.types.errors import OpError
from engine.types.device import DeviceSpec
from engine.types.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    bool_,
    complex64,
    complex128,
    double,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    resource,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
    variant,
)
from engine.types.shape import Dimension, TensorShape, broadcast_static_shape
from engine.graph.convert import (
    convert_to_tensor,
    convert_to_tensor_or_indexed_slices,
    register_tensor_conversion_function,
)
from engine.graph.default import (
    add_to_collection,
    add_to_collections,
    colocate_with,
    container,
    control_dependencies,
    device,
    get_collection,
    get_collection_ref,
    get_default_graph,
    get_default_session,
    name_scope,
    reset_default_graph,
    set_random_seed,
)
from engine.graph.graph import Graph
from engine.graph.graphdef import import_graph_def
from engine.graph.indexed_slices import IndexedSlices
from engine.graph.keys import GraphKeys
from engine.graph.operation import Operation
from engine.graph.sparse_tensor import (
    SparseTensor,
    SparseTensorValue,
    convert_to_tensor_or_sparse_tensor,
)
from engine.graph.tensor import Tensor
from engine.graph.tensor_proto import make_ndarray, make_tensor_proto
from engine.op import build as _build
from engine.op.array import *
from engine.op.binary import *
from engine.op.cast import *
from engine.op.clipping import *
from engine.op.compare import *
from engine.op.complex_numbers import *
from engine.op.const import *
from engine.op.cumulative import *
from engine.op.diagonal import *
from engine.op.division import *
from engine.op.elementwise import *
from engine.op.extremes import *
from engine.op.fills import *
from engine.op.flow import *
from engine.op.gather import *
from engine.op.gather_nd import *
from engine.op.indexing import *
from engine.op.joining import *
from engine.op.linear import *
from engine.op.masking import *
from engine.op.matmul import *
from engine.op.mirror_pad import *
from engine.op.padding import *
from engine.op.partition import *
from engine.op.passing import *
from engine.op.permute import *
from engine.op.placeholder import *
from engine.op.random import *
from engine.op.ranges import *
from engine.op.reduce import *
from engine.op.reversing import *
from engine.op.row_updates import *
from engine.op.scatter import *
from engine.op.script import *
from engine.op.segment import *
from engine.op.select import *
from engine.op.slicing import *
from engine.op.sorting import *
from engine.op.special import *
from engine.op.sparse import *
from engine.op.sparse_arithmetic import *
from engine.op.sparse_matmul import *
from engine.op.sparse_reduce import *
from engine.op.splitting import *
from engine.op.stacking import *
from engine.op.state import *
from engine.op.statistics import *
from engine.op.strings import *
from engine.op.tensordot import *
from engine.op.trigonometric import *
from engine.op.unique import *
from engine.op.unsorted_segment import *
from engine.op.registry import raw as raw_ops
from engine.op import fused as _fused
from engine.op import fused_elementwise as _fused_elementwise
from engine.op import layer_norm as _layer_norm
from engine.op import operators as _operators
from engine.op import sendrecv as _sendrecv
from engine.op import function_ops as _function_ops
from engine.op import queues as _queues
from engine.op import stacks as _stacks
from engine.op import tensor_arrays as _tensor_arrays
from engine.op import sparse_training_ops as _sparse_training_ops
from engine.op import training_ops as _training_ops
from engine.control.case import *
from engine.control.check import *
from engine.control.cond import *
from engine.control.functional import *
from engine.control.group import *
from engine.control.tensor_array import *
from engine.control.while_loop import *
from engine.control import context_def as _context_def
from engine.autodiff import flow as _flow
from engine.autodiff.aggregate import AggregationMethod
from engine.autodiff.gradients import (
    RegisterGradient,
    UnconnectedGradients,
    gradients,
)
from engine.autodiff.custom import *
from engine.autodiff.hessian import hessians
from engine.autodiff.gradients import no_gradient as NoGradient
from engine.autodiff.gradients import no_gradient as NotDifferentiable
from engine.variables import *
from engine.variables import Variable
from engine import variable_def as _variable_def
from engine.initializers import *
from engine.variable_scope import *
from engine.get_variable import *
from engine.queue import *
from engine.runtime.config import ConfigProto, GPUOptions, GraphOptions, RunOptions
from engine.passes.settings import OptimizerOptions, RewriterConfig
from engine.runtime.session import InteractiveSession, Session
from engine import bitwise, function, initializers, logging, math, nn, queue, random, sparse, test, train

bool = bool_


def is_tensor(x: object) -> _bool:
    """Whether `x` is a Tensor, SparseTensor, IndexedSlices or Variable."""
    return isinstance(x, Tensor | SparseTensor | IndexedSlices | Variable)


def executing_eagerly() -> _bool:
    """False: operations are added to graphs here, never run at once."""
    return False


def __getattr__(name: str) -> object:
    """What is imported when it is first asked for: `debug`, and protocol buffer classes under TensorFlow 1's names."""
    if name == "debug":
        import importlib

        return importlib.import_module("engine.debug")  # `from engine import debug` would ask here again
    if name == "RunMetadata":
        from tensorboard.compat.proto.config_pb2 import RunMetadata

        return RunMetadata
    if name in ("GraphDef", "NodeDef"):
        from tensorboard.compat.proto import graph_pb2, node_def_pb2

        return graph_pb2.GraphDef if name == "GraphDef" else node_def_pb2.NodeDef
    raise AttributeError(f"module 'engine' has no attribute '{name}'")


if "WORKBENCH_DEBUG" in _environ:  # a debugger may want to attach to this program
    from engine.debug import listen_as_asked as _listen_as_asked

    _listen_as_asked()
