"""Recording a program: what users write.

    import engine as tf
    import tracing

    with tracing.record(name="digits", level="values"):
        with tf.Session() as session:
            for step in range(1000):
                loss, _ = session.run([loss_op, train_op])
                tracing.scalar("loss", loss, step)

Recordings may be nested (a script that records, run by `workbench run`): each hears everything, and what is logged goes to all.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engine import observe
from engine.observe import TraceLevel
from tracing.capture import VALUE_BUDGET, VALUE_CAP
from tracing.histograms import Histogram
from tracing.recorder import Recorder, in_words

Level = Literal["times", "values", "full"]

_active: list[Recorder] = []
_lock = threading.Lock()


def start(
    logdir: str | os.PathLike[str] = "runs",
    level: Level | TraceLevel = "times",
    name: str | None = None,
    *,
    script: str | os.PathLike[str] | None = None,
    tensorboard: bool = True,
    value_budget: int = VALUE_BUDGET,
    value_cap: int = VALUE_CAP,
) -> Recorder:
    """Record every session of this process, from now on, into a new run directory in `logdir`.

    level: 'times' (a time stamp a node), 'values' (and the health of every output) or 'full' (and every token and value).
    name: what the directory's name says after the time; the script's name by default.
    script: the program that is recorded, where it is not the one that Python was started with.
    tensorboard: whether to write TensorBoard's event file too.
    value_budget, value_cap: bytes of captured values to keep in the whole run, and of one value at most.

    The recording ends with `stop`, or with the process.  Raises RunError if the directory cannot be made, ValueError for an
    unknown level.
    """
    program = _script() if script is None else os.path.abspath(script)
    recorder = Recorder.create(
        logdir,
        _level(level),
        name or _name(program),
        script=program,
        tensorboard=tensorboard,
        value_budget=value_budget,
        value_cap=value_cap,
    )
    with _lock:
        _active.append(recorder)
    observe.install(recorder)
    return recorder


def stop(error: BaseException | str | None = None) -> Path | None:
    """End the recording that was started last and return its directory; None if there is none.

    error: what the program raised: the run's state is then 'failed', else 'finished'.
    """
    with _lock:
        recorder = _active.pop() if _active else None
    if recorder is None:
        return None
    _close(recorder, error)
    return recorder.path


@contextmanager
def record(
    logdir: str | os.PathLike[str] = "runs",
    level: Level | TraceLevel = "times",
    name: str | None = None,
    **options: Any,
) -> Iterator[Recorder]:
    """Record what happens inside the `with` block; arguments and errors are those of `start`.

    A block that raises leaves a run whose state is 'failed'; `SystemExit` with code 0 or None is no failure.
    """
    recorder = start(logdir, level, name, **options)
    error: BaseException | None = None
    try:
        yield recorder
    except BaseException as raised:
        error = None if isinstance(raised, SystemExit) and raised.code in (0, None) else raised
        raise
    finally:
        with _lock:
            if recorder in _active:
                _active.remove(recorder)
        _close(recorder, error)


def scalar(tag: str, value: npt.ArrayLike, step: int) -> None:
    """Log one number (a Python or NumPy scalar, or an array of one element) under `tag` at `step`.

    Does nothing when no recording is on.  Raises TypeError or ValueError for what is not one number.
    """
    if _active:
        number = _number(tag, value)
        for recorder in tuple(_active):
            recorder.scalar(tag, number, int(step))


def histogram(tag: str, values: npt.ArrayLike, step: int) -> None:
    """Log how `values` (real numbers of any shape) are distributed, under `tag` at `step`.

    Does nothing when no recording is on.  Raises TypeError for what are not real numbers.
    """
    if _active:
        made = Histogram.of(values)
        for recorder in tuple(_active):
            recorder.histogram(tag, made, int(step))


def active() -> tuple[Recorder, ...]:
    """The recordings that are on, in the order in which they were started."""
    return tuple(_active)


def _number(tag: str, value: npt.ArrayLike) -> float:
    array = np.asarray(value)
    if array.size != 1:
        raise ValueError(f"the scalar '{tag}' is one number, not an array of shape {array.shape}")
    if array.dtype.kind not in "biufV":
        raise TypeError(f"the scalar '{tag}' is a real number, not {array.dtype}")
    return float(array.reshape(()).astype(np.float64))


def _level(level: Level | TraceLevel) -> TraceLevel:
    if isinstance(level, TraceLevel) and level is not TraceLevel.OFF:
        return level
    known = {each.name.lower(): each for each in TraceLevel if each is not TraceLevel.OFF}
    found = known.get(str(level))
    if found is None:
        raise ValueError(f"{level!r} is not a trace level: give one of {', '.join(known)}")
    return found


def _script() -> str | None:
    """The program that runs, if it is a file."""
    main = getattr(sys.modules.get("__main__"), "__file__", None) or (sys.argv[0] if sys.argv else "")
    return os.path.abspath(main) if main and os.path.isfile(main) else None


def _name(script: str | None) -> str:
    if script is None:
        return "python"
    path = Path(script)
    return path.parent.name if path.stem == "__main__" else path.stem


def _close(recorder: Recorder, error: BaseException | str | None) -> None:
    if error is None:
        recorder.close()
    else:
        recorder.close("failed", error if isinstance(error, str) else in_words(error))


def _stop_at_exit() -> None:
    # An uncaught exception is kept in sys.last_value before exit functions run; in an interactive session it may be an old one.
    interactive = bool(sys.flags.interactive) or hasattr(sys, "ps1")
    error = None if interactive else getattr(sys, "last_value", None)
    while stop(error) is not None:
        pass


atexit.register(_stop_at_exit)
