"""The op that stands for a function's gradient, until the session puts that in its place (`engine.passes.inline`)."""

from __future__ import annotations

from engine.op.registry import op
from engine.op.samples import untested
from engine.op.shapes import UNKNOWN

__all__: list[str] = []

symbolic_gradient = op(
    "SymbolicGradient(input: list(Tin); Tin: list(type) >= 1, Tout: list(type) >= 1, f: func) -> output: list(Tout)",
    shape=lambda node: [UNKNOWN] * len(node.outputs),
    samples=untested("tests/graph/test_functions.py"),
)
