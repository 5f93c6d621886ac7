"""What the tests of the terminal app share: recorded runs, a stand-in for a script, and ways to read the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimizing import plain
from textual._compositor import Compositor
from textual._context import active_app, visible_screen_stack
from textual.app import App
from textual.message_pump import MessagePump
from textual.pilot import Pilot
from textual.screen import Screen

import engine as tf
import tracing
from workbench.debugger.pages import DetailView, MarkView, Page, Query, RowView, SpanView
from workbench.debugger.questions.reasoning import Reasoning
from workbench.debugger.snapshot import Snapshot, Status, from_dict

SIZES = [(80, 24), (120, 40)]
PATIENCE = 60.0  # seconds: nothing takes so long, unless something is broken


def _pumps(app: App[Any]) -> Iterator[MessagePump]:
    yield app
    for each in app.screen_stack:
        yield from each.walk_children(with_self=True)


def _busy(app: App[Any]) -> bool:
    """Whether there is something to be done that no clock has to bring about."""
    return (
        any(pump._message_queue.qsize() or pump._next_callbacks for pump in _pumps(app))
        or any(not worker.is_finished for worker in app.workers)
        or any(each._callbacks for each in app.screen_stack)
    )


async def settled(_min_sleep: float = 0.0, _max_sleep: float = 0.0) -> None:
    """Wait until the app has done all that it was asked for, reading included, and drawn it.

    Textual's own waits until the process uses little time, for a second at most, which it cannot tell on a busy machine.
    """
    app = active_app.get()
    end = time.monotonic() + PATIENCE
    quiet = 0
    while quiet < 2 and app.is_running and app._exception is None:
        for _ in range(3):  # what comes from another thread, or from the driver, is on its way to a queue
            await asyncio.sleep(0)
        await Pilot(app)._wait_for_screen(PATIENCE)
        if app.screen_stack:
            app.screen._on_timer_update()  # what waits for the next picture need not wait for its time
        quiet = 0 if _busy(app) else quiet + 1
        if any(not worker.is_finished for worker in app.workers):
            await asyncio.sleep(0.001)
        assert time.monotonic() < end, "the app does not come to rest"


@pytest.fixture(autouse=True)
def _settle_instead_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and pauses go on as soon as the app has come to rest, and not before."""
    monkeypatch.setattr("textual.app.wait_for_idle", settled)
    monkeypatch.setattr("textual.pilot.wait_for_idle", settled)


@pytest.fixture(autouse=True)
def _draw_only_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual draws every change and then, without a terminal, throws it away; `rows_of` draws the whole screen.

    Changes that are drawn: in the terminal of test_terminal.py.
    """

    def update(self: Compositor, full: bool = False, screen_stack: list[Screen[Any]] | None = None) -> None:
        visible_screen_stack.set(screen_stack or [])
        self._dirty_regions.clear()

    monkeypatch.setattr(Compositor, "render_update", update)


def train(logdir: Path, name: str, steps: int, error: BaseException | None = None) -> Path:
    """Record a small training with scopes, gradients and a loop; gives the run directory."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default():
        with tf.name_scope("input"):
            x = tf.placeholder(tf.float32, [None, 8], name="x")
            t = tf.placeholder(tf.float32, [None, 3], name="t")
        with tf.name_scope("dense"):
            w = tf.Variable(tf.zeros([8, 3]), name="w")
            y = tf.matmul(x, w, name="matmul")
        with tf.name_scope("loss"):
            loss = tf.reduce_mean(tf.square(y - t), name="mean")
        with tf.name_scope("rate"):
            _, rate = tf.while_loop(
                lambda i, r: i < 3, lambda i, r: (i + 1, r * 0.9), [tf.constant(0), tf.constant(0.1)]
            )
        (gradient,) = tf.gradients(loss, [w])
        with tf.name_scope("train"):
            update = tf.assign_sub(w, rate * gradient, name="update")
        init = tf.global_variables_initializer()
        recorder = tracing.start(logdir, name=name, tensorboard=False)
        with tf.Session(config=plain()) as session:
            session.run(init)
            for step in range(steps):
                batch = rng.normal(size=(4, 8)).astype(np.float32)
                value, _ = session.run([loss, update], {x: batch, t: batch[:, :3]})
                tracing.scalar("loss", float(value), step)
        tracing.stop(error)
        return recorder.path


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """`train(logdir, name, steps, error)`."""
    return train


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log directory with a run of seven steps, `mnist`, and one that failed, `crash`."""
    logdir = tmp_path_factory.mktemp("runs")
    crash = train(logdir, "crash", 2, RuntimeError("the disk is full"))
    # Directories are sorted by the second in their name, and the next one may be made in the same.
    crash.rename(crash.with_name("2026-01-01_00-00-00" + crash.name[len("2026-01-01_00-00-00") :]))
    train(logdir, "mnist", 6)
    return logdir


@pytest.fixture(scope="session")
def mnist(runs: Path) -> Path:
    """The run of seven steps."""
    return next(path for path in runs.iterdir() if "mnist" in path.name)


def rows_of(app: App[Any]) -> list[str]:
    """What is on the screen, row by row."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


