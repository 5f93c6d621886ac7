"""`tf.logging`: messages with levels, through Python's `logging`, under TensorFlow 1's names."""

from __future__ import annotations

import itertools
import logging as _logging
import sys
import threading
from collections import defaultdict
from typing import Any

__all__ = [
    "DEBUG", "ERROR", "FATAL", "INFO", "WARN", "debug", "error", "fatal", "flush", "get_verbosity", "info", "log",
    "log_every_n", "log_first_n", "log_if", "set_verbosity", "vlog", "warn", "warning",
]  # fmt: skip

DEBUG, INFO, WARN, ERROR, FATAL = (
    _logging.DEBUG,
    _logging.INFO,
    _logging.WARNING,
    _logging.ERROR,
    _logging.CRITICAL,
)

_lock = threading.Lock()
_counts: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)


def _logger() -> _logging.Logger:
    """The logger "engine"; it writes to stderr unless the program has set up logging itself."""
    logger = _logging.getLogger("engine")
    with _lock:
        if not logger.handlers and not _logging.getLogger().handlers:
            handler = _logging.StreamHandler(sys.stderr)
            handler.setFormatter(_logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
            logger.addHandler(handler)
            if logger.level == _logging.NOTSET:
                logger.setLevel(WARN)
    return logger


def get_verbosity() -> int:
    """The level from which on messages are shown."""
    return _logger().getEffectiveLevel()


def set_verbosity(v: int) -> None:
    """Show messages of the level `v` (`DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL`) and above."""
    _logger().setLevel(v)


def log(level: int, msg: str, *args: Any, **kwargs: Any) -> None:
    """A message of that level; `args` go into its % format when it is shown."""
    _logger().log(level, msg, *args, **kwargs)


vlog = log


def debug(msg: str, *args: Any, **kwargs: Any) -> None:
    log(DEBUG, msg, *args, **kwargs)


def info(msg: str, *args: Any, **kwargs: Any) -> None:
    log(INFO, msg, *args, **kwargs)


def warn(msg: str, *args: Any, **kwargs: Any) -> None:
    log(WARN, msg, *args, **kwargs)


warning = warn


def error(msg: str, *args: Any, **kwargs: Any) -> None:
    log(ERROR, msg, *args, **kwargs)


def fatal(msg: str, *args: Any, **kwargs: Any) -> None:
    log(FATAL, msg, *args, **kwargs)


def _count() -> int:
    """How often the line that called our caller has done so before."""
    frame = sys._getframe(2)
    return next(_counts[f"{frame.f_code.co_filename}:{frame.f_lineno}"])


def log_every_n(level: int, msg: str, n: int, *args: Any) -> None:
    """The message at the first of every `n` times that this line is reached."""
    if _count() % n == 0:
        log(level, msg, *args)


def log_first_n(level: int, msg: str, n: int, *args: Any) -> None:
    """The message at the first `n` times that this line is reached."""
    if _count() < n:
        log(level, msg, *args)


def log_if(level: int, msg: str, condition: Any, *args: Any) -> None:
    """The message if `condition` holds."""
    if condition:
        log(level, msg, *args)


def flush() -> None:
    """Write out what handlers keep back."""
    for handler in _logger().handlers:
        handler.flush()
