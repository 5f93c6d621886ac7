"""What a debugger costs: python benchmarks/debugging.py [--rounds N]

For a chain of small operations, a loop with a scalar counter, a loop in a loop, steps of 20,000 and 100,000 executions, and
a training step of some 40 nodes (where beginning and keeping each step is what counts): CPU time a node as interpreted, and under
a debugger that is attached and lets the step run (command `c`, no breakpoints), the best of N rounds that alternate.

Then how long it takes to take 10,000 executions of a loop back, and to execute them again; the memory that a history of 100,000
executions takes; and how long who pauses such a step waits for a picture.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import engine as tf
from engine.runtime import driver
from engine.runtime.driver import Driver, Sequential
from engine.runtime.resources import Resource
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger
from workbench.debugger.paging import Paging
from workbench.debugger.questions.past import Past, Written
from workbench.debugger.stepping import Stepping

CHAIN = 600  # operations of the chain
ITERATIONS = 60  # of the loop that is timed
MOVED = 10_000  # executions that are taken back
KEPT = 100_000  # executions of which the memory is measured
ROUNDS = {20_000: 20, 100_000: 5}  # rounds at most for steps of so many executions


class Front:
    """Gives the commands of `script` and then lets the step run; `seconds` says how long each of them took."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.seconds: dict[str, float] = {}
        self._begun = 0.0
        self._line = ""

    def stopped(self, debugger: Debugger) -> None:
        pass

    def command(self, debugger: Debugger) -> str:
        now = time.perf_counter()
        if self._line:
            self.seconds[self._line] = now - self._begun
        self._line = self.script.pop(0) if self.script else ""
        self._begun = time.perf_counter()
        return self._line or "c"

    def answered(self, debugger: Debugger, answer: Answer) -> None:
        if not answer.ok:
            sys.exit(answer.text)

    def resumed(self, debugger: Debugger) -> None:
        pass

    def left(self, debugger: Debugger) -> None:
        pass


@contextmanager
def installed(by: Driver) -> Iterator[None]:
    driver.install(by)
    try:
        yield
    finally:
        driver.uninstall()


def counter(iterations: int) -> Any:
    """A loop that counts: ten executions an iteration."""
    return tf.while_loop(lambda i: tf.less(i, iterations), lambda i: tf.add(i, 1), [0])


def nested(outer: int, inner: int) -> Any:
    """A loop of `inner` iterations in one of `outer`."""

    def body(i: Any, total: Any) -> Any:
        _, total = tf.while_loop(
            lambda j, _: tf.less(j, inner), lambda j, each: (tf.add(j, 1), tf.add(each, 1)), [0, total]
        )
        return tf.add(i, 1), total

    return tf.while_loop(lambda i, _: tf.less(i, outer), body, [0, 0])


def training() -> Any:
    """A step of a small network with two layers."""
    x = tf.ones([8, 4])
    w, v = tf.Variable(tf.ones([4, 5])), tf.Variable(tf.ones([5, 3]))
    loss = tf.reduce_mean(tf.square(tf.matmul(tf.nn.relu(tf.matmul(x, w)), v)))
    return loss, tf.train.MomentumOptimizer(1e-4, 0.9).minimize(loss)


def free(session: Any, name: str, fetch: Any, feed: dict[Any, Any], rounds: int) -> None:
    """Print what a node costs under the interpreter, and attached."""
    executed = 0

    class Counting(Sequential):
        def drive(self, step: Any) -> None:
            nonlocal executed
            execute = step.execute

            def counted(activation: Any) -> Any:
                nonlocal executed
                executed += 1
                return execute(activation)

            step.execute = counted
            super().drive(step)

    with installed(Counting()):
        session.run(fetch, feed)
    best = {"interpreter": float("inf"), "attached": float("inf")}
    drivers: dict[str, Driver] = {
        "interpreter": Sequential(),
        "attached": Debugger(Front(), stop_at_first=False),
    }
    for _ in range(rounds):
        for key, each in drivers.items():
            with installed(each):
                session.run(fetch, feed)  # so that both have their own memory in the cache
                begun = time.thread_time_ns()
                session.run(fetch, feed)
                best[key] = min(best[key], (time.thread_time_ns() - begun) / executed / 1e3)
    more = best["attached"] - best["interpreter"]
    print(
        f"{name:<8} {executed:>7,} nodes   interpreter {best['interpreter']:5.2f} µs a node   "
        f"attached, running free {best['attached']:5.2f}   {more:+.2f}"
    )