@pytest.fixture(scope="session")
def screen() -> Callable[[App[Any]], list[str]]:
    """`rows_of(app)`."""
    return rows_of


@pytest.fixture(scope="session")
def until() -> Callable[..., Awaitable[None]]:
    """`until(pilot, condition)` waits until `condition()` is true, or all of the given words are on the screen."""

    async def wait(pilot: Pilot[Any], condition: Callable[[], bool] | Sequence[str]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            await pilot.pause(0.02)
            if pilot.app._exception is not None:
                raise pilot.app._exception
            text = "\n".join(rows_of(pilot.app))
            if condition() if callable(condition) else all(word in text for word in condition):
                return
            assert time.monotonic() < end, f"{condition} has not come:\n{text}"

    return wait


@pytest.fixture(scope="session")
def find() -> Callable[[App[Any], str], tuple[int, int]]:
    """`find(app, text)` gives the column and row of the first place where `text` stands on the screen."""

    def place(app: App[Any], text: str) -> tuple[int, int]:
        rows = rows_of(app)
        for y, row in enumerate(rows):
            if text in row:
                return row.index(text), y
        raise AssertionError(f"{text!r} is not on the screen:\n" + "\n".join(rows))

    return place


class FakeChild:
    """A script that does what the test says."""

    def __init__(self, run_path: Path | None = None) -> None:
        self.code: int | None = None
        self.output = "loading\n"
        self.run_path = run_path
        self.terminated = 0

    def poll(self) -> int | None:
        return self.code

    def output_tail(self, limit: int = 8192) -> str:
        return self.output[-limit:]

    def terminate(self) -> int:
        self.terminated += 1
        self.code = self.code if self.code is not None else -15
        return self.code


@dataclass(frozen=True)
class FakeReply:
    ok: bool
    text: str


ACTIVATION = {"type": "Add", "device": "", "frame": 0, "path": "root", "iteration": 0}


class FakeDebug(FakeChild):
    """A script under a debugger: it keeps what it was told, and answers.

    Its history has the rows of `row_at`, as many as `executed` says.  `answers` are for commands, `reasonings` for questions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.agent_pid = 0
        self.queries: list[tuple[str, str, int, int]] = []
        self.reasonings: dict[str, Reasoning] = {}
        self.told: dict[str, Page] = {}  # answers that are no reasonings
        self.details: dict[tuple[str, int], DetailView] = {}
        self.names = ("while/add", "while/add_1", "w", "loss")
        self.marks: tuple[MarkView, ...] = ()
        self.spans: tuple[SpanView, ...] = ()
        self.edition = 1
        self.held: list[tuple[Future[Page], Page]] | None = None  # answers that are held back
        self.lines: list[str] = []
        self.answers: dict[str, FakeReply] = {}
        self._snapshot = from_dict(
            {
                "serial": 1,
                "status": "stopped",
                "script": "train.py",
                "reason": "Session.run begins",
                "step": {
                    "id": 1, "session": 1, "step": 1, "stage": "pruned", "nodes": 9,
                    "fetches": ["y:0"], "feeds": [], "targets": [],
                },
                "ready": [
                    {"index": i, "activation": {**ACTIVATION, "node": name}} for i, name in enumerate("abc")
                ],
                "ready_count": 3,
                "next": {**ACTIVATION, "node": "a"},
                "frames": [
                    {"id": 0, "name": "", "path": "root", "parent": -1, "parent_iteration": 0, "live": True,
                     "iterations": [{"number": 0, "ready": 3, "waiting": 1}]},
                ],
                "waiting": [
                    {
                        "activation": {**ACTIVATION, "node": "sum"},
                        "inputs": [
                            {"slot": 0, "name": "left:0", "state": "dead"},
                            {"slot": 1, "name": "right:0", "state": "missing"},
                        ],
                    }
                ],
                "waiting_count": 1,
                "source": {
                    "file": "train.py", "line": 3, "function": "<module>", "first": 1,
                    "lines": ["import engine as tf", "", "y = tf.add(a, b)", "print(y)"],
                },
            }
        )  # fmt: skip

    @property
    def snapshot(self) -> Snapshot:
        return replace(self._snapshot, output=self.output)

    def change(self, **fields: Any) -> None:
        """Send another snapshot."""
        self._snapshot = replace(self._snapshot, serial=self._snapshot.serial + 1, **fields)

    def send(self, line: str) -> Future[FakeReply]:
        self.lines.append(line)
        future: Future[FakeReply] = Future()
        if line == "n" and self._snapshot.status is Status.STOPPED:
            ready = tuple(replace(row, index=row.index - 1) for row in self._snapshot.ready[1:])
            self.change(
                ready=ready, ready_count=len(ready), next=ready[0].activation if ready else None, reason=""
            )
        future.set_result(self.answers.get(line, FakeReply(True, "")))
        return future

    def row_at(self, row: int) -> RowView:
        """A row of the history: those that are there, else one out of a loop of ten nodes an iteration."""
        known = next((each for each in self._snapshot.history if each.row == row), None)
        if known is not None:
            here = known.activation
            return RowView(
                row,
                here.node,
                here.type,
                here.path,
                dead=here.dead,
                tainted=known.tainted,
                change=known.change,
            )
        number = row // 10
        return RowView(
            row, f"while/node_{row % 10}", "Add", f"root > while:{number}", lane=1, iteration=number, loop="while/frame",
            text=f"float32[] {row}", dead=row % 10 == 7, bad=row % 1000 == 999,
        )  # fmt: skip

    def query(self, query: Query) -> Future[Page]:
        self.queries.append((query.kind, query.text, query.start, query.count))
        future: Future[Page] = Future()
        page = self._page(query.kind, query.text, query.start, query.count, query.folds)
        if self.held is None:
            future.set_result(page)
        else:
            self.held.append((future, page))
        return future

    def _page(self, kind: str, text: str, start: int, count: int, folds: Sequence[str]) -> Page:
        executed, first = self._snapshot.executed, self._snapshot.first_row
        if kind == "rows":
            lines = executed - first
            start = (int(text) - first) // count * count if text else start
            rows = tuple(self.row_at(first + line) for line in range(start, min(lines, start + count)))
            if folds:
                lines = (lines + 9) // 10
                start = int(text) // 10 // count * count if text else start
                rows = tuple(
                    replace(self.row_at(line * 10), count=min(10, executed - line * 10))
                    for line in range(start, min(lines, start + count))
                )
            lanes = 2 if self.spans else 1
            return Page(
                0, True, start=start, lines=lines, first_row=first, executed=executed, edition=self.edition, lanes=lanes,
                devices=("",), rows=rows, spans=self.spans, stable=lines,
            )  # fmt: skip
        if kind == "marks":
            return Page(0, True, executed=executed, marks=self.marks)
        if kind == "ask":
            told = self.told.get(text)
            if told is not None:
                return told
            found = self.reasonings.get(text)
            return Page(0, found is not None, "" if found else "nothing is known of that", reasoning=found)
        if kind == "names":
            return Page(0, True, names=tuple(name for name in self.names if text in name))
        if kind == "check":
            ok = "1" in text
            return Page(0, ok, "float32[] 1.0" if ok else "it is float32, and the value is strings")
        detail = self.details.get((kind, start))
        return Page(0, detail is not None, "", detail=detail)


@pytest.fixture
def child() -> FakeChild:
    return FakeChild()


@pytest.fixture
def debug() -> FakeDebug:
    return FakeDebug()


@pytest.fixture
def reply() -> type[FakeReply]:
    return FakeReply
