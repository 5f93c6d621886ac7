"""Runs one command and makes sure that it does not outlive whoever asked for it: ``guard.py FD GROUP PRIVATE COMMAND…``.

A front end starts this tiny process, which starts the user's script and waits.  `FD` is the reading end of a pipe whose other
end only the front end holds: when the front end ends, however it ends, the pipe closes and the script is killed, with its whole
process group where `GROUP` is 1 (the guard then leads the group), and the directory `PRIVATE` is removed (none if it is '').
When the script ends first, the guard ends in the same way: with its exit status, or by the signal that killed it.

It imports nothing but the standard library and runs with ``python -I -S``, so it costs about ten milliseconds.  An argument
``{guard}`` in the command is replaced by the guard's process number.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

# Passed on to the script: what people and job schedulers send to the process that they know about.
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


def main(arguments: list[str]) -> None:
    """Start the command and wait for its end or for the pipe's; does not return."""
    lifeline, leads_group = int(arguments[0]), arguments[1] == "1"
    private = arguments[2]
    command = [str(os.getpid()) if word == "{guard}" else word for word in arguments[3:]]

    # SIGCHLD wakes `select` through this pipe; there is no moment at which a child's end could be missed.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    # Ctrl-C is for the script, which is in the same terminal; if the script was to ignore it, it still does.
    interruptible = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    child = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_CLOSE, fd) for fd in (lifeline, woken, wake)],
        setsigdef=[signal.SIGINT] if interruptible else [],
    )

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)

    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            _end_like(status)
        readable, _, _ = select.select([lifeline, woken], [], [])
        if woken in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(woken, 4096)
        if lifeline in readable and not os.read(lifeline, 1):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            _remove(private)
            if leads_group:
                os.killpg(0, signal.SIGKILL)  # this process too
            os._exit(137)


def _remove(directory: str) -> None:
    """Remove a directory of files, which nobody else is left to remove."""
    if directory:
        with contextlib.suppress(OSError):
            for entry in os.scandir(directory):
                os.unlink(entry.path)
            os.rmdir(directory)


def _end_like(status: int) -> None:
    """End this process as the child did."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        os._exit(code)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child's core is the one worth having
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    os._exit(128 - code)  # a signal that does not end a process by default


if __name__ == "__main__":
    main(sys.argv[1:])
