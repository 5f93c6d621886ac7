"""How nodes and constants are written in a listing of the linear program."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.op.fused_program import read
from engine.passes.stage import StageNode

_LONGEST = 24  # characters of a literal
_ELEMENTS = 4


def operation(node: StageNode) -> str:
    """What a node does, in one word: its type, or of a fused node those of its parts (``Mul+Add+Tanh``)."""
    parts = parts_of(node)
    if not parts:
        return node.type
    return "+".join(parts[:4]) + (f"+{len(parts) - 4} more" if len(parts) > 4 else "")


def parts_of(node: StageNode) -> tuple[str, ...]:
    """The types of the ops that a fused node runs, in order; () for any other node, and where a recording does not say."""
    text = node.attrs.get("program")
    if node.type == "_FusedElementwise" and isinstance(text, str):
        try:
            return tuple(step.type for step in read(text).steps)
        except ValueError:
            return ()
    ops = node.attrs.get("fused_ops")
    if node.type.startswith("_Fused") and isinstance(ops, list | tuple):
        return node.type.removeprefix("_Fused"), *(_text(each) for each in ops)
    return ()


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def literal(node: StageNode) -> str:
    """A constant in the text of who reads it: a small one as it is, any other by its node's name."""
    value = node.attrs.get("value")
    if isinstance(value, np.ndarray) and value.ndim <= 1 and value.size <= _ELEMENTS:
        elements = [_element(each) for each in value.ravel().tolist()]
        text = f"[{', '.join(elements)}]" if value.ndim else elements[0]
        if len(text) <= _LONGEST:
            return text
    return node.name


def _element(value: Any) -> str:
    """A number as short as it goes and still a float if it is one: ``2.0``, ``0.1``, ``1e-08``."""
    if not isinstance(value, float):
        return repr(value)
    text = f"{value:.6g}"
    return text if any(letter in text for letter in ".en") else text + ".0"


def static_bytes(node: StageNode, output: int) -> int | None:
    """The bytes of an output by its static shape: None where that leaves it open and for strings, 0 for a reference or handle."""
    dtype = node.output_dtypes[output]
    if dtype._is_ref_dtype or dtype.name in ("resource", "variant"):
        return 0
    kind = np.dtype(dtype.as_numpy_dtype)
    count = node.output_shapes[output].num_elements()
    return None if count is None or kind.hasobject else int(count) * kind.itemsize
