"""A script under recording, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from workbench.process import ChildProcess, host_command, make_private_directory


class RecordedProcess(ChildProcess):
    """`script` run by `workbench.host` with recording on.

    attached: it belongs to our terminal's foreground job: reads from there, gets its Ctrl-C.
    capture: keep what it prints instead of letting it print where we do.

    `run_path` is its run directory once it has one.
    """

    def __init__(
        self,
        script: str,
        args: Sequence[str],
        *,
        logdir: str | os.PathLike[str],
        trace: str = "times",
        capture: bool = True,
        attached: bool = False,
    ) -> None:
        private = make_private_directory()
        self._run_file = private / "run"
        self._run_path: Path | None = None
        command = host_command(
            script, args, trace=trace, logdir=logdir, run_file=self._run_file, line_buffered=not attached
        )
        super().__init__(command, capture=capture, own_group=not attached, stdin=attached, private=private)

    @property
    def run_path(self) -> Path | None:
        """The run directory, or None as long as the script has not come so far."""
        if self._run_path is None:
            with contextlib.suppress(OSError):  # it is not there yet, or no longer
                text = self._run_file.read_text()
                self._run_path = Path(text) if text else None
        return self._run_path

    def terminate(self, grace: float = 1.0) -> int:
        """As `ChildProcess.terminate`; the run directory stays known."""
        _ = self.run_path
        return super().terminate(grace)


class Terminated(SystemExit):
    """SIGTERM or SIGHUP came: ends the program with the status that shells give for that, after `finally` blocks have run."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextlib.contextmanager
def orderly_termination() -> Iterator[None]:
    """Inside the `with` block SIGTERM and SIGHUP raise `Terminated` instead of ending the process on the spot."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_attached(process: ChildProcess) -> int:
    """Wait for a process that has our terminal; Ctrl-C is its to deal with.  Gives its exit status."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        process.terminate()
        signal.signal(signal.SIGINT, before)
