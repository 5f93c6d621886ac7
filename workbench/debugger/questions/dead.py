"""``why dead``: the way of a dead token, from the Switch that killed it to where it was stopped."""

from __future__ import annotations

from engine.runtime.frames import Activation
from viz.format import plural
from workbench.debugger import flow_views
from workbench.debugger.command import CommandError
from workbench.debugger.questions.reasoning import Reason, Reasoning, about, bounded
from workbench.debugger.snapshot import PlaceView, WayView
from workbench.debugger.stepping import Stepping


def why_dead(stepping: Stepping, asked: Activation) -> Reasoning:
    """The way of the deadness that reached `asked`, which has executed dead or is to.

    The Switch that sent its token the other way is the root cause.  Raises CommandError if it was alive there.
    """
    way = flow_views.way_view(stepping, asked)
    if way is None:
        raise CommandError(f"'{asked.name}' was alive there")
    return _told(stepping, way)


def _told(stepping: Stepping, way: WayView) -> Reasoning:
    reasons = []
    if way.killer is None:
        reasons.append(Reason("killed by something before what the history still holds", root=True))
    else:
        reasons.append(_place(stepping, "killed by", way.killer, root=True))
    reasons += [_place(stepping, "through", each, 1) for each in way.chain]
    reasons += [_place(stepping, "stopped at", each) for each in way.stops]
    if not way.stops:
        reasons.append(Reason("stopped at nothing yet"))
    answer = f"{way.asked.node} is dead in {way.asked.path}, {plural(len(way.chain), 'node')} behind "
    answer += f"{way.killer.node}" if way.killer is not None else "what is known"
    return bounded(f"why dead {way.asked.node}", answer, reasons)


def _place(stepping: Stepping, lead: str, place: PlaceView, depth: int = 0, *, root: bool = False) -> Reason:
    note = f": {place.note}" if place.note else ""
    return about(
        f"{lead} {place.node} ({place.type}){note}",
        stepping.step.stage.nodes[place.node],
        depth=depth,
        place=place.path,
        row=place.row,
        root=root,
    )
