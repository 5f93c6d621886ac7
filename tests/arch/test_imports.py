"""Imports run one way and heavy libraries wait until somebody needs them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine", "tracing", "viz", "workbench")

# What a package must not import when it is itself imported, only inside the function that needs it.
LAZY = {
    "engine": (
        "cupy",
        "google",
        "llvmlite",
        "plotly",
        "scipy",
        "sklearn",
        "tensorboard",
        "tensorboardX",
        "textual",
    ),
    "tracing": ("cupy", "plotly", "scipy", "sklearn", "textual"),
    "viz": ("cupy", "plotly", "scipy", "sklearn", "tensorboard", "tensorboardX", "textual"),
    "workbench": ("cupy", "plotly", "scipy", "sklearn", "tensorboard", "tensorboardX"),
}


def test_the_contracts_of_import_linter_hold() -> None:
    """Runs what `lint-imports` runs, on the contracts in pyproject.toml."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


class Imports(NamedTuple):
    """What a file imports, with lines."""

    at_load: tuple[tuple[int, str], ...]
    relative: tuple[int, ...]


@cache
def imports(package: str) -> dict[Path, Imports]:
    """The imports of a package's files.  Their trees are let go of: they would slow down each later garbage collection."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        relative = (node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level)
        found[path] = Imports(tuple(imported_at_load(tree)), tuple(relative))
    return found


def imported_at_load(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The modules that are imported when a file is, with their lines; `if TYPE_CHECKING:` and functions don't count."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.If(
                test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=orelse
            ):
                waiting.extend(orelse)
                continue
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield node.lineno, module
        waiting.extend(ast.iter_child_nodes(node))


def early_imports(package: str) -> list[str]:
    found = []
    for path, each in imports(package).items():
        for line, module in each.at_load:
            if module.partition(".")[0] in LAZY[package]:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_heavy_libraries_are_imported_where_they_are_used(package: str) -> None:
    assert early_imports(package) == []


def test_the_check_itself_sees_what_it_should() -> None:
    source = """
import cupy
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import plotly
else:
    import llvmlite
try:
    from tensorboard.compat import proto
except ImportError:
    pass
class A:
    import sklearn
    def f(self):
        import scipy
"""
    found = {module for _, module in imported_at_load(ast.parse(source))}
    assert found == {"cupy", "typing", "llvmlite", "tensorboard.compat", "sklearn"}


def test_no_relative_imports() -> None:
    """A full name says where a thing lives."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path, each in imports(package).items()
        for line in each.relative
    ]
    assert found == []