def moves(session: Any) -> None:
    """Print how long going back and forth takes."""
    front = Front(f"n {MOVED + 100}", f"back {MOVED}", f"redo {MOVED}")
    with installed(Debugger(front)):
        session.run(counter(MOVED // 8))
    for line, seconds in front.seconds.items():
        print(f"{line:<12} {seconds:6.2f} s")


class Keeping(Past):
    """Keeps the step that has ended as it is."""

    stepping: Stepping | None = None

    def take(self, stepping: Stepping) -> dict[Resource, Written | None]:
        self.stepping = stepping
        return {}


def memory(session: Any) -> None:
    """Print what a history takes, once it has only run and once it has been looked at, and how long the first look takes."""
    fetch = counter(KEPT // 10)
    debugger = Debugger(Front(), stop_at_first=False)
    debugger._past = past = Keeping()
    with installed(debugger):
        session.run(counter(1))
        past.stepping = None
        before = resident()
        session.run(fetch)
    stepping = past.stepping
    assert stepping is not None
    unread = resident() - before
    kept = len(stepping.history)
    begun = time.perf_counter()
    made = sum(1 for _ in stepping.history)
    seconds = time.perf_counter() - begun
    print(
        f"{kept:,} executions kept: {unread / 2**20:.0f} MiB; when {made:,} have been looked at (which takes "
        f"{seconds * 1e3:.0f} ms): {(resident() - before) / 2**20:.0f} MiB"
    )


def pausing(session: Any) -> None:
    """Print how long it takes from stopping a step that has run freely to its first picture, and to what a list shows of it."""
    front = Pausing("e")
    with installed(Debugger(front)):
        session.run(counter(KEPT // 10))
    print(
        f"stopped after {front.executed:,} executions: picture in {front.picture * 1e3:.0f} ms, again in "
        f"{front.again * 1e3:.1f} ms, page in {front.page * 1e3:.0f} ms"
    )


class Pausing(Front):
    """Looks where a step has stopped at its end."""

    executed = 0
    picture = again = page = 0.0

    def stopped(self, debugger: Debugger) -> None:
        stepping = debugger.stepping
        if stepping is None or stepping.executed < KEPT:
            return
        self.executed = stepping.executed
        begun = time.perf_counter()
        debugger.snapshot()
        looked = time.perf_counter()
        debugger.snapshot()
        twice = time.perf_counter()
        Paging().page(stepping, self.executed - 50, 50, (), 0)
        self.picture, self.again, self.page = looked - begun, twice - looked, time.perf_counter() - twice


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="rounds of the first part (200)")
    rounds = parser.parse_args().rounds
    options = tf.GraphOptions(tf.OptimizerOptions(opt_level=-1))
    session = tf.Session(config=tf.ConfigProto(graph_options=options))
    x = tf.placeholder(tf.float32, [])
    y = x
    for index in range(CHAIN):
        y = y + 1.0 if index % 2 else y * 0.5
    memory(session)  # first, while the process has no memory to spare
    free(session, "chain", y, {x: 1.0}, rounds)
    free(session, "loop", counter(ITERATIONS), {}, rounds)
    free(session, "nested", nested(12, 8), {}, rounds)
    for executions, most in ROUNDS.items():
        free(session, "long", counter(executions // 10), {}, min(rounds, most))
    steps = training()
    session.run(tf.global_variables_initializer())
    free(session, "training", steps, {}, rounds)
    moves(session)
    pausing(session)


if __name__ == "__main__":
    main()
