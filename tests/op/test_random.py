"""Random ops: TensorFlow's numbers, bit for bit; replay; seeds; distributions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
from engine.op import philox
from engine.op.libm import log32, sincos32
from engine.op.philox import Stream
from engine.op.registry import raw

GOLDEN = json.loads(Path(__file__).with_name("random_golden.json").read_text())["cases"]

LOGITS = [[0.0, 1.0, -1.0, 2.0], [3.0, 0.5, 0.0, -2.0], [1.0, 1.0, 1.0, 1.0]]


def golden(name: str) -> list[np.ndarray[Any, Any]]:
    case = GOLDEN[name]
    return [np.frombuffer(bytes.fromhex(run), case["dtype"]).reshape(case["shape"]) for run in case["runs"]]


def run_twice(tensor: Any) -> list[Any]:
    with tf.Session(graph=tensor.graph) as session:
        return [session.run(tensor) for _ in range(2)]


# Bit for bit as TensorFlow.

SEEDS = {"seed": 12, "seed2": 34}
EXACT = {
    "uniform float32": lambda: raw.RandomUniform([11], dtype=tf.float32, **SEEDS),
    "uniform float64": lambda: raw.RandomUniform([3, 3], dtype=tf.float64, **SEEDS),
    "uniform float16": lambda: raw.RandomUniform([9], dtype=tf.float16, **SEEDS),
    "uniform, large and negative seeds": lambda: raw.RandomUniform(
        [5], dtype=tf.float32, seed=-7, seed2=2**40 + 3
    ),
    "uniform, nothing": lambda: raw.RandomUniform([0, 3], dtype=tf.float32, seed=1, seed2=1),
    "normal float32": lambda: raw.RandomStandardNormal([6, 7], dtype=tf.float32, seed=5, seed2=0),
    "normal float16": lambda: raw.RandomStandardNormal([10], dtype=tf.float16, seed=5, seed2=6),
    "truncated float32": lambda: raw.TruncatedNormal([67], dtype=tf.float32, seed=8, seed2=9),
    "truncated float16": lambda: raw.TruncatedNormal([20], dtype=tf.float16, seed=8, seed2=9),
    "int32": lambda: raw.RandomUniformInt([10], -5, 1000, seed=1, seed2=2, Tout=tf.int32),
    "shuffle": lambda: raw.RandomShuffle(list(range(13)), seed=3, seed2=4),
    "shuffle rows": lambda: raw.RandomShuffle([[i, -i] for i in range(6)], seed=3, seed2=4),
    "multinomial": lambda: raw.Multinomial(LOGITS, 7, seed=6, seed2=7),
}


@pytest.mark.parametrize("name", EXACT)
def test_two_runs_equal_tensorflows(name: str) -> None:
    for ours, theirs in zip(run_twice(EXACT[name]()), golden(name), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["normal float64", "truncated float64"])
def test_float64_deviates_equal_tensorflows_but_for_the_last_digit(name: str) -> None:
    kind = raw.RandomStandardNormal if name.startswith("normal") else raw.TruncatedNormal
    seeds = (5, 6) if name.startswith("normal") else (8, 9)
    shape = GOLDEN[name]["shape"]
    for ours, theirs in zip(
        run_twice(kind(shape, dtype=tf.float64, seed=seeds[0], seed2=seeds[1])), golden(name), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)


# The generator by itself.


def test_philox_gives_the_authors_known_answers() -> None:
    """From kat_vectors of Random123 by Salmon et al.: philox4x32-10 with all bits 0, all bits 1, and digits of π."""
    cases = (
        ((0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((2**64 - 1, 2**64 - 1, 2**64 - 1), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x299F31D0A4093822, 0x85A308D3243F6A88, 0x0370734413198A2E), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    )
    for (key, low, high), wanted in cases:
        block = philox.words(np, Stream(key, low, high), np.zeros(1, np.uint64))[0]
        assert " ".join(f"{word:08x}" for word in block) == wanted


def test_the_counter_carries_into_its_upper_half() -> None:
    start = Stream(7, 2**64 - 2, 5)
    across = philox.words(np, start, np.arange(4, dtype=np.uint64))
    after = philox.words(np, start.skip(2), np.arange(2, dtype=np.uint64))
    assert start.skip(2) == Stream(7, 0, 6)
    np.testing.assert_array_equal(across[2:], after)


def test_large_draws_are_the_same_in_chunks() -> None:
    stream = Stream.seeded(1, 2)
    whole = philox.raw_words(np, stream, 100_000)
    part = philox.raw_words(np, stream.skip(20_000), 400)
    np.testing.assert_array_equal(whole[80_000:80_400], part)


def test_logarithm_sine_and_cosine_against_float64() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(1e-7, 1, 50_000), [1e-7, 0.5, 1 - 2**-24, 1.0]]).astype(np.float32)
    exact = np.log(x.astype(np.float64))
    assert np.max(np.abs(log32(np, x) - exact) / np.spacing(np.abs(exact).astype(np.float32))) < 0.82
    angle = rng.uniform(0, 2 * math.pi, 50_000).astype(np.float32)
    sine, cosine = sincos32(np, angle)
    for ours, theirs in (
        (sine, np.sin(angle.astype(np.float64))),
        (cosine, np.cos(angle.astype(np.float64))),
    ):
        assert np.max(np.abs(ours - theirs) / np.spacing(np.abs(theirs).astype(np.float32))) < 0.57


# Distributions, on samples large enough that a right generator fails once in millions of seeds; the seeds are fixed.


def test_uniform_is_uniform() -> None:
    values = philox.uniform(np, Stream.seeded(1, 1), 100_000, np.dtype(np.float32))
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, 50, (0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 110  # chi square, 49 degrees of freedom


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_has_its_moments(dtype: type) -> None:
    values = philox.normal(np, Stream.seeded(3, 1), 200_000, np.dtype(dtype)).astype(np.float64)
    assert abs(values.mean()) < 0.012
    assert abs(values.std() - 1) < 0.01
    assert abs((values**3).mean()) < 0.05
    assert abs((values**4).mean() - 3) < 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_truncated_normal_stays_within_two_deviations(dtype: type) -> None:
    values = philox.truncated_normal(np, Stream.seeded(4, 1), 200_001, np.dtype(dtype)).astype(np.float64)
    assert np.abs(values).max() < 2
    assert abs(values.mean()) < 0.012
    assert abs(values.std() - 0.8796256610342398) < 0.008
    assert len(np.unique(values)) > 0.97 * len(values)


def test_permutations_of_three_come_equally_often() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(6000):
        order = tuple(philox.permutation(Stream.seeded(seed, 77), 3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 25


def test_multinomial_follows_the_probabilities() -> None:
    logits = np.log([[0.1, 0.2, 0.7], [0.25, 0.5, 0.25]])
    logits[1, 2] = -np.inf
    drawn = tf.multinomial(tf.constant(logits), 20_000, seed=1)
    with tf.Session() as session:
        values = session.run(drawn)
    assert values.dtype == np.int64
    np.testing.assert_allclose(np.bincount(values[0], minlength=3) / 20_000, [0.1, 0.2, 0.7], atol=0.012)
    np.testing.assert_allclose(np.bincount(values[1], minlength=3) / 20_000, [1 / 3, 2 / 3, 0], atol=0.012)


# Seeds and sessions.


def test_seeded_ops_repeat_in_a_new_session_and_go_on_within_one() -> None:
    drawn = tf.random_normal([4], seed=3)
    first, second = run_twice(drawn), run_twice(drawn)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_without_seeds_each_session_is_different() -> None:
    drawn = tf.random_uniform([4])
    assert not np.array_equal(run_twice(drawn)[0], run_twice(drawn)[0])


def test_seed_rule() -> None:
    assert tf.random.get_seed(None) == (None, None)
    assert tf.random.get_seed(5) == (87654321, 5)
    tf.set_random_seed(9)
    assert [tf.random.get_seed(None) for _ in range(3)] == [(9, 0), (9, 1), (9, 2)]
    assert tf.random.get_seed(4) == (9, 4)
    tf.set_random_seed(0)
    assert tf.random.get_seed(0) == (0, 2**31 - 1)


def test_a_graph_seed_gives_each_op_its_own_sequence() -> None:
    tf.set_random_seed(1)
    a, b = tf.random_uniform([8]), tf.random_uniform([8])
    with tf.Session() as session:
        first, second = session.run([a, b])
    assert not np.array_equal(first, second)


def test_ops_in_one_session_share_nothing_even_with_equal_seeds() -> None:
    a, b = tf.random_uniform([8], seed=1), tf.random_uniform([8], seed=1)
    with tf.Session() as session:
        session.run(a)
        first, second = session.run([a, b])
        third = session.run(b)
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


# Edges and errors.


def test_ranges_shapes_and_types() -> None:
    with tf.Session() as session:
        scaled = session.run(tf.random_uniform([1000], -3.0, 5.0, seed=1))
        assert scaled.min() >= -3
        assert scaled.max() < 5
        assert scaled.max() - scaled.min() > 7.5
        whole = session.run(tf.random_uniform([1000], 3, 6, dtype=tf.int32, seed=1))
        assert set(whole.tolist()) == {3, 4, 5}
        wide = session.run(tf.random_uniform([100], -(10**17), 10**17, dtype=tf.int64, seed=1))
        assert wide.dtype == np.int64
        assert abs(int(wide.min())) > 10**15
        assert session.run(tf.random_uniform([], seed=1)).shape == ()
        assert session.run(tf.random_normal(tf.constant([2, 0]), seed=1)).shape == (2, 0)
        shifted = session.run(tf.random_normal([2000], 5.0, 0.5, seed=2))
        assert abs(shifted.mean() - 5) < 0.06
        np.testing.assert_array_equal(session.run(tf.random_shuffle(tf.constant([7]))), [7])
        words = session.run(tf.random_shuffle(tf.constant(["a", "b", "c"]), seed=1))
        assert sorted(words.tolist()) == [b"a", b"b", b"c"]


def test_static_shapes() -> None:
    assert tf.random_uniform([2, 3]).shape.as_list() == [2, 3]
    assert tf.random_normal(tf.placeholder(tf.int32, [2])).shape.as_list() == [None, None]
    assert tf.multinomial(tf.zeros([4, 3]), 5).shape.as_list() == [4, 5]


def test_errors() -> None:
    shape = tf.placeholder(tf.int32, None)
    bound = tf.placeholder(tf.int32, [])
    with pytest.raises(ValueError, match="maxval"):
        tf.random_uniform([2], dtype=tf.int32)
    with pytest.raises(ValueError, match="bool"):
        tf.random_uniform([2], dtype=tf.bool)
    with tf.Session() as session:
        drawn = tf.random_uniform(shape)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"non-negative.*\[2,-1\]"):
            session.run(drawn, {shape: [2, -1]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be a vector"):
            session.run(drawn, {shape: 3})
        with pytest.raises(tf.errors.InvalidArgumentError, match="Need minval < maxval, got 4 >= 4"):
            session.run(tf.random_uniform([2], bound, 4, dtype=tf.int32), {bound: 4})


def test_dropout_keeps_what_it_says() -> None:
    x = tf.ones([10_000])
    with tf.Session() as session:
        dropped = session.run(tf.nn.dropout(x, rate=0.25, seed=1))
        assert set(np.unique(dropped).tolist()) == {0.0, np.float32(1 / 0.75)}
        assert abs((dropped == 0).mean() - 0.25) < 0.02
        kept = session.run(tf.nn.dropout(x, keep_prob=tf.constant(0.4), seed=1))
        assert abs((kept == 0).mean() - 0.6) < 0.02
        rows = session.run(tf.nn.dropout(tf.ones([50, 40]), rate=0.5, noise_shape=[None, 1], seed=1))
        assert all(len(set(row)) == 1 for row in rows.tolist())
    assert tf.nn.dropout(x, rate=0) is x


def test_dropout_passes_gradients_where_it_passes_values() -> None:
    x = tf.constant(np.linspace(1, 2, 20, dtype=np.float32))
    y = tf.nn.dropout(x, rate=0.5, seed=4)
    with tf.Session() as session:
        value, gradient = session.run([y, tf.gradients(y, x)[0]])
    np.testing.assert_array_equal(gradient, np.where(value == 0, 0, 2))


@pytest.mark.parametrize(
    "arguments", [{}, {"rate": 0.5, "keep_prob": 0.5}, {"rate": 1.0}, {"keep_prob": 0}, {"rate": -0.1}]
)
def test_dropout_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        tf.nn.dropout(tf.ones([3]), **arguments)
