"""The workbench in a real pseudo-terminal of 80×24: what is on the screen, and what is left when it has gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

pytestmark = pytest.mark.slow

Left = Callable[[], Sequence[tuple[int, str]]]
SECONDS = 100.0  # nothing takes so long, unless something is broken


class Terminal:
    """A program in a pseudo-terminal, with the screen that a person would see."""

    def __init__(self, arguments: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
        self.raw = b""
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.process = pexpect.spawn(
            sys.executable,
            list(arguments),
            dimensions=(24, 80),
            cwd=str(cwd),
            env={**environment, "TERM": "xterm-256color", "COLORTERM": ""},
        )
        self.before = termios.tcgetattr(self.process.child_fd)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def pump(self, seconds: float = 0.1) -> bool:
        """Take in what is written; False once the program has gone."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                data = self.process.read_nonblocking(65_536, 0.05)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                return False
            self.raw += data
            self._stream.feed(data)
        return True

    def see(self, *words: str) -> None:
        """Wait until all `words` are on the screen."""
        end = time.monotonic() + SECONDS
        alive = True
        while not all(word in self.text for word in words):
            assert alive and time.monotonic() < end, f"no {words} on\n{self.text}"
            alive = self.pump()

    def gone(self, *words: str) -> None:
        """Wait until none of `words` is on the screen."""
        end = time.monotonic() + SECONDS
        while any(word in self.text for word in words):
            assert self.pump() and time.monotonic() < end, f"{words} are still on\n{self.text}"

    def press(self, keys: str) -> None:
        self.process.send(keys)

    def end(self) -> int:
        """Wait for the program's end and give its exit status; negative for a signal."""
        stop = time.monotonic() + SECONDS
        while self.pump():
            assert time.monotonic() < stop, f"it goes on:\n{self.text}"
        self.process.wait()
        return -self.process.signalstatus if self.process.signalstatus else self.process.exitstatus

    def assert_given_back(self) -> None:
        """The terminal is as it was: its line discipline, the ordinary screen, the cursor, no mouse."""
        assert termios.tcgetattr(self.process.child_fd) == self.before
        for on, off in (
            (b"\x1b[?1049h", b"\x1b[?1049l"),
            (b"\x1b[?25l", b"\x1b[?25h"),
            (b"\x1b[?1000h", b"\x1b[?1000l"),
            (b"\x1b[?2004h", b"\x1b[?2004l"),
        ):
            assert self.raw.rfind(on) <= self.raw.rfind(off), f"{on!r} was left on"


@pytest.fixture
def terminal(
    tmp_path: Path, nothing_left: Left, python_environment: dict[str, str]
) -> Iterator[Callable[..., Terminal]]:
    """Starts ``workbench …`` in a terminal; afterwards nothing of it may run any more."""
    started: list[Terminal] = []

    def start(*arguments: str | Path, module: str = "workbench") -> Terminal:
        made = Terminal(["-m", module, *map(str, arguments)], tmp_path, python_environment)
        started.append(made)
        return made

    yield start
    left = nothing_left()
    for each in started:
        each.process.close(force=True)
    assert left == []


def test_stepping_with_keys(terminal: Callable[..., Terminal], nested_script: Path) -> None:
    term = terminal("step", nested_script)
    term.see("Session.run begins", "start  Const", "n next")
    term.press("n")
    term.see("taken  Const")
    term.press("n")
    term.see("if/Switch  Switch")
    term.press("q")
    assert term.end() == 0
    assert b"\x1b[?1049h" in term.raw
    term.assert_given_back()


def test_the_demonstration_live_and_left_before_its_end(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    term = terminal("demo", "--steps", "100000")
    term.see("digits", "script runs")
    term.press("3")
    term.see("ApplyAdam")
    term.press("q")
    assert term.end() == 0
    term.assert_given_back()
    assert b"the run is in runs/" in term.raw
    from tracing import directory
    from tracing.reader import Run

    (path,) = directory.find(tmp_path / "runs")
    with Run.open(path) as run:
        assert run.state == "interrupted" and run.steps()


@pytest.mark.parametrize(
    ("command", "how"), [("step", "SIGTERM"), ("step", "SIGHUP"), ("step", "Ctrl-C"), ("demo", "SIGTERM")]
)
def test_however_it_ends_the_terminal_is_given_back(
    command: str, how: str, terminal: Callable[..., Terminal], nested_script: Path
) -> None:
    term = terminal("step", nested_script) if command == "step" else terminal("demo", "--steps", "100000")
    term.see("Session.run begins" if command == "step" else "script runs")
    if how == "Ctrl-C":
        term.press("\x03")
        assert term.end() in (0, 130)
    else:
        number = getattr(signal, how)
        os.kill(term.process.pid, number)
        assert term.end() == 128 + number
    term.assert_given_back()


def drawing(term: Terminal) -> None:
    """Wait until it begins to draw."""
    end = time.monotonic() + SECONDS
    while not term.raw:
        assert term.pump(0.02) and time.monotonic() < end


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(lambda term: term.pump(0.3), id="importing"),
        pytest.param(drawing, id="drawing"),
        pytest.param(lambda term: (drawing(term), term.pump(0.2)), id="drawn"),
    ],
)
def test_a_signal_while_it_is_still_starting(
    begun: Callable[[Terminal], object], terminal: Callable[..., Terminal], nested_script: Path
) -> None:
    wrong = []
    for _ in range(3):
        term = terminal("step", nested_script)
        begun(term)
        os.kill(term.process.pid, signal.SIGTERM)
        ended = term.end()
        term.assert_given_back()
        if ended in (128 + signal.SIGTERM, -signal.SIGTERM):
            return
        # Once, on a busy machine, this ended with 1 instead; why is not known. Three times in a row it may not.
        wrong.append((ended, term.raw[-2_000:]))
    pytest.fail(f"it ended with {wrong}")


