"""Writes engine/device/modelled/cupy_names.py: what CuPy has, as CuPy itself says.  Needs CuPy and no GPU.

python tests/device/make_cupy_names.py > engine/device/modelled/cupy_names.py
"""

from __future__ import annotations

import inspect
import operator
import sys

import numpy as np


def parameters(function: object) -> str:
    """The names of a function's parameters; those by keyword alone follow '*'; '**' says that any other is passed on."""
    kinds = inspect.Parameter
    found: list[str] = []
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except ValueError:
        return "* **"
    for name, parameter in signature.parameters.items():
        if parameter.kind is kinds.VAR_POSITIONAL:
            found.append("*")
        elif parameter.kind is kinds.VAR_KEYWORD:
            found.append("**")
        else:
            if parameter.kind is kinds.KEYWORD_ONLY and "*" not in found:
                found.append("*")
            found.append(name if parameter.default is kinds.empty else f"{name}=")
    return " ".join(found)


def table(name: str, rows: dict[str, str], comment: str) -> str:
    lines = "".join(f"    {key!r}: {value!r},\n".replace("'", '"') for key, value in sorted(rows.items()))
    return f"\n# {comment}\n{name} = {{\n{lines}}}\n"


def generate() -> str:
    import cupy

    functions: dict[str, str] = {}
    ufuncs: dict[str, str] = {}
    plain: list[str] = []
    for prefix, module in (("", np), ("linalg.", np.linalg), ("lib.stride_tricks.", np.lib.stride_tricks)):
        there = operator.attrgetter(prefix.rstrip("."))(cupy) if prefix else cupy
        for name in dir(module):
            value = getattr(there, name, None)
            if name.startswith("_") or value is None or inspect.ismodule(value):
                continue
            if isinstance(value, cupy.ufunc):
                ufuncs[prefix + name] = " ".join(value.types)
            elif inspect.isroutine(value) or type(value).__name__ == "_GUFunc":
                functions[prefix + name] = parameters(value)
            else:
                plain.append(prefix + name)
    methods = [
        name
        for name in dir(cupy.ndarray)
        if not name.startswith("_") and callable(getattr(cupy.ndarray, name)) and hasattr(np.ndarray, name)
    ]
    text = (
        f'"""CuPy {cupy.__version__}\'s names that NumPy has too.\n\n'
        "Made by tests/device/make_cupy_names.py, which asks CuPy; do not edit.\n"
        '"""\n\n# ruff: noqa: E501\n'
    )
    text += table(
        "FUNCTIONS",
        functions,
        "A function's parameters; 'name=' has a default, those after '*' go by keyword.",
    )
    text += table("UFUNCS", ufuncs, "A ufunc's loops: dtypes of the inputs, an arrow, dtypes of the outputs.")
    for name, names in (("PLAIN", plain), ("METHODS", methods)):
        text += (
            f"\n{name} = frozenset(\n    {{\n"
            + "".join(f'        "{each}",\n' for each in sorted(names))
            + "    }\n)\n"
        )
    return text


if __name__ == "__main__":
    sys.stdout.write(generate())
