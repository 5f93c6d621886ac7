"""TensorFlow's answers to `gradient_programs`, as `tests/golden/make_gradient_programs.py` stored them."""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ANSWERS = Path(__file__).parents[1] / "golden" / "gradient_programs.npz"


@cache
def _stored() -> dict[str, Any]:
    with np.load(ANSWERS) as file:
        found = dict(file)
    found["graphs"] = json.loads(lzma.decompress(found["graphs"].tobytes()))
    return found


def stored_graphs() -> dict[str, Any]:
    """For each program its nodes and fetches, and if it has functions its GraphDef and feeds."""
    graphs: dict[str, Any] = _stored()["graphs"]
    return graphs


def stored_values(name: str) -> list[Any]:
    """The values of a program's fetches."""
    count = sum(key.rpartition("/")[0] == name for key in _stored())
    return [_stored()[f"{name}/{i}"] for i in range(count)]
