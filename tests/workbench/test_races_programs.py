"""Races of random programs with conditionals, loops and ordered effects, and of the same with edges removed."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Program, anywhere, build, programs

import engine as tf
from engine.passes import pipeline
from engine.passes.stage import Stage
from engine.runtime.executable import Executable
from engine.types import errors
from workbench.debugger import schedules
from workbench.debugger.schedules.races import find_races

DEVICES = ("/cpu:0", "/cpu:1")


def program_of(session: Any, built: Any) -> Any:
    feeds = [session._feedable(each) for each in built.feeds]
    return session._executable(session._take_apart(built.fetches), feeds).program


@settings(max_examples=25, deadline=None)
@given(programs(depth=2), st.one_of(st.none(), st.integers(0, 1 << 30)))
def test_ordered_programs_have_no_races(program: Program, seed: int | None) -> None:
    device = anywhere(seed, DEVICES) if seed is not None else None
    built = build(program, tf, device=device)
    config = tf.ConfigProto(device_count={"CPU": 2})
    with tf.Session(graph=built.graph, config=config) as session:
        session.run(built.initializer)
        found = find_races(program_of(session, built))
        assert found == [], [str(each) for each in found]
        (explored,) = schedules.explore(lambda: session.run(built.fetches, built.feeds), limit=5, seconds=5)
        assert not explored.complete or (explored.agree and explored.explored == 1), (
            explored.explored,
            explored.pruned,
        )


def without_edges(stage: Stage, seed: int) -> Stage:
    """`stage` with some of the control edges between accesses taken away."""
    chance = random.Random(seed)
    nodes = {}
    for node in stage:
        kept = tuple(
            name for name in node.control_inputs if chance.random() < 0.6 or node.name.startswith("_")
        )
        nodes[node.name] = _with_controls(node, kept)
    return stage.followed_by("thinned", nodes)


def _with_controls(node: Any, controls: tuple[str, ...]) -> Any:
    return replace(node, control_inputs=controls)


@pytest.mark.deep
@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(programs(depth=2), st.integers(0, 1 << 30))
def test_what_exploring_reverses_was_among_the_races(program: Program, seed: int) -> None:
    _check_thinned(program, seed)


@settings(max_examples=25, deadline=None)
@given(programs(depth=2), st.integers(0, 1 << 30))
def test_what_exploring_reverses_was_among_the_races_of_a_few(program: Program, seed: int) -> None:
    _check_thinned(program, seed)


def _check_thinned(program: Program, seed: int) -> None:
    """Every pair of nodes that exploration runs in both orders is one that the graph alone tells of."""
    built = build(program, tf)
    passes = pipeline.PASSES
    pipeline.PASSES = ()
    try:
        with tf.Session(graph=built.graph) as session:
            session.run(built.initializer)
            feeds = [session._feedable(each) for each in built.feeds]
            executable = session._executable(session._take_apart(built.fetches), feeds)
            try:
                thinned = Executable(without_edges(executable.stage, seed), session._devices)
            except errors.OpError:  # what was inside of a loop no longer is
                return
            static = {
                frozenset((race.first.node, race.second.node))
                for race in find_races(thinned.program, 100_000)
            }
            signature = next(key for key, each in session._executables.items() if each is executable)
            session._executables[signature] = thinned
            try:
                explored = schedules.explore(
                    lambda: session.run(built.fetches, built.feeds), limit=40, seconds=5
                )
            except errors.OpError:
                return
            for each in explored:
                assert each.reversed <= static
                assert static or each.explored <= 1  # none where time was too short
    finally:
        pipeline.PASSES = passes
