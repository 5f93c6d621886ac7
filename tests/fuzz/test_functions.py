"""Random programs whose blocks (branches, bodies of loops, the program itself) are functions, calling each other.

Values against plain Python, gradients against those of the same program without functions, both also after a journey through a
GraphDef.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from random_programs import Block, Program, _Build, _dtype, _value, build, evaluate, programs
from searches import examples

import engine as tf
from engine.function import Defun


class InFunctions(_Build):
    """Every block becomes a function, which takes what it uses from around it as captured inputs."""

    def block(self, block: Block, env: dict[str, Any], before: list[Any]) -> list[Any]:
        shapes = [env_shape(name) for name in block.results]

        @Defun(func_name=f"block{block.number}", shape_func=lambda op: shapes)
        def body() -> Any:
            return super(InFunctions, self).block(block, env, [])

        results = body()
        return list(results) if isinstance(results, tuple) else [results]


def env_shape(name: str) -> list[int]:
    return [2] if name[0] == "f" else []


def built_of_functions(program: Program) -> tuple[list[Any], dict[Any, Any]]:
    env, feeds = {}, {}
    for name, value in program.inputs:
        env[name] = tf.placeholder(_dtype(tf, name[0]), env_shape(name), name=name)
        feeds[env[name]] = _value(name[0], value)
    return InFunctions(tf, {}, False).block(program.body, env, []), feeds


def agree(values: Any, wanted: Any) -> None:
    for value, want in zip(values, wanted, strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-9, atol=1e-9)


@given(programs(depth=2, effects=False))
@examples(12)
def test_functions_compute_what_their_bodies_say(program: Program) -> None:
    wanted = evaluate(program).results
    with tf.Graph().as_default() as graph:
        fetches, feeds = built_of_functions(program)
    with tf.Session(graph=graph) as session:
        agree(session.run(fetches, feeds), wanted)
    with tf.Graph().as_default() as again:
        found = tf.import_graph_def(
            graph.as_graph_def(), return_elements=[each.name for each in fetches], name=""
        )
    with tf.Session(graph=again) as session:
        agree(session.run(found, {tensor.name: value for tensor, value in feeds.items()}), wanted)


@given(programs(depth=2, effects=False))
@examples(10)
def test_gradients_are_those_without_functions(program: Program) -> None:
    plain = build(program, tf)
    place = next(tensor for tensor in plain.feeds if tensor.op.name == "f0")
    with plain.graph.as_default():
        (gradient,) = tf.gradients(plain.fetches[1], place)
    want = np.zeros(2)
    if gradient is not None:
        with tf.Session(graph=plain.graph) as session:
            want = session.run(gradient, plain.feeds)
    with tf.Graph().as_default() as graph:
        fetches, feeds = built_of_functions(program)
        inside = next(tensor for tensor in feeds if tensor.op.name == "f0")
        (found,) = tf.gradients(fetches[1], inside)
    if found is None:
        assert not want.any()
        return
    with tf.Session(graph=graph) as session:
        np.testing.assert_allclose(session.run(found, feeds), want, rtol=1e-9, atol=1e-9)
