"""Programs of nested conditionals, loops, arrays and maps with their gradients, cut at random: bit for bit as on one device."""

from __future__ import annotations

import pytest
from control_programs import COUNT, Built, inputs, program
from schedules import Shuffled
from spread import cpus, cut, pruned, run, same

import engine as tf
from engine.partition.options import PartitionOptions
from engine.runtime.driver import Driver
from engine.runtime.parallel import Parallel


def check(seed: int, driver: Driver | None) -> None:
    graph = tf.Graph()
    with graph.as_default():
        built = Built(tf, program(seed))
    stage = pruned(graph, built.wanted, built.inputs)
    feeds = inputs(seed)
    devices = cpus(2 + seed % 3)
    alone = run(stage, feeds)
    apart = run(cut(stage, devices, seed, PartitionOptions(late_bytes=0)), feeds, devices, driver)
    for one, other in zip(alone.results, apart.results, strict=True):
        assert same(one, other)
    assert {key: n for key, n in apart.executed.items() if key[0] in stage.nodes} == dict(alone.executed)


SOME = range(0, COUNT, 3)


@pytest.mark.parametrize("seed", SOME)
def test_one_thread(seed: int) -> None:
    check(seed, None)


@pytest.mark.parametrize("seed", (1, 17, 33, 49))
def test_any_order(seed: int) -> None:
    check(seed, Shuffled(seed, rewind=False, most=200_000))


@pytest.mark.parametrize("seed", range(2, COUNT, 16))
def test_threads(seed: int) -> None:
    driver = Parallel(3, expensive_ns=5_000)
    check(seed, driver)
    driver.close()


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("seed", [seed for seed in range(COUNT) if seed not in SOME])
def test_all_the_others(seed: int) -> None:
    check(seed, None)
