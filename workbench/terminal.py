"""The terminal application in this terminal, which is given back as it was whatever happens."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from workbench.debugger.client import DebugClient
from workbench.process import ChildProcess

# Back to the ordinary screen, with a cursor, without mouse and focus reports, bracketed paste, in-band resizing and keyboard
# protocol, in plain colours.
_OFF = (1049, 1000, 1002, 1003, 1006, 1015, 1004, 2004, 2048)
RESET = "".join(f"\x1b[?{mode}l" for mode in _OFF) + "\x1b[?25h\x1b[<u\x1b[0m"


def open_application(
    *,
    run: Path | None = None,
    logdir: Path | None = None,
    child: ChildProcess | None = None,
    debug: DebugClient | None = None,
) -> int:
    """Show a run, a script that is being recorded, or one that is being stepped; gives the exit status.

    `child` and `debug` have ended when this returns.  The caller makes sure that there is a terminal: Textual hangs without one.
    """
    from workbench.tui.app import WorkbenchApp, run_app

    with given_back():
        return run_app(WorkbenchApp(run=run, logdir=logdir, child=child, debug=debug))


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """Put the terminal back as it was at the end of the `with` block; after an error, its screen and cursor too."""
    descriptor = sys.__stdin__.fileno() if sys.__stdin__ is not None else 0
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:  # no terminal
        yield
        return
    try:
        yield
    except BaseException:
        if sys.__stdout__ is not None:
            sys.__stdout__.write(RESET)
            sys.__stdout__.flush()
        raise
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
