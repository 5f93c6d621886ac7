"""What an agent leaves out of what it sends is put back by the front end: defaults, and what the snapshot before had."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from workbench.debugger.pages import Page, RowView, SpanView
from workbench.debugger.plain import decode, encode, terse
from workbench.debugger.snapshot import (
    ActivationView,
    ExecutedView,
    Snapshot,
    Status,
    lengthened,
    shortened,
)

rows = st.builds(
    RowView,
    row=st.integers(0, 9),
    node=st.text(max_size=3),
    type=st.sampled_from(["Add", ""]),
    path=st.just("root"),
    lane=st.integers(-1, 3),
    dead=st.booleans(),
    duration_ns=st.integers(0, 1 << 40),
    count=st.integers(1, 3),
    peer=st.integers(-1, 2),
)


@given(st.lists(rows, max_size=5), st.integers(-1, 3), st.booleans())
def test_defaults_are_left_out_and_come_back(found: list[RowView], end: int, ok: bool) -> None:
    page = Page(1, ok, "", rows=tuple(found), spans=(SpanView(1, 2, 0, 3, end),), lanes=2)
    sent = json.loads(json.dumps(terse(page)))
    assert decode(Page, sent) == page == decode(Page, json.loads(json.dumps(encode(page))))
    assert len(json.dumps(sent)) <= len(json.dumps(encode(page)))


def test_a_line_is_sent_in_few_words() -> None:
    assert terse(RowView(3, "a", "Add", "root")) == {"row": 3, "node": "a", "type": "Add", "path": "root"}


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=12))
def test_histories_come_back_whatever_was_sent_before(stops: list[tuple[int, bool]]) -> None:
    """A step that goes on and back: the last few executions at each stop, some of which are others than they were."""
    known: list[ExecutedView] = []
    sent: tuple[ExecutedView, ...] = ()
    received: tuple[ExecutedView, ...] = ()
    for serial, (executed, again) in enumerate(stops):
        del known[executed if not again else min(executed, 2) :]
        while len(known) < executed:
            at = ActivationView(f"node_{serial}", "Add", "", 0, "root", 0)
            known.append(ExecutedView(len(known), at, ()))
        snapshot = Snapshot(serial, Status.STOPPED, "s.py", executed=executed, history=tuple(known[-5:]))
        short = shortened(snapshot, sent)
        sent = snapshot.history
        whole = lengthened(decode(Snapshot, json.loads(json.dumps(terse(short)))), received)
        received = whole.history
        assert whole == snapshot


def test_a_stop_after_one_more_node_sends_one() -> None:
    at = ActivationView("a", "Add", "", 0, "root", 0)
    views = tuple(ExecutedView(row, at, ()) for row in range(101))
    first, then = (
        Snapshot(serial, Status.STOPPED, "s.py", history=views[serial : serial + 100]) for serial in (0, 1)
    )
    short = shortened(then, first.history)
    assert [each.row for each in short.history] == [100] and short.repeated == 99