def test_a_script_that_crashes_leaves_the_screen_alive(
    terminal: Callable[..., Terminal], write_script: Callable[..., Path]
) -> None:
    script = write_script("""
        import engine as tf, os, signal
        x = tf.constant(1.0, name="x")
        tf.Session().run(x)
        print("about to crash", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    """)
    term = terminal("step", script)
    term.see("Session.run begins")
    term.press("c")
    term.see("SIGSEGV")
    term.press("?")  # it lives
    term.see("Step: keys")
    term.press("\x1b")
    term.gone("Step: keys")  # a key that comes right after an escape may be taken for a part of it
    term.press("q")
    term.end()
    term.assert_given_back()


def test_a_script_that_raises_shows_its_traceback(
    terminal: Callable[..., Terminal], write_script: Callable[..., Path]
) -> None:
    script = write_script("""
        import engine as tf
        tf.Session().run(tf.constant(1.0, name="x"))
        raise ValueError("this is the script's own")
    """)
    term = terminal("step", script)
    term.see("Session.run begins")
    term.press("c")
    term.see("ValueError", "this is the script's own")
    term.press("?")  # it lives
    term.see("Step: keys")
    term.press("\x1b")
    term.gone("Step: keys")  # a key that comes right after an escape may be taken for a part of it
    term.press("q")
    term.end()
    term.assert_given_back()


def test_a_busy_script_does_not_freeze_the_screen(
    terminal: Callable[..., Terminal], write_script: Callable[..., Path]
) -> None:
    script = write_script("""
        import engine as tf
        tf.Session().run(tf.constant(1.0, name="x"))
        print("busy now", flush=True)
        while True:
            pass
    """)
    term = terminal("step", script)
    term.see("Session.run begins")
    term.press("c")
    term.see("busy now")
    term.press("?")
    term.see("Step: keys")
    term.press("\x1b")
    term.gone("Step: keys")
    term.press("\x03")
    term.end()
    term.assert_given_back()


def test_stepping_as_text_at_a_prompt(terminal: Callable[..., Terminal], nested_script: Path) -> None:
    term = terminal("step", "--text", nested_script)
    term.see("Session.run begins", "(step)")
    for line, says in (
        ("n", "#0"),
        ("", "#1"),
        ("p taken", "bool[] True"),
        ("nonsense", "no command 'nonsense'"),
    ):
        term.press(line + "\r")
        term.see(says)
    term.press("c\r")
    term.see("result 15.0", "has finished with exit status 0")
    assert term.end() == 0
    term.assert_given_back()


def test_ctrl_c_at_the_prompt_and_in_a_running_step(
    terminal: Callable[..., Terminal], write_script: Callable[..., Path]
) -> None:
    script = write_script("""
        import engine as tf

        def say():
            print("it runs", flush=True)
            return 0

        first = tf.py_func(say, [], tf.int64, name="say")
        first.set_shape([])
        last = tf.while_loop(lambda i: tf.less(i, 10 ** 12), lambda i: tf.add(i, 1), [first], name="loop")
        tf.Session().run(last)
    """)
    term = terminal("step", "--text", script)
    term.see("(step)")
    term.press("c\r")
    term.see("it runs")
    term.press("\x03")
    term.see("stop  paused")
    term.press("\x03")
    assert term.end() == 0
    term.assert_given_back()


def test_run_gives_the_script_the_terminal_and_ctrl_c(
    terminal: Callable[..., Terminal], write_script: Callable[..., Path]
) -> None:
    script = write_script("""
        import sys, time
        name = input("name? ")
        try:
            print("hello", name, sys.stdin.isatty(), sys.stdout.isatty(), flush=True)
            time.sleep(1000)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(5)
    """)
    term = terminal("run", script)
    term.see("name?")
    term.press("you\r")
    term.see("hello you True True")
    term.press("\x03")
    assert term.end() == 5
    term.see("interrupted", "workbench open")
    term.assert_given_back()


def test_an_error_of_our_own_gives_the_terminal_back(
    terminal: Callable[..., Terminal], write_script: Callable[..., Path], python_environment: dict[str, str]
) -> None:
    script = write_script("""
        import sys, tty
        from workbench.terminal import given_back
        with given_back():
            tty.setraw(0)
            sys.stdout.write("\\x1b[?1049h\\x1b[?25l\\x1b[?1000h\\x1b[?2004h")
            sys.stdout.flush()
            raise RuntimeError("a defect")
    """)
    made = Terminal([str(script)], script.parent, python_environment)
    with contextlib.closing(made.process):
        assert made.end() == 1
        assert b"RuntimeError: a defect" in made.raw
        made.assert_given_back()


@pytest.mark.parametrize(
    "arguments", [["demo", "--headless", "--steps", "3"], ["open", "latest"], ["step", "--commands", "c"]]
)
def test_text_in_a_terminal_where_it_is_asked_for_and_without_one(
    arguments: list[str],
    terminal: Callable[..., Terminal],
    nested_script: Path,
    tmp_path: Path,
    run_python: Any,
) -> None:
    if arguments[0] == "open":
        assert run_python("-m", "workbench", "run", nested_script, cwd=tmp_path).returncode == 0
        done = run_python("-m", "workbench", "open", "latest", cwd=tmp_path)
        assert done.returncode == 0 and "nested" in done.stdout and "\x1b" not in done.stdout
        return
    if arguments[0] == "step":
        arguments = [*arguments, str(nested_script)]
    term = terminal(*arguments)
    assert term.end() == 0
    assert b"\x1b[?1049h" not in term.raw
    term.assert_given_back()
