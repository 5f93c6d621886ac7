"""Measuring a case: comparing results first, then batches of calls that alternate between the libraries."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cases import Case

from harness.library import Library, LibraryError

MOST_ROUNDS, FEWEST_ROUNDS = 15, 3
WARMING = 0.15
"""The part of a case's time that goes into warming up."""

Runners = Mapping[str, tuple[Library, str]]
"""Who runs which case in a row: "ours", "theirs", "torch", "jax" → (library, name of the case)."""


@dataclass
class Row:
    """One case's outcome.

    times: seconds a call in each round, by who ran it ("ours", "theirs", "torch", "jax").
    problems: why somebody has no times.
    """

    name: str
    title: str
    target: float | None = None
    times: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def seconds(self, who: str) -> float | None:
        """The median over the rounds."""
        return statistics.median(self.times[who]) if self.times.get(who) else None

    def ratios(self, other: str = "theirs") -> list[float]:
        """Ours ÷ the other's, round by round."""
        return [a / b for a, b in zip(self.times.get("ours", []), self.times.get(other, []), strict=False)]

    def ratio(self, other: str = "theirs") -> float | None:
        """The median of `ratios`; None where one of the two could not run."""
        found = self.ratios(other)
        return statistics.median(found) if found else None

    def quartiles(self) -> tuple[float, float] | None:
        """The quartiles of ours ÷ theirs."""
        found = self.ratios()
        if len(found) < 2:
            return None
        low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        return low, high

    def met(self) -> bool | None:
        """Whether ours ÷ theirs is within the target; None without a target.  What can't run has not met it."""
        if self.target is None:
            return None
        ratio = self.ratio()
        return ratio is not None and ratio <= self.target and not self.problems.get("ours")


def difference(case: Case, ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """How two answers to `prepare` disagree, in words; None if they do not."""
    if ours["shape"] != theirs["shape"]:
        return f"results differ in shape: {ours['shape'][1:]} against {theirs['shape'][1:]}"
    mine, other = np.asarray(ours["values"]), np.asarray(theirs["values"])
    # The last value is the sum of all: its rounding errors are as many as there are values.
    scale = np.ones_like(other)
    scale[-1] = max(1.0, float(np.prod(theirs["shape"])) ** 0.5)
    allowed = case.atol * scale + case.rtol * np.abs(other)
    wrong = ~(np.abs(mine - other) <= allowed)
    if not wrong.any():
        return None
    first = int(wrong.argmax())
    return f"results differ: {mine[first]:.8g} against {other[first]:.8g} (value {first} of {len(other)})"


def prepare(row: Row, case: Case, runners: Runners) -> dict[str, tuple[Library, str]]:
    """Make everybody ready; who fails, or computes something else than theirs, gets a problem.  Returns those who can run."""
    answers: dict[str, dict[str, Any]] = {}
    for who, (library, name) in runners.items():
        try:
            answers[who] = library.ask(prepare=name)
        except LibraryError as error:
            row.problems[who] = str(error)
    if "theirs" in answers:
        for who, answer in answers.items():
            found = difference(case, answer, answers["theirs"])
            if found:
                row.problems[who] = found
    return {who: runners[who] for who in answers if who not in row.problems}


def pace(library: Library, name: str, least: float) -> float:
    """Seconds a call on the wall, once calls have gone on for `least` seconds."""
    calls, spent = 1, 0.0
    while True:
        each = library.measure(name, calls)[1]
        spent += each * calls
        if spent >= least or calls >= 1 << 20:
            return each
        calls *= 2


def measure(case: Case, runners: Runners, budget: float, fewest: int = FEWEST_ROUNDS) -> Row:
    """Measure one case in about `budget` seconds: up to 15 rounds, in turns forwards and backwards through the libraries.

    Each gets the same share of the time.  Where one call takes longer than its share of a round, there are fewer rounds, but
    `fewest` at least: such a case takes longer than the budget.
    """
    row = Row(case.name, case.title, case.target)
    able = prepare(row, case, runners)
    share = budget / max(1, len(able))
    each: dict[str, float] = {}
    for who, (library, name) in able.items():
        try:
            each[who] = max(pace(library, name, share * WARMING), 1e-9)
        except LibraryError as error:
            row.problems[who] = str(error)
    batch = share * (1 - WARMING) / MOST_ROUNDS
    calls = {who: max(1, round(batch / seconds)) for who, seconds in each.items()}
    length = sum(calls[who] * seconds for who, seconds in each.items())
    rounds = max(fewest, min(MOST_ROUNDS, round(budget * (1 - WARMING) / max(length, 1e-9))))
    for i in range(rounds):
        for who in list(each)[:: 1 if i % 2 == 0 else -1]:
            library, name = able[who]
            try:
                row.times.setdefault(who, []).append(library.measure(name, calls[who])[0])
            except LibraryError as error:
                row.problems[who] = f"{error}, while it was measured"
                row.times.pop(who)
                each.pop(who)
    for who, (library, name) in runners.items():
        try:
            library.ask(forget=name)
        except LibraryError as error:
            row.problems.setdefault(who, f"{error}, afterwards")
    return row
