"""Queries: answers to what a front end asks for as data.  Each kind is a row of `KINDS`.

``rows``: lines of the history; with a row as `text`, those around it, in pages of `count`.  ``live``: the last `count` lines of a
step that runs, and what executes now.  ``marks``: what is remarkable in it.
``execution``: execution `start` in full.  ``ready``: number `start` of what is ready.  ``node``: node `text`.  ``ask``: the
answer to `text` (why …, origin …, races, races show N, explore …) as data.  ``names``: nodes, tensors and resources that go on
from `text`.  ``check``: whether ``set`` would take `text`, changing nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from viz.schedule_model import ExplorationView, RaceList
from workbench.debugger import asking, changing, details, looking, scheduling, source
from workbench.debugger.breakpoints import BreakpointError
from workbench.debugger.command import CommandError
from workbench.debugger.pages import MAX_FOLDS, MAX_NAMES, MAX_QUERY, DetailView, Page, Query
from workbench.debugger.paging import Paging
from workbench.debugger.snapshot import SourceView
from workbench.debugger.stepping import Stepping

if TYPE_CHECKING:
    from workbench.debugger.core import Debugger

_MAX_NUMBER = 1 << 53

Answerer = Callable[["Debugger", Paging, Query], Page]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of query; `anytime`: it may be answered while the step runs."""

    answer: Answerer
    anytime: bool = False


def answer(debugger: Debugger, paging: Paging, query: Query) -> Page:
    """The answer to a query; whatever is wrong with it is said in the page."""
    try:
        kind = check(query)
        return replace(kind.answer(debugger, paging, query), id=query.id)
    except (CommandError, BreakpointError) as error:
        return Page(query.id, False, str(error))


def check(query: Query) -> Kind:
    """The kind of a query.  Raises CommandError for one that makes no sense."""
    kind = KINDS.get(query.kind)
    if kind is None:
        raise CommandError(f"'{query.kind:.40}' is no kind of query; kinds are {', '.join(KINDS)}")
    if len(query.text) > MAX_QUERY or len(query.folds) > MAX_FOLDS:
        raise CommandError("the query is too long")
    if not (0 <= query.start < _MAX_NUMBER and 0 <= query.count < _MAX_NUMBER):
        raise CommandError("a query's numbers begin at 0")
    return kind


def _rows(debugger: Debugger, paging: Paging, query: Query) -> Page:
    stepping = looking.stepping_of(debugger)
    if query.text and not (query.text.isdecimal() and len(query.text) < 16):
        raise CommandError(f"'{query.text:.40}' is not the number of an execution")
    row = int(query.text) if query.text else -1
    return paging.page(stepping, query.start, query.count, query.folds, query.edition, row)


def _live(debugger: Debugger, paging: Paging, query: Query) -> Page:
    return paging.live(looking.stepping_of(debugger), query.count, query.folds, query.edition)


def _marks(debugger: Debugger, paging: Paging, query: Query) -> Page:
    return paging.marks(looking.stepping_of(debugger), query.count)


def _execution(debugger: Debugger, paging: Paging, query: Query) -> Page:
    stepping = looking.stepping_of(debugger)
    return _detail(details.executed(stepping, debugger.summaries, query.start, _run(debugger, stepping)))


def _ready(debugger: Debugger, paging: Paging, query: Query) -> Page:
    stepping = looking.stepping_of(debugger)
    return _detail(details.ready(stepping, debugger.summaries, query.start, _run(debugger, stepping)))


def _node(debugger: Debugger, paging: Paging, query: Query) -> Page:
    stepping = looking.stepping_of(debugger)
    return _detail(details.node(stepping, debugger.summaries, query.text, _run(debugger, stepping)))


def _detail(found: DetailView) -> Page:
    return Page(0, True, detail=found)


def _run(debugger: Debugger, stepping: Stepping) -> SourceView | None:
    return source.view(debugger.run_site(stepping))


def _ask(debugger: Debugger, paging: Paging, query: Query) -> Page:
    if query.text.partition(" ")[0] not in scheduling.TOLD:
        return Page(0, True, reasoning=asking.ask(debugger, query.text))
    told = scheduling.tell(debugger, query.text)
    if isinstance(told, RaceList):
        return Page(0, True, races=told)
    if isinstance(told, ExplorationView):
        return Page(0, True, exploration=told)
    return Page(0, True, shown=told)


def _names(debugger: Debugger, paging: Paging, query: Query) -> Page:
    stepping = looking.stepping_of(debugger)
    by_name = stepping.step.program.by_name
    node, colon, _ = query.text.partition(":")
    if colon and node in by_name:
        outputs = range(min(by_name[node].n_outputs, MAX_NAMES))
        found = [f"{node}:{slot}" for slot in outputs if f"{node}:{slot}".startswith(query.text)]
        return Page(0, True, names=tuple(found))
    known = sorted({*by_name, *(each.name for each in stepping.step.resources)})
    low = query.text.lower()
    begin = [name for name in known if name.lower().startswith(low)]
    rest = [name for name in known if low in name.lower() and not name.lower().startswith(low)]
    return Page(0, True, names=tuple([*begin, *rest][:MAX_NAMES]))


def _check(debugger: Debugger, paging: Paging, query: Query) -> Page:
    return Page(0, True, changing.check(debugger, query.text))


KINDS: dict[str, Kind] = {
    "rows": Kind(_rows, anytime=True),
    "live": Kind(_live, anytime=True),
    "marks": Kind(_marks, anytime=True),
    "execution": Kind(_execution),
    "ready": Kind(_ready),
    "node": Kind(_node),
    "ask": Kind(_ask),
    "names": Kind(_names),
    "check": Kind(_check),
}
