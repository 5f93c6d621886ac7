"""What is measured: one file a case, one function a case, written once against the API that both libraries have.

A case is a function of the library (`engine`, or `tensorflow.compat.v1`).  It prepares what it needs and returns either
``run``, which is called again and again and timed, or ``(setup, run)``: then each timed ``run(setup())`` gets a new `setup()`,
whose time is not counted.  What `run` returns is compared between the libraries before anything is measured.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A measured program; `title` is its row in the table."""

    name: str
    title: str
    prepare: Callable[[Any], Any]


_cases: dict[str, Case] = {}


def case(title: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Decorator: the function is a case, named as it is."""

    def register(prepare: Callable[[Any], Any]) -> Callable[[Any], Any]:
        name = prepare.__name__
        _cases[name] = Case(name, title, prepare)
        return prepare

    return register


def all_cases() -> dict[str, Case]:
    """Every case of this folder by name, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_cases.items()))
