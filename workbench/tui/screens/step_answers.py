"""The Step screen's answers: questions, and what can be done with the races, orders and outcomes that they list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on

from viz.schedule_model import ExplorationView, OutcomeView, PairView, RaceList, ShownRace
from workbench.debugger.pages import Page, Query
from workbench.tui.screens.step_commands import StepCommands
from workbench.tui.widgets.step_tabs import AnswerRows, Told

KEPT = 30  # answers that can be gone back to


class StepAnswers(StepCommands):
    """Answers are kept, each with the step that it is about; the latest is on top."""

    def __init__(self) -> None:
        super().__init__()
        self._asking = ""  # the question that was asked last
        self._answers: list[tuple[Told, str]] = []

    def question(self, line: str, otherwise: str = "") -> None:
        """Ask, and show the answer as a list; `otherwise` is shown where there is none."""
        self._asking = line
        self.answered, self.answer_ok = line, True
        self.answer = otherwise or "…"
        self.show_console()

        def came(page: Page) -> None:
            if line != self._asking:
                return
            if page.ok and page.told is not None:
                self.answer = ""
                self.show_answer(page.told)
            else:
                self.answer, self.answer_ok = otherwise or page.text, bool(otherwise)
            self.show_console()

        self.ask_page(Query("ask", line), came)

    def show_answer(self, told: Told) -> None:
        """Show an answer on top of the others."""
        self._answers.append((told, self.step.title))
        del self._answers[:-KEPT]
        self._show_latest()

    def _show_latest(self) -> None:
        self.tabs.answer = self._answers[-1][0]
        if self.tabs.current != "answer":
            self.show_tab("answer")
        self.tabs.draw(self.step, self.palette, home=True)

    def answer_before(self) -> None:
        """Show the answer before the one that is shown."""
        if len(self._answers) < 2:
            self.app.notify("this is the first answer", timeout=2)
            return
        self._answers.pop()
        self._show_latest()

    # What a row offers.

    @on(AnswerRows.Wanted)
    def _wanted(self, message: AnswerRows.Wanted) -> None:
        message.stop()
        if message.what == "before":
            self.answer_before()
        elif message.what == "node":
            self._show_in_graph(message.key)
        elif self._answers:
            told, head = self._answers[-1][0], message.head
            if message.what == "both":
                self.side_by_side(told, head)
            elif message.what == "replay":
                self._replay_row(told, head)
            else:
                self._replay_order(told, head, int(message.what == "second"))

    def follow(self, key: Any) -> None:
        kind = key[0] if isinstance(key, tuple) else ""
        told = self.tabs.answer
        if kind in ("race", "outcome") and told is not None:
            self.side_by_side(told, key)
        elif kind == "order":
            schedules = _schedules(told)
            if schedules:
                self.ask(f"schedule replay {schedules[key[1]].schedule}")
        else:
            super().follow(key)

    def side_by_side(self, told: Told, head: Any) -> None:
        """Show both orders of the race, or the outcome beside the first one."""
        kind, number = head or ("", 0)
        if isinstance(told, RaceList) and kind == "race":
            self.question(f"races show {number}")
        elif isinstance(told, ExplorationView) and told.outcomes:
            if len(told.outcomes) < 2:
                self.app.notify("there is one outcome only", timeout=2)
                return
            chosen = number if kind == "outcome" and 0 < number < len(told.outcomes) else 1
            first, second = told.outcomes[0], told.outcomes[chosen]
            self.show_answer(PairView(first, second, (), second.differences, (1, chosen + 1)))
        else:
            self.app.notify("races (R) and schedules (X) can be laid side by side", timeout=3)

    def _replay_row(self, told: Told, head: Any) -> None:
        kind, number = head or ("", 0)
        if kind == "order":
            self._replay_order(told, head, number)
        elif kind == "outcome" and isinstance(told, ExplorationView) and number < len(told.outcomes):
            self.replay(told.outcomes[number].schedule)
        else:
            self.app.notify("( replays the first of two schedules, ) the second", timeout=3)

    def _replay_order(self, told: Told, head: Any, side: int) -> None:
        schedules = _schedules(told)
        if schedules:
            self.replay(schedules[side].schedule)
        elif isinstance(told, RaceList) and head is not None:
            # It is known once both have run.
            def came(page: Page) -> None:
                if page.ok and page.shown is not None:
                    self.show_answer(page.shown)
                    self.replay(_schedules(page.shown)[side].schedule)
                else:
                    self.answer, self.answer_ok, self.answered = page.text, False, f"races show {head[1]}"
                    self.show_console()

            self.ask_page(Query("ask", f"races show {head[1]}"), came)
        else:
            self.app.notify("here are no two schedules to choose from", timeout=2)

    def replay(self, schedule: str) -> None:
        """Let the step go by a schedule from here, or, where it has gone another way already, from its beginning."""
        line = f"schedule replay {schedule}"
        if not schedule:
            self.app.notify("the schedule is too long to be told", timeout=3)
            return
        title = self.step.title
        may_go_back = bool(self.step.executed) and bool(self._answers) and self._answers[-1][1] == title

        def replied(line: str, ok: bool, text: str) -> None:
            if ok or not may_go_back or self.step.title != title:
                self._replied(line, ok, text)
            else:
                self._send("e-", lambda _, ok, said: self._begun(line, ok, said or text))

        self._send(line, replied)

    def _begun(self, line: str, ok: bool, text: str) -> None:
        """The step stands at its beginning, if `ok`."""
        if ok:
            self._send(line, self._replied)
        else:
            self._replied(line, ok, text)

    def _show_in_graph(self, key: Any) -> None:
        node = key[2] if isinstance(key, tuple) and key[0] == "execution" else key
        if isinstance(node, str) and node:
            self.show_in_graph(node)
        else:
            self.app.notify("the line names no node", timeout=2)


def _schedules(told: Told | None) -> Sequence[OutcomeView]:
    """The two schedules that an answer is about; none if it is not about two."""
    if isinstance(told, ShownRace):
        return told.first.outcome, told.second.outcome
    pair = told.pair if isinstance(told, ExplorationView) else told
    return (pair.first, pair.second) if isinstance(pair, PairView) else ()
