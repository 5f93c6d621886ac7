"""The first elements of a tensor as text, as TensorFlow's Print and Assert write them: ``[[1 2][3...]...]``."""

from __future__ import annotations

from typing import Any

import numpy as np

_ESCAPES = {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord('"'): '\\"',
    ord("'"): "\\'",
    ord("\\"): "\\\\",
}


def summarize(value: Any, limit: int) -> str:
    """The first `limit` elements of an array, all if it is negative; each dimension but the outermost in brackets."""
    array = np.asarray(value)
    shown = array.size if limit < 0 else min(limit, array.size)
    flat = [element(each) for each in array.reshape(-1)[:shown]]
    more = "..." if shown < array.size else ""
    if array.ndim == 0:
        return (flat[0] if flat else "") + more
    pieces: list[str] = []
    _nest(array.shape, flat, 0, 0, pieces)
    return "".join(pieces) + more


def _nest(shape: tuple[int, ...], flat: list[str], at: int, depth: int, pieces: list[str]) -> int:
    """Write what is below dimension `depth`, from element `at` on; returns the element after it."""
    if depth == len(shape) - 1:
        row = flat[at : at + shape[depth]]
        pieces.append(" ".join(row))
        if len(row) < shape[depth] and depth > 0:
            pieces.append("...")
        return at + len(row)
    for _ in range(shape[depth]):
        if at >= len(flat):
            break
        pieces.append("[")
        at = _nest(shape, flat, at, depth + 1, pieces)
        pieces.append("]")
    return at


def element(value: Any) -> str:
    """One element: a float in the fewest of two lengths that give it back, a bool as 0 or 1, bytes escaped as in C."""
    if isinstance(value, bytes):
        return _escaped(value)
    kind = np.asarray(value).dtype
    if kind == np.bool_:
        return "1" if value else "0"
    if kind.kind in "iu":
        return str(int(value))
    if kind.kind == "c":
        return f"({element(value.real)},{element(value.imag)})"
    if kind.kind in "fV":  # V: bfloat16
        return _float(value, wide=kind == np.float64)
    return str(value)


def _float(value: Any, wide: bool) -> str:
    digits = (15, 17) if wide else (6, 9)
    number = float(value)
    short = f"{number:.{digits[0]}g}"
    same = float(short) == number if wide else np.float32(short) == np.float32(number)
    return short if same or number != number else f"{number:.{digits[1]}g}"


def _escaped(value: bytes) -> str:
    text = []
    for byte in value:
        if byte in _ESCAPES:
            text.append(_ESCAPES[byte])
        else:
            text.append(f"\\{byte:03o}" if byte < 0x20 or byte == 0x7F else chr(byte))
    return "".join(text).encode("latin-1").decode("utf-8", "replace")
