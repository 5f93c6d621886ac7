"""Which kernels are taken for expensive: by their op type at first, by what they were seen to take after that."""

from __future__ import annotations

import numpy as np
import pytest
from spread import cpus

import engine as tf
from engine.passes.build import Builder
from engine.passes.prune import prune
from engine.runtime import costs
from engine.runtime.context import StepContext
from engine.runtime.driver import Executable, StepRun
from engine.runtime.executable import BoundItem
from engine.runtime.parallel import Parallel
from engine.runtime.resources import ResourceManager


def bound() -> BoundItem:
    tf.identity(tf.constant(1.0), name="here")
    stage = prune(Builder(tf.get_default_graph()).stage(), [], ["here:0"], [])
    executable = Executable(stage, cpus(1))
    return executable.bound[executable.program.by_name["here"].index]


def test_before_it_has_run_the_op_type_says_what_to_expect() -> None:
    kernel = bound()
    assert costs.is_expensive(kernel, "MatMul", 1_000)
    assert not costs.is_expensive(kernel, "Identity", 1_000)


def test_what_it_takes_is_an_average_that_forgets() -> None:
    kernel = bound()
    costs.note(kernel, 1_000)
    assert kernel.cost_ns == 1_000
    costs.note(kernel, 2_000)
    assert kernel.cost_ns == pytest.approx(1_100)
    assert costs.is_expensive(kernel, "Identity", 1_099) and not costs.is_expensive(kernel, "MatMul", 1_101)
    for _ in range(100):
        costs.note(kernel, 5_000)
    assert kernel.cost_ns == pytest.approx(5_000, rel=1e-3)


def test_a_step_on_threads_learns_what_its_kernels_take() -> None:
    x = tf.constant(np.ones((120, 120), np.float32))
    tf.matmul(x, x, name="product")
    stage = prune(Builder(tf.get_default_graph()).stage(), [], ["product:0"], [])
    executable = Executable(stage, cpus(1))
    driver = Parallel(2)
    for _ in range(3):
        step = StepRun(executable, None, StepContext(1, [], 1), ResourceManager(), None)
        driver.drive(step)
        assert step.context.results[0][0, 0] == 120.0
    driver.close()
    kernel = executable.bound[executable.program.by_name["product"].index]
    assert kernel.cost_ns > 0
