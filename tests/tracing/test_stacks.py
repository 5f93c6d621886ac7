"""What recorded stacks and arrays held: against plain Python, NumPy, and the values themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine as tf
import tracing
from tracing.reader import Run
from tracing.stacks import Contents

pytestmark = pytest.mark.usefixtures("as_written")

DATA = Path(__file__).parent / "data"
STEPS = 5


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


def recorded(folder: Path, fetch: Any, level: Any) -> Run:
    with tracing.record(folder, level, tensorboard=False) as recorder, tf.Session() as session:
        session.run(fetch)
    return Run.open(recorder.path)


def program() -> Any:
    """``for i in range(5): v = v * x if i % 2 == 0 else sin(v)`` with its gradient."""
    x = tf.constant(1.25, name="x")

    def body(i: Any, v: Any) -> Any:
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: v * x, lambda: tf.sin(v), name="choose")

    y = tf.while_loop(lambda i, v: i < STEPS, body, [0, x], name="loop")[1]
    return tf.gradients(y, x)[0]


def values_before() -> list[np.float32]:
    """What `v` is at the beginning of each iteration, in plain Python."""
    x = v = np.float32(1.25)
    found = []
    for i in range(STEPS):
        found.append(v)
        v = v * x if i % 2 == 0 else np.sin(v)
    return found


def keeping(contents: tuple[Contents, ...], original: str) -> Contents:
    (found,) = [each for each in contents if each.use is not None and each.use.original == original]
    return found


def test_a_gradients_stack_keeps_the_forward_values_and_gives_them_back_in_reverse(tmp_path: Path) -> None:
    with recorded(tmp_path, program(), "values") as run:
        step = run.steps()[0]
        contents, tree, stage = run.contents(step.id), run.frame_tree(step.id), run.stage(step.stage_id)
    expected = values_before()
    for original, iterations in (("loop/choose/Sin", (1, 3)), ("loop/choose/mul", (0, 2, 4))):
        stack = keeping(contents, original)
        assert stack.kind == "stack" and stack.most == len(iterations)
        use = stack.use
        assert use is not None and stage.nodes[use.node].type == "StackV2"
        assert [stage.nodes[name].type for name in use.readers] == ["StackPopV2"]
        assert [stage.nodes[name].type for name in use.writers] == ["StackPushV2"]
        (kept,) = use.keeps
        assert kept == "loop/Identity_1:0"  # v, the Switches of the cond seen through
        assert use.site is not None
        for element, i in zip(stack.elements, iterations, strict=True):
            assert element.put.node == use.writers[0]
            assert (tree.path(element.put.frame), element.put.iteration) == ("root > loop", i)
            assert element.text == f"float32 {expected[i]!s}" and element.nbytes == 4
            assert element.health is not None and element.health.mean == pytest.approx(expected[i])
            # The backward loop begins with the last iteration.
            assert element.taken is not None and element.taken.node == use.readers[0]
            assert element.taken.iteration == STEPS - 1 - i
            assert tree[element.taken.frame].gradient_of == tree[element.put.frame].name
    condition = keeping(contents, "loop/choose/Merge")
    assert [each.text for each in condition.elements] == [f"bool {i % 2 == 0}" for i in range(STEPS)]


def test_contents_after_every_row_are_those_of_a_list(tmp_path: Path) -> None:
    with recorded(tmp_path, program(), "full") as run:
        step = run.steps()[0]
        contents = {each.resource: each for each in run.contents(step.id)}
        pushed = {value.row: value.array for value in run.values(step.id) if value.slot == 0}
        writes = run.resource_writes(step.id)
        rows = len(run.executions(step.id))
    lists: dict[str, list[int]] = {name: [] for name in contents}
    by_row = {write.row: write for write in writes}
    checked = 0
    for row in range(rows):
        write = by_row.get(row)
        if write is not None and write.kind == "push":
            lists[write.resource].append(row)
        elif write is not None and write.kind == "pop":
            # A pop gives what was pushed last.
            np.testing.assert_array_equal(pushed[row], pushed[lists[write.resource].pop()])
        for name, wanted in lists.items():
            held = contents[name].after(row)
            assert [element.put.row for element in held] == wanted[::-1]
            assert [element.index for element in held] == list(range(len(wanted)))[::-1]
            checked += len(held)
    assert checked > 100 and not any(lists.values())


def test_an_array_of_tensors_by_index(tmp_path: Path) -> None:
    rows = tf.TensorArray(tf.float32, 4, name="rows")

    def body(i: Any, array: Any) -> Any:
        return i + 1, array.write(3 - i, tf.cast(i, tf.float32) * tf.constant([1.0, 2.0]))

    rows = tf.while_loop(lambda i, a: i < 4, body, [0, rows], name="fill")[1]
    with recorded(tmp_path, rows.read(2), "values") as run:
        step = run.steps()[0].id
        (array,), tree, count = run.contents(step), run.frame_tree(step), len(run.executions(step))
    assert array.kind == "tensor array" and array.use is not None and array.use.keeps == ("fill/mul:0",)
    assert [element.index for element in array.elements] == [3, 2, 1, 0]
    for i, element in enumerate(array.elements):
        assert element.health is not None and element.health.shape == (2,)
        assert (element.health.minimum, element.health.maximum) == (i, 2 * i)
        assert tree.path(element.put.frame, element.put.iteration) == f"root > fill:{i}"
        assert (element.taken is not None) == (element.index == 2)  # read, and by that let go
    assert [element.index for element in array.after(count)] == [0, 1, 3]
    assert array.after(array.elements[1].put.row) == (array.elements[1], array.elements[0])


def test_the_array_of_a_gradient_is_told_from_the_array(tmp_path: Path) -> None:
    x = tf.constant([1.0, 2.0, 3.0])
    array = tf.TensorArray(tf.float32, 3, name="given").unstack(x)
    total = tf.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t + tf.sin(array.read(i))), [0, 0.0])[1]
    with recorded(tmp_path, tf.gradients(total, x)[0], "times") as run:
        contents = run.contents(run.steps()[0].id)
    arrays = [each for each in contents if each.kind == "tensor array"]
    assert len(arrays) == 2
    assert all(each.use is not None and each.use.readers for each in arrays)
    (gradient,) = [each for each in arrays if "@" in each.resource]
    assert len(gradient.elements) == 3


def test_recording_a_long_loop_costs_no_more_for_each_push(tmp_path: Path) -> None:
    """A stack's value is a chain as long as the stack is high: what is recorded of a push is its element."""
    x = tf.constant(1.0)
    y = tf.while_loop(lambda i, v: i < 1500, lambda i, v: (i + 1, tf.sin(v) * x), [0, x])[1]
    with recorded(tmp_path, tf.gradients(y, x)[0], "times") as run:
        contents = run.contents(run.steps()[0].id)
    assert {each.most for each in contents} == {1500}
    assert all(element.text.startswith("float32 ") for each in contents for element in each.elements)


def test_a_run_of_schema_1_still_opens(tmp_path: Path) -> None:
    shutil.copyfile(DATA / "schema1.sqlite", tmp_path / "run.sqlite")
    with Run.open(tmp_path) as run:
        assert run.schema_version == 1
        (step,) = run.steps()
        assert {write.key for write in run.resource_writes(step.id)} == {-1}
        contents, tree = run.contents(step.id), run.frame_tree(step.id)
        assert [frame.begun for frame in tree] == [4, 4]
        stack = keeping(contents, "loop/cond/Merge")
        assert [element.text for element in stack.elements] == ["", "", ""]  # it was not recorded by itself
        assert [element.health and element.health.mean for element in stack.elements] == [1.0, 0.0, 1.0]
        assert run.dead_path(step.id, "loop/cond/Sin").chain
