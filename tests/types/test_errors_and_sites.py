"""Errors as a person reads them, and the lines of the user's program that they name."""

from __future__ import annotations

import pickle
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.types import errors, site
from engine.types.site import Frame, Site

# TensorFlow's error_codes.proto, which is gRPC's list of status codes.
CODES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


def test_codes_and_classes() -> None:
    for number, name in enumerate(CODES):
        assert getattr(errors, name) == number
        if number:
            kind = errors.exception_type_from_error_code(number)
            assert kind.__name__ == "".join(word.capitalize() for word in name.split("_")) + "Error"
            assert kind(None, None, "m").error_code == number
            assert errors.error_code_from_exception_type(kind) == number
            assert issubclass(kind, errors.OpError)
    with pytest.raises(KeyError):
        errors.exception_type_from_error_code(99)


def make_op(tmp_path: Path) -> Any:
    """An op as if made by line 2 of a user's script."""
    script = tmp_path / "train.py"
    script.write_text("def layer():\n    return tf.matmul(a, b)  # here\n")
    return SimpleNamespace(
        name="layer/MatMul", type="MatMul", site=Site(frames=(Frame(str(script), 2, "layer"),))
    )


def test_the_text_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    op = make_op(tmp_path)
    error = errors.InvalidArgumentError(
        None, None, "shapes (2, 3) and (4, 5) do not match", hint="transpose b"
    )
    assert str(error) == "shapes (2, 3) and (4, 5) do not match\n  hint: transpose b"
    assert error.attach(op) is error
    assert error.message == "shapes (2, 3) and (4, 5) do not match"
    assert str(error) == textwrap.dedent(
        f"""\
        shapes (2, 3) and (4, 5) do not match
          in op 'layer/MatMul' (type MatMul)
          made at {tmp_path}/train.py:2, in layer
            return tf.matmul(a, b)  # here
          hint: transpose b"""
    )


def test_attaching_keeps_what_is_known(tmp_path: Path) -> None:
    inner = make_op(tmp_path)
    error = errors.InternalError(None, inner, "m")
    error.attach(SimpleNamespace(name="outer", type="X", site=None), hint="h")
    assert error.op is inner
    assert error.site is inner.site
    assert error.hint == "h"


def test_node_def_comes_from_the_op_or_alone() -> None:
    node = SimpleNamespace(name="n", op="Add")
    assert str(errors.NotFoundError(node, None, "m")) == "m\n  in op 'n' (type Add)"
    op = SimpleNamespace(name="n", type="Add", node_def=node)
    assert errors.NotFoundError(None, op, "m").node_def is node
    assert errors.NotFoundError(None, None, "m").node_def is None


def test_pickled_errors_keep_their_text(tmp_path: Path) -> None:
    error = errors.OutOfRangeError(None, make_op(tmp_path), "queue is closed", hint="stop")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.OutOfRangeError
    assert str(again) == str(error)
    assert again.error_code == errors.OUT_OF_RANGE


def test_an_error_with_a_code_of_its_own() -> None:
    assert errors.OpError(None, None, "m", errors.ABORTED).error_code == errors.ABORTED
    assert errors.OpError(None, None, "m").error_code == errors.UNKNOWN


def one() -> Site:
    return site.capture()


def two() -> Site:
    return one()


def test_capture_names_lines_innermost_first() -> None:
    found = two()
    assert [frame.function for frame in found.frames[:2]] == ["one", "two"]
    assert found.user == found.frames[0]
    assert found.user is not None
    assert found.user.file == __file__
    assert found.user.source == "return site.capture()"
    assert found.frames[1].source == "return one()"
    assert str(found) == f"{__file__}:{found.user.line}"
    assert len(site.capture(limit=1).frames) == 1
    assert pickle.loads(pickle.dumps(found)).frames == found.frames


def test_a_call_over_several_lines_is_where_it_was_reached() -> None:
    found = [
        1,
        site.capture(),
    ][1]
    assert isinstance(found, Site)
    assert found.user is not None
    assert "site.capture()," in found.user.source


def test_our_own_frames_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    root = Path(site.__file__).parents[2]

    def call_from(path: Path, function: Any) -> Any:
        space: dict[str, Any] = {"function": function}
        exec(compile("def relay():\n    return function()", str(path), "exec"), space)
        return space["relay"]()

    for package in ("engine/op", "tracing", "workbench/host"):
        names = [frame.function for frame in call_from(root / package / "x.py", two).frames]
        assert "relay" not in names
        assert "one" in names
    for place in (tmp_path / "user.py", root / "viz" / "x.py"):
        assert "relay" in [frame.function for frame in call_from(place, two).frames]
    hidden = site._hidden
    try:
        site.hide(str(tmp_path) + "/")
        assert "relay" not in [frame.function for frame in call_from(tmp_path / "user.py", two).frames]
        beside = Path(f"{tmp_path}_beside") / "user.py"
        assert "relay" in [frame.function for frame in call_from(beside, two).frames]
    finally:
        site._hidden = hidden
        site._is_user.clear()


def test_nothing_captured() -> None:
    assert Site().user is None
    assert str(Site()) == "<unknown>"
