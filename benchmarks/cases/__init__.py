"""What is measured: families of small programs, each written once against the API that both libraries have.

A case is a function of the library (`engine`, or `tensorflow.compat.v1`), and may have counterparts in PyTorch and JAX, which are
functions of `torch` and of `jax`:

    @case("Session.run of one scalar add with a feed", target=0.06)
    def scalar_feed(tf): ...

    @scalar_feed.counterpart("torch")
    def _(torch): ...

Such a function prepares what it needs and returns ``run``, which is called again and again and timed; or ``(setup, run)``: then
each timed ``run(setup())`` gets a new `setup()`, whose time is not counted; or a `Prepared`.  What the first runs return is
compared between the libraries before anything is measured.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

ENGINES = ("engine", "tensorflow")
"""The libraries that run the case itself; the others run counterparts."""


@dataclass(frozen=True)
class Prepared:
    """A case that is ready.

    setup: gives each run its argument, and is not timed.
    around: makes a context that encloses a batch of runs.  It is not timed, nor is a first run in it, which may do what is done
        once: a recorder writes the graph down.
    """

    run: Callable[..., Any]
    setup: Callable[[], Any] | None = None
    around: Callable[[], AbstractContextManager[Any]] | None = None


Prepare = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """A measured program.

    title: its row in the table.
    target: what ours ÷ TensorFlow shall not exceed, or None.
    checks: the results of how many first runs are compared: a training step shows in the next one's loss.
    rtol, atol: |ours - theirs| <= atol + rtol * |theirs|.
    against: the case that *ours* runs in place of TensorFlow: then the row is ours against ours.
    """

    name: str
    title: str
    prepare: Prepare
    target: float | None = None
    checks: int = 1
    rtol: float = 1e-4
    atol: float = 1e-5
    against: str | None = None
    counterparts: dict[str, Prepare] = field(default_factory=dict)

    def counterpart(self, library: str) -> Callable[[Prepare], Prepare]:
        """Decorator: the same program for `library`, "torch" or "jax"."""

        def register(prepare: Prepare) -> Prepare:
            self.counterparts[library] = prepare
            return prepare

        return register

    def runs_on(self, library: str) -> bool:
        return library in ENGINES or library in self.counterparts

    def prepared(self, library: str, module: Any) -> Prepared:
        """The case made ready for `library`, whose module is `module`; KeyError if it has no such counterpart."""
        made = (self.prepare if library in ENGINES else self.counterparts[library])(module)
        if isinstance(made, Prepared):
            return made
        if isinstance(made, tuple):
            return Prepared(made[1], made[0])
        return Prepared(made)


_cases: dict[str, Case] = {}


def case(title: str, **options: Any) -> Callable[[Prepare], Case]:
    """Decorator: the function is a case, named as it is; `options` are fields of `Case`."""

    def register(prepare: Prepare) -> Case:
        return add(Case(prepare.__name__, title, prepare, **options))

    return register


def add(new: Case) -> Case:
    """Put a case into the table."""
    if new.name in _cases:
        raise ValueError(f"there is a case '{new.name}' already")
    _cases[new.name] = new
    return new


FAMILIES = (
    "calls",
    "small_ops",
    "loops",
    "building",
    "dense",
    "convolution",
    "embedding",
    "transformer",
    "tracing_costs",
    "devices",
)
"""The files of this folder that hold cases, in the order of the table."""


def all_cases() -> dict[str, Case]:
    """Every case by name, in the order of the table."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__}.{family}")
    return dict(_cases)
