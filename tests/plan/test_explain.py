"""What is said of what runs: the lines of the program and their nodes, the lives of values, what was fused, and reasons."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optimizing import only, plain
from random_programs import Program as RandomProgram
from random_programs import build, programs
from searches import examples

import engine as tf
from engine import observe
from engine.observe import TraceLevel
from engine.runtime.plan import explain as explaining
from engine.runtime.plan import ir
from engine.runtime.plan.explain import Explanation, of_stage
from engine.runtime.plan.lines import KINDS, Line
from engine.runtime.plan.structure import linearize
from engine.runtime.program import Program


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as made:
        yield made


def texts(said: Explanation) -> list[str]:
    return ["  " * line.depth + line.text for line in said.lines]


def test_a_straight_program() -> None:
    x = tf.placeholder(tf.float32, [4, 8], name="x")
    w = tf.Variable(tf.ones([8, 2]), name="w")
    y = tf.reduce_sum(tf.matmul(x, w) * 2.0, [0], name="y")
    with tf.Session(config=plain(native=False)) as session:
        said = session.explain(y, [x])
    assert said.planned and said.fetches == ("y:0",) and said.feeds == ("x:0",)
    assert texts(said) == [
        "%0 = fed x:0",
        "%1 = variable w",
        "%2 = read %1",
        "%3 = MatMul(%0, %2)",
        "%4 = Mul(%3, 2.0)",
        "%5 = Sum(%4, [0])",
        "return y:0 = %5",
    ]
    assert (said.instructions, said.branches, said.loops) == (7, 0, 0)
    assert [value.nbytes for value in said.listing.values] == [128, 0, 64, 32, 32, 8]
    assert [(value.first, value.last) for value in said.listing.values] == [
        (1, 4),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (6, 7),
    ]
    assert said.lines_of("MatMul") == (4,) and said.lines_of("mul/y") == (5,)  # who reads the constant
    (partition,) = said.partitions
    assert (
        partition.executor == "plan: python" and partition.reason == "" and partition.nodes == len(said.stage)
    )
    assert [(each.first, each.last) for each in partition.segments] == [(1, 7)]
    assert said.note.startswith("the first run is interpreted")
    text = str(said)
    assert (
        "7 lines: 7 instructions, 0 branches, 0 loops; 6 values" in text
        and "4  %3 = MatMul(%0, %2)   MatMul" in text
    )
    assert max(map(len, text.splitlines())) <= 100 and not hasattr(said, "_repr_html_")


def test_loops_and_branches() -> None:
    n = tf.placeholder(tf.int32, [], name="n")
    _, total = tf.while_loop(
        lambda i, t: i < n,
        lambda i, t: (i + 1, tf.cond(tf.equal(i, 2), lambda: t * 2.0, lambda: t - 1.0)),
        [0, 1.0],
    )
    with tf.Session(config=plain(native=False)) as session:
        said = session.explain(total, [n])
    assert (said.branches, said.loops, said.note) == (1, 1, "")  # with a loop, planned at once
    assert texts(said) == [
        "%0 = fed n:0",
        "loop while/while_context: %1 = 0, %2 = 1.0",
        "  %3 = Less(%1, %0)",
        "  leave unless %3",
        "  %4 = AddV2(%1, 1)",
        "  %5 = Equal(%1, 2)",
        "  if %5",
        "    %6 = Mul(%2, 2.0)",
        "    %7 = %6",
        "  else",
        "    %8 = Sub(%2, 1.0)",
        "    %7 = %8",
        "  next %1 = %4, %2 = %7",
        "return while/Exit_1:0 = %2",
    ]
    lives = {value.name: (value.first, value.last) for value in said.listing.values}
    assert (
        lives["%0"] == (1, 13) and lives["%1"] == (2, 13) and lives["%2"] == (2, 14) and lives["%6"] == (8, 9)
    )
    assert said.lines_of("while/Merge_1") == (2,) and said.lines_of("while/Enter_1") == (2,)
    assert (
        said.lines_of("while/LoopCond")
        == said.lines_of("while/Exit_1")
        == said.lines_of("while/Switch")
        == (4,)
    )
    assert said.lines_of("while/NextIteration") == (13,)
    assert said.lines_of("while/cond/Merge") == (9, 12)
    switch = next(node.name for node in said.stage if node.type == "Switch" and "cond" in node.name)
    assert 7 in said.lines_of(switch)


def test_machine_code_is_told_by_stretches() -> None:
    pytest.importorskip("llvmlite")
    x = tf.placeholder(tf.float32, [4, 8], name="x")
    loose = tf.placeholder(tf.float32, [None, 8], name="loose")
    w = tf.Variable(tf.ones([8, 8]), name="w")

    def model(given: tf.Tensor) -> list[tf.Tensor]:
        (opaque,) = tf.py_func(lambda a: [a], [tf.matmul(given, w)], [tf.float32], name="opaque")
        return [tf.tanh(tf.sqrt(tf.exp(tf.matmul(given, w)) * 2.0)), opaque]

    with tf.Session(config=plain(plans="always")) as session:
        said = session.explain(model(x), [x])
        free = session.explain(model(loose), [loose])
    if said.partitions[0].executor != "plan: tape, python":
        pytest.skip("there is no compiler here")
    segments = said.partitions[0].segments
    covered = [number for each in segments for number in range(each.first, each.last + 1)]
    assert covered == list(range(1, len(said.lines) + 1))  # all lines, each once, in order
    backends = {number: each.backend for each in segments for number in range(each.first, each.last + 1)}
    (tanh,) = said.lines_of("Tanh")
    (opaque,) = said.lines_of("opaque")
    assert backends[tanh] == "tape" and backends[opaque] == "python" and backends[1] == "python"
    assert all((each.steps > 0) == (each.backend == "tape") for each in segments)
    kept = {each.node: each for each in said.kept}
    assert kept["opaque"].lines == (opaque,) and kept["opaque"].reason
    text = str(said)
    assert "in Python all the same" in text and "; tape " in text
    assert free.partitions[0].executor == "plan: python" and "feeds turn out to have" in free.note


def test_it_runs_nothing() -> None:
    w = tf.Variable(1.0, name="w")
    bump = tf.assign_add(w, 1.0, name="bump")
    seen: list[int] = []

    class Watch(observe.Observer):
        level = TraceLevel.TIMES

        def step_begin(self, step: observe.StepInfo) -> None:
            seen.append(step.id)

    watch = Watch()
    with tf.Session() as session:
        observe.install(watch)
        try:
            said = session.explain(bump)
        finally:
            observe.uninstall(watch)
        assert seen == [] and said.planned
        session.run(w.initializer)
        session.explain(bump)
        assert session.run(w) == 1.0
        session.close()
        with pytest.raises(RuntimeError, match="closed"):
            session.explain(bump)


def test_what_cannot_be_run_cannot_be_explained() -> None:
    x = tf.placeholder(tf.float32, [2])
    with tf.Session() as session:
        with pytest.raises((TypeError, ValueError)):
            session.explain(3)
        with pytest.raises(TypeError, match="feed_list"):
            session.explain(x, [None])


def test_why_the_interpreter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with tf.device("/CPU:0"):
        b = tf.tanh(tf.constant([1.0, 2.0], name="a"), name="b")
    with tf.Session(config=plain()) as session:
        stage = session.stage_for(b)

    def odd(program: Program) -> ir.Linear:
        raise ir.NotExpressible("this frame is odd", program.by_name["b"])

    monkeypatch.setattr(explaining, "linearize", odd)
    said = of_stage(stage)
    (partition,) = said.partitions
    assert partition.executor == "interpreter" and partition.nodes == len(stage) and partition.segments == ()
    assert (partition.reason, partition.node) == ("this frame is odd", "b")
    assert partition.where is not None and partition.where.file.endswith("test_explain.py")
    text = str(said)
    assert "made at test_explain.py:" in text and "because this frame is odd: 'b'" in text
    assert said.lines == () and said.lines_of("b") == () and said.instructions == 0


def test_several_processors_are_one_program() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device("/CPU:1"):
        b = tf.tanh(x, name="b")
    config = tf.ConfigProto(device_count={"CPU": 2}, native=False, graph_options=plain().graph_options)
    with tf.Session(config=config) as session:
        said = session.explain(b + 1.0, [x])
    assert {each.device[-5:] for each in said.partitions} == {"CPU:0", "CPU:1"}
    assert {each.executor for each in said.partitions} == {"plan: python"}
    assert texts(said) == ["%0 = fed x:0", "%1 = Tanh(%0)", "%2 = AddV2(%1, 1.0)", "return add:0 = %2"]
    received = [node.name for node in said.stage if node.type == "_Recv"]
    assert len(received) == 2 and all(said.lines_of(name) for name in received)


def test_plans_switched_off() -> None:
    with tf.Session(config=tf.ConfigProto(plans="off")) as session:
        said = session.explain(tf.constant(1.0) + 1.0)
    assert said.partitions[0].executor == "interpreter" and "'off'" in said.partitions[0].reason


def test_a_device_with_memory_of_its_own() -> None:
    config = tf.ConfigProto(device_count={"GPU": 1}, gpu_options=tf.GPUOptions(modelled=True))
    with tf.device("/GPU:0"):
        y = tf.tanh(tf.placeholder(tf.float32, [2], name="x"), name="y")
    with tf.Session(config=config) as session:
        said = session.explain(y, ["x:0"])
        again = of_stage(said.stage)
    assert not said.planned and not again.planned
    assert "GPU:0" in said.partitions[0].reason and again.partitions[0].reason == said.partitions[0].reason


def test_what_was_fused_and_why_not_more() -> None:
    x = tf.placeholder(tf.float32, [2, 3], name="x")
    one = tf.tanh(tf.exp(x, name="exp") * 2.0, name="one")
    shared = tf.sqrt(x, name="shared")
    tall = tf.sin(tf.placeholder(tf.float32, [3], name="v"), name="tall")
    out = [
        one,
        tf.sin(shared),
        tf.cos(shared),
        tf.reduce_sum(tf.abs(x, name="abs")),
        tf.multiply(x, tall, name="wide"),
    ]
    with tf.Session(config=only("fuse", native=False)) as session:
        said = session.explain(out, [x, "v:0"])
    fused = {each.node: each for each in said.fused}
    assert fused["one"].parts == ("Exp", "Mul", "Tanh") and set(fused["one"].sources) == {"one", "exp", "mul"}
    assert fused["one"].reason == "Exp + Mul + Tanh as one node"
    assert fused["one"].where is not None and fused["one"].where.source.startswith("one = tf.tanh")
    assert any("Exp+Mul+Tanh(" in line.text for line in said.lines if line.nodes == ("one",))
    reasons = {each.node: each.reason for each in said.apart}
    assert reasons["abs"] == "'Sum' (Sum), which reads it, is not elementwise"
    assert reasons["shared"] == "2 nodes read it"
    assert reasons["tall"] == "its shape is (3,), that of 'wide', which reads it, (2, 3)"
    assert reasons["wide"] == "it is fetched"
    assert "elementwise, and by itself" in str(said)


@pytest.mark.usefixtures("graph")
def test_a_constant_is_written_as_short_as_it_goes() -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    y = x * tf.constant(1e-8) + [1.0, 0.5] + tf.cast(tf.equal(tf.constant(7), 7), tf.float32)
    z = y + tf.constant([1.0] * 2000, name="large")[:2]
    with tf.Session(config=plain(native=False)) as session:
        text = str(session.explain(z, [x]))
    assert "Mul(%0, 1e-08)" in text and "[1.0, 0.5]" in text and "Equal(7, 7)" in text and "(large, " in text


# Random programs.


def walks(lines: tuple[Line, ...], chance: random.Random, most: int = 400) -> Iterator[Line]:
    """One way through the program: branches and the number of iterations are thrown."""

    def end_of(start: int) -> int:
        """The index behind the block that begins at `start`."""
        depth = lines[start].depth if start < len(lines) else 0
        at = start
        while at < len(lines) and lines[at].depth >= depth:
            at += 1
        return at

    def block(start: int, end: int) -> Iterator[Line]:
        at = start
        while at < end:
            line = lines[at]
            yield line
            inner = end_of(at + 1) if at + 1 < len(lines) and lines[at + 1].depth > line.depth else at + 1
            if line.text.startswith("if "):
                has_else = inner < end and lines[inner].text == "else" and lines[inner].depth == line.depth
                else_end = end_of(inner + 1) if has_else else inner
                if has_else and lines[inner + 1 : inner + 2] and lines[inner + 1].depth <= line.depth:
                    else_end = inner + 1
                if chance.random() < 0.5:
                    yield from block(at + 1, inner)
                elif has_else:
                    yield from block(inner + 1, else_end)
                at = else_end
            elif line.text.startswith("loop "):
                leave = next(
                    i
                    for i in range(at + 1, inner)
                    if lines[i].depth == line.depth + 1 and lines[i].text.startswith("leave ")
                )
                while True:
                    yield from block(at + 1, leave + 1)
                    if chance.random() < 0.4:
                        break
                    yield from block(leave + 1, inner)
                at = inner
            else:
                at = (
                    inner
                    if line.text.startswith(("left ", "frame ")) and inner > at + 1 and False
                    else at + 1
                )

    for count, line in enumerate(block(0, len(lines))):
        if count >= most:
            return
        yield line


@given(programs(), st.booleans(), st.integers(0, 1 << 30))
@examples(12)
def test_lives_cover_every_way_through(program: RandomProgram, optimized: bool, seed: int) -> None:
    """A value lives at every line that any run may pass between making it and reading it; no node is forgotten."""
    built = build(program, tf)
    config = tf.ConfigProto(native=False) if optimized else plain(native=False)
    with tf.Session(graph=built.graph, config=config) as session:
        said = session.explain(built.fetches, list(built.feeds))
    assume(said.planned)
    listed = said.listing
    told = {name for line in said.lines for name in (*line.nodes, *line.handed)}
    rest = {node.name for node in said.stage} - told
    assert rest <= {*listed.constants, *listed.idle, *listed.dead}
    for line in said.lines:
        assert line.kind in KINDS and all(line.number in said.lines_of(name) for name in line.nodes)
    linear = linearize(Program(said.stage))
    assert len(listed.values) <= linear.values
    chance = random.Random(seed)
    for _ in range(3):
        since: dict[int, list[int]] = {}  # by value: the lines passed since it was made
        for line in walks(said.lines, chance):
            for passed in since.values():
                passed.append(line.number)
            for value in line.reads:
                life = listed.values[value]
                assert value in since, f"{life.name} is read at line {line.number} before it is made"
                assert life.first <= min(since[value]) and max(since[value]) <= life.last, (life, line)
            for value in line.writes:
                since[value] = [line.number]
