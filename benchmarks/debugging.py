"""What a debugger costs: python benchmarks/debugging.py [--rounds N]

For a chain of small operations and for a loop with a scalar counter: CPU time a node under the interpreter, and under a debugger
that is attached and lets the step run (command `c`, no breakpoints), the best of N rounds that alternate; then how long it takes
to take 10,000 executions of a loop back, and to execute them again; and the memory that a history of 100,000 executions takes.
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
from workbench.debugger.command import Answer
from workbench.debugger.core import Debugger
from workbench.debugger.questions.past import Past
from workbench.debugger.stepping import Stepping

CHAIN = 600  # operations of the chain
ITERATIONS = 60  # of the loop that is timed
MOVED = 10_000  # executions that are taken back
KEPT = 100_000  # executions of which the memory is measured


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

    def take(self, stepping: Stepping) -> None:
        self.stepping = stepping


def memory(session: Any) -> None:
    """Print what a history takes, once it has only run and once it has been looked at, and how long the first look takes."""
    fetch = counter(KEPT // 10)
    debugger = Debugger(Front(), stop_at_first=False)
    debugger.past = past = Keeping()
    with installed(debugger):
        session.run(counter(1))
        past.stepping = None
        before = resident()
        session.run(fetch)
    stepping = past.stepping
    assert stepping is not None
    unread = resident() - before
    begun = time.perf_counter()
    kept = len(stepping.history)
    seconds = time.perf_counter() - begun
    print(
        f"{kept:,} executions kept: {unread / 2**20:.0f} MiB; looked at (which takes {seconds * 1e3:.0f} ms): "
        f"{(resident() - before) / 2**20:.0f} MiB"
    )


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
    free(session, "chain", y, {x: 1.0}, rounds)
    free(session, "loop", counter(ITERATIONS), {}, rounds)
    free(session, "long", counter(MOVED // 5), {}, min(rounds, 20))
    moves(session)
    memory(session)


if __name__ == "__main__":
    main()
