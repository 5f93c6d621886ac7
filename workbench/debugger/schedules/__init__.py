"""Schedules: which ready activation runs next.

Record a step's schedule and replay it, run under another scheduler, find the races of a graph and show them live, explore all
schedules.  All of it works on a step that can be taken back, in the debugger or without one::

    with schedules.driver(schedules.Random(7)) as driven:
        session.run(train)
    print(driven.schedules[-1])                                # as text, for Replay(Schedule.parse(text))
    for found in schedules.explore(lambda: session.run(loss)):
        print(found.agree, found.explored)
"""

from workbench.debugger.schedules.driving import Exploring, Scheduled, Stuck, driver, explore
from workbench.debugger.schedules.exploration import Exploration
from workbench.debugger.schedules.exploring import explore_step
from workbench.debugger.schedules.record import Recorder, Schedule, ScheduleError, fingerprint
from workbench.debugger.schedules.schedulers import PCT, Delay, Newest, Random, Replay, Scheduler, ranked
from workbench.debugger.schedules.walk import Outcome, Walk

__all__ = [
    "PCT",
    "Delay",
    "Exploration",
    "Exploring",
    "Newest",
    "Outcome",
    "Random",
    "Recorder",
    "Replay",
    "Schedule",
    "ScheduleError",
    "Scheduled",
    "Scheduler",
    "Stuck",
    "Walk",
    "driver",
    "explore",
    "explore_step",
    "fingerprint",
    "ranked",
]
