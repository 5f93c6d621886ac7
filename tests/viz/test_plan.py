"""The view model of a plan: rails, memory and times against brute force; its drawing at several widths, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optimizing import plain
from random_programs import Program as RandomProgram
from random_programs import build, programs
from rich.cells import cell_len

import engine as tf
from engine.observe import Executions, Totals
from viz import format as fmt
from viz.draw_plan import columns, draw_plan, draw_row, memory_text, why_lines
from viz.palette import DARK, LIGHT
from viz.plan_json import plan_json
from viz.plan_model import PlanModel, plan_model
from viz.timings import Timings


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as made:
        yield made


def small() -> PlanModel:
    """A product and a loop over it: 1 KiB in, 512 B, and a scalar."""
    x = tf.placeholder(tf.float32, [16, 16], name="x")
    y = tf.matmul(x, tf.fill([16, 8], 2.0), name="y")
    _, total = tf.while_loop(
        lambda i, t: i < 3, lambda i, t: (i + 1, t + tf.reduce_sum(y)), [tf.constant(0), tf.constant(0.0)]
    )
    with tf.Session(config=plain(native=False)) as session:
        return PlanModel(session.explain(total, [x]))


def test_rows_bars_and_memory() -> None:
    model = small()
    by_text = {row.text.partition(" = ")[2] or row.text: row for row in model.rows}
    product = next(row for row in model.rows if row.nodes == ("y",))
    assert product.makes == "float32[16, 8]" and product.kind == "compute" and product.reads[0] == "%0"
    assert product.writes == ("%2",) and by_text["fed x:0"].makes == "float32[16, 16]"
    # x, the filled matrix and the product are alive at the product.
    assert product.live_bytes == model.peak_bytes == 1024 + 512 + 512 and model.peak_line == product.number
    bar = next(bar for bar in model.bars if bar.tensor == "y:0")
    (again,) = (row.number for row in model.rows if row.text.startswith("next "))
    assert (bar.name, bar.nbytes, bar.dims, bar.first, bar.last) == (
        "%2",
        512,
        (16, 8),
        product.number,
        again,
    )
    assert model.unsized == 0 and memory_text(model) == f"2.00 KiB at line {product.number}, by shapes"
    assert model.nodes_of(product.number) == ("y",) and model.lines_of(["y", "x"]) >= {product.number}


@given(programs(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_rails_never_meet(program: RandomProgram, optimized: bool) -> None:
    built = build(program, tf)
    with tf.Session(
        graph=built.graph, config=tf.ConfigProto(native=False) if optimized else plain(native=False)
    ) as session:
        said = session.explain(built.fetches, list(built.feeds))
    assume(said.planned)
    model = PlanModel(said)
    on: dict[tuple[int, int], str] = {}
    live = dict.fromkeys(range(1, len(model.rows) + 1), 0)
    for bar in model.bars:
        for number in range(bar.first, bar.last + 1):
            assert on.setdefault((bar.track, number), bar.name) == bar.name
            live[number] += bar.nbytes or 0
            assert model.bar_at(bar.track, number) is bar
    crowds = [sum((track, number) in on for track in range(model.tracks)) for number in live]
    assert model.tracks == max(crowds, default=0)  # no more tracks than the line with the most needs
    assert [row.live_bytes for row in model.rows] == list(live.values())
    assert model.peak_bytes == max(live.values(), default=0)
    homes = [name for names in model.home for name in names]
    assert len(homes) == len(set(homes))
    for width in (40, 80, 132):
        page = draw_plan(model, DARK, width)
        assert max(cell_len(row) for row in page.rows()) <= width
        assert [hit.key for hit in page.hits] == [row.number for row in model.rows]
    json.dumps(plan_json(model))


def batch(order: list[str], rows: list[tuple[str, int, int]]) -> Executions:
    """Executions of (node, start, end)."""
    node = np.array([order.index(name) for name, _, _ in rows], np.int32)
    zeros = np.zeros(len(rows), np.int64)
    return Executions(
        device="",
        first=0,
        node=node,
        frame=zeros.astype(np.int32),
        iteration=zeros,
        start_ns=np.array([start for _, start, _ in rows], np.int64),
        end_ns=np.array([end for _, _, end in rows], np.int64),
        thread=zeros.astype(np.int32),
        dead=zeros.astype(bool),
    )


def test_times_are_added_up_by_line() -> None:
    model = small()
    order = list(model.said.stage.order)
    rows = [("y", 0, 500), ("while/Merge", 600, 601), ("while/Merge_1", 700, 702), ("while/Enter", 702, 706)]
    rows += [("while/Sum", t, t + 100) for t in (1000, 2000, 3000)]
    timings = Timings(order, [batch(order, rows)])
    times = model.times(timings)
    found = {row.text: time for row, time in zip(model.rows, times, strict=True) if time.runs}
    assert [(time.runs, time.total_ns) for time in found.values()] == [(1, 500), (3, 7), (3, 300)]
    lines = draw_plan(model, DARK, 80, times).rows()
    assert next(line for line in lines if "MatMul" in line).endswith("500 ns")
    assert next(line for line in lines if "Sum(" in line).endswith("300 ns")
    made = plan_json(model, timings)
    assert [(line["runs"], line["total_ns"]) for line in made["lines"] if line["runs"]] == [
        (1, 500),
        (3, 7),
        (3, 300),
    ]


def test_times_are_exact_where_not_all_was_told() -> None:
    model = small()
    order = list(model.said.stage.order)
    told = batch(order, [("while/Sum", 1000, 1100), ("y", 0, 500)])
    node = np.array([order.index("while/Sum"), order.index("y")], np.int32)
    totals = Totals(node, np.array([9, 1]), np.array([1, 0]), np.array([850, 500]), 8)
    timings = Timings(order, [told], totals)
    assert (
        timings.total_ns == 1350 and timings.of("while/Sum").runs == 8 and timings.of("while/Sum").dead == 1
    )
    (line,) = model.said.lines_of("while/Sum")
    assert model.times(timings)[line - 1].total_ns == 850


def test_the_drawing() -> None:
    model = small()
    rows = draw_plan(model, DARK, 100).rows()
    text = "\n".join(rows)
    assert rows[0].split()[0] == "host" and "plan: python" in rows[0]
    assert "1 loop" in text and "peak  2.00 KiB" in text and "elementwise, and by itself" in text
    (product,) = (row for row in rows if "MatMul(" in row)
    assert "╹╹╻" in product and "▇" in product and product.split()[-3:] == ["y", "float32[16,", "8]"]
    into = columns(model, 60, False)
    plainly = draw_row(model, 2, LIGHT, into)
    marked = draw_row(model, 2, LIGHT, into, marked={3})
    assert marked[1][0] == "▌" and plainly[1][0] == " "
    assert sum(cell_len(piece) for piece, _ in marked) == 60


def test_what_machine_code_runs_is_marked() -> None:
    pytest.importorskip("llvmlite")
    x = tf.placeholder(tf.float32, [64, 64], name="x")
    y = tf.tanh(tf.sqrt(tf.exp(tf.matmul(x, x)) * 2.0) + 1.0)
    with tf.Session(config=plain(plans="always")) as session:
        model = PlanModel(session.explain(y, [x]))
    if model.backend(2) != "tape":
        pytest.skip("there is no compiler here")
    rows = draw_plan(model, DARK, 80).rows()
    (product,) = (row for row in rows if "MatMul(" in row)
    (fed,) = (row for row in rows if "fed x" in row)
    assert "▏" in product and "▏" not in fed and any("tape 2–" in row for row in rows)
    segments = plan_json(model)["partitions"][0]["segments"]
    assert [each["backend"] for each in segments] == ["python", "tape", "python"] and segments[1]["steps"] > 0


def test_more_rails_than_fit_are_told() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    many = [tf.tanh(x + float(i)) for i in range(40)]
    total = many[-1]
    for each in reversed(many[:-1]):
        total = total * each
    with tf.Session(config=plain(native=False)) as session:
        model = PlanModel(session.explain(total, [x]))
    assert model.tracks >= 40
    rows = draw_plan(model, DARK, 80).rows()
    assert any("│+" in row for row in rows) and max(map(cell_len, rows)) <= 80


def test_where_the_interpreter_runs() -> None:
    with tf.device("/GPU:0"):
        y = tf.tanh(tf.placeholder(tf.float32, [2], name="x"), name="y")
    config = tf.ConfigProto(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
    with tf.Session(config=config) as session:
        stage = session.stage_for(y, ["x:0"])
    model = plan_model(stage)
    assert model.rows == () and model.bars == () and model.peak_bytes == 0 and memory_text(model) == ""
    text = "\n".join(draw_plan(model, DARK, 80).rows())
    assert "interpreter" in text and "because" in text and "GPU:0" in text
    assert why_lines(model, 40)[0] == "The interpreter runs this:" and why_lines(small(), 40) == []
    made = plan_json(model)
    assert made["lines"] == [] and {each["executor"] for each in made["partitions"]} == {"interpreter"}
    assert made["partitions"][0]["reason"]


def test_shapes_that_are_open() -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    s = tf.as_string(tf.zeros([3]))
    with tf.Session(config=plain(native=False)) as session:
        model = PlanModel(session.explain([tf.tanh(x), s], [x]))
    assert model.unsized == 3 and memory_text(model).startswith("not known: 3 values")
    assert next(row for row in model.rows if "Tanh" in row.text).makes == fmt.tensor("float32", (None, 2))
