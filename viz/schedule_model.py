"""Races and explorations as data: what the debugger finds about the order of a step's nodes.

Plain dataclasses of strings, numbers and tuples, so that they travel as they are, are drawn in a terminal
(`viz.draw_schedule`) and in a notebook (`viz.schedule_html`), and are said in words, which `text()` gives.  All of it is bounded
by the `MAX_*` constants, however much was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from viz.format import plural

MAX_RACES = 100
MAX_VALUES = 60  # of one outcome, and differences of two
MAX_OUTCOMES = 40
MAX_SCHEDULE = 60_000  # characters; a longer one is not told
MAX_OUTSIDE = 20  # nodes with effects outside of the engine
MAX_CODE = 120  # characters of a line of the user's
_LINES = 12  # of one outcome in words
_SHORT_LINES = 6  # of one among several
_OUTCOMES = 10  # in words

NO_RACES = (
    "no races: any two accesses to one resource, at least one a write, are ordered or exclude each other"
)
ADDS = "both add: the sum at the end is the same but for rounding, what is read between is not"


@dataclass(frozen=True, slots=True)
class AccessView:
    """One of the two accesses of a race.

    - `access` is what it does, as a verb (``reads``, ``writes``, ``updates``, ``adds to``), and `writes` whether that changes it.
    - `frame` is the name of the frame it belongs to, empty for the root.
    - `row` is the number of its latest execution in the step's history, in the frame and iteration `place` (``root > while:3``),
      which is iteration `iteration` of its frame; -1, empty and -1 while it has not executed.
    - `file`, `line` and `code` are the user's line that made it, `where` the same in short (``model.py:12``); 0 and empty if the
      engine made it.
    """

    node: str
    type: str = ""
    access: str = "reads"
    writes: bool = False
    device: str = ""
    frame: str = ""
    place: str = ""
    iteration: int = -1
    row: int = -1
    file: str = ""
    line: int = 0
    where: str = ""
    code: str = ""

    def text(self) -> str:
        """What it is, where it runs, and the line that made it."""
        place = f"{self.where}  {self.code}".rstrip() if self.where else "made by the engine"
        device = f"  on {self.device}" if self.device else ""
        return f"{self.node} ({self.type}){device}  {place}"


@dataclass(frozen=True, slots=True)
class RaceView:
    """Two accesses to `resource`, a `kind` (``variable``, ``stack``, ``queue`` …), of which no path says which is first.

    - `distance`: in how many iterations of `loop` the second comes after the first; 0 in the same, or outside of loops.
    - `why`: sentences that say why nothing orders them, and what would.
    - `adds`: both add to what is there.
    """

    number: int
    resource: str
    kind: str
    first: AccessView
    second: AccessView
    loop: str = ""
    distance: int = 0
    why: tuple[str, ...] = ()
    adds: bool = False

    @property
    def sentence(self) -> str:
        """The race in one sentence."""
        a, b = self.first, self.second
        other = f"{b.node} in a later iteration" if self.distance else b.node
        return f"{a.node} {a.access} and {other} {b.access} the {self.kind} '{self.resource}'"

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said of it, a sentence each: why nothing orders them, what would, that both add."""
        return (*self.why, ADDS) if self.adds else self.why

    def text(self) -> str:
        """The sentence, the accesses and why: a line each."""
        lines = [f"{self.number}. {self.sentence}"]
        lines += [f"     {each.text()}" for each in dict.fromkeys((self.first, self.second))]
        lines += [f"     {each}" for each in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class RaceList:
    """The races of a step's graph; of `count` in all, the first `MAX_RACES` are there."""

    races: tuple[RaceView, ...] = ()
    count: int = 0

    def text(self) -> str:
        """The list in words."""
        if not self.races:
            return NO_RACES
        lines = [plural(self.count, "race"), *(race.text() for race in self.races)]
        if self.count > len(self.races):
            lines.append(f"… and {self.count - len(self.races)} more")
        return "\n".join([*lines, "races show N runs number N in both orders"])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from viz import schedule_html

        return schedule_html.races(self)


@dataclass(frozen=True, slots=True)
class Result:
    """What one fetch gave (`fetched`), or what a step left in a resource, in a few characters."""

    name: str
    value: str
    fetched: bool = False

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A fetch or a resource of which two schedules left different values; without a `name`, how they ended."""

    name: str
    first: str
    second: str
    fetched: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.first} | {self.second}" if self.name else f"{self.first} | {self.second}"


@dataclass(frozen=True, slots=True)
class OutcomeView:
    """What a schedule comes to.

    - `schedule` is it as a string, as ``schedule replay`` takes it; the shortest that was found of `count` that come to the same.
    - `results` are what was fetched and what was changed; `omitted` more are left out.
    - `error` is what ended the step instead, `stuck` who waits at its end for what does not come; both empty if all went well.
    - `differences`: what else comes of it than of the first of the outcomes that it is told with.
    """

    schedule: str
    results: tuple[Result, ...] = ()
    omitted: int = 0
    error: str = ""
    stuck: str = ""
    count: int = 1
    differences: tuple[Difference, ...] = ()

    def lines(self, most: int = _LINES) -> list[str]:
        """What comes of it, in at most `most` lines."""
        if self.error:
            return [self.error]
        return _some([*([self.stuck] if self.stuck else []), *map(str, self.results)], most, self.omitted)


@dataclass(frozen=True, slots=True)
class OrderView:
    """A race's accesses in one order: node `early` before node `late`.  `why_not` says why it could not be had, if so."""

    early: str
    late: str
    outcome: OutcomeView
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class ShownRace:
    """A race that was run in both orders; `differences` is empty if these come to the same, bit for bit.

    `outside` are nodes whose effects outside of the engine happened each time.
    """

    race: RaceView
    first: OrderView
    second: OrderView
    differences: tuple[Difference, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def both(self) -> bool:
        """Whether both orders could be had."""
        return not (self.first.why_not or self.second.why_not)

    @property
    def verdict(self) -> str:
        """What comes of it, in one sentence."""
        if not self.both:
            return "in this step, from here, only one order can be had"
        if not self.differences:
            return "both orders come to the same, bit for bit, in this step"
        return "the results differ:"

    @property
    def heads(self) -> tuple[str, str]:
        """The two orders in words."""
        later = " (of a later iteration)" if self.race.distance else ""
        first, second = self.race.first.node, self.race.second.node
        return f"{first}, then {second}{later}", f"{second}{later}, then {first}"

    def text(self) -> str:
        """Both orders in words: their schedules, what they come to, how they differ."""
        lines = [self.race.sentence]
        for head, order in zip(self.heads, (self.first, self.second), strict=True):
            lines.append(f"  {head}: {_replay(order.outcome)}")
            if order.why_not:
                lines.append(f"    not this order: {order.why_not}")
            lines += [f"    {line}" for line in order.outcome.lines()]
        lines.append(f"  {self.verdict}")
        if self.both:
            lines += [f"    {line}" for line in _some(self.differences, _LINES)]
        return "\n".join([*lines, *repeated(self.outside[:_SHORT_LINES])])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from viz import schedule_html

        return schedule_html.shown(self)


@dataclass(frozen=True, slots=True)
class PairView:
    """Two schedules that come to different outcomes.

    `swapped` are the two nodes in whose order alone they differ, as the first schedule has them, in these `iterations`; empty if
    no such pair was found.  `numbers` are those of the two outcomes, if they were chosen from an exploration.
    """

    first: OutcomeView
    second: OutcomeView
    swapped: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    numbers: tuple[int, ...] = ()
    iterations: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """In what they differ."""
        if len(self.numbers) == 2:
            return f"outcomes {self.numbers[0]} and {self.numbers[1]}"
        if len(self.swapped) == 2:
            one, two = self.names
            return f"the smallest difference: {one} before {two}, or {two} before {one}"
        return "the nearest two that differ:"

    @property
    def names(self) -> tuple[str, ...]:
        """What is swapped; two executions of one node are told apart by their iterations."""
        if len(set(self.swapped)) == 1 and len(self.iterations) == len(self.swapped):
            return tuple(f"{n} of iteration {i}" for n, i in zip(self.swapped, self.iterations, strict=True))
        return self.swapped

    def lines(self) -> list[str]:
        """The pair in words."""
        schedules = [f"  {_replay(each)}" for each in (self.first, self.second)]
        return [self.sentence, *schedules, *(f"    {line}" for line in _some(self.differences, _LINES))]


@dataclass(frozen=True, slots=True)
class ExplorationView:
    """What came of running the schedules of a step that can differ.

    - `outcomes` are the classes of schedules that come to the same, `outcome_count` how many there are.
    - `explored` schedules were run, `pruned` given up because they were known; `complete` says that all are covered, otherwise
      the bound (`limit` schedules, or a time) was reached with at least `pending` to come.
    - `orders`: in how many orders the accesses can run, nothing reduced; 0 if they are not counted (too many, or some
      have to wait for a queue).
    - `accesses` touch resources in one execution of the step; `executions` nodes were executed in all, in `seconds`.
    """

    outcomes: tuple[OutcomeView, ...] = ()
    outcome_count: int = 0
    explored: int = 0
    pruned: int = 0
    complete: bool = True
    pending: int = 0
    limit: int = 0
    orders: int = 0
    accesses: int = 0
    executions: int = 0
    seconds: float = 0.0
    pair: PairView | None = None
    outside: tuple[str, ...] = ()

    @property
    def agree(self) -> bool:
        """Whether all that was explored came to one outcome."""
        return self.outcome_count == 1

    @property
    def verdict(self) -> str:
        """What came of it, in one sentence."""
        if self.complete:
            scope = f"all {plural(self.orders, 'schedule')}" if self.orders else "all schedules"
            reduced = f"{plural(self.explored, 'schedule')} explored after reduction"
        else:
            scope = "all explored schedules"
            reduced = f"explored {self.explored:,} of at least {self.explored + self.pending:,}, then stopped"
        if not self.outcome_count:
            return f"not one schedule was done in time ({reduced})"
        if not self.agree:
            return f"{plural(self.outcome_count, 'outcome')} of {scope} ({reduced})"
        return "there is only one schedule" if self.orders == 1 else f"{scope} agree ({reduced})"

    @property
    def bound(self) -> str:
        """What is said where the bound was reached; empty where it was not."""
        if self.complete:
            return ""
        orders = f"{self.orders:,}" if self.orders else "not counted"
        return f"orders of the accesses alone: {orders}; explore LIMIT goes on further"

    @property
    def cost(self) -> str:
        """What it took."""
        return (
            f"{plural(self.accesses, 'access', 'accesses')} to resources, {plural(self.executions, 'execution')}, "
            f"{self.seconds:.2f} s"
        )

    def text(self) -> str:
        """The exploration in words."""
        lines = [self.verdict]
        if self.agree:
            lines += [f"  {line}" for each in self.outcomes for line in each.lines()]
        else:
            for each in self.outcomes[:_OUTCOMES]:
                lines.append(f"  {plural(each.count, 'time')}: {each.schedule}")
                lines += [f"      {line}" for line in each.lines(_SHORT_LINES)]
            if self.outcome_count > _OUTCOMES:
                lines.append(f"  … and {self.outcome_count - _OUTCOMES} more")
        if self.pair is not None:
            lines += self.pair.lines()
        if self.bound:
            lines.append(self.bound)
        return "\n".join([*lines, self.cost, *repeated(self.outside[:_SHORT_LINES])])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from viz import schedule_html

        return schedule_html.explored(self)


def table_of(
    first: OutcomeView, second: OutcomeView, differences: Sequence[Difference]
) -> list[tuple[str, str, str, bool]]:
    """Two outcomes side by side: (name, the first's, the second's, whether they differ) of each, what differs first."""
    rows = [(each.name or "the step", each.first, each.second, True) for each in differences]
    told = {each.name for each in differences}
    one, other = ({each.name: each.value for each in side.results} for side in (first, second))
    for side, (values, outcome) in enumerate(((one, first), (other, second))):
        end = outcome.error or outcome.stuck
        if end and "" not in told:  # one order could not be had, so that nothing was compared
            rows.append(("the step", "" if side else end, end if side else "", True))
        for name in values:
            if name not in told:
                told.add(name)
                rows.append((name, one.get(name, ""), other.get(name, ""), False))
    return rows


def _replay(outcome: OutcomeView) -> str:
    if not outcome.schedule:
        return "a schedule that is too long to be told"
    return f"schedule replay {outcome.schedule}"


def _some(lines: Sequence[object], most: int, omitted: int = 0) -> list[str]:
    """The first `most` of the lines, and how many more there are."""
    more = len(lines) - most
    if more > 0:
        omitted += more
    return [*map(str, lines[:most]), *([f"… and {omitted} more"] if omitted > 0 else [])]


def repeated(names: Sequence[str]) -> list[str]:
    """A sentence about nodes that were run again and again; none without names."""
    return [f"what these do outside of the engine, they did each time: {', '.join(names)}"] if names else []
