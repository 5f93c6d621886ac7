"""The debugger's commands about order: what is ready, what runs next, schedules, races, exploration."""

from __future__ import annotations

import copy
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from viz.format import plural
from viz.schedule_model import ExplorationView, RaceList, ShownRace
from workbench.debugger import looking
from workbench.debugger.breakpoints import matching
from workbench.debugger.command import Answer, Command, CommandError
from workbench.debugger.frame_notes import path
from workbench.debugger.schedules import schedulers, showing, telling
from workbench.debugger.schedules.accesses import outside
from workbench.debugger.schedules.exploring import explore_step
from workbench.debugger.schedules.following import Following, recorder_of
from workbench.debugger.schedules.races import find_races
from workbench.debugger.schedules.record import Schedule, fingerprint
from workbench.debugger.schedules.schedulers import Replay, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.runtime.frames import Activation
    from workbench.debugger.core import Debugger
    from workbench.debugger.stepping import Stepping

MAX_LISTED = 100  # of what is ready
MAX_LIMIT = 1_000_000
SECONDS = 20.0  # for one exploration
DEFAULT_LIMIT = 1_000


def ready(debugger: Debugger, rest: str) -> Answer:
    """``ready``: what is ready, with the numbers that `choose` takes."""
    stepping = looking.stepping_of(debugger)
    lines = []
    queue = _queue_of(stepping)
    for index, activation in enumerate(queue):
        if index == MAX_LISTED:
            lines.append(f"… and {len(queue) - MAX_LISTED} more")
            break
        mark = "→" if activation == stepping.next else " "
        lines.append(
            f"{mark} {index:>3}  {activation.name}  ({activation.item.node.type})  "
            f"in {path(activation.frame, activation.iteration)}"
        )
    return Answer(True, "\n".join(lines) or "nothing is ready")


def _queue_of(stepping: Stepping) -> Sequence[Activation]:
    """What is ready, in the order that picks are about."""
    return recorder_of(stepping).queue


def choose(debugger: Debugger, rest: str) -> Answer:
    """``choose NODE|INDEX``: what executes next."""
    stepping = looking.stepping_of(debugger)
    queue = _queue_of(stepping)
    if not rest:
        raise CommandError("choose what? a number or a node of those that ready lists")
    if rest.isdecimal():
        if len(rest) > 9 or int(rest) >= len(queue):
            raise CommandError(f"{rest} is not among what is ready; ready lists 0 to {len(queue) - 1}")
        chosen = queue[int(rest)]
    else:
        found = [activation for activation in queue if activation.name == rest]
        if not found:
            looking.item_of(stepping, rest)  # says so if there is no such node
            raise CommandError(
                f"'{rest}' is not ready; ready lists what is, and why {rest} or info {rest} says more"
            )
        chosen = found[0]
    stepping.prefer(lambda activation: activation == chosen)
    if isinstance(stepping.scheduler, Following):
        stepping.scheduler.chose(stepping)
    return Answer(True, f"next: {chosen.name} in {path(chosen.frame, chosen.iteration)}")


# Schedules.


def schedule(debugger: Debugger, rest: str) -> Answer:
    """``schedule``: show, replay and save the step's schedule, or choose who schedules."""
    word, _, what = rest.partition(" ")
    what = what.strip()
    if not word:
        return _show_schedule(debugger)
    if word == "replay":
        return _replay(debugger, what)
    if word == "when":
        return _when(debugger, what)
    if word == "save":
        return _save(debugger, what)
    if word not in schedulers.NAMES:
        raise CommandError(
            f"'{word}' is no scheduler; one of: {', '.join(schedulers.NAMES)}; or replay STRING, when STRING, save FILE"
        )
    stepping = debugger.stepping

    def nodes(word: str) -> list[str]:
        stage = looking.stepping_of(debugger).step.stage
        found = list(filter(matching(word, stage.nodes), stage.nodes))
        if not found:
            raise CommandError(looking.no_such_node(looking.stepping_of(debugger), word))
        return found

    scheduler = schedulers.from_words(rest.split(), nodes)
    debugger.scheduler = None if word == "first" else scheduler
    if stepping is not None:
        schedule_with(stepping, debugger.scheduler)
    return Answer(True, f"scheduled by: {scheduler.text}")


