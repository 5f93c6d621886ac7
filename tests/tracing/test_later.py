"""Work that can wait is done in order, once, by the thread or at the end."""

from __future__ import annotations

import threading
import time

import pytest

from tracing.later import Later


def _wait(condition: object) -> None:
    end = time.monotonic() + 100
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.005)


def test_the_thread_does_it_in_order_and_ends() -> None:
    done: list[int] = []
    later: Later[int] = Later(done.append, lambda _: None, 0.01)
    for number in range(5):
        later.put(number)
    _wait(lambda: done == [0, 1, 2, 3, 4])
    _wait(lambda: not later._running)
    later.put(5)
    _wait(lambda: done == [0, 1, 2, 3, 4, 5])


def test_the_end_does_what_is_left() -> None:
    done: list[tuple[int, int]] = []
    later: Later[int] = Later(lambda number: done.append((number, threading.get_ident())), lambda _: None, 60)
    later.put(1)
    later.put(2)
    assert done == []
    later.finish()
    assert done == [(1, threading.get_ident()), (2, threading.get_ident())]
    later.finish()
    assert len(done) == 2


def test_a_failure_is_told_and_ends_it() -> None:
    failures: list[Exception] = []

    def fail(number: int) -> None:
        raise OSError(number)

    later: Later[int] = Later(fail, failures.append, 0.01)
    later.put(1)
    _wait(lambda: failures)
    assert str(failures[0]) == "1"
    _wait(lambda: not later._running)
    waiting: Later[int] = Later(fail, failures.append, 60)
    waiting.put(2)
    with pytest.raises(OSError, match="2"):
        waiting.finish()
    waiting.put(3)
    waiting.forget()
    waiting.finish()
