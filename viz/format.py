"""How numbers, times, sizes and shapes are written, everywhere.

Three significant digits, the unit after a space, and never a width that jumps about: a column of these reads as a column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_LEVELS = "▁▂▃▄▅▆▇"  # not the full cell: charts in rows one below the other stay apart


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and no exponent: ``3.42``, ``34.2``, ``342``, ``3420``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    whole = math.floor(math.log10(abs(value))) + 1
    text = f"{value:.{max(0, digits - whole)}f}"
    # 9.996 rounds up to a fourth digit
    grown = math.floor(math.log10(abs(float(text)))) + 1 if float(text) else whole
    return f"{value:.{max(0, digits - grown)}f}" if grown != whole else text


def duration(nanoseconds: float) -> str:
    """A length of time: ``412 ns``, ``3.42 ms``, ``1.20 s``, ``2 min 03 s``, ``3 h 07 min``."""
    if nanoseconds < 0:
        return "-" + duration(-nanoseconds)
    seconds = nanoseconds / 1e9
    if seconds >= 3600 - 0.5:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    if seconds >= 99.95:
        rounded = round(seconds)
        return f"{rounded // 60} min {rounded % 60:02d} s"
    for scale, unit in _TIMES:
        # 999.6 µs is written 1.00 ms, not 1000 µs
        if nanoseconds >= scale * 0.9995 or unit == "ns":
            text = significant(nanoseconds / scale) if unit != "ns" else str(round(nanoseconds))
            return f"{text} {unit}"
    raise AssertionError


def axis_time(nanoseconds: float, step: float) -> str:
    """A label of a time axis whose ticks are `step` ns apart: just enough digits to tell neighbours apart."""
    reach = max(abs(nanoseconds), step)
    scale, unit = next(((s, u) for s, u in _TIMES if reach >= s), _TIMES[-1])
    digits = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    return f"{nanoseconds / scale:.{digits}f} {unit}" if nanoseconds else "0"


def ago(seconds: float) -> str:
    """How long ago something was: ``now``, ``12 s ago``, ``5 min ago``, ``3 h ago``, ``2 d ago``."""
    if seconds < 2:
        return "now"
    for limit, scale, unit in ((100, 1, "s"), (6000, 60, "min"), (36 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // scale)} {unit} ago"
    return f"{int(seconds // 86400)} d ago"


def nbytes(size: float) -> str:
    """A number of bytes: ``512 B``, ``4.00 KiB``, ``1.25 GiB``."""
    if size < 0:
        return "-" + nbytes(-size)
    if size < 1023.5:
        return f"{round(size)} B"
    for unit in _SIZES[1:]:
        size /= 1024
        if size < 999.5 or unit == _SIZES[-1]:
            break
    return f"{significant(size)} {unit}"


def count(number: int) -> str:
    """A whole number with its thousands apart: ``12,345``."""
    return f"{number:,}"


def plural(number: int, noun: str, plural_noun: str | None = None) -> str:
    """``1 node``, ``12 nodes``."""
    return f"{count(number)} {noun if number == 1 else plural_noun or noun + 's'}"


def percent(share: float) -> str:
    """A share of one: ``12 %``, ``0.3 %``, ``<0.1 %``."""
    value = share * 100
    if not math.isfinite(value):
        return "–"
    if value == 0 or value >= 9.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.05 else "<0.1 %"


def number(value: Any) -> str:
    """A scalar out of a tensor: four significant digits for a float, all of an int, ``nan`` and ``inf`` as they are."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, bytes):
        return repr(value)[1:]
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, complex | np.complexfloating):
        return f"{value.real:.4g}{value.imag:+.4g}j"
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)


def shape(dims: Any) -> str:
    """A shape: ``[32, ?, 10]``, ``[]`` for a scalar, ``<unknown>`` without a rank.

    Takes a tuple of ints and Nones, None, or anything with TensorShape's `ndims` and `dims`.
    """
    if dims is not None and hasattr(dims, "ndims"):
        dims = None if dims.ndims is None else tuple(getattr(dim, "value", dim) for dim in dims.dims)
    if dims is None:
        return "<unknown>"
    return "[" + ", ".join("?" if dim is None or dim < 0 else str(int(dim)) for dim in dims) + "]"


