"""Names that people type: one reading of them, and one wording of what is wrong, in every command; and printed expressions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from debug_fronts import Quiet
from hypothesis import given
from hypothesis import strategies as st

import engine as tf
from workbench.debugger import naming
from workbench.debugger.core import Debugger

pytestmark = pytest.mark.usefixtures("as_written")


class Asking(Quiet):
    """Gives commands, and keeps what is answered: the text, after "! " if it is an error."""

    def __init__(self, *commands: str) -> None:
        self._commands = iter([*commands, *["c"] * 20])
        self.answers: list[str] = []

    def command(self, debugger: Debugger) -> str:
        return next(self._commands)

    def answered(self, debugger: Debugger, answer: Any) -> None:
        self.answers.append(answer.text if answer.ok else f"! {answer.text}")


@pytest.fixture(autouse=True)
def _fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


def ask(*commands: str, at: str = "product") -> list[str]:
    """What is answered where `at` is next: a sum of [1, 2] and [3, 4] has executed, split in two, and w is 7."""
    w = tf.Variable(7.0, name="w")
    total = tf.add(tf.constant([1.0, 2.0], name="one"), tf.constant([3.0, 4.0], name="two"), name="total")
    low, high = tf.split(total, 2, name="halves")
    product = tf.multiply(low, high, name="product")
    after = tf.add(product, w, name="after")
    front = Asking(*([f"s {at}"] if at else []), *commands)
    with tf.Session() as session:
        session.run(w.initializer)
        with Debugger(front).installed():
            session.run(after)
    return front.answers


_NO_SUCH = "! 'halves' has outputs 0 to 1, not '5'"


@pytest.mark.parametrize(
    "command", ["p halves:5", "set halves:5 = 1", "origin nan halves:5", "p tensor('halves:5')"]
)
def test_an_output_that_is_not_there_is_said_in_one_wording(command: str) -> None:
    (said,) = ask(command)
    assert said.startswith(_NO_SUCH.removesuffix("'") + "'") or _NO_SUCH[2:] in said


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("p total:1", "! 'total' has only output 0, not '1'"),
        ("p total:x", "! 'total' has only output 0, not 'x'"),
        ("p nothing:0", "! there is no node 'nothing' in this step"),
        ("p totl", "did you mean total?"),
        ("set total:٣ = 1", "! 'total' has only output 0, not '٣'"),
        ("p tensor('product')", "! 'product' has not executed in this step yet; why not product says why"),
        ("why not after @x", "! '@x' is no iteration"),
        ("keep a:b", "! 'a:b' is not a tensor: NODE or NODE:OUTPUT"),
        ("diff a:b", "! 'a:b' is not a tensor: NODE or NODE:OUTPUT"),
    ],
)
def test_what_is_wrong_with_a_name(command: str, says: str) -> None:
    (said,) = ask(command)
    assert says in said


@pytest.mark.parametrize("command", ["info {}", "l {}", "why {}", "p {}"])
def test_a_node_a_tensor_and_a_control_input_are_read_alike(command: str) -> None:
    plain, tensor, control = ask(*(command.format(name) for name in ("total", "total:0", "^total")))
    assert plain == tensor == control and not plain.startswith("!")


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ('tensor("total").sum()', "10.0"),
        ("halves:1[0]", "6.0"),
        ('tensor("halves:1") * 2', "float32[1]\n[12.]"),
        ('var("w") + 1, in0.shape', "8.0\n(1,)"),
        ("in0 * in1", "float32[1]\n[24.]"),
        ("in0-in1", "float32[1]\n[-2.]"),
        ("x/2", "float32[1]\n[2.]"),
        ("iteration", "0"),
        ("node == 'product'", "True"),
        ("[1, 2]", "int64[2]\n[1, 2]"),
        ("outputs[1]", "float32[1]\n[6.]"),  # of what executed last
        ("full((2,), pi)", "float64[2]\n[3.14159265, 3.14159265]"),
        ("frame", "root"),
    ],
)
def test_expressions_are_printed(expression: str, shown: str) -> None:
    assert ask(f"p {expression}") == [shown]


def test_a_node_comes_before_a_name_of_an_expression() -> None:
    x = tf.constant(3.0, name="x")
    front = Asking("n 2", "p x", "p frame")
    with tf.Session() as session, Debugger(front).installed():
        session.run(tf.add(x, 1.0, name="sum"))
    assert "x:0  float32" in front.answers[0] and front.answers[1] == "root"


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("abs(total)", "! there is no name 'total' in 'abs(»total«)'"),
        ("x.foo()", "! there is no method 'foo'"),
        ("old + 1", "! old and new are there only where a variable changes"),
        ("zeros(10 ** 9)", "! the result would have 1,000,000,000 elements in '»zeros(10 ** 9)«'"),
    ],
)
def test_expressions_that_cannot_be_printed(expression: str, says: str) -> None:
    (said,) = ask(f"p {expression}")
    assert said.startswith(says)


def test_nothing_has_executed_yet() -> None:
    assert ask("p x + 1", at="")[0].startswith("! nothing has executed yet")


@given(st.text("0123456789٣#@ -", max_size=14))
def test_rows_and_iterations_are_short_ascii_numbers(text: str) -> None:
    row, iteration = naming.row_number(text), naming.iteration_number(text)
    digits = text.strip().removeprefix("#")
    assert (row is not None) == (digits.isascii() and digits.isdecimal() and len(digits) <= 12)
    assert row is None or row == int(digits)
    assert iteration is None or iteration == int(text.strip().removeprefix("@"))


@given(st.from_regex(r"\^?[a-z/]{1,8}(:[0-9]{1,3})?", fullmatch=True))
def test_a_name_is_split_at_its_colon(text: str) -> None:
    name, number = naming.split(text)
    assert text.removeprefix("^") == name + (f":{number}" if number else "")
    assert naming.node_name(text) == name
