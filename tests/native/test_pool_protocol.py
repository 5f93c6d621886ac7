"""How the pool's threads agree, explored: every order in which a caller's and two workers' steps on shared memory can fall.

The steps are those of `engine.native.pool_code`, one for each access.  Whatever the order: each chunk of each job runs once, with
the fields of its own job; a job ends when its chunks have; nobody sleeps for good.  The explorer itself is tested with mistakes
put into the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest

CLOSED = 99
Job = tuple[int, int]  # chunks, and workers that may join


class Ticket(NamedTuple):
    number: int = 0
    joined: int = 0
    next: int = 0


class Thread(NamedTuple):
    """Where a thread is, and its registers."""

    at: str
    ticket: Ticket = Ticket()
    chunks: int = 0
    done: int = 0
    seen: int = 0
    job: int = 0


@dataclass(frozen=True, slots=True)
class State:
    ticket: Ticket
    caller: Thread
    workers: tuple[Thread, ...]
    job: int = 0  # whose function and arguments are in the fields
    chunks: int = 0
    joiners: int = 0
    pending: int = 0
    waiting: bool = False
    sleepers: int = 0
    ran: tuple[tuple[int, int], ...] = ()  # (job, chunk), sorted


@dataclass(frozen=True)
class Protocol:
    jobs: tuple[Job, ...]
    closes: bool = True
    announces: bool = True


class Mistake(Exception):
    pass


def _claiming(state: State, me: Thread) -> tuple[State, Thread] | None:
    """The steps that callers and workers share: None if this is none of them."""
    if me.at == "work":
        left = state.ticket.next < me.chunks
        return state, me._replace(ticket=state.ticket, at="claim" if left else "subtract")
    if me.at == "claim":
        if state.ticket != me.ticket:
            return state, me._replace(at="work")
        return replace(state, ticket=me.ticket._replace(next=me.ticket.next + 1)), me._replace(at="run")
    if me.at == "run":
        chunk = (state.job, me.ticket.next)
        if chunk in state.ran:
            raise Mistake(f"chunk {chunk} runs twice")
        ran = tuple(sorted((*state.ran, chunk)))
        return replace(state, ran=ran), me._replace(at="work", done=me.done + 1, chunks=state.chunks)
    return None


def _worker(state: State, me: Thread) -> tuple[State, Thread] | None:
    """What a worker's next step leads to; None if it sleeps."""
    common = _claiming(state, me)
    if common is not None:
        return common
    match me.at:
        case "look":
            return state, Thread("chunks", state.ticket)
        case "chunks":
            return state, me._replace(at="joiners", chunks=state.chunks)
        case "joiners":
            may = me.ticket.next < me.chunks and me.ticket.joined < state.joiners
            return state, me._replace(at="join" if may else "down")
        case "join":
            if state.ticket != me.ticket:
                return state, Thread("look")
            taken = Ticket(me.ticket.number, me.ticket.joined + 1, me.ticket.next + 1)
            return replace(state, ticket=taken), me._replace(at="run")
        case "subtract":
            rest = state.pending - me.done
            return replace(state, pending=rest), Thread("report" if rest == 0 else "look")
        case "report":
            woken = state.waiting and state.caller.at == "asleep"
            caller = state.caller._replace(at="doze") if woken else state.caller
            return replace(state, caller=caller), Thread("look")
        case "down":
            return replace(state, sleepers=state.sleepers + 1), me._replace(at="sleep")
        case "sleep":
            return state, Thread("asleep" if state.ticket == me.ticket else "up")
        case "up":
            return replace(state, sleepers=state.sleepers - 1), Thread("look")
    return None


def _caller(protocol: Protocol, state: State, me: Thread) -> tuple[State, Thread] | None:
    common = _claiming(state, me)
    if common is not None:
        return common
    chunks, joiners = protocol.jobs[me.job] if me.job < len(protocol.jobs) else (0, 0)
    match me.at:
        case "start" if me.job < len(protocol.jobs):
            ticket = state.ticket._replace(next=CLOSED) if protocol.closes else state.ticket
            return replace(state, ticket=ticket), me._replace(at="fields")
        case "fields":
            return replace(state, job=me.job), me._replace(at="put chunks")
        case "put chunks":
            return replace(state, chunks=chunks), me._replace(at="put joiners")
        case "put joiners":
            return replace(state, joiners=joiners), me._replace(at="put pending")
        case "put pending":
            return replace(state, pending=chunks), me._replace(at="publish")
        case "publish":
            return replace(state, ticket=Ticket(state.ticket.number + 1)), me._replace(at="sleepers")
        case "sleepers":
            return state, me._replace(at="wake" if state.sleepers else "work", chunks=chunks, done=0)
        case "wake":
            left, woken = joiners, []
            for worker in state.workers:
                wakes = worker.at == "asleep" and left > 0
                left -= wakes
                woken.append(worker._replace(at="up") if wakes else worker)
            return replace(state, workers=tuple(woken)), me._replace(at="work")
        case "subtract":
            rest = state.pending - me.done
            return replace(state, pending=rest), me._replace(at="ends" if rest == 0 else "announce")
        case "announce":
            return replace(state, waiting=protocol.announces), me._replace(at="doze")
        case "doze":
            return state, me._replace(at="nap" if state.pending else "awake", seen=state.pending)
        case "nap":
            return state, me._replace(at="asleep" if state.pending == me.seen else "doze")
        case "awake":
            return replace(state, waiting=False), me._replace(at="ends")
        case "ends":
            if [chunk for job, chunk in state.ran if job == me.job] != list(range(chunks)):
                raise Mistake(f"job {me.job} ends with chunks {state.ran}")
            return state, Thread("start", job=me.job + 1)
    return None


def _after(protocol: Protocol, state: State) -> Iterator[State]:
    step = _caller(protocol, state, state.caller)
    if step is not None:
        yield replace(step[0], caller=step[1])
    for i, worker in enumerate(state.workers):
        step = _worker(state, worker)
        if step is not None:
            workers = step[0].workers
            yield replace(step[0], workers=(*workers[:i], step[1], *workers[i + 1 :]))


def explore(protocol: Protocol, workers: int) -> int:
    """How many states there are.  Raises Mistake."""
    first = State(Ticket(), Thread("start"), (Thread("look"),) * workers)
    seen, ahead = {first}, [first]
    while ahead:
        state = ahead.pop()
        following = list(_after(protocol, state))
        if not following and state.caller.job < len(protocol.jobs):
            raise Mistake(f"everybody sleeps: {state}")
        for each in following:
            # Which worker is which makes no difference.
            alike = replace(each, workers=tuple(sorted(each.workers)))
            if alike not in seen:
                seen.add(alike)
                ahead.append(alike)
    return len(seen)


@pytest.mark.parametrize(
    ("jobs", "workers"),
    [
        (((2, 1), (3, 1), (2, 1)), 1),
        (((3, 2),), 2),
        pytest.param(((2, 1), (2, 1)), 2, marks=pytest.mark.deep),
    ],
)
def test_every_order_of_steps(jobs: tuple[Job, ...], workers: int) -> None:
    assert explore(Protocol(jobs), workers) > 500


def test_a_ticket_left_open_is_found() -> None:
    # A worker sees the next job's number of chunks beside the last job's ticket, and claims one that is not there yet.
    with pytest.raises(Mistake, match="twice|ends with"):
        explore(Protocol(((2, 1), (3, 1)), closes=False), 1)


def test_a_caller_who_does_not_say_that_it_sleeps_is_found() -> None:
    with pytest.raises(Mistake, match="everybody sleeps"):
        explore(Protocol(((2, 1),), announces=False), 1)
