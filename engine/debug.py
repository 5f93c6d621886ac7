"""The way from a program to the debugger, which is in the package `workbench` and is imported when it is asked for.

    engine.debug.listen()                        # let `workbench attach` look at this script
    debugger = engine.debug.session(session)     # step in this process, in a notebook, say
    debugger.run(loss)

A script that is started with ``WORKBENCH_DEBUG=1`` in its environment listens by itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

VARIABLE = "WORKBENCH_DEBUG"

__all__ = ["listen", "session", "stop_listening"]


def listen(path: str | os.PathLike[str] | None = None, tcp: int | bool | None = None) -> Any:
    """Let debuggers attach to this process from now on (``workbench attach``), and say on stderr how.

    path: of the Unix socket, which only this user may connect to; by default in a directory that is this user's alone.
    tcp: a port of the loopback interface instead (0 or True: any that is free).  Who attaches has to know a token: what
        WORKBENCH_DEBUG_TOKEN holds, or else a new one, which is printed once.

    Gives the listener: its `address`, whether somebody is `attached`, `detach()` and `close()`.  Called again, the one that there
    is.  It costs nothing until somebody attaches.  Raises ImportError without the package `workbench`, OSError where it cannot
    listen, ValueError for a path and tcp together.
    """
    return _workbench("listening").listen(path, tcp)


def stop_listening() -> None:
    """Listen no more; who is attached is detached.  Does nothing if nobody listens."""
    if "workbench.debugger.listening" in sys.modules:
        _workbench("listening").stop()


def session(session: Any) -> Any:
    """A debugger for the steps of `session` (a Session) in this process, with rich display in notebooks.

    See `workbench.debugger.notebook.NotebookDebugger`: `run`, `next`, `back`, `run_to`, `why`, …  Raises ImportError without the
    package `workbench`.
    """
    return _workbench("notebook").NotebookDebugger(session)


def listen_as_asked() -> None:
    """Listen if the environment asks for it; what is wrong with that is said on stderr, and the script runs all the same."""
    asked = os.environ.get(VARIABLE, "")
    if asked in ("", "0") or "workbench.cli" in sys.modules:  # the command line is what attaches
        return
    try:
        if asked.startswith("tcp"):
            port = asked.removeprefix("tcp").removeprefix(":") or "0"
            if not port.isdecimal():
                raise ValueError(f"{VARIABLE}={asked} is neither 1 nor tcp:PORT nor a path")
            listen(tcp=int(port))
        else:
            listen(None if asked == "1" else asked)
    except (ImportError, OSError, ValueError) as error:
        print(f"workbench: no debugger can be attached: {error}", file=sys.stderr, flush=True)


def _workbench(module: str) -> Any:
    try:
        return importlib.import_module(f"workbench.debugger.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "workbench":
            raise
        raise ImportError(
            "the debugger is in the package 'workbench', which cannot be imported here: install dataflow-workbench whole, or put "
            "its directory on PYTHONPATH"
        ) from None


class _Callable(type(sys)):  # type: ignore[misc]  # the type of modules
    """So that ``engine.debug(session)`` is ``engine.debug.session(session)``."""

    def __call__(self, of: Any) -> Any:
        return session(of)


sys.modules[__name__].__class__ = _Callable
