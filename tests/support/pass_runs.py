"""Running a graph with some of the passes only, and comparing two runs bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import engine as tf
from engine.passes.check import check
from engine.passes.settings import RewriterConfig
from engine.passes.stage import Stage


def config(*passes: str, **options: Any) -> Any:
    """A config in which these passes run and no others; `options` are further ones of `RewriterConfig`."""
    rewriter = RewriterConfig(disable_meta_optimizer=True, passes=dict.fromkeys(passes, True), **options)
    return tf.ConfigProto(graph_options=tf.GraphOptions(rewrite_options=rewriter))


def run(
    fetches: Sequence[Any],
    feeds: Mapping[Any, Any],
    *passes: str,
    targets: Sequence[Any] = (),
    cpus: int = 1,
    **options: Any,
) -> tuple[list[Any], Stage]:
    """The fetches' values with these passes, from a session of its own (variables initialized), and the stage that ran."""
    graph = (fetches or targets)[0].graph
    settings = config(*passes, **options)
    settings.device_count = {"CPU": cpus}
    with tf.Session(graph=graph, config=settings) as session:
        if graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
            session.run(tf.global_variables_initializer())
        wanted = [list(fetches), list(targets)]
        values, _ = session.run(wanted, feeds)
        stage = session.stage_for(wanted, list(feeds))
    for each in stage.chain():
        check(each)
    return [np.asarray(value) for value in values], stage


def same_bits(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """That two runs gave the same, to the last bit; a NaN is a NaN."""
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.dtype == b.dtype and a.shape == b.shape, (i, a.dtype, a.shape, b.dtype, b.shape)
        different = a.view(np.uint8) != b.view(np.uint8) if a.ndim else np.asarray(a.tobytes() != b.tobytes())
        if different.any():
            np.testing.assert_array_equal(a, b)  # NaNs with other bits are the same
            zero = (a == 0) & (np.signbit(a.real) != np.signbit(b.real))
            assert not zero.any(), f"output {i}: zeros of another sign"


def types(stage: Stage) -> list[str]:
    """The op types of the stage's nodes, sorted."""
    return sorted(node.type for node in stage)