def _show_schedule(debugger: Debugger) -> Answer:
    by = debugger.scheduler.text if debugger.scheduler is not None else "first (what has been ready longest)"
    stepping = debugger.stepping
    if stepping is None:
        return Answer(True, f"scheduled by: {by}")
    recorder = recorder_of(stepping)
    if isinstance(stepping.scheduler, Following):
        following = stepping.scheduler
        by = following.scheduler.text.partition(":")[0]
        if isinstance(following.scheduler, Replay) and following.scheduler.left >= 0:
            by += f" (left after {plural(following.scheduler.left, 'execution')}: a command chose otherwise)"
        if following.error is not None:
            by += f" (no longer: {following.error})"
    picked = sum(1 for _ in recorder.picks)
    return Answer(
        True,
        f"{_schedule_of(stepping)}\n"
        f"{plural(len(recorder), 'execution')}, {plural(picked, 'choice')}; scheduled by: {by}",
    )


def _schedule_of(stepping: Stepping) -> Schedule:
    """How the step came here, or to the error that it has stopped at."""
    failing = stepping.next if stepping.error is not None else None
    return recorder_of(stepping).schedule(stepping.step.stage, failing)


def _replay(debugger: Debugger, text: str) -> Answer:
    """From the beginning of the step, or from where it stands if it came there by the same choices."""
    stepping = looking.stepping_of(debugger)
    wanted = _read(text)
    wanted.check(stepping.step.stage)
    schedule_with(stepping, Replay(wanted))
    return Answer(True, f"replaying {plural(len(wanted.picks), 'choice')}; n, c and the like go on by it")


def _read(text: str) -> Schedule:
    """The schedule that is meant: itself, or in a file."""
    if not text:
        raise CommandError("which schedule? a string as schedule shows it, or @FILE")
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise CommandError(f"'{text[1:]}' cannot be read: {error}") from None
    return Schedule.parse(text)


def _when(debugger: Debugger, text: str) -> Answer:
    """In this step, if it belongs to it; else in the first one to come that it belongs to."""
    wanted = _read(text)
    stepping = debugger.stepping
    if (
        stepping is not None
        and not stepping.executed
        and fingerprint(stepping.step.stage) == wanted.fingerprint
    ):
        return _replay(debugger, text)
    debugger.pending_schedule = wanted
    return Answer(True, "the next Session.run that it is a schedule of will replay it")


def _save(debugger: Debugger, name: str) -> Answer:
    stepping = looking.stepping_of(debugger)
    if not name:
        raise CommandError("save it where? schedule save FILE")
    try:
        Path(name).expanduser().write_text(f"{_schedule_of(stepping)}\n", encoding="ascii")
    except OSError as error:
        raise CommandError(f"'{name}' cannot be written: {error.strerror}") from None
    return Answer(True, f"saved; schedule replay @{name} replays it")


# Races.


def races(debugger: Debugger, rest: str) -> Answer:
    """``races``: those of the step's graph; ``races show N``: one of them, in both orders."""
    return Answer(True, _races(debugger, rest).text())


def _races(debugger: Debugger, rest: str) -> RaceList | ShownRace:
    stepping = looking.stepping_of(debugger)
    program = stepping.step.program
    found = find_races(program)
    word, _, number = rest.partition(" ")
    if not word:
        return telling.race_list(found, program, stepping.latest)
    if word != "show":
        raise CommandError("races lists them, races show N runs number N in both orders")
    number = number.strip()
    if not (number.isdecimal() and len(number) < 10 and 1 <= int(number) <= len(found)):
        said = f"1 to {len(found)}" if found else "there are none"
        raise CommandError(f"'{number}' is not the number of a race ({said}; races lists them)")
    _check(stepping)
    race = found[int(number) - 1]
    told = telling.race_view(race, program, stepping.latest)
    with at_begin_of(stepping, race.first.node, race.second.node):
        result = showing.show(stepping.step, recorder_of(stepping), race)
    return telling.shown_race(told, result, stepping.step.stage.fetches, outside(program))


@contextmanager
def at_begin_of(stepping: Stepping, *nodes: str) -> Iterator[None]:
    """Inside the block the step stands where none of these nodes has executed; afterwards where it stood.

    Goes back only if one has; raises CommandError if the way back is no longer kept.
    """
    taken = 0
    at, moved = stepping.next, list(stepping.moved)
    ran = {stepping.step.program.by_name[name].index for name in nodes} & stepping.latest.keys()
    if ran:
        if len(stepping.history) < stepping.executed:
            name = stepping.step.program.items[min(ran)].name
            raise CommandError(
                f"'{name}' has executed, and the way back to before is no longer kept; r, then try again"
            )
        if any(entry.change is not None for entry in stepping.history):
            raise CommandError(
                "the step was changed by hand on its way here; back to before, or r, then try again"
            )
        while stepping.history:
            stepping.back()
            taken += 1
    scheduler, stepping.scheduler = stepping.scheduler, None
    try:
        yield
    finally:
        for _ in range(taken):
            stepping.redo()
        for move in moved if taken else ():
            if not isinstance(move, int):
                stepping.wait_again(move)
        if at is not None:
            stepping.prefer(lambda each: each == at)
        stepping.scheduler = scheduler