def dtype(kind: Any) -> str:
    """The name of a dtype: ``float32``; a reference type gets an ampersand, ``float32&``."""
    name = kind if isinstance(kind, str) else getattr(kind, "name", str(kind))
    return name[:-4] + "&" if name.endswith("_ref") else name


def tensor(kind: Any, dims: Any) -> str:
    """A dtype and a shape in one word: ``float32[32, 10]``."""
    return dtype(kind) + shape(dims)


def device(name: str) -> str:
    """A device's short name: ``CPU:0`` for job localhost, ``worker/1 GPU:0`` elsewhere, ``(any)`` for none."""
    if not name:
        return "(any)"
    parts = dict(part.split(":", 1) for part in name.strip("/").split("/") if ":" in part)
    kind = parts.pop("device", "") or next(
        (f"{k.upper()}:{v}" for k, v in parts.items() if k in ("cpu", "gpu")), ""
    )
    task = f"{parts['job']}/{parts.get('task', '0')}" if parts.get("job", "localhost") != "localhost" else ""
    return " ".join(part for part in (task, kind) if part) or name


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` cells, its end cut off behind an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""


def shorten_name(name: str, width: int) -> str:
    """A node's name in at most `width` cells: its middle goes first, since its ends say most (``gradients/…/MatMul_1``)."""
    if cell_len(name) <= width:
        return name
    if width < 4:
        return shorten(name, width)
    parts = name.split("/")
    for head in (f"{parts[0]}/…/", "…/"):
        for kept in range(len(parts) - 2, 0, -1):
            candidate = head + "/".join(parts[-kept:])
            if cell_len(candidate) <= width:
                return candidate
    tail = parts[-1]
    if cell_len(tail) <= width:
        return tail
    back = len(tail)
    while cell_len(tail[back:]) < (width - 1) // 2:
        back -= 1
    return set_cell_size(tail, width - 1 - cell_len(tail[back:])) + "…" + tail[back:]


def pad(text: str, width: int, align: str = "left") -> str:
    """`text` in exactly `width` cells, shortened or filled up with spaces on the side that `align` ("left", "right") leaves."""
    text = shorten(text, width)
    space = " " * (width - cell_len(text))
    return space + text if align == "right" else text + space


def sparkline(values: Sequence[float] | npt.NDArray[Any], width: int) -> str:
    """A series as `width` cells of bars, the mean of what falls into each; a gap where there is no finite value.

    The lowest bar is the series' minimum, the highest its maximum; fewer values than cells take a cell each.
    """
    series = np.asarray(values, dtype=np.float64)
    if not len(series) or width <= 0:
        return ""
    if len(series) > width:
        edges = np.linspace(0, len(series), width + 1).astype(np.int64)
        finite = np.isfinite(series)
        total = np.concatenate(([0.0], np.cumsum(np.where(finite, series, 0.0))))
        known = np.concatenate(([0], np.cumsum(finite)))
        seen = known[edges[1:]] - known[edges[:-1]]
        with np.errstate(invalid="ignore"):
            series = np.where(seen > 0, (total[edges[1:]] - total[edges[:-1]]) / np.maximum(seen, 1), np.nan)
    finite = np.isfinite(series)
    if not finite.any():
        return " " * len(series)
    low, high = float(series[finite].min()), float(series[finite].max())
    scale = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    levels = np.where(finite, np.rint((np.where(finite, series, low) - low) * scale), 0).astype(np.int64)
    return "".join(_LEVELS[level] if ok else " " for level, ok in zip(levels.tolist(), finite.tolist()))


def meter(share: float, width: int) -> str:
    """A thin bar of `width` cells filled to `share` (0 to 1), in halves of a cell, padded with spaces."""
    halves = round(min(1.0, max(0.0, share)) * width * 2)
    full, rest = divmod(halves, 2)
    return ("━" * full + "╸" * rest).ljust(width)
