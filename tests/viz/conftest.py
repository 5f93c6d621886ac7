"""Stages and executions made by hand, so that what is drawn is known to the last cell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.observe import Executions
from engine.passes.stage import Lineage, Stage, StageNode
from engine.types.dtypes import as_dtype
from engine.types.shape import TensorShape
from tracing.stages import RecordedOp

CPU = "/job:localhost/replica:0/task:0/device:CPU:0"

# One node a line: name, type, inputs (with ^ for control), and after the arrow what it gives.
TRAINING = """
input/x Placeholder -> float32[?,64]
input/t Placeholder -> float32[?,10]
dense1/w VariableV2 -> float32_ref[64,32]
dense1/w/init RandomUniform -> float32[64,32]
dense1/w/Assign Assign dense1/w dense1/w/init -> float32_ref[64,32]
dense1/w/read Identity dense1/w -> float32[64,32]
dense1/MatMul MatMul input/x dense1/w/read -> float32[?,32]
dense1/Relu Relu dense1/MatMul -> float32[?,32]
dense2/w VariableV2 -> float32_ref[32,10]
dense2/w/init RandomUniform -> float32[32,10]
dense2/w/Assign Assign dense2/w dense2/w/init -> float32_ref[32,10]
dense2/w/read Identity dense2/w -> float32[32,10]
dense2/MatMul MatMul dense1/Relu dense2/w/read -> float32[?,10]
loss/xent SoftmaxCrossEntropyWithLogits dense2/MatMul input/t -> float32[?] float32[?,10]
loss/Const Const -> int32[1]
loss/mean Mean loss/xent loss/Const -> float32[]
gradients/loss/xent_grad Mul loss/xent:1 loss/mean -> float32[?,10]
gradients/dense2/MatMul_grad MatMul dense1/Relu gradients/loss/xent_grad -> float32[32,10]
gradients/dense2/Relu_grad ReluGrad gradients/loss/xent_grad dense1/Relu -> float32[?,32]
gradients/dense1/MatMul_grad MatMul input/x gradients/dense2/Relu_grad -> float32[64,32]
train/lr Const -> float32[]
train/dense1 ApplyGradientDescent dense1/w train/lr gradients/dense1/MatMul_grad -> float32_ref[64,32]
train/dense2 ApplyGradientDescent dense2/w train/lr gradients/dense2/MatMul_grad -> float32_ref[32,10]
train/update NoOp ^train/dense1 ^train/dense2
decay/Const Const -> int32[]
decay/Enter Enter decay/Const -> int32[]
decay/Merge Merge decay/Enter decay/NextIteration -> int32[] int32[]
decay/Less Less decay/Merge decay/limit -> bool[]
decay/limit Const -> int32[]
decay/LoopCond LoopCond decay/Less -> bool[]
decay/Switch Switch decay/Merge decay/LoopCond -> int32[] int32[]
decay/Exit Exit decay/Switch -> int32[]
decay/add Add decay/Switch:1 decay/one -> int32[]
decay/one Const ^decay/Switch -> int32[]
decay/NextIteration NextIteration decay/add -> int32[]
init NoOp ^dense1/w/Assign ^dense2/w/Assign
"""


def stage_from(text: str, name: str = "pruned", before: Stage | None = None) -> Stage:
    nodes: dict[str, StageNode] = {}
    for line in text.strip().splitlines():
        left, _, right = line.partition("->")
        node, op_type, *inputs = left.split()
        data, control = [], []
        for given in inputs:
            if given.startswith("^"):
                control.append(given[1:])
            else:
                source, _, index = given.partition(":")
                data.append((source, int(index or 0)))
        dtypes, shapes = [], []
        for given in right.split():
            kind, _, dims = given.rstrip("]").partition("[")
            dtypes.append(as_dtype(kind))
            shapes.append(TensorShape([None if dim == "?" else int(dim) for dim in dims.split(",") if dim]))
        nodes[node] = StageNode(
            name=node,
            opdef=RecordedOp(op_type),  # type: ignore[arg-type]
            inputs=tuple(data),
            control_inputs=tuple(control),
            attrs={"T": dtypes[0]} if dtypes else {},
            device=CPU,
            input_dtypes=(),
            output_dtypes=tuple(dtypes),
            output_shapes=tuple(shapes),
            site=None,
            lineage=Lineage((node,), name),
        )
    return Stage(name, nodes, before=before)


def executions_of(
    rows: Sequence[tuple[int, int, int, int]], device: str = CPU, frame: int = 0, first: int = 0
) -> Executions:
    """Executions from (node, start, end, thread) rows."""
    table = np.array(rows, np.int64).reshape(-1, 4)
    return Executions(
        device=device,
        first=first,
        node=table[:, 0].astype(np.int32),
        frame=np.full(len(table), frame, np.int32),
        iteration=np.zeros(len(table), np.int64),
        start_ns=table[:, 1],
        end_ns=table[:, 2],
        thread=table[:, 3].astype(np.int32),
        dead=np.zeros(len(table), np.bool_),
    )


def step_row(number: int, start: int, duration: int, error: str | None = None) -> Any:
    return SimpleNamespace(id=number, step=number, started_ns=start, duration_ns=duration, error=error)


@pytest.fixture
def training() -> Stage:
    """A small training graph with scopes, a backward pass and a loop."""
    return stage_from(TRAINING)


@pytest.fixture(scope="session")
def make_stage() -> Callable[..., Stage]:
    """`stage_from`: a stage from one line a node."""
    return stage_from


@pytest.fixture(scope="session")
def make_executions() -> Callable[..., Executions]:
    """`executions_of`: a batch from (node, start, end, thread) rows."""
    return executions_of


@pytest.fixture(scope="session")
def make_step() -> Callable[..., Any]:
    """`step_row`: a row like the trace reader's, from number, start, duration and error."""
    return step_row


@pytest.fixture(scope="session")
def trace() -> Callable[..., tuple[Any, list[str], list[Executions]]]:
    """A step of random bars: `trace(seed, bars, threads)` on two devices, without overlaps on a thread."""

    def make(
        seed: int, bars: int = 200, threads: int = 2, number: int = 1
    ) -> tuple[Any, list[str], list[Executions]]:
        rng = random.Random(seed)
        names = [f"scope{i % 5}/node{i}" for i in range(20)]
        batches = []
        begin = number * 1_000_000
        finish = begin
        for device in ("CPU:0", "GPU:0"):
            rows = []
            for thread in range(threads):
                at = begin
                for _ in range(bars // threads):
                    at += rng.choice((0, 0, 1, rng.randrange(50), rng.randrange(3000)))
                    end = at + rng.choice((0, 1, rng.randrange(1, 40), rng.randrange(1, 5000)))
                    rows.append((rng.randrange(20), at, end, thread))
                    at = end
                finish = max(finish, at)
            rng.shuffle(rows)
            batches.append(executions_of(rows, f"/job:localhost/replica:0/task:0/device:{device}"))
        return step_row(number, begin, finish - begin), names, batches

    return make