def _check(stepping: Stepping) -> None:
    if stepping.overrides.orders:
        raise CommandError("a node is ordered to be skipped or changed when it executes; go on past it first")


# Exploration.


def explore(debugger: Debugger, rest: str) -> Answer:
    """``explore [LIMIT]``: all schedules of the rest of the step, or LIMIT of them."""
    return Answer(True, _explore(debugger, rest).text())


def _explore(debugger: Debugger, rest: str) -> ExplorationView:
    stepping = looking.stepping_of(debugger)
    if rest and not (rest.isdecimal() and len(rest) < 10 and 1 <= int(rest) <= MAX_LIMIT):
        raise CommandError(f"'{rest}' is not a number of schedules between 1 and {MAX_LIMIT:,}")
    if stepping.next is None and not stepping.step.blocked:
        raise CommandError("the step is done, so there is nothing to schedule; back goes to where there is")
    _check(stepping)
    limit = int(rest) if rest else DEFAULT_LIMIT
    found = explore_step(stepping.step, recorder_of(stepping), limit=limit, seconds=SECONDS)
    return telling.exploration(found, limit)


# As data.

Told = RaceList | ShownRace | ExplorationView
TOLD: dict[str, Callable[[Debugger, str], Told]] = {"races": _races, "explore": _explore}


def tell(debugger: Debugger, line: str) -> Told:
    """What ``races``, ``races show N`` or ``explore [LIMIT]`` comes to, as data.

    Raises CommandError for what is none of these, or cannot be told where the step stands.
    """
    word, _, rest = line.strip().partition(" ")
    found = TOLD.get(word)
    if found is None:
        raise CommandError(f"'{word:.40}' tells nothing about order; what does: {', '.join(TOLD)}")
    return found(debugger, rest.strip())


def begin_step(debugger: Debugger, stepping: Stepping) -> None:
    """A step begins: let it be scheduled as was asked for."""
    pending = debugger.pending_schedule
    scheduler: Scheduler | None = debugger.scheduler
    if pending is not None:
        with suppress(CommandError):
            pending.check(stepping.step.stage)
            debugger.pending_schedule = None
            scheduler = Replay(pending)
    if scheduler is not None:
        schedule_with(stepping, scheduler)


def schedule_with(stepping: Stepping, scheduler: Scheduler | None) -> None:
    """Let `scheduler` pick from here on; None: first come, first served.  Raises ScheduleError if it cannot."""
    stepping.scheduler = None
    if scheduler is not None:
        following = Following(stepping, copy.copy(scheduler))
        following(stepping)
        stepping.scheduler = following


COMMANDS = (
    Command(
        "ready",
        (),
        "",
        "list what is ready, with the numbers that choose takes. Their order is the one in which they became ready.",
        ready,
    ),
    Command(
        "choose",
        (),
        "NODE | NUMBER",
        "let a ready node execute next. The choice is part of the step's schedule.",
        choose,
    ),
    Command(
        "schedule",
        ("sched",),
        "[WHO | replay STRING | when STRING | save FILE]",
        "show the step's schedule as a short string, replay one, or say who chooses among the ready nodes. "
        "WHO: first (come, first served), random [SEED], pct [SEED [DEPTH [LENGTH]]], lifo, writes-first, reads-first, "
        "longest-wait (accesses to resources as late as can be), delay NODE. replay: STRING, or @FILE, is followed from here; "
        "when: in the Session.run that it belongs to. A schedule says all that a step depends on beside its inputs.",
        schedule,
        anytime=True,
    ),
    Command(
        "races",
        (),
        "[show N]",
        "list accesses to one variable, stack or array of which no path says which is first, or run one in both orders. "
        "The step stands afterwards where it stood.",
        races,
    ),
    Command(
        "explore",
        (),
        "[LIMIT]",
        "run all schedules of the rest of the step that can differ, at most LIMIT, and say whether they agree. "
        f"Without LIMIT, at most {DEFAULT_LIMIT:,}, and for {SECONDS:.0f} seconds. The step stands afterwards where it stood.",
        explore,
    ),
)
