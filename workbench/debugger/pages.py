"""What a front end may ask for beside commands: pages of the history, one execution in full, answers as data, names.

A `Query` is answered by one `Page` with the same `id`; which of the page's fields are filled depends on the query's `kind` (see
`workbench.debugger.queries`).  All of it is plain data and bounded by the `MAX_*` constants, however much is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from viz.schedule_model import ExplorationView, RaceList, ShownRace
from workbench.debugger.questions.reasoning import Reasoning
from workbench.debugger.snapshot import ActivationView, SourceView, TokenView

MAX_ROWS = 256  # lines of one page
MAX_SPANS = 256  # frames that a page tells of
MAX_BUCKETS = 500  # parts into which the history is divided for its marks
MAX_NAMES = 60
MAX_FOLDS = 64  # loops that are folded
MAX_BINS = 24  # of a histogram
MAX_QUERY = 4_096  # characters of a query's text
MAX_TOKENS = 60  # inputs, and outputs, of one execution


Told = Reasoning | RaceList | ShownRace | ExplorationView


@dataclass(frozen=True, slots=True)
class Query:
    """A request for data, of a `kind` that `workbench.debugger.queries` knows.

    `start` and `count` are the lines that are wanted, or a row; `folds` the loops (names of frames; ``*``: all) whose iterations
    are one line each; `edition` is that of the last page that the asker has seen.  `id` comes back in the page; who sends the
    query sets it (`DebugClient.query`).
    """

    kind: str
    text: str = ""
    start: int = 0
    count: int = 0
    folds: tuple[str, ...] = ()
    edition: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class RowView:
    """A line of the history: an execution, or (`count` > 1) so many in a row of one iteration of a loop that is folded.

    `lane` is the rail that it is on: that of its device in the root frame, else that of its frame.  `peer` is the other device of
    a transfer, -1 for none.  `loop` is its frame's
    name, empty in the root.  `text` has its first output in a few characters, and `bad` says that there is a NaN or infinity in
    it.  `writes` says that a variable was changed, `hit` that a breakpoint stopped there.  The rest as in `ExecutedView`.
    """

    row: int
    node: str
    type: str
    path: str
    lane: int = 0
    device: int = 0
    iteration: int = 0
    loop: str = ""
    dead: bool = False
    tainted: str = ""
    change: str = ""
    effect: str = ""
    text: str = ""
    duration_ns: int = 0
    bad: bool = False
    writes: bool = False
    hit: bool = False
    count: int = 1
    peer: int = -1


@dataclass(frozen=True, slots=True)
class SpanView:
    """A frame's stretch of the history, on rail `lane`, which leaves rail `parent`; `end` is -1 while it is open."""

    frame: int
    lane: int
    parent: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class MarkView:
    """Something remarkable at execution `row`; `kind` is 'hit' (a breakpoint), 'write', 'change' (by hand), or 'error'."""

    row: int
    kind: str


@dataclass(frozen=True, slots=True)
class HistogramView:
    """How many finite elements lie in each of equal parts of ``[low, high]``."""

    counts: tuple[int, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TensorView:
    """An input or output; `histogram` is None for one element and for what has no order, `row` is who made it (-1: not known)."""

    token: TokenView
    histogram: HistogramView | None = None
    row: int = -1


@dataclass(frozen=True, slots=True)
class DetailView:
    """A node's execution with all that it took and gave; `state` is 'executed', 'next', 'ready' or 'waiting'.

    `row` is -1 for what is still to come.  `writes` say what it changed (``w: 2.0 → 3.0``); `lineage` is where the node
    comes from among the stages; `source` is the user's line that made it, `run_source` the one that called `Session.run`.
    """

    row: int
    state: str
    activation: ActivationView
    inputs: tuple[TensorView, ...] = ()
    outputs: tuple[TensorView, ...] = ()
    duration_ns: int = 0
    effect: str = ""
    change: str = ""
    tainted: str = ""
    writes: tuple[str, ...] = ()
    lineage: str = ""
    source: SourceView | None = None
    run_source: SourceView | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to the query with the same `id`; if not `ok`, `text` says why there is none.

    - A history's `lines` in all, of which `rows` are those from `start` on; execution `first_row` is the first that is kept,
      `executed` counts all, `future` those that were taken back.  `stable` is the first line that may differ from what pages of
      the asker's `edition` said.
    - `now` is what executes while the step runs, for `now_ns` nanoseconds at least.
    - `lanes` counts the rails, of which the first are those of `devices`.
    - An answer is `reasoning`, or, to ``races``, ``races show N`` and ``explore``, `races`, `shown` and `exploration`; `told` is
      whichever is there.
    """

    id: int
    ok: bool
    text: str = ""
    start: int = 0
    lines: int = 0
    first_row: int = 0
    executed: int = 0
    future: int = 0
    edition: int = 0
    stable: int = 0
    lanes: int = 1
    devices: tuple[str, ...] = ()
    rows: tuple[RowView, ...] = ()
    spans: tuple[SpanView, ...] = ()
    marks: tuple[MarkView, ...] = ()
    detail: DetailView | None = None
    reasoning: Reasoning | None = None
    names: tuple[str, ...] = ()
    now: ActivationView | None = None
    now_ns: int = 0
    races: RaceList | None = None
    shown: ShownRace | None = None
    exploration: ExplorationView | None = None

    @property
    def told(self) -> Told | None:
        """The answer to a question; None if this is a page of something else."""
        return self.reasoning or self.races or self.shown or self.exploration
