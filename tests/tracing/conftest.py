"""Stages, steps and executions made up for these tests, as an engine would tell them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest

from engine.observe import (
    Descents,
    Executions,
    FrameChange,
    FrameEvent,
    Health,
    Override,
    ResourceWrite,
    StepInfo,
    Tokens,
    TraceLevel,
    Value,
)
from engine.op.registry import OpDef
from engine.passes.stage import Lineage, Stage, StageNode
from engine.types import dtypes
from engine.types.shape import TensorShape
from engine.types.site import Frame, Site, capture
from tracing.recorder import Recorder
from tracing.stages import RecordedOp

CPU = "/job:localhost/replica:0/task:0/device:CPU:0"
_ids = itertools.count(1)


def node(
    name: str,
    op_type: str,
    *inputs: str,
    attrs: dict[str, Any] | None = None,
    outputs: tuple[tuple[Any, Any], ...] = ((dtypes.float32, (2, 3)),),
    source: str | None = None,
    site: Site | None = None,
) -> StageNode:
    """A node whose inputs are written as in a NodeDef: "x", "x:1", "^x"."""
    data = [text.partition(":") for text in inputs if not text.startswith("^")]
    return StageNode(
        name=name,
        opdef=cast(OpDef, RecordedOp(op_type)),
        inputs=tuple((source_name, int(slot or 0)) for source_name, _, slot in data),
        control_inputs=tuple(text[1:] for text in inputs if text.startswith("^")),
        attrs=MappingProxyType(attrs or {}),
        device=CPU,
        input_dtypes=(dtypes.float32,) * len(data),
        output_dtypes=tuple(dtype for dtype, _ in outputs),
        output_shapes=tuple(TensorShape(shape) for _, shape in outputs),
        site=site or capture(),
        lineage=Lineage(
            (source or name,), "prune" if source is None else "fold", "" if source is None else "why"
        ),
    )


def small_stage(extra: tuple[StageNode, ...] = ()) -> Stage:
    """built → pruned: a matmul with a bias, a node that is pruned away, and `extra`."""
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    nodes = (
        node("x", "Placeholder", attrs={"dtype": dtypes.float32, "shape": TensorShape([None, 2])}),
        node("layer/w", "Const", attrs={"dtype": dtypes.float32, "value": weights}),
        node("layer/big", "Const", attrs={"dtype": dtypes.float32, "value": np.ones((100, 100), np.float32)}),
        node("layer/matmul", "MatMul", "x", "layer/w", attrs={"transpose_a": False, "T": dtypes.float32}),
        node("loss", "Sum", "layer/matmul", "^layer/big", outputs=((dtypes.float32, ()),)),
        node("unused", "Neg", "x"),
        *extra,
    )
    built = Stage("built", MappingProxyType({each.name: each for each in nodes}), graph_version=7)
    kept = {each.name: each for each in nodes if each.name != "unused"}
    return Stage(
        "pruned",
        MappingProxyType(kept),
        feeds=("x:0",),
        fetches=("loss:0",),
        before=built,
        removed=MappingProxyType({"unused": "no fetch needs it"}),
        graph_version=7,
    )


def step_info(
    stage: Stage, step: int = 1, session: int = 1, site: tuple[Frame, ...] | None = None
) -> StepInfo:
    return StepInfo(
        id=next(_ids),
        session=session,
        step=step,
        stage=stage,
        fetches=("loss:0",),
        feeds=("x:0",),
        targets=(),
        site=capture().frames if site is None else site,
        started_ns=time.perf_counter_ns(),
        started_unix_ns=time.time_ns(),
        thread=threading.get_ident(),
    )


def executions(
    stage: Stage, count: int, first: int = 0, device: str = CPU, start_ns: int | None = None
) -> Executions:
    """`count` executions, the stage's nodes again and again, a microsecond and some each; every seventh is dead."""
    start = time.perf_counter_ns() if start_ns is None else start_ns
    number = np.arange(first, first + count)
    starts = start + 2000 * number
    dead = number % 7 == 6
    return Executions(
        device=device,
        first=first,
        node=(number % len(stage)).astype(np.int32),
        frame=np.zeros(count, np.int32),
        iteration=(number // len(stage)).astype(np.int64),
        start_ns=starts,
        end_ns=starts + np.where(dead, 0, 1000 + number % 300),
        thread=np.full(count, 11, np.int32),
        dead=dead,
    )


def health(count: int, first: int = 0) -> Health:
    number = np.arange(first, first + count)
    return Health(
        row=number,
        slot=np.zeros(count, np.int32),
        dtype=np.ones(count, np.int32),
        shapes=tuple(((), (2, 3), (0,))[i % 3] for i in number.tolist()),
        minimum=-number.astype(np.float64),
        maximum=np.where(number % 2, np.nan, 1.5),
        mean=number / 3,
        nan=number % 2,
        inf=np.zeros(count, np.int64),
        nbytes=np.array([(4, 24, 0)[i % 3] for i in number.tolist()]),
    )


def tokens(count: int) -> Tokens:
    number = np.arange(count)
    return Tokens(
        row=number,
        source_slot=np.where(number % 3, 0, -1).astype(np.int32),
        node=(number % 5).astype(np.int32),
        slot=np.where(number % 3, 1, -1).astype(np.int32),
        frame=np.zeros(count, np.int32),
        iteration=number // 5,
        dead=number % 4 == 0,
    )


def loop_events() -> tuple[FrameEvent, ...]:
    """A loop of two iterations in the root frame."""
    name = "while/while_context"
    return (
        FrameEvent(FrameChange.FRAME_BEGIN, 1, 1, name, 0, 0, 0),
        FrameEvent(FrameChange.ITERATION_BEGIN, 3, 1, name, 0, 0, 1),
        FrameEvent(FrameChange.ITERATION_BEGIN, 5, 1, name, 0, 0, 2),
        FrameEvent(FrameChange.FRAME_END, 6, 1, name, 0, 0, 2, live=False),
    )


def write_of(row: int, version: int = 1) -> ResourceWrite:
    return ResourceWrite(
        row, 1, 0, 0, "localhost", "layer/w", "assign", version, 5_000 + row, 24, "float32 [2, 3] é\udc80"
    )


def run_step(
    recorder: Recorder,
    stage: Stage,
    step: int = 1,
    count: int = 10,
    values: tuple[Value, ...] = (),
    error: BaseException | None = None,
    session: int = 1,
    overrides: tuple[Override, ...] = (),
) -> StepInfo:
    """One whole step, told as the engine tells it; with `overrides`, its last executions descend from them."""
    info = step_info(stage, step, session)
    recorder.step_begin(info)
    recorder.executions(info, executions(stage, count, start_ns=info.started_ns))
    recorder.health(info, health(count))
    recorder.frames(info, loop_events())
    recorder.tokens(info, tokens(count))
    recorder.values(info, values)
    recorder.resource_writes(info, (write_of(2), write_of(4, 2)))
    if overrides:
        numbers = np.array([each.number for each in overrides])
        recorder.overrides(info, overrides)
        recorder.descents(info, Descents(count - 1 - np.arange(len(numbers)), numbers))
    recorder.step_end(info, info.started_ns + 2000 * count, error)
    return info


class Synthetic:
    """All of the above, for tests that cannot import a conftest."""

    cpu = CPU
    node = staticmethod(node)
    small_stage = staticmethod(small_stage)
    step_info = staticmethod(step_info)
    executions = staticmethod(executions)
    health = staticmethod(health)
    tokens = staticmethod(tokens)
    loop_events = staticmethod(loop_events)
    write_of = staticmethod(write_of)
    run_step = staticmethod(run_step)


@pytest.fixture
def synthetic() -> type[Synthetic]:
    return Synthetic


@pytest.fixture
def recorders(tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    """Makes recorders that write into the test's directory, and closes them at its end."""
    made: list[Recorder] = []

    def make(level: TraceLevel = TraceLevel.FULL, name: str = "made up", **options: Any) -> Recorder:
        options.setdefault("tensorboard", False)
        made.append(Recorder.create(tmp_path / "runs", level, name, **options))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()
