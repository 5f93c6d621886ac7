"""Random programs, cut at random: everything is as on one device, whatever the schedule."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, programs
from schedules import Shuffled
from searches import examples
from spread import Ran, check_whole, cpus, cut, pruned, run, same

import engine as tf
from engine.partition.options import PartitionOptions
from engine.passes.settings import Level, OptimizerOptions
from engine.passes.stage import Stage
from engine.runtime.parallel import Parallel
from engine.runtime.resources import ResourceManager

SEEDS = st.integers(0, 1 << 30)
EVERYTHING_LATE = PartitionOptions(late_bytes=0)


def ready_to_run(program: Program) -> tuple[Stage, list[Any], Any]:
    """The program's stage, its feeds, and what makes variables that are initialized."""
    built = build(program, tf)
    stage = pruned(built.graph, built.fetches, list(built.feeds))
    feeds = [
        tensor.dtype.np_dtype.type(value) if tensor.shape.ndims == 0 else value
        for tensor, value in built.feeds.items()
    ]
    start = pruned(built.graph, [], targets=[built.initializer.name])

    def resources() -> ResourceManager:
        made = ResourceManager()
        made.entropy = 1
        run(start, resources=made)
        return made

    return stage, feeds, resources


def originals(ran: Ran, stage: Stage) -> Counter[Any]:
    """What executed of the nodes that the program itself has."""
    return Counter({key: count for key, count in ran.executed.items() if key[0] in stage.nodes})


def check(
    program: Program, count: int, seed: int, driver: Any, options: PartitionOptions | None = None
) -> None:
    stage, feeds, resources = ready_to_run(program)
    devices = cpus(count)
    alone = run(stage, feeds, resources=resources())
    partitioned = cut(stage, devices, seed, options)
    check_whole(partitioned)
    if isinstance(driver, Shuffled):
        # Each of four devices may run the loops and their transfers, and steps back repeat some of it.
        driver.most = max(driver.most, 30 * alone.executed.total())
    spread_out = run(partitioned, feeds, devices, driver, resources())
    for one, other in zip(alone.results, spread_out.results, strict=True):
        assert same(one, other)
    assert alone.variables.keys() == spread_out.variables.keys()
    assert all(same(alone.variables[name], spread_out.variables[name]) for name in alone.variables)
    assert originals(alone, stage) == originals(spread_out, stage)
    assert set(originals(spread_out, stage).values()) <= {1}
    assert not list(spread_out.step.state.frames), "every frame has ended"
    if spread_out.step.transfers is not None:
        assert not spread_out.step.transfers.rendezvous.value, "everything that was sent has been taken"


@given(programs(), st.integers(1, 4), SEEDS)
@examples(10)
def test_first_come_first_served(program: Program, count: int, seed: int) -> None:
    check(program, count, seed, None)


@given(programs(), st.integers(2, 4), SEEDS)
@examples(8)
def test_any_order(program: Program, count: int, seed: int) -> None:
    check(program, count, seed, Shuffled(seed, rewind=False), EVERYTHING_LATE)


@given(programs(), st.integers(2, 4), SEEDS)
@examples(6)
def test_any_order_with_steps_back(program: Program, count: int, seed: int) -> None:
    check(program, count, seed, Shuffled(seed, rewind=True))


@given(programs(), st.integers(2, 4), SEEDS, st.integers(2, 4))
@examples(6)
def test_several_threads(program: Program, count: int, seed: int, threads: int) -> None:
    driver = Parallel(threads, expensive_ns=1 + seed % 20_000)
    try:
        check(program, count, seed, driver, EVERYTHING_LATE)
    finally:
        driver.close()


@pytest.mark.slow
@pytest.mark.deep
@given(programs(depth=4), SEEDS)
@settings(max_examples=30)
def test_deeper_programs(program: Program, seed: int) -> None:
    check(program, 4, seed, Shuffled(seed, rewind=True), EVERYTHING_LATE)


@given(programs(), SEEDS, st.sampled_from([0, 1, 3]))
@examples(4)
def test_a_session_with_two_cpus_and_a_modelled_gpu(program: Program, seed: int, threads: int) -> None:
    """All of the way: device blocks on random nodes, placement, partition; graph optimization is not what is tried here."""
    as_written = tf.GraphOptions(optimizer_options=OptimizerOptions(opt_level=Level.L0))
    several = tf.ConfigProto(
        device_count={"CPU": 2, "GPU": 1},
        gpu_options=tf.GPUOptions(modelled=True),
        allow_soft_placement=True,
        graph_options=as_written,
        inter_op_parallelism_threads=threads,
    )
    names = ["/cpu:0", "/cpu:1", "/gpu:0"]
    given = []
    for config, device in (
        (tf.ConfigProto(graph_options=as_written), None),
        (several, anywhere(seed, names)),
    ):
        built = build(program, tf, device=device)
        with tf.Session(graph=built.graph, config=config) as session:
            session.run(built.initializer)
            given.append((session.run(built.fetches, built.feeds), session.run(built.variables)))
    (results, variables), (other_results, other_variables) = given
    assert all(same(one, other) for one, other in zip(results, other_results, strict=True))
    assert all(same(variables[name], other_variables[name]) for name in variables)
