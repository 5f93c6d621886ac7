"""ChildProcess: a user's script in a process of its own, which never outlives the one that started it.

The script runs under `workbench.guard`.  Its output is either inherited (`capture=False`: the script writes to our terminal) or
read by a thread, of which the tail is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

GUARD = Path(__file__).with_name("guard.py")
HOST = Path(__file__).with_name("host.py")
OUTPUT_KEPT = 200_000  # characters
_HELD_SECONDS = 0.5  # that a pipe is waited for whose command has ended and which has nothing in it: a grandchild may hold it
_READ_SECONDS = 10.0  # that reading what is in the pipe may take


class ChildProcess:
    """A command running under a guard.

    command: the program and its arguments.
    capture: keep the output (both streams, in the order written) instead of passing it on; the command then reads from /dev/null
        unless `stdin` says otherwise.
    own_group: make it the leader of its own session and process group.  Without this it belongs to our terminal's foreground
        job, gets its Ctrl-C, and may read from it.
    stdin: False connects it to /dev/null.
    private: a directory of its own, which is removed when it is terminated, and also when we are killed.

    Raises OSError if the guard cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        capture: bool = True,
        own_group: bool = True,
        stdin: bool = False,
        private: Path | None = None,
    ) -> None:
        self.own_group = own_group
        self._tail = _Tail()
        self._reader: threading.Thread | None = None
        self._private = private
        self._drained = False
        lifeline, self._lifeline = os.pipe()
        guard = [
            sys.executable,
            "-I",
            "-S",
            str(GUARD),
            str(lifeline),
            str(int(own_group)),
            str(private or ""),
        ]
        try:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=None if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.STDOUT if capture else None,
                pass_fds=(lifeline,),
                start_new_session=own_group,
            )
        except BaseException:
            os.close(self._lifeline)
            if private is not None:
                shutil.rmtree(private, ignore_errors=True)
            raise
        finally:
            os.close(lifeline)
        if capture:
            self._reader = threading.Thread(target=self._read, name="script-output", daemon=True)
            self._reader.start()

    @property
    def pid(self) -> int:
        """The guard's process number; also that of the process group if the command leads one."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit status if the command has ended, else None; a negative number is the signal that killed it."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status.  Raises subprocess.TimeoutExpired after `timeout` seconds."""
        return self._process.wait(timeout)

    def output_tail(self, limit: int = 8_192) -> str:
        """The last `limit` characters that it wrote, if captured.  Once it has ended, nothing is missing."""
        if self._reader is not None and not self._drained and self.poll() is not None:
            self._drain(self._reader)
        return self._tail.text(limit)

    def signal(self, number: int) -> None:
        """Send a signal to the script (the guard passes it on); nothing happens if it has ended."""
        self._process.send_signal(number)

    def terminate(self, grace: float = 1.0) -> int:
        """End the command and everything in its process group: SIGTERM, and SIGKILL after `grace` seconds.

        Gives the exit status.  Does nothing to a command that has ended, except for what it left behind in its group.
        """
        if self.poll() is None:
            self._send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self._close_lifeline()
        if self.own_group:
            self._send(signal.SIGKILL)
        else:
            # The guard kills the script, now that the lifeline is cut; killed itself, it could not.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
            self._send(signal.SIGKILL)
        code = self._process.wait()
        if self.own_group:
            self._await_group()
        if self._reader is not None:
            self._drain(self._reader)
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
            self._private = None
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def _send(self, number: int) -> None:
        # PermissionError is what macOS answers for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.own_group:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)

    def _await_group(self) -> None:
        """Wait until nobody is left in the group; killed processes may take a moment to go."""
        end = time.monotonic() + 1.0
        while _group_lives(self.pid) and time.monotonic() < end:
            time.sleep(0.005)

    def _close_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _drain(self, reader: threading.Thread) -> None:
        """Wait until what the command has written is read.  Not for the pipe's end: a grandchild may hold it open for ever."""
        begun = time.monotonic()
        while reader.is_alive():
            reader.join(0.01)
            patience = _READ_SECONDS if self._has_more() else _HELD_SECONDS
            if time.monotonic() - begun > patience:
                break
        self._drained = True

    def _has_more(self) -> bool:
        """Whether there is something in the pipe, its end included, that nobody has read."""
        stream = self._process.stdout
        assert stream is not None
        try:
            waiting = select.poll()
            waiting.register(stream.fileno(), select.POLLIN)
            return bool(waiting.poll(0))
        except (OSError, ValueError):  # it was read to its end, and closed
            return False

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            while chunk := os.read(stream.fileno(), 65_536):
                self._tail.add(chunk)


def _group_lives(group: int) -> bool:
    """Whether a process of the group still runs; one that only waits for its parent to notice its end does not count."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    members = Path("/proc")
    if not (members / "self").exists():
        return True
    for stat in members.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


class _Tail:
    """The end of a stream of bytes, as text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        with self._lock:
            self._bytes += chunk
            if len(self._bytes) > 2 * OUTPUT_KEPT:
                del self._bytes[:-OUTPUT_KEPT]

    def text(self, limit: int) -> str:
        with self._lock:
            end = bytes(self._bytes[-4 * limit :])  # no character takes more than four bytes
        return end.decode("utf-8", "replace").replace("\r\n", "\n")[-limit:]


def make_private_directory() -> Path:
    """A new directory with mode 0700, whose path is short enough for a Unix socket's address (about 100 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="workbench-"))
    if len(os.fsencode(path)) > 80:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="workbench-", dir="/tmp"))
    return path


def python(program: Path, *arguments: str) -> list[str]:
    """The command that runs `program` with this interpreter and the options it was itself started with (-O, -W, -X)."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, str(program), *arguments]


def host_command(
    script: str,
    args: Sequence[str],
    *,
    trace: str | None = None,
    logdir: str | os.PathLike[str] = "runs",
    run_file: Path | None = None,
    socket: Path | None = None,
    ask: Path | None = None,
    line_buffered: bool = False,
) -> list[str]:
    """The command that runs `script` with `args` under `workbench.host`; see there for the options."""
    options = ["--guard", "{guard}"]
    if trace is not None:
        options += ["--trace", trace, "--logdir", os.fspath(logdir)]
    if run_file is not None:
        options += ["--run-file", str(run_file)]
    if socket is not None:
        options += ["--socket", str(socket)]
    if ask is not None:
        options += ["--ask", str(ask)]
    if line_buffered:
        options.append("--line-buffered")
    return python(HOST, *options, script, *args)


def describe_exit(code: int) -> str:
    """How a process ended, in words: "exited with status 3", "was killed by signal 11 (SIGSEGV, segmentation fault)"."""
    if code >= 0:
        return f"exited with status {code}"
    number = -code
    try:
        name = signal.Signals(number).name
        words = f"{name}, {(signal.strsignal(number) or 'unknown').lower()}"
    except ValueError:
        words = "unknown"
    return f"was killed by signal {number} ({words})"
