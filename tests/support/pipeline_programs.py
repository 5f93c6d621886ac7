"""Random programs of every kind there is, random device blocks and random configurations: what the tests of the whole way run.

A family is a function of a seed and a device function (as `tf.device` takes one) that builds a program into a graph of its own.
`setups()` draws the rest: how many devices, which placement, which driver, which passes.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import control_programs
import numpy as np
import random_programs
from hypothesis import strategies as st

import engine as tf
from engine.device.modelled.parameters import GPUModel
from engine.function import Defun
from engine.passes.settings import OptimizerOptions, RewriterConfig

DeviceFunction = Callable[[Any], str]


@dataclass
class Made:
    """Run `fetches` with `feeds` as often as you like, after `initializer`; `variables` are read at the end."""

    graph: Any
    fetches: list[Any]
    feeds: dict[Any, Any]
    initializer: Any = None
    variables: list[Any] = field(default_factory=list)


Family = Callable[[int, "DeviceFunction | None"], Made]
FAMILIES: dict[str, Family] = {}


def family(build: Family) -> Family:
    FAMILIES[build.__name__] = build
    return build


# --- programs -------------------------------------------------------------------------------------------------------------


def effects(program: random_programs.Program, device: DeviceFunction | None) -> Made:
    """Nested conditionals and loops that read and change variables."""
    built = random_programs.build(program, tf, device=device)
    return Made(built.graph, built.fetches, built.feeds, built.initializer, list(built.variables.values()))


class _InFunctions(random_programs._Build):
    """Every block is a function, which takes what it uses from around it as captured inputs."""

    def block(self, block: random_programs.Block, env: dict[str, Any], before: list[Any]) -> list[Any]:
        shapes = [[2] if name[0] == "f" else [] for name in block.results]

        @Defun(func_name=f"block{block.number}", shape_func=lambda op: shapes)
        def body() -> Any:
            return super(_InFunctions, self).block(block, env, [])

        results = body()
        return list(results) if isinstance(results, tuple) else [results]


def functions(program: random_programs.Program, device: DeviceFunction | None) -> Made:
    """The same without variables, each block a function, with the gradient through all of them."""
    with tf.Graph().as_default() as graph, tf.device(device):
        env, feeds = {}, {}
        for name, value in program.inputs:
            kind = name[0]
            env[name] = tf.placeholder(
                random_programs._dtype(tf, kind), [2] if kind == "f" else [], name=name
            )
            feeds[env[name]] = random_programs._value(kind, value)
        fetches = _InFunctions(tf, {}, False).block(program.body, env, [])
        (gradient,) = tf.gradients(fetches[1], env["f0"])
        return Made(graph, fetches + ([] if gradient is None else [gradient]), feeds)


@family
def slopes(seed: int, device: DeviceFunction | None) -> Made:
    """Nested control flow and TensorArrays, with first and second derivatives."""
    with tf.Graph().as_default() as graph, tf.device(device):
        built = control_programs.Built(tf, control_programs.program(seed), dtype=tf.float64)
        feeds = dict(zip(built.inputs, control_programs.inputs(seed), strict=True))
        first = [gradient for gradient in built.gradients if gradient is not None]
        total = tf.add_n([tf.reduce_sum(each * each) for each in first]) if first else None
        second = [] if total is None else tf.gradients(total, built.inputs)
        return Made(
            graph,
            [*built.wanted, *(tf.convert_to_tensor(each) for each in second if each is not None)],
            feeds,
        )


OPTIMIZERS: tuple[Callable[[], Any], ...] = (
    lambda: tf.train.GradientDescentOptimizer(0.05),
    lambda: tf.train.MomentumOptimizer(0.05, 0.9),
    lambda: tf.train.AdamOptimizer(0.01),
    lambda: tf.train.AdagradOptimizer(0.05),
    lambda: tf.train.RMSPropOptimizer(0.01),
)


@family
def learning(seed: int, device: DeviceFunction | None) -> Made:
    """Nested control flow over variables, which an optimizer changes; with random numbers and an embedding."""
    rng = random.Random(seed)
    values = control_programs.inputs(seed)
    with tf.Graph().as_default() as graph, tf.device(device):
        tf.set_random_seed(seed)
        places = [tf.Variable(value, name=f"w{k}") for k, value in enumerate(values)]
        ids = tf.placeholder(tf.int32, [None], name="ids")
        noise = tf.random_uniform([3], -0.1, 0.1, seed=3)
        inputs = [places[0] + noise, tf.identity(places[1]), tf.identity(places[2])]
        value = control_programs.build(tf, control_programs.program(seed), control_programs.Scope(inputs))
        rows = tf.reduce_sum(tf.square(tf.gather(places[2], ids)))
        loss = tf.reduce_sum(value * [1.0, -2.0, 0.5]) + 0.1 * rows
        step = rng.choice(OPTIMIZERS)().minimize(loss, global_step=tf.train.get_or_create_global_step())
        with tf.control_dependencies([step]):
            after = tf.identity(tf.add_n([tf.reduce_sum(place) for place in places]), name="after")
        return Made(
            graph,
            [loss, step, after],
            {ids: np.array([3, 1, 3, 0], np.int32)},
            tf.global_variables_initializer(),
            tf.global_variables(),
        )


@family
def sparse(seed: int, device: DeviceFunction | None) -> Made:
    """Sparse tensors made, combined and multiplied in a chain that the seed chooses, with a gradient by their values."""
    rng = random.Random(seed)
    data = np.random.default_rng(seed)
    count = rng.randint(1, 5)
    cells = np.array(sorted(rng.sample(range(12), count)), np.int64)
    with tf.Graph().as_default() as graph, tf.device(device):
        indices = tf.placeholder(tf.int64, [None, 2], name="indices")
        values = tf.placeholder(tf.float64, [None], name="values")
        dense = tf.placeholder(tf.float64, [4, 3], name="dense")
        matrix = tf.SparseTensor(indices, values, tf.constant([3, 4], tf.int64))
        fetches: list[Any] = []
        for _ in range(rng.randint(1, 4)):
            match rng.choice(("scale", "transpose twice", "add", "reorder", "retain", "reshape twice")):
                case "scale":
                    matrix = matrix * tf.constant([[2.0], [0.5], [-1.0]], tf.float64)
                case "transpose twice":
                    matrix = tf.sparse_transpose(tf.sparse_transpose(matrix))
                case "add":
                    matrix = tf.sparse_add(matrix, matrix)
                case "reorder":
                    matrix = tf.sparse_reorder(matrix)
                case "retain":
                    matrix = tf.sparse_retain(matrix, tf.greater(matrix.values, -0.5))
                case _:
                    matrix = tf.sparse_reshape(tf.sparse_reshape(matrix, [2, 6]), [3, 4])
        product = tf.sparse_tensor_dense_matmul(matrix, dense)
        total = tf.cond(
            tf.reduce_sum(dense) > 0.0,
            lambda: tf.reduce_sum(tf.tanh(product)),
            lambda: tf.reduce_sum(product),
        )
        fetches = [matrix, tf.sparse_tensor_to_dense(matrix), product, total, tf.sparse_reduce_sum(matrix, 1)]
        fetches += [each for each in tf.gradients(total, [values, dense]) if each is not None]
        feeds = {
            indices: np.stack([cells // 4, cells % 4], 1),
            values: data.normal(size=count),
            dense: data.normal(size=(4, 3)),
        }
        return Made(graph, fetches, feeds)


# --- where ------------------------------------------------------------------------------------------------------------------


def blocks(seed: int, names: Sequence[str]) -> DeviceFunction:
    """Devices as a user's `tf.device` blocks give them: most of a name scope in one place, some nodes elsewhere.

    What takes a variable, or makes or takes a resource, is left to go where that is.
    """
    rng = random.Random(seed)
    scopes: dict[str, str] = {}

    def at(op: Any) -> str:
        if any(tensor.dtype._is_ref_dtype for tensor in op.inputs) or any(
            tensor.dtype is tf.resource for tensor in (*op.inputs, *op.outputs)
        ):
            return ""
        if rng.random() < 0.3:
            return rng.choice(names)
        scope = op.name.rpartition("/")[0]
        if scope not in scopes:
            scopes[scope] = rng.choice(names)
        return scopes[scope]

    return at


# --- how --------------------------------------------------------------------------------------------------------------------

PASSES = (
    "fold",
    "arithmetic",
    "branches",
    "invariants",
    "cse",
    "dependencies",
    "recompute",
    "remap",
    "fuse",
    "layout",
    "swap",
)


@dataclass(frozen=True)
class Setup:
    """A session's configuration and where the program's nodes ask to be."""

    cpus: int
    gpus: int
    placement: str
    soft: bool
    threads: int
    expensive_ns: int
    late_bytes: int | None
    passes: tuple[tuple[str, bool], ...] | None  # None: as they come
    seed: int

    @property
    def names(self) -> list[str]:
        """What device blocks may ask for."""
        named = ["", *(f"/cpu:{i}" for i in range(self.cpus))]
        if self.soft:
            named += [*(f"/gpu:{i}" for i in range(self.gpus)), "/gpu:7", "/device:CPU:9"]
        return named

    @property
    def device(self) -> DeviceFunction:
        return blocks(self.seed, self.names)

    def config(self) -> Any:
        rewriter = RewriterConfig() if self.passes is None else RewriterConfig(passes=dict(self.passes))
        return tf.ConfigProto(
            device_count={"CPU": self.cpus, "GPU": self.gpus},
            gpu_options=tf.GPUOptions(modelled=GPUModel(capacity=1 << 28, delay_ns=20_000, seed=self.seed)),
            allow_soft_placement=self.soft,
            placement=self.placement,
            inter_op_parallelism_threads=self.threads,
            expensive_kernel_ns=self.expensive_ns,
            late_receive_bytes=self.late_bytes,
            graph_options=tf.GraphOptions(rewrite_options=rewriter),
        )


def setups(gpus: int = 2) -> st.SearchStrategy[Setup]:
    chosen = st.lists(st.booleans(), min_size=len(PASSES), max_size=len(PASSES)).map(
        lambda flags: tuple(zip(PASSES, flags, strict=True))
    )
    setup = st.builds(
        Setup,
        cpus=st.integers(1, 4),
        gpus=st.integers(0, gpus),
        placement=st.sampled_from(["simple", "greedy"]),
        soft=st.booleans(),
        threads=st.sampled_from([0, 1, 2, 4]),
        expensive_ns=st.sampled_from([0, 1, 5_000]),
        late_bytes=st.sampled_from([64 << 10, 0, None]),
        passes=st.none() | chosen,
        seed=st.integers(0, 1 << 30),
    )
    # Nodes without a kernel for a GPU are placed by themselves only where that is allowed.
    return setup.map(lambda each: dataclasses.replace(each, soft=each.soft or each.gpus > 0))


def alone() -> Any:
    """One device, no passes, one thread, whatever devices are asked for: what all else is compared with."""
    options = OptimizerOptions(opt_level=OptimizerOptions.L0)
    return tf.ConfigProto(
        inter_op_parallelism_threads=1,
        allow_soft_placement=True,
        graph_options=tf.GraphOptions(optimizer_options=options),
    )


def leaves(value: Any) -> list[Any]:
    """The arrays of what a run returned; None for what has no value."""
    if isinstance(value, tf.SparseTensorValue):
        return list(value)
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in leaves(each)]
    return [value]


def run(made: Made, config: Any, runs: int = 2) -> tuple[list[Any], Any]:
    """What the program gives in `runs` runs of one session and what its variables hold then, and the last stage."""
    with tf.Session(graph=made.graph, config=config) as session:
        if made.initializer is not None:
            session.run(made.initializer)
        found = [session.run(made.fetches, made.feeds) for _ in range(runs)]
        stage = session.stage_for(made.fetches, list(made.feeds))
        return leaves([*found, session.run(made.variables)]), stage
