"""What the workbench's tests share: scripts to run, and the certainty that nothing is left running."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]

NESTED = """
import engine as tf

start = tf.constant(3.0, name="start")

def inner(i, total):
    _, total = tf.while_loop(lambda j, t: j < 2, lambda j, t: (j + 1, t + start), (0, total), name="in")
    return i + 1, total

def loop():
    return tf.while_loop(lambda i, t: i < 2, inner, (0, start), name="out")[1]

result = tf.cond(tf.constant(True, name="taken"), loop, lambda: start * 10.0, name="if")
with tf.Session(config=tf.ConfigProto(graph_options=tf.GraphOptions(tf.OptimizerOptions(opt_level=-1)))) as session:
    print("result", session.run(result))
    print("start", session.run(start))
"""


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[..., Path]:
    """Writes a script into a directory of its own and gives its path."""

    def write(code: str, name: str = "script.py") -> Path:
        path = tmp_path / "scripts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    return write


@pytest.fixture
def nested_script(write_script: Callable[..., Path]) -> Path:
    """A script with a while_loop in a while_loop in a cond: prints ``result 15.0`` and ``start 3.0``."""
    return write_script(NESTED, "nested.py")


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs this Python with the packages of this repository importable, and gives what it printed.

    ``-m workbench`` runs in this process, which has what it needs already; what it starts runs in processes of its own.
    """

    def run(
        *arguments: str | Path, timeout: float = 100, **options: object
    ) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        if words[:2] == ["-m", "workbench"] and options.keys() <= {"cwd"}:
            return command_line(words[2:], **options)  # type: ignore[arg-type]
        return subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment(),
            **{"stdin": subprocess.DEVNULL, **options},  # type: ignore[call-overload]
        )

    return run


def command_line(words: Sequence[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``python -m workbench``, in this process: with its own working directory and standard streams, those of children too."""
    from workbench.cli import main

    status = 0
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        nothing = stack.enter_context(open(os.devnull, "rb"))
        with pytest.MonkeyPatch.context() as patch, _descriptors(nothing, out, err):
            patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
            if cwd is not None:
                patch.chdir(cwd)
            for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
                stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
                patch.setattr(sys, name, stream)
            try:
                main(words)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(["workbench", *words], status, *said)


@contextlib.contextmanager
def _descriptors(*files: IO[bytes]) -> Iterator[None]:
    """These as the descriptors 0, 1, 2 of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in range(len(files))]
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        yield
    finally:
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)


def environment(**more: str) -> dict[str, str]:
    found = {**os.environ, **more}
    found["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found


@pytest.fixture
def python_environment() -> dict[str, str]:
    """The environment in which a new Python finds this repository's packages."""
    return environment()


def processes_with(mark: str) -> list[tuple[int, str]]:
    """The processes (not zombies) whose command line contains `mark`, other than this one."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark in command and state not in "ZX" and int(entry.name) != os.getpid():
            found.append((int(entry.name), command))
    return found


@pytest.fixture
def nothing_left(tmp_path: Path) -> Iterator[Callable[[], Sequence[tuple[int, str]]]]:
    """Waits until no process mentions this test's directory; gives those that still do after a minute.

    Checked once more at the end of the test.
    """
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc to see processes")

    def check() -> Sequence[tuple[int, str]]:
        end = time.monotonic() + 60.0
        while (left := processes_with(str(tmp_path))) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    yield check
    assert check() == []
