"""One execution in full, as the screen shows it: made leniently from the plain data of `workbench.debugger.pages.DetailView`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from viz.step_model import Activation, Source, Token, activation, source, token


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many finite elements lie in each of equal parts of ``[low, high]``."""

    counts: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output; `row` is the execution that made it, -1 where that is not known."""

    token: Token
    histogram: Histogram | None
    row: int
    tainted: str


@dataclass(frozen=True, slots=True)
class Detail:
    """An execution (`row`; -1: to come), what it took and what it gave; `state` is 'executed', 'next', 'ready' or 'waiting'."""

    row: int
    state: str
    activation: Activation
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    duration_ns: int
    effect: str
    change: str
    tainted: str
    writes: tuple[str, ...]
    lineage: str
    source: Source | None
    run_source: Source | None


def detail(data: Mapping[str, Any]) -> Detail | None:
    """The detail that plain data describes; None for none."""
    here = activation(data.get("activation")) if data else None
    if here is None:
        return None
    return Detail(
        row=int(data.get("row", -1)),
        state=str(data.get("state", "executed")),
        activation=here,
        inputs=tuple(_tensor(row) for row in data.get("inputs", ())),
        outputs=tuple(_tensor(row) for row in data.get("outputs", ())),
        duration_ns=int(data.get("duration_ns", 0)),
        effect=str(data.get("effect", "")),
        change=str(data.get("change", "")),
        tainted=str(data.get("tainted", "")),
        writes=tuple(map(str, data.get("writes", ()))),
        lineage=str(data.get("lineage", "")),
        source=source(data.get("source")),
        run_source=source(data.get("run_source")),
    )


def _tensor(row: Mapping[str, Any]) -> Tensor:
    data = row.get("token") or {}
    found = row.get("histogram")
    return Tensor(
        token(data),
        Histogram(tuple(found.get("counts", ())), float(found.get("low", 0)), float(found.get("high", 0)))
        if found
        else None,
        int(row.get("row", -1)),
        str(data.get("tainted", "")),
    )
