"""How fast the Step screen is: python benchmarks/step_screen.py [--sizes 120x36,200x60] [--while stopped,kernel,loop,python]

``workbench step`` runs in a pseudo terminal on a script that executes `--rows` nodes of a loop and then stops at a breakpoint.
Keys are pressed one at a time, while the step is stopped and while it runs: in large kernels that let other threads run
(``kernel``), in many small operations (``loop``), in Python code that holds the interpreter (``python``).  The terminal says that
it knows synchronized output, so that each repaint is a frame with an end.  Per kind of key:

- ``painted``: from the key to the end of the first frame after it;
- ``settled``: to the last byte of those that follow one another within `QUIET` seconds (what is asked of the script's process
  comes later than what the screen knows; while a step runs, frames that show how far it is count too);
- ``cpu``: milliseconds of processor time that the screen's process has taken until then, which does not depend on what else
  the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import random
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte

ROOT = Path(__file__).resolve().parent.parent
QUIET = 0.06  # seconds without output after which a repaint is over
PATIENCE = 90.0  # seconds for what is waited for
FRAME_END = b"\x1b[?2026l"

SCRIPT = """
import sys

import numpy as np

import engine as tf

rows, kind = int(sys.argv[1]), sys.argv[2]
counted = tf.while_loop(lambda i: tf.less(i, rows // 7), lambda i: tf.add(i, 1), [0], name="count")
with tf.control_dependencies([counted]):
    here = tf.identity(counted, name="here")


def busy(value):
    total = 0
    for number in range(20_000_000):
        total += number & 3
    return np.int32(value + 1)


with tf.control_dependencies([here]):
    zero = tf.identity(0)
if kind == "kernel":
    large = tf.fill([1500, 1500], 1e-4)
    body = lambda i, x: (tf.add(i, 1), tf.matmul(x, large))
    out = tf.while_loop(lambda i, x: tf.less(i, 1_000_000), body, [zero, large], name="load")
elif kind == "python":
    body = lambda i: tf.reshape(tf.py_func(busy, [i], tf.int32), [])
    out = tf.while_loop(lambda i: tf.less(i, 1_000_000), body, [zero], name="load")
else:
    out = tf.while_loop(lambda i: tf.less(i, 1_000_000_000), lambda i: tf.add(i, 1), [zero], name="load")
with tf.Session() as session:
    session.run(out)
"""

HOME = b"\x1b[H"

# kind: the keys that are pressed in turn.  From the top on down, since what a running step lets go of is the oldest.
LOOKING = {
    "line": (b"\x1b[B", b"\x1b[B", b"\x1b[B", b"\x1b[A"),
    "page": (b"\x1b[6~", b"\x1b[6~", b"\x1b[6~", b"\x1b[5~"),
    "far": (b"\x1b[F", HOME),
    "tab": (b"f", b"t", b"B", b"A", b"l", b"f"),
    "bar": (b"{", b"}"),
}
MOVING = {"now": (b"y",), "next": (b"n",), "back": (b"u",), "rewind": (b"<", b">")}


@dataclass
class Times:
    """Seconds of each key of a kind."""

    painted: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    nbytes: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    silent: int = 0  # keys after which nothing was drawn


class Terminal:
    """``workbench step`` in a pseudo terminal of `columns` times `rows` cells."""

    def __init__(self, columns: int, rows: int, arguments: Sequence[str], cwd: Path) -> None:
        self._columns, self._rows = columns, rows
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", PYTHONPATH=str(ROOT))
            os.execv(sys.executable, [sys.executable, "-m", "workbench", *arguments])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)

    def read(self, seconds: float) -> bytes:
        """What is written within `seconds`, at the first of it; empty if nothing is."""
        if not select.select([self._fd], [], [], max(0.0, seconds))[0]:
            return b""
        try:
            data = os.read(self._fd, 1 << 20)
        except OSError:
            raise SystemExit("workbench has ended:\n" + "\n".join(self._screen.display)) from None
        if b"\x1b[?2026$p" in data:
            self.write(b"\x1b[?2026;2$y")
        return data

    def write(self, data: bytes) -> None:
        os.write(self._fd, data)

    def see(self, *words: str) -> None:
        """Wait until all of `words` are on the screen."""
        until = time.monotonic() + PATIENCE
        while not all(word in "\n".join(self._screen.display) for word in words):
            if time.monotonic() > until:
                raise SystemExit(f"no {words} on\n" + "\n".join(self._screen.display))
            self._stream.feed(self.read(0.2))

    def rest(self, seconds: float = 0.3, at_most: float = 2.0) -> None:
        """Wait until nothing has been drawn for so long."""
        until = time.monotonic() + at_most
        while time.monotonic() < until and self.read(seconds):
            pass

    def press(self, key: bytes, times: Times) -> None:
        """Press a key and note how long it takes."""
        while self.read(0.0):
            pass
        cpu = self.cpu_seconds()
        begun = last = time.perf_counter()
        self.write(key)
        painted, got = 0.0, bytearray()
        while True:
            data = self.read(QUIET if painted else 1.0)
            if not data:
                break
            last = time.perf_counter()
            got += data
            if not painted and FRAME_END in got:
                painted = last - begun
            if last - begun > 1.0:
                break
        if not painted:
            times.silent += 1
            return
        times.painted.append(painted)
        times.settled.append(last - begun)
        times.nbytes.append(len(got))
        times.cpu.append(self.cpu_seconds() - cpu)

    def cpu_seconds(self) -> float:
        """Processor time that the screen's process has taken so far."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def end(self) -> None:
        """Leave, by force if need be."""
        with contextlib.suppress(OSError):
            self.write(b"\x03")
            until = time.monotonic() + 10
            while time.monotonic() < until:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
                self.read_quietly()
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def read_quietly(self) -> None:
        """Take in what is written, so that whoever writes can end."""
        if select.select([self._fd], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):
                os.read(self._fd, 1 << 16)


@contextlib.contextmanager
def stepping(columns: int, rows: int, executed: int, kind: str) -> Iterator[Terminal]:
    """A terminal in which a step has executed `executed` nodes and is stopped."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "script.py"
        script.write_text(SCRIPT)
        arguments = ["step", str(script), str(executed), kind]
        terminal = Terminal(columns, rows, arguments, Path(directory))
        try:
            terminal.see("Session.run begins")
            terminal.write(b":")
            terminal.rest()
            terminal.write(b"b here\r")
            terminal.see("breakpoint 1")
            terminal.rest()
            terminal.write(b"c")
            terminal.see("breakpoint 1 at here")
            terminal.rest(1.5, 5.0)
            yield terminal
        finally:
            terminal.end()


def measure(terminal: Terminal, kinds: dict[str, Sequence[bytes]], presses: int) -> dict[str, Times]:
    """Press the keys of each kind in turn."""
    found = {kind: Times() for kind in kinds}
    for kind, keys in kinds.items():
        if kind in ("line", "page", "far"):
            terminal.write(HOME)
            terminal.rest(0.3, 1.0)
        for number in range(presses):
            terminal.press(keys[number % len(keys)], found[kind])
            time.sleep(random.uniform(0.0, 0.1))
        if kind == "tab":  # as it was
            terminal.write(b"f")
            terminal.rest()
    return found


def row(name: str, seconds: Sequence[float]) -> str:
    """Median, 95th percentile and maximum in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return f"{name}      -      -      -"
    at = [ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], ordered[-1]]
    return name + "".join(f"{1e3 * each:7.1f}" for each in at)


def report(title: str, found: dict[str, Times]) -> None:
    """Print a table."""
    print(f"\n{title}")
    print(
        f"{'':10}{'painted p50':>14}{'p95':>7}{'max':>7}{'settled p50':>14}{'p95':>7}{'max':>7}    cpu   KB/key"
    )
    everything = Times()
    for times in found.values():
        everything.painted += times.painted
        everything.settled += times.settled
        everything.nbytes += times.nbytes
        everything.cpu += times.cpu
    for kind, times in {**found, "all": everything}.items():
        size = sum(times.nbytes) / max(1, len(times.nbytes)) / 1024
        cpu = 1e3 * sum(times.cpu) / max(1, len(times.cpu))
        silent = f"   {times.silent} without a repaint" if times.silent else ""
        print(
            f"{kind:10}{row('       ', times.painted)}{row('       ', times.settled)}{cpu:7.1f}{size:9.1f}{silent}"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="120x36,200x60")
    parser.add_argument("--while", dest="kinds", default="stopped,kernel,loop,python")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--presses", type=int, default=24)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    random.seed(0)
    for size in options.sizes.split(","):
        columns, rows = map(int, size.split("x"))
        for kind in [each for each in kinds if each != "stopped"] or ["loop"]:
            with stepping(columns, rows, options.rows, kind) as terminal:
                if "stopped" in kinds:
                    report(f"{size}, stopped", measure(terminal, {**LOOKING, **MOVING}, options.presses))
                    kinds.remove("stopped")
                    terminal.rest()
                if kind not in kinds:
                    continue
                terminal.write(b"c")
                terminal.rest(0.1, 1.5)
                report(f"{size}, running: {kind}", measure(terminal, LOOKING, options.presses))
        kinds = options.kinds.split(",")


if __name__ == "__main__":
    main()
