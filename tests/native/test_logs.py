"""Times and answers that tapes log."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from engine.native import clock, compiler
from engine.native.frame import Frame
from engine.native.layout import View
from engine.native.tape import Tape, TapeBuilder
from engine.types.errors import InternalError

pytestmark = pytest.mark.skipif(not compiler.available(), reason="needs llvmlite")


def counting(limit: int) -> tuple[Tape, int]:
    """``while i < limit: i += 1`` with a time before each test, and a note of `i`; gives the slot of a bool, too."""
    builder = TapeBuilder()
    i = View.of(builder.input("i"), np.dtype(np.int64), ())
    going = View.of(builder.slot("going"), np.dtype(np.bool_), ())
    stack = builder.stack(8)
    top, out = builder.label(), builder.label()
    builder.place(top)
    builder.ufunc("less", [i, builder.constant(np.int64(limit))], going)
    builder.time()
    builder.test(going)
    builder.jump_if_false(going, out)
    builder.push(stack, i)
    builder.count(i)
    builder.jump(top)
    builder.place(out)
    return builder.build(), going.slot


def run(frame: Frame, start: int = 0) -> tuple[Any, list[int], Any]:
    """What was logged, how much there was each time that somebody checked, and what was noted."""
    parts: list[Any] = []
    checks: list[int] = []
    counter = np.array(start)  # which the frame does not hold
    status = frame.enter(counter)
    if status:
        frame.go_on(
            status, None, lambda: checks.append(sum(map(len, parts))), lambda: parts.append(frame.take_log())
        )
    parts.append(frame.take_log())
    return np.concatenate(parts), checks, frame.take_stack(-1).view(np.int64)


def frame_of(limit: int, log: int) -> Frame:
    tape, going = counting(limit)
    frame = Frame(tape, log=log)
    frame.bind(going, np.zeros((), np.bool_))
    return frame


@pytest.mark.parametrize("log", [1, 2, 7, 1000])
def test_in_parts(log: int) -> None:
    before = time.perf_counter_ns()
    frame = frame_of(100, log)
    entries, checks, noted = run(frame)
    after = time.perf_counter_ns()
    assert entries[1::2].tolist() == [1] * 100 + [0]
    times = clock.nanoseconds(entries[0::2])
    # The longer ago, the less exactly is it known when by the other clock.
    room = 5_000 + (time.perf_counter_ns() - before) // 50
    assert before - room < times[0] <= times[-1] < after + room and (np.diff(times) >= 0).all()
    assert noted.tolist() == list(range(100))
    if log < 10:  # somebody looks at the end of the iteration in which the log was full
        assert len(checks) > 20 and (np.diff(checks) <= 2 * log + 2).all()
    # The frame is as it was: the next run logs the same.
    again, _, noted = run(frame, 50)
    assert again[1::2].tolist() == [1] * 50 + [0] and noted.tolist() == list(range(50, 100))


def test_a_clock_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_counter", lambda: None)
    before = time.perf_counter_ns()
    entries, _, _ = run(frame_of(10, 100))
    times = clock.nanoseconds(entries[0::2])
    assert before <= times[0] and times[-1] <= time.perf_counter_ns() and (np.diff(times) >= 0).all()


def test_a_log_that_nobody_takes() -> None:
    with pytest.raises(InternalError, match="full"):
        frame_of(100, 10).run(np.array(0))


def test_only_bools_are_answers() -> None:
    builder = TapeBuilder()
    with pytest.raises(InternalError, match="one bool"):
        builder.test(View.of(builder.input(), np.dtype(np.int64), ()))
